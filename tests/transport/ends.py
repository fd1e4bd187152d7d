"""Endpoints for tests: they record what arrives and what they are told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from discoro.transport.credentials import Credentials
from discoro.transport.endpoint import Endpoint
from discoro.transport.errors import TransportError
from discoro.transport.frames import KINDS, Hello
from discoro.transport.limits import Limits
from discoro.transport.network import Network
from discoro.transport.secret import Secret, generate
from discoro.transport.session import Session

SECRET = generate()


class End:
    """An endpoint with its handlers and its observer.

    Attributes:
        got: (kind, target, source, payload) of everything that arrived, in order.
        events: What the observer was told: (event, session, details...).
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        secret: str = SECRET,
        cluster: str = "default",
        process_id: bytes | None = None,
        network: Callable[[Credentials, Limits], Network] | None = None,
        on_entry: Callable[[Session, int, int, int, bytes], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.process_id = process_id or os.urandom(16)
        self.got: list[tuple[int, int, int, bytes]] = []
        self.events: list[tuple[Any, ...]] = []
        self.on_entry = on_entry
        self.port = 0
        credentials = Credentials(Secret(secret), cluster)
        self.endpoint = Endpoint(
            hello=self.hello,
            credentials=credentials,
            limits=self.limits,
            handlers=[self._handler(kind) for kind in range(KINDS)],
            observer=self,
            flush_later=lambda session: asyncio.get_running_loop().call_soon(session.flush),
            network=network(credentials, self.limits) if network is not None else None,
        )

    def hello(self) -> Hello:
        return Hello(process_id=self.process_id, name=self.process_id.hex()[:4], port=self.port)

    def _handler(self, kind: int) -> Callable[[Session, int, int, list[Any]], None]:
        def handle(session: Session, target: int, source: int, payloads: list[Any]) -> None:
            for payload in payloads:
                data = bytes(payload)
                self.got.append((kind, target, source, data))
                if self.on_entry is not None:
                    self.on_entry(session, kind, target, source, data)
                if kind == 2:
                    source += 1
                elif kind == 3:
                    target += 1

        return handle

    async def listen(self) -> int:
        self.port = (await self.endpoint.listen(["127.0.0.1"], 0))[0][1]
        return self.port

    @property
    def session(self) -> Session:
        (session,) = self.endpoint.sessions.values()
        return session

    def told(self, what: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] == what]

    def session_opened(self, session: Session) -> None:
        self.events.append(("opened", session))

    def session_lost(self, session: Session, error: TransportError) -> None:
        self.events.append(("lost", session, error))

    def session_busy(self, session: Session, busy: bool) -> None:
        self.events.append(("busy", session, busy))

    def session_down(self, session: Session) -> None:
        self.events.append(("down", session))

    def session_up(self, session: Session) -> None:
        self.events.append(("up", session))


@asynccontextmanager
async def ends(count: int = 2, **options: Any) -> AsyncIterator[list[End]]:
    """Endpoints that are closed at the end, and have left nothing behind then."""
    made = [End(**options) for _ in range(count)]
    try:
        yield made
    finally:
        for end in made:
            for session in list(end.endpoint.sessions.values()):
                session.validate()
            await end.endpoint.close()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("discoro")]
    assert not left, left

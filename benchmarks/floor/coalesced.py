"""L0: length and pickle per message, writes coalesced, a mailbox, a receiving task. No numbers, no acks, no names, no limits."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

from benchmarks.floor import tls


class Mailbox:
    """A queue that one task reads."""

    def __init__(self) -> None:
        self.messages: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, message: Any) -> None:
        """Append, and wake the reader."""
        self.messages.append(message)
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            waiting.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Wait for the next message."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting


class Link(asyncio.Protocol):
    """One connection; ``deliver`` gets every message."""

    def __init__(self, deliver: Callable[[Any], None]) -> None:
        self.deliver = deliver
        self._out: list[bytes] = []
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._resumed: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._write = transport.write
        transport.set_write_buffer_limits(high=1 << 20)

    def send(self, value: Any) -> None:
        """Queue a message; all of this turn leave together."""
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        data = pickle.dumps(value, 5)
        out.append(len(data).to_bytes(4, "big"))
        out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        offset, end, deliver = 0, len(data), self.deliver
        while end - offset >= 4:
            stop = offset + 4 + int.from_bytes(data[offset : offset + 4], "big")
            if stop > end:
                break
            deliver(pickle.loads(data[offset + 4 : stop]))
            offset = stop
        self._rest = data[offset:]

    def pause_writing(self) -> None:
        self._resumed = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None

    async def room(self) -> None:
        """Wait until the transport takes more."""
        if self._resumed is not None:
            await self._resumed


async def serve(protocol: Callable[[], asyncio.BaseProtocol]) -> int:
    """Listen; returns the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls.server_context())
    port: int = server.sockets[0].getsockname()[1]
    return port


async def connect(protocol: Callable[[], Any], port: int) -> Any:
    """Connect; returns the protocol."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(protocol, "127.0.0.1", port, ssl=tls.client_context())
    return made

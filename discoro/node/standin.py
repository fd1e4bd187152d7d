"""Who answers a server's port while no process of it runs: the node's parent.

It holds the listening sockets, so without it a connection to a dead server would wait in the kernel's queue, in silence. It does
the whole handshake, with the same secret, and then says how the server has ended; it has no sessions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Protocol

from discoro.node.deaths import Death
from discoro.node.settings import ServerSettings
from discoro.transport.credentials import Credentials
from discoro.transport.endpoint import Endpoint
from discoro.transport.errors import TransportError
from discoro.transport.frames import Hello
from discoro.transport.limits import Limits
from discoro.transport.network import TcpListener, TlsNetwork
from discoro.transport.secret import Secret
from discoro.transport.session import Session
from discoro.transport.tls import Certificate
from discoro.version import __version__

log = logging.getLogger("discoro.node")


class Standin(Protocol):
    """Answers for one server."""

    def start(self, death: Death) -> None:
        """Begin: the server has ended, in this way."""

    def stop(self) -> None:
        """Leave the port to the server: it is ready, or is not coming back."""


class NobodyAnswers:
    """Leaves connections in the kernel's queue, for servers that speak another protocol."""

    def start(self, death: Death) -> None:
        """Nothing begins."""

    def stop(self) -> None:
        """Nothing ends."""


class ParentEndpoint:
    """The parent's own endpoint, made when the first server dies. Its loop is the one of the first use."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._endpoint: Endpoint | None = None

    def get(self) -> Endpoint:
        """Return the endpoint."""
        if self._endpoint is None:
            s = self._settings
            certificate = Certificate.from_files(s.certfile, s.keyfile) if s.certfile else None
            secret = Secret.from_prs(bytes.fromhex(s.key))
            credentials, limits = Credentials(secret, s.cluster, certificate), Limits()
            process = os.urandom(16)
            self._endpoint = Endpoint(
                process_id=process,
                hello=lambda: Hello(
                    process_id=process,
                    name=s.node,
                    cluster=s.cluster,
                    version=__version__,
                    role="parent",
                ),
                credentials=credentials,
                limits=limits,
                handlers=(),
                observer=_NoSessions(),
                flush_later=lambda session: None,
                network=_Network(credentials, limits),
            )
        return self._endpoint

    async def close(self) -> None:
        """Close it, if there is one."""
        if self._endpoint is not None:
            await self._endpoint.close()


class _Network(TlsNetwork):
    """TCP and TLS, whose listeners can be left and taken up again."""

    def adopt(self, sock: socket.socket) -> TcpListener:
        """Take connections from a copy of a socket."""
        return _Listener(sock.dup(), Limits())


class _Listener(TcpListener):
    """A listener that the selector forgets before its descriptor is closed.

    The kernel's poll list knows a copied socket by the socket it was copied from, so closing the copy does not take it off the
    list; and the next copy, of the same number, could not be put on it.
    """

    def close(self) -> None:
        """Take no more."""
        if self.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.fileno())
        super().close()


class _NoSessions:
    """The observer of an endpoint that never has a session."""

    def session_opened(self, session: Session) -> None: ...
    def session_lost(self, session: Session, error: TransportError) -> None: ...
    def session_busy(self, session: Session, busy: bool) -> None: ...
    def session_down(self, session: Session) -> None: ...
    def session_up(self, session: Session) -> None: ...


class AnswerForDead:
    """Answers for one server between its death and the next one's readiness."""

    def __init__(self, parent: ParentEndpoint, listeners: list[socket.socket]) -> None:
        self._parent = parent
        self._listeners = listeners
        self._death: Death | None = (
            None  # the last one; callers that were let in hear of it also when we have left
        )
        self._answering = False
        self._task: asyncio.Task[None] | None = None

    def start(self, death: Death) -> None:
        """Begin: the server has ended by ``death``."""
        self._death = death
        if not self._answering and self._listeners:
            self._task = asyncio.get_running_loop().create_task(self._answer())
        self._answering = True

    def stop(self) -> None:
        """Leave the port to the server."""
        if not self._answering:
            return
        self._answering = False
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._listeners:
            self._parent.get().release(self._listeners)

    async def _answer(self) -> None:
        def words() -> str:
            assert self._death is not None
            return self._death.wire

        try:
            await self._parent.get().adopt(self._listeners, ended=words)
        except (OSError, TransportError) as error:  # then callers wait for the next process
            log.warning("the node's parent cannot answer for a dead server: %s", error)

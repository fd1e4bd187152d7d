"""TCP and TLS: how connections are made and taken. Shell.

:class:`Network` is all that an endpoint needs of them, so that :mod:`.memory` can stand in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from typing import Any, Protocol

from . import kernel
from .credentials import Credentials
from .errors import NotTLS, PeerUnreachable
from .limits import Limits
from .tls import client_context, peer_fingerprint
from .tlstransport import TlsTransport


class Listener(Protocol):
    """Something that takes connections."""

    address: tuple[str, int]

    async def accept(self) -> tuple[Any, tuple[str, int]]:
        """Return the next raw connection and who calls. Raises OSError; after some of them another try helps."""

    def close(self) -> None:
        """Take no more."""

    def fileno(self) -> int:
        """Return its descriptor, or -1."""


class Network(Protocol):
    """Makes and takes connections."""

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate that our listeners show."""

    async def dial(self, host: str, port: int) -> Any:
        """Return a raw connection. Raises PeerUnreachable; its ``__cause__`` is the OSError."""

    async def secure(
        self, raw: Any, protocol: asyncio.BaseProtocol, host: str, port: int
    ) -> tuple[asyncio.Transport, bytes]:
        """Bring up TLS on a raw connection that we dialled; return transport and the server's fingerprint.

        It takes as long as it takes: the caller watches, and cancels. Raises NotTLS, OSError.
        """

    async def secure_accepted(self, raw: Any, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """The same for a raw connection that we took. Raises OSError (ssl.SSLError is one)."""

    def drop(self, raw: Any) -> None:
        """Close a raw connection."""

    def answers(self, raw: Any) -> bool:
        """Return whether the kernel at the other end answers."""

    def heard(self, raw: Any) -> int | None:
        """Return how many bytes have arrived on a raw connection; None: not known."""

    async def listen(self, host: str, port: int) -> Listener:
        """Take connections at an address. Raises OSError."""

    def adopt(self, sock: socket.socket) -> Listener:
        """Take connections from a socket that somebody else has bound; works on a copy of it."""


class TcpListener:
    """A listening socket.

    Attributes:
        address: Host and port it listens on.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._limits = limits
        host, port = sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)

    async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next connection and who calls."""
        sock, address = await asyncio.get_running_loop().sock_accept(self._sock)
        kernel.prepare(sock, self._limits)
        return sock, (address[0], address[1])

    def close(self) -> None:
        """Take no more."""
        self._sock.close()

    def fileno(self) -> int:
        """Return its descriptor, or -1."""
        return self._sock.fileno()


class TlsNetwork:
    """The real one: TCP, and TLS 1.3 over it."""

    def __init__(self, credentials: Credentials, limits: Limits) -> None:
        self._credentials = credentials
        self._limits = limits
        self._client_context: ssl.SSLContext | None = None
        self._buffer = memoryview(bytearray(limits.tls_receive))

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of our certificate."""
        return self._credentials.certificate.fingerprint

    async def dial(self, host: str, port: int) -> socket.socket:
        """Return a connected socket; the addresses of a name are tried one after the other."""
        loop = asyncio.get_running_loop()
        cause: OSError | None = None
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise PeerUnreachable(host, port, f"no such host: {reason}") from exc
        for family, _, _, _, address in found:
            try:
                return await self._connect(family, address)
            except OSError as exc:
                cause = exc
        raise PeerUnreachable(host, port, _reason(cause)) from cause

    async def _connect(self, family: int, address: Any) -> socket.socket:
        """Return a socket connected to one address."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
            if sock.getsockname() == sock.getpeername():
                # The kernel may connect a dial of a free local port to itself (simultaneous open).
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
            kernel.prepare(sock, self._limits)
        except BaseException:
            sock.close()
            raise
        return sock

    async def secure(
        self, raw: socket.socket, protocol: asyncio.BaseProtocol, host: str, port: int
    ) -> tuple[asyncio.Transport, bytes]:
        """Bring up TLS as a client."""
        if self._client_context is None:
            self._client_context = client_context()
        try:
            transport = await self._up(raw, self._client_context, server_side=False)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as exc:
            raise ConnectionResetError("cut in the middle of TLS") from exc
        except ssl.SSLError as exc:
            raise NotTLS(host, port, exc.reason or str(exc)) from exc
        try:
            fingerprint = peer_fingerprint(transport.tls, host, port)
        except NotTLS:
            transport.abort()
            raise
        transport.start(protocol)
        return transport, fingerprint

    async def secure_accepted(
        self, raw: socket.socket, protocol: asyncio.BaseProtocol
    ) -> asyncio.Transport:
        """Bring up TLS as a server."""
        context = self._credentials.certificate.server_context()
        transport = await self._up(raw, context, server_side=True)
        transport.start(protocol)
        return transport

    async def _up(
        self, raw: socket.socket, context: ssl.SSLContext, *, server_side: bool
    ) -> TlsTransport:
        transport = TlsTransport(
            raw,
            context,
            server_side=server_side,
            buffer=self._buffer,
            shutdown_timeout=self._limits.tls_shutdown_timeout,
        )
        await transport.handshake()
        # Above this a session numbers nothing more: what is kept anyway must not lie in the transport as well.
        transport.set_write_buffer_limits(high=self._limits.window // 8)
        return transport

    def drop(self, raw: Any) -> None:
        """Close the socket."""
        raw.close()

    def answers(self, raw: Any) -> bool:
        """Ask the kernel."""
        # Not less than a second: a kernel may hold an ack back for a fifth of one.
        return kernel.answers(raw, max(1.0, self._limits.ping_idle))

    def heard(self, raw: Any) -> int | None:
        """Ask the kernel."""
        return kernel.bytes_heard(raw)

    async def listen(self, host: str, port: int) -> TcpListener:
        """Bind and listen; an IPv6 address takes IPv6 only, so that both families can have one port."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(self._limits.handshake_backlog)
        except BaseException:
            sock.close()
            raise
        return TcpListener(sock, self._limits)

    def adopt(self, sock: socket.socket) -> TcpListener:
        """Listen on a copy of a bound socket."""
        copy = sock.dup()
        with contextlib.suppress(OSError):
            copy.listen(self._limits.handshake_backlog)
        return TcpListener(copy, self._limits)


def _reason(error: OSError | None) -> str:
    """Return an error in the words of the system; the loop's own text repeats the address."""
    if error is None:
        return "no address"
    return (os.strerror(error.errno) if error.errno else str(error)).lower()

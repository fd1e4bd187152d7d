"""AsyncSocket: a socket whose calls let other coroutines run, or block, as it was made.

A call is tried at once; where the kernel says "not now" the loop is asked when, and the call tried again. The same does for TLS,
whose handshake and records want now the one, now the other direction.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from collections.abc import Callable
from threading import get_ident
from typing import Any, Self

_LENGTH = struct.Struct(">L")


class AsyncSocket:
    """A socket for coroutines: ``data = yield conn.recv(1024)``.

    Args:
        sock: The socket; it is taken over.
        blocking: Whether its calls block the thread, and are not to be yielded.
        keyfile: With ``certfile``, TLS: what ``accept`` gives, and what ``connect`` has connected, speaks it.
        certfile: The certificate; a client accepts no other.
        ssl_version: Taken, and means nothing: what both ends can do best is used.
    """

    _default_timeout: float | None = None

    def __init__(
        self,
        sock: Any,
        blocking: bool = False,
        keyfile: str | None = None,
        certfile: str | None = None,
        ssl_version: Any = None,
    ) -> None:
        if isinstance(sock, AsyncSocket):
            keyfile, certfile = keyfile or sock._keyfile, certfile or sock._certfile
            sock = sock._rsock
        self._rsock: Any = sock
        self._keyfile: str | None = keyfile
        self._certfile: str | None = certfile
        self._timeout: float | None = self._default_timeout
        self._waiting: dict[bool, asyncio.Future[None]] = {}
        self._fileno = sock.fileno()
        self.setblocking(blocking)

    def __getattr__(self, name: str) -> Any:
        if name == "_rsock":
            raise AttributeError(name)
        return getattr(self._rsock, name)

    def __repr__(self) -> str:
        return f"<AsyncSocket {self._rsock!r}>"

    def __lt__(self, other: Any) -> bool:
        return not isinstance(other, AsyncSocket) or self._fileno < other._fileno

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- settings

    def setblocking(self, blocking: Any) -> None:
        """Let calls block, or be yielded."""
        self._blocking = bool(blocking)
        self._rsock.setblocking(self._blocking)

    def settimeout(self, timeout: float | None) -> None:
        """Let calls raise ``socket.timeout`` after so many seconds; None or 0: never."""
        self._timeout = timeout
        if self._blocking:
            self._rsock.settimeout(timeout or None)

    def gettimeout(self) -> float | None:
        """The timeout in seconds."""
        return self._timeout

    @classmethod
    def setdefaulttimeout(cls, timeout: float | None) -> None:
        """Set the timeout of sockets made from now on."""
        cls._default_timeout = timeout

    @classmethod
    def getdefaulttimeout(cls) -> float | None:
        """The timeout of new sockets."""
        return cls._default_timeout

    @staticmethod
    def get_ssl_version() -> Any:
        """What :class:`ssl.SSLContext` takes for "the best of both"."""
        return ssl.PROTOCOL_TLS

    @staticmethod
    def set_ssl_version(version: Any) -> None:
        """Do nothing: what both ends can do best is used."""

    def fileno(self) -> int:
        """The file descriptor; what it was after :meth:`close`."""
        return int(self._fileno)

    def unwrap(self) -> Any:
        """Give the socket back."""
        self._release()
        return self._rsock

    def close(self) -> None:
        """Close it; whoever waits for it gets an OSError."""
        self._release()
        self._rsock.close()

    def _release(self) -> None:
        for writing, waiting in list(self._waiting.items()):
            loop = waiting.get_loop()
            if getattr(loop, "_thread_id", get_ident()) == get_ident():
                self._give_up(loop, writing, waiting)
            else:
                loop.call_soon_threadsafe(self._give_up, loop, writing, waiting)

    def _give_up(self, loop: Any, writing: bool, waiting: asyncio.Future[None]) -> None:
        (loop.remove_writer if writing else loop.remove_reader)(self._fileno)
        if not waiting.done():
            waiting.set_exception(OSError(errno.EBADF, "the socket was closed"))

    # --- waiting

    async def _when_ready(self, writing: bool) -> None:
        """Wait until the loop says that it can be read, or written; ``socket.timeout`` after the timeout."""
        loop = asyncio.get_running_loop()
        ready = self._waiting[writing] = loop.create_future()
        add = loop.add_writer if writing else loop.add_reader
        add(self._fileno, _settle, ready)
        try:
            async with asyncio.timeout(self._timeout or None):
                await ready
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "timed out") from None
        finally:
            if self._waiting.get(writing) is ready:
                del self._waiting[writing]
                if self._rsock.fileno() >= 0:
                    (loop.remove_writer if writing else loop.remove_reader)(self._fileno)

    async def _do(self, call: Callable[..., Any], *args: Any, writing: bool = False) -> Any:
        """Try a call until it is not refused with "not now"."""
        while True:
            try:
                return call(*args)
            except (BlockingIOError, InterruptedError):
                wanted = writing
            except ssl.SSLWantReadError:
                wanted = False
            except ssl.SSLWantWriteError:
                wanted = True
            # Here, so that what ends the wait is not told as an error inside an error.
            await self._when_ready(wanted)

    def _call(self, name: str, *args: Any, writing: bool = False) -> Any:
        call = getattr(self._rsock, name)
        return call(*args) if self._blocking else self._do(call, *args, writing=writing)

    # --- bytes

    def recv(self, *args: Any) -> Any:
        """Receive up to so many bytes; b"" at the end."""
        return self._call("recv", *args)

    def send(self, *args: Any) -> Any:
        """Send as much as goes at once; how many bytes that were."""
        return self._call("send", *args, writing=True)

    def recvfrom(self, *args: Any) -> Any:
        """Receive a datagram: (data, address)."""
        return self._call("recvfrom", *args)

    def sendto(self, *args: Any) -> Any:
        """Send a datagram; how many bytes went."""
        return self._call("sendto", *args, writing=True)

    def recvall(self, bufsize: int, *args: Any) -> Any:
        """Receive exactly so many bytes; b"" if it ends before, what there is at a timeout."""
        if self._blocking:
            return self._recvall_blocking(bufsize, *args)
        return self._recvall(bufsize, *args)

    async def _recvall(self, size: int, *args: Any) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = await self._do(self._rsock.recv, size - len(data), *args)
            except TimeoutError:
                if data:
                    break
                raise
            if not part:
                return b""
            data += part
        return bytes(data)

    def _recvall_blocking(self, size: int, *args: Any) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._rsock.recv(size - len(data), *args)
            if not part:
                return b""
            data += part
        return bytes(data)

    def sendall(self, data: Any, *args: Any) -> Any:
        """Send all; 0, or at a timeout how many bytes went."""
        if self._blocking:
            self._rsock.sendall(data, *args)
            return 0
        return self._sendall(data, *args)

    async def _sendall(self, data: Any, *args: Any) -> int:
        view = memoryview(data).cast("B")
        sent = 0
        while sent < len(view):
            try:
                sent += await self._do(self._rsock.send, view[sent:], *args, writing=True)
            except TimeoutError:
                if sent:
                    return sent
                raise
        return 0

    # --- messages: four bytes of length, then so many

    def send_msg(self, data: Any) -> Any:
        """Send a message."""
        return self.sendall(_LENGTH.pack(len(data)) + bytes(data))

    def recv_msg(self) -> Any:
        """Receive a message; b"" at the end."""
        return self._recv_msg_blocking() if self._blocking else self._recv_msg()

    async def _recv_msg(self) -> bytes:
        head = await self._recvall(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return b""
        (size,) = _LENGTH.unpack(head)
        data = await self._recvall(size)
        return data if len(data) == size else b""

    def _recv_msg_blocking(self) -> bytes:
        head = self._recvall_blocking(_LENGTH.size)
        return self._recvall_blocking(*_LENGTH.unpack(head)) if head else b""

    # --- connections

    def accept(self) -> Any:
        """Take a connection: (AsyncSocket, address)."""
        if self._blocking:
            connection, address = self._rsock.accept()
            return self._accepted(connection, blocking=True), address
        return self._accept()

    async def _accept(self) -> tuple[AsyncSocket, Any]:
        connection, address = await self._do(self._rsock.accept)
        accepted = self._accepted(connection, blocking=False)
        if self._certfile is not None:
            await accepted._shake_hands()
        return accepted, address

    def _accepted(self, connection: Any, blocking: bool) -> AsyncSocket:
        if self._certfile is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certfile, self._keyfile)
            connection.setblocking(blocking)
            connection = context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=blocking
            )
        return AsyncSocket(connection, blocking, self._keyfile, self._certfile)

    def connect(self, address: Any) -> Any:
        """Connect; 0."""
        if self._blocking:
            self._rsock.connect(address)
            self._secure()
            return 0
        return self._connect(address)

    async def _connect(self, address: Any) -> int:
        code = self._rsock.connect_ex(await self._resolved(address))
        if code == errno.EINPROGRESS:
            await self._when_ready(True)
            code = self._rsock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._secure()
        if self._certfile is not None:
            await self._shake_hands()
        return 0

    async def _resolved(self, address: Any) -> Any:
        """The address with its host's number: looking up a name would block."""
        family = self._rsock.family
        if family not in (socket.AF_INET, socket.AF_INET6):
            return address
        host, port = address[:2]
        loop = asyncio.get_running_loop()
        # "" is this machine, as for socket.connect.
        found = await loop.getaddrinfo(host or None, port, family=family, type=self._rsock.type)
        return found[0][4]

    def _secure(self) -> None:
        """Speak TLS from now on, with a server that has our certificate."""
        if self._certfile is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self._certfile)
        self._rsock = context.wrap_socket(self._rsock, do_handshake_on_connect=self._blocking)

    async def _shake_hands(self) -> None:
        try:
            await self._do(self._rsock.do_handshake)
        except BaseException:
            self.close()
            raise

    async def create_connection(
        self, host_port: Any, timeout: float | None = None, source_address: Any = None
    ) -> int:
        """Connect, from an address and within a timeout that stays; 0."""
        if timeout is not None:
            self.settimeout(timeout)
        if source_address is not None:
            self._rsock.bind(source_address)
        result = self.connect(host_port)
        return int(result if self._blocking else await result)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""A TCP proxy that misbehaves on purpose: it cuts, stalls, delays and half-closes what passes through it."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import cast


class CuttingProxy:
    """Forwards TCP connections to one address, in the test's own loop.

    Args:
        host: Where to.
        port: Its port.
        budget: Asked per connection: after how many bytes, both directions together, it is cut; None: never.
        seed: Decides whether a cut is a reset or a polite end.
        delay: Seconds that each piece is held back.
        listen: Address to listen on.
        corrupt: Instead of a cut one byte is changed, and the connection left alone.

    Attributes:
        port: Where the proxy listens, once it was started.
        budget: As given.
        cuts: Connections that were cut, or in which a byte was changed.
        passed: Bytes that went through, all together.
        connections: Connections that are open.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        budget: Callable[[], int | None] = lambda: None,
        seed: int = 0,
        delay: float = 0.0,
        listen: str = "127.0.0.1",
        corrupt: bool = False,
    ) -> None:
        self.port = 0
        self.cuts = 0
        self.passed = 0
        self.delay = delay
        self.connections: set[_Connection] = set()
        self.stalled = False
        self.random = random.Random(seed)
        self.target = (host, port)
        self.listen = listen
        self.corrupt = corrupt
        self.budget = budget
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> CuttingProxy:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port. It stays ours while nobody listens on it."""
        if self._reserved is None:
            self._reserved = socket.socket()
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind((self.listen, port))
            self.port = self._reserved.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._accepted, self.listen, self.port, reuse_address=True
        )
        return self.port

    def _accepted(self) -> asyncio.Protocol:
        connection = _Connection(self, self.budget())
        self.connections.add(connection)
        task = asyncio.get_running_loop().create_task(connection.dial(), name="proxy-dial")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection.near

    def cut(self) -> None:
        """Cut every connection now."""
        for connection in list(self.connections):
            connection.cut()

    def stall(self, stalled: bool) -> None:
        """Let no byte through, or let them through again; connections stay open."""
        self.stalled = stalled
        for connection in self.connections:
            connection.go_on()

    def half_close(self) -> None:
        """Tell the far ends that the near ones have finished writing; the other direction stays open."""
        for connection in self.connections:
            if connection.far.transport is not None:
                connection.far.transport.write_eof()

    async def stop_listening(self) -> None:
        """Refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Cut everything and listen no more; nothing is left behind."""
        await self.stop_listening()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        while self.connections:
            await asyncio.sleep(0)


class _Half(asyncio.Protocol):
    """One side of a connection: what it reads is written to the other one."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.transport: asyncio.Transport | None = None
        self.other: _Half
        self.waiting = bytearray()  # for this side: until it is connected, or the proxy goes on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.connection.ended:
            self.transport.abort()
        self.flush()

    def data_received(self, data: bytes) -> None:
        proxy = self.connection.proxy
        if proxy.delay:
            asyncio.get_running_loop().call_later(proxy.delay, self.connection.forward, self, data)
        else:
            self.connection.forward(self, data)

    def flush(self) -> None:
        if self.waiting and self.transport is not None and not self.connection.proxy.stalled:
            self.transport.write(bytes(self.waiting))
            self.waiting.clear()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connection.lost(self)

    # A side that does not read makes the other one wait, as a real network would.
    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.resume_reading()


class _Connection:
    def __init__(self, proxy: CuttingProxy, budget: int | None) -> None:
        self.proxy = proxy
        self.left = budget
        self.ended = False
        self.near, self.far = _Half(self), _Half(self)
        self.near.other, self.far.other = self.far, self.near

    async def dial(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self.far, *self.proxy.target)
        except OSError:
            self.cut(count=False)

    def forward(self, source: _Half, data: bytes) -> None:
        if self.ended:
            return
        if self.left is not None and self.proxy.corrupt:
            data = self.changed(data)
        elif self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
        self.proxy.passed += len(data)
        source.other.waiting += data
        source.other.flush()
        if self.left == 0:
            self.cut()

    def changed(self, data: bytes) -> bytes:
        """Change the byte whose turn it is, if it is among these."""
        assert self.left is not None
        if len(data) <= self.left:
            self.left -= len(data)
            return data
        at, self.left = self.left, None
        self.proxy.cuts += 1
        return (
            data[:at] + bytes([data[at] ^ (1 << self.proxy.random.randrange(8))]) + data[at + 1 :]
        )

    def go_on(self) -> None:
        self.near.flush()
        self.far.flush()

    def cut(self, *, count: bool = True) -> None:
        if self.ended:
            return
        self.ended = True
        self.proxy.cuts += count
        for half in (self.near, self.far):
            if half.transport is not None:
                if self.proxy.random.random() < 0.5:
                    half.transport.abort()
                else:
                    half.transport.close()
        self.gone()

    def lost(self, half: _Half) -> None:
        if not self.ended:
            self.ended = True
            if half.other.transport is not None:
                half.other.transport.close()
        self.gone()

    def gone(self) -> None:
        if self.near.transport is None and self.far.transport is None:
            self.proxy.connections.discard(self)

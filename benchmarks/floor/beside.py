"""Floors of ``beside``: small messages while a big value passes, in processes of its own or through the same two loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor import tls
from benchmarks.floor.bulk import MIB, _receive, _send, payload
from benchmarks.floor.coalesced import Link, Mailbox, connect, serve
from benchmarks.serving import ServerProcess

QUIET = 2000
"""Round trips before the transfer, for the quiet figure."""
_CHUNK = 64 << 10


def p99(times: list[float]) -> float:
    """Return the time that one of a hundred exceeds."""
    return sorted(times)[len(times) * 99 // 100]


class Beside(Contestant):
    """Measures round trips without and with a transfer; the figure is the ratio of their p99."""

    async def once(self) -> None:
        """Send a small message and wait for its answer."""
        raise NotImplementedError

    def transfer(self) -> Awaitable[Any]:
        """Begin to send the big value; it is there when this is."""
        raise NotImplementedError

    async def _times(self, count: int, until: asyncio.Future[Any] | None) -> list[float]:
        times: list[float] = []
        while len(times) < count or (until is not None and not until.done()):
            begun = perf_counter()
            await self.once()
            times.append(perf_counter() - begun)
        return times

    async def compare(self) -> float:
        """Do both and return the ratio."""
        quiet = await self._times(QUIET, None)
        passing = asyncio.ensure_future(self.transfer())
        busy = await self._times(0, passing)
        await passing
        return p99(busy) / p99(quiet)


class TwoPairs(Beside):
    """The messages between two processes, the value between two others: what the machine itself makes of it."""

    label = "messages and value in processes of their own"

    async def start(self) -> None:
        self._echo = ServerProcess("benchmarks.floor.echo:mailbox")
        self._bulk = ServerProcess("benchmarks.floor.bulk:blocking")
        self._pusher = ServerProcess("benchmarks.floor.beside:pusher", self._bulk.port, self.size)
        self._box = Mailbox()
        self._link = await connect(lambda: Link(self._box.put), self._echo.port)
        self._orders = await asyncio.open_connection("127.0.0.1", self._pusher.port)

    async def once(self) -> None:
        self._link.send({"i": 1, "x": "abc"})
        await self._box.wait()
        self._box.messages.popleft()

    async def transfer(self) -> None:
        reader, writer = self._orders
        writer.write(b"!")
        await reader.readexactly(1)

    async def round(self) -> float:
        return await self.compare()

    async def stop(self) -> None:
        self._orders[1].close()
        self._link.transport.close()
        for server in (self._pusher, self._bulk, self._echo):
            server.close()


async def pusher(port: str, size: str) -> int:
    """Send a value of so many MiB to a blocking bulk floor for each byte that comes."""
    plain = socket.create_connection(("127.0.0.1", int(port)))
    connection = tls.client_context().wrap_socket(plain)
    value = payload("bytearray", int(size))

    def push() -> None:
        _send(connection, "bytearray", value)
        _receive(connection)

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readexactly(1):
                await asyncio.to_thread(push)
                writer.write(b".")
        writer.close()

    server = await asyncio.start_server(obey, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


class _Taking(asyncio.BufferedProtocol):
    """Takes ``size`` bytes again and again, 64 KiB in a turn of the loop; a byte goes back for each time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._renew()

    def _renew(self) -> None:
        self._view = memoryview(bytearray(self._size))
        self._got = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._got : self._got + _CHUNK]

    def buffer_updated(self, nbytes: int) -> None:
        self._got += nbytes
        if self._got == self._size:
            self._transport.write(b".")
            self._renew()
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._transport.resume_reading)


async def taking(size: str) -> int:
    """Echo messages, the first with the port where the same loop takes values."""
    bulk = await serve(lambda: _Taking(int(size) * MIB))
    tasks = []

    def made() -> Link:
        box = Mailbox()
        link = Link(box.put)

        async def answer() -> None:
            await box.wait()
            box.messages.clear()
            link.send(bulk)
            while True:
                while box.messages:
                    link.send(box.messages.popleft())
                await box.wait()

        tasks.append(asyncio.get_running_loop().create_task(answer()))
        return link

    return await serve(made)


class _Giving(asyncio.Protocol):
    """The other end of that."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._resumed: asyncio.Future[None] | None = None
        self._there: asyncio.Future[None] | None = None
        transport.set_write_buffer_limits(high=4 * _CHUNK)

    def data_received(self, data: bytes) -> None:
        if self._there is not None:
            self._there.set_result(None)

    def pause_writing(self) -> None:
        self._resumed = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None

    async def give(self, value: Any) -> None:
        view = memoryview(value)
        self._there = asyncio.get_running_loop().create_future()
        for offset in range(0, len(view), _CHUNK):
            self._transport.write(view[offset : offset + _CHUNK])
            if self._resumed is not None:
                await self._resumed
            else:
                await asyncio.sleep(0)
        await self._there


class OneLoop(Beside):
    """Both through the same two loops, 64 KiB of the value in each turn."""

    label = "the least program with one loop at each end"

    async def start(self) -> None:
        self._server = ServerProcess("benchmarks.floor.beside:taking", self.size)
        self._box = Mailbox()
        self._link = await connect(lambda: Link(self._box.put), self._server.port)
        self._link.send("where?")
        await self._box.wait()
        self._bulk = await connect(_Giving, self._box.messages.popleft())
        self._value = payload("bytearray", self.size)

    async def once(self) -> None:
        self._link.send({"i": 1, "x": "abc"})
        await self._box.wait()
        self._box.messages.popleft()

    def transfer(self) -> Awaitable[None]:
        giving: Awaitable[None] = self._bulk.give(self._value)
        return giving

    async def round(self) -> float:
        return await self.compare()

    async def stop(self) -> None:
        self._link.transport.close()
        self._server.close()

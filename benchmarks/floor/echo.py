"""Floors of ``echo``: bytes that come back, and a message to a mailbox and its answer."""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor.coalesced import Link, Mailbox, connect, serve
from benchmarks.serving import ServerProcess


class _RawEcho(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.data_received = transport.write  # type: ignore[method-assign]  # the least there is


class _RawClient(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._write = transport.write

    def times(self, count: int) -> asyncio.Future[list[float]]:
        """Send 64 bytes and wait for them, so many times."""
        self._left = count
        self._times: list[float] = []
        self._done = asyncio.get_running_loop().create_future()
        self._begun = perf_counter()
        self._write(b"x" * 64)
        return self._done

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self._times.append(now - self._begun)
        self._left -= 1
        if self._left:
            self._begun = perf_counter()
            self._write(data)
        else:
            self._done.set_result(self._times)


async def raw() -> int:
    """Serve the bytes that come."""
    return await serve(_RawEcho)


async def mailbox() -> int:
    """Serve with a task that reads its mailbox and answers."""
    tasks = []

    def made() -> Link:
        box = Mailbox()
        link = Link(box.put)

        async def answer() -> None:
            while True:
                while box.messages:
                    link.send(box.messages.popleft())
                await box.wait()

        tasks.append(asyncio.get_running_loop().create_task(answer()))
        return link

    return await serve(made)


class Raw(Contestant):
    """64 bytes there and back."""

    label = "raw TLS echo, 64 bytes"

    async def start(self) -> None:
        self._server = ServerProcess("benchmarks.floor.echo:raw")
        self._client = await connect(_RawClient, self._server.port)

    async def round(self) -> float:
        times: list[float] = await self._client.times(self.size)
        return statistics.median(times) * 1e6

    async def stop(self) -> None:
        self._server.close()


class L0(Contestant):
    """A message to a task, and its answer to one here."""

    label = "L0: mailbox and task"

    async def start(self) -> None:
        self._server = ServerProcess("benchmarks.floor.echo:mailbox")
        self._box = Mailbox()
        self._link = await connect(lambda: Link(self._box.put), self._server.port)

    async def round(self) -> float:
        times = []
        for _ in range(self.size):
            begun = perf_counter()
            self._link.send({"i": 1, "x": "abc"})
            await self._box.wait()
            self._box.messages.popleft()
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6

    async def stop(self) -> None:
        self._server.close()

"""Floor of ``runs``: a task per call at the server, pickled arguments and results, writes coalesced."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor.coalesced import Link, connect, serve
from benchmarks.serving import ServerProcess


async def _nothing(value: int) -> int:
    return value


async def _call(link: Link, number: int, arguments: tuple[Any, ...]) -> None:
    link.send((number, await _nothing(*arguments)))


async def tasks() -> int:
    """Serve calls, each in a task."""
    live: set[asyncio.Task[None]] = set()
    create_task = asyncio.get_running_loop().create_task

    def made() -> Link:
        def called(message: tuple[int, tuple[Any, ...]]) -> None:
            task = create_task(_call(link, *message))
            live.add(task)
            task.add_done_callback(live.discard)

        link = Link(called)
        return link

    return await serve(made)


class TaskPerCall(Contestant):
    """So many calls in flight, each with a future here."""

    label = "task per call"

    async def start(self) -> None:
        self._server = ServerProcess("benchmarks.floor.runs:tasks")
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._link = await connect(lambda: Link(self._returned), self._server.port)

    def _returned(self, message: tuple[int, int]) -> None:
        self._waiting.pop(message[0]).set_result(message[1])

    async def round(self) -> float:
        create_future = asyncio.get_running_loop().create_future
        begun = perf_counter()
        futures = []
        for i in range(self.size):
            self._waiting[i] = future = create_future()
            futures.append(future)
            self._link.send((i, (i,)))
            if i % 128 == 127:
                await asyncio.sleep(0)
        for future in futures:
            await future
        return self.size / (perf_counter() - begun)

    async def stop(self) -> None:
        self._server.close()

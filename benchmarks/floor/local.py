"""Floors of ``local``: asyncio's own tasks and queues on uvloop."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter
from typing import Any

import psutil

from benchmarks.contest import Contestant

#: Messages that are sent in one go.
BURST = 1000


def grown(before: int, count: int) -> float:
    """Bytes that this process has grown by since, per one of ``count``."""
    gc.collect()
    rss: int = psutil.Process().memory_info().rss
    return (rss - before) / count


def resident() -> int:
    """Resident memory of this process."""
    gc.collect()
    rss: int = psutil.Process().memory_info().rss
    return rss


class Burst(Contestant):
    """A queue: a thousand put, then the reader's turn."""

    label = "asyncio.Queue"

    async def round(self) -> float:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def read() -> None:
            for _ in range(self.size):
                await queue.get()

        reader = asyncio.create_task(read())
        begun = perf_counter()
        for i in range(self.size):
            queue.put_nowait(i)
            if i % BURST == BURST - 1:
                await asyncio.sleep(0)
        await reader
        return self.size / (perf_counter() - begun)


class PingPong(Contestant):
    """Two tasks with a queue each."""

    label = "asyncio.Queue"

    async def round(self) -> float:
        there: asyncio.Queue[int] = asyncio.Queue()
        back: asyncio.Queue[int] = asyncio.Queue()

        async def answer() -> None:
            for _ in range(self.size):
                back.put_nowait(await there.get())

        async def ask() -> None:
            for i in range(self.size):
                there.put_nowait(i)
                await back.get()

        answering = asyncio.create_task(answer())
        begun = perf_counter()
        await asyncio.create_task(ask())
        taken = perf_counter() - begun
        await answering
        return self.size / taken


async def nothing() -> None:
    """Return at once."""


class Create(Contestant):
    """Tasks: so many at once, and wait for them; a hundred thousand in all."""

    label = "create_task"
    total = 100_000

    async def round(self) -> float:
        rounds = max(1, self.total // self.size) if self.size >= 1000 else 1
        begun = perf_counter()
        for _ in range(rounds):
            for task in [asyncio.create_task(nothing()) for _ in range(self.size)]:
                await task
        return rounds * self.size / (perf_counter() - begun)


class Waiting(Contestant):
    """Tasks that wait for a message."""

    label = "a task with a queue"

    async def round(self) -> float:
        before = resident()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        tasks = [asyncio.create_task(queue.get()) for _ in range(self.size)]
        await asyncio.sleep(0)
        figure = grown(before, self.size)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return figure

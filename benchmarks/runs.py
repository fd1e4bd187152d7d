"""``computation.run`` and its result, ten thousand in flight."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from benchmarks.contest import Question
from benchmarks.ours import Ours
from discoro import Coro

QUESTIONS = [
    Question(
        name="runs",
        title="start a coroutine at a server and get its result, 10,000 in flight",
        unit="per s",
        size=10_000,
        quick_size=300,
        floor="benchmarks.floor.runs:TaskPerCall",
        others=[
            "benchmarks.runs:Runs",
            "benchmarks.runs:GeneratorJobs",
            "benchmarks.runs:AsyncJobs",
            "benchmarks.peers.rpyc:Calls",
            "benchmarks.peers.dask:Calls",
            "benchmarks.peers.ray:Calls",
        ],
        goals={"discoro": 0.7},
        beats={"RPyC": 2, "Ray actor": 15, "Dask submit": 100},
    )
]


def nothing(value: int) -> Any:
    """Return at once."""
    return value
    yield


async def nothing_async(value: int) -> int:
    """Return at once."""
    return value


class Runs(Ours):
    """Start all, then take the results."""

    function = staticmethod(nothing)

    async def measure(self, coro: Any) -> float:
        run, server = self.computation.run, self.server
        begun = perf_counter()
        for each in [run(server, value) for value in range(self.size)]:
            result = await (await each)
        assert result == self.size - 1
        return self.size / (perf_counter() - begun)


class GeneratorJobs(Ours):
    """A coroutine here for each one there: generators, as the first example of the README has them."""

    label = "discoro, a coroutine here for each"
    function = staticmethod(nothing)

    async def measure(self, coro: Any) -> float:
        run, server = self.computation.run, self.server

        def job(value: int) -> Any:
            remote = yield run(server, value)
            return (yield remote)

        begun = perf_counter()
        for each in [Coro(job, value) for value in range(self.size)]:
            result = await each
        assert result == self.size - 1
        return self.size / (perf_counter() - begun)


class AsyncJobs(Ours):
    """The same with ``async def`` on both sides."""

    label = "discoro, an async one for each"
    function = staticmethod(nothing_async)

    async def measure(self, coro: Any) -> float:
        run, server = self.computation.run, self.server

        async def job(value: int) -> Any:
            return await (await run(server, value))

        begun = perf_counter()
        for each in [Coro(job, value) for value in range(self.size)]:
            result = await each
        assert result == self.size - 1
        return self.size / (perf_counter() - begun)

"""A numpy array of 256 MiB as argument and result of ``run``."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from benchmarks.contest import Question
from benchmarks.floor.bulk import payload
from benchmarks.ours import Ours

QUESTIONS = [
    Question(
        name="arrays",
        title="an array of 256 MiB as argument and as result of a run, both ways together",
        unit="MB/s",
        size=256,
        quick_size=4,
        floor="benchmarks.floor.bulk:BothWays",
        others=[
            "benchmarks.arrays:Array",
            "benchmarks.peers.dask:Array",
            "benchmarks.peers.ray:Array",
        ],
        goals={"discoro": 0.9},
        beats={"Dask": 1, "Ray": 1},
    )
]


async def back(array: Any) -> Any:
    """Return what was given."""
    return array


class Array(Ours):
    """There as argument, back as result."""

    function = staticmethod(back)

    async def start(self) -> None:
        await super().start()
        self._array = payload("array", self.size)

    async def measure(self, coro: Any) -> float:
        begun = perf_counter()
        result = await (await self.computation.run(self.server, self._array))
        taken = perf_counter() - begun
        assert result.nbytes == self._array.nbytes
        return 2 * self.size * 1.048576 / taken

"""A message to a remote coroutine and its answer, one at a time."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

from benchmarks.contest import Question
from benchmarks.ours import Ours

QUESTIONS = [
    Question(
        name="echo",
        title="a message to a remote coroutine and its answer, one at a time, p50",
        unit="us",
        lower_is_better=True,
        size=1000,
        quick_size=50,
        floor="benchmarks.floor.echo:L0",
        others=[
            "benchmarks.echo:Echo",
            "benchmarks.floor.echo:Raw",
            "benchmarks.peers.rpyc:Echo",
            "benchmarks.peers.pyro:Echo",
            "benchmarks.peers.zeromq:Echo",
            "benchmarks.peers.dask:Echo",
            "benchmarks.peers.ray:Echo",
        ],
        goals={"discoro": 1.15},
        beats={"RPyC": 1, "Pyro5": 1, "Dask actor": 1, "Ray actor": 1},
    )
]


def echo(client: Any, coro: Any = None) -> Any:
    """Send back what comes."""
    while True:
        message = yield coro.receive()
        client.send(message)


class Echo(Ours):
    """``send`` and ``receive`` on both sides."""

    function = staticmethod(echo)

    async def measure(self, coro: Any) -> float:
        remote = await self.computation.run(self.server, coro)
        times = []
        for _ in range(self.size):
            begun = perf_counter()
            remote.send({"i": 1, "x": "abc"})
            await coro.receive()
            times.append(perf_counter() - begun)
        remote.terminate()
        return statistics.median(times) * 1e6

"""Ray: one actor, or one task; not encrypted unless the environment has Ray's certificates."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor.bulk import payload
from benchmarks.start import Script


class Started(Contestant):
    """With an actor."""

    label = "Ray actor"
    encrypted = False

    async def start(self) -> None:
        import ray

        self.ray: Any = ray
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

        class Same:
            def same(self, value: Any) -> Any:
                return value

        self.actor: Any = ray.remote(Same).remote()
        ray.get(self.actor.same.remote(1))

    async def stop(self) -> None:
        self.ray.shutdown()


class Echo(Started):
    """A method of an actor."""

    async def round(self) -> float:
        times = []
        for _ in range(max(1, self.size // 5)):
            begun = perf_counter()
            self.ray.get(self.actor.same.remote({"i": 1, "x": "abc"}))
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6


class Calls(Started):
    """Methods of an actor, all in flight."""

    async def round(self) -> float:
        begun = perf_counter()
        results = self.ray.get([self.actor.same.remote(value) for value in range(self.size)])
        assert results[-1] == self.size - 1
        return self.size / (perf_counter() - begun)


class Array(Started):
    """An array as argument and as result of an actor's method."""

    label = "Ray"

    async def start(self) -> None:
        await super().start()
        self._array = payload("array", self.size)

    async def round(self) -> float:
        begun = perf_counter()
        self.ray.get(self.actor.same.remote(self._array))
        return 2 * self.size * 1.048576 / (perf_counter() - begun)


class Client(Script):
    """Ray's daemons and one task."""

    label = "Ray"
    encrypted = False
    text = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote
def add(a, b):
    return a + b

assert ray.get(add.remote(1, 2)) == 3
print("done", flush=True)
"""

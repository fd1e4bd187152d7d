"""pycos: tasks in one process, and messages to one of another process, over TLS."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor.local import BURST


def _started(**options: Any) -> Any:
    import pycos
    import pycos.netpycos

    pycos.logger.setLevel(pycos.logger.ERROR)
    pycos.netpycos.Pycos(host="127.0.0.1", udp_port=0, **options)
    return pycos


def _in_task(pycos: Any, function: Any, *args: Any) -> Any:
    """Run a task and wait for what it returns."""
    done = threading.Event()
    result: list[Any] = []

    def run(task: Any = None) -> Any:
        value = yield from function(*args, task=task)
        result.append(value)
        done.set()

    pycos.Task(run)
    done.wait()
    return result[0]


class Burst(Contestant):
    """Messages from one task to another."""

    label = "pycos"

    async def start(self) -> None:
        import pycos

        self.pycos: Any = pycos
        pycos.logger.setLevel(pycos.logger.ERROR)

    async def round(self) -> float:
        def read(task: Any = None) -> Any:
            for _ in range(self.size):
                yield task.receive()

        def work(task: Any = None) -> Any:
            reader = self.pycos.Task(read)
            begun = perf_counter()
            for i in range(self.size):
                reader.send(i)
                if i % BURST == BURST - 1:
                    yield None
            yield reader.finish()
            return self.size / (perf_counter() - begun)

        result: float = _in_task(self.pycos, work)
        return result


class PingPong(Burst):
    """Messages between two tasks."""

    async def round(self) -> float:
        def answer(client: Any, task: Any = None) -> Any:
            for _ in range(self.size):
                message = yield task.receive()
                client.send(message)

        def work(task: Any = None) -> Any:
            answering = self.pycos.Task(answer, task)
            begun = perf_counter()
            for i in range(self.size):
                answering.send(i)
                yield task.receive()
            return self.size / (perf_counter() - begun)

        result: float = _in_task(self.pycos, work)
        return result


class Create(Burst):
    """Tasks that do nothing."""

    async def round(self) -> float:
        def nothing(task: Any = None) -> Any:
            return
            yield

        def work(task: Any = None) -> Any:
            rounds = max(1, 20_000 // self.size)
            begun = perf_counter()
            for _ in range(rounds):
                for made in [self.pycos.Task(nothing) for _ in range(self.size)]:
                    yield made.finish()
            return rounds * self.size / (perf_counter() - begun)

        result: float = _in_task(self.pycos, work)
        return result

"""A client of a chaos plan: holds conversations with all servers until it is told to stop. Run as a program.

``python -m tests.chaos.client FOLDER NAME SEED UDP_PORT HOST PORT...``: where the fault proxies are, one per server. It
stops when a file ``stop`` appears in the folder, and then shows that every server is usable.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from pathlib import Path
from typing import Any

from discoro import Computation, Coro, Location, MonitorException, Scheduler
from discoro.errors import DiscoroError
from tests.chaos import jobs
from tests.chaos.history import Recorder

WORKERS = 2
SIZES = [0] * 30 + [200] * 10 + [5_000] * 5 + [100_000] * 2 + [1_500_000]


class Client:
    """The work of one process."""

    def __init__(self, folder: Path, name: str, seed: int, where: list[Location]) -> None:
        self.folder = folder
        self.name = name
        self.record = Recorder(folder, name)
        self.seed = seed
        self.where = where
        self.over = asyncio.Event()
        self.watchman: Any = None
        self.names: dict[tuple[bytes, int], str] = {}
        self.talking: Computation[Any, Any] = Computation(
            jobs.converse, depends=[str(folder / "depends.bin")]
        )

    async def work(self, index: int, numbers: Any) -> None:
        """One conversation after the other with one server."""
        while not self.over.is_set():
            try:
                await self.talking.setup(self.where[index])
            except DiscoroError:
                await asyncio.sleep(0.1)
                continue
            await Coro(self.converse, index, f"{self.name}/{index}/{next(numbers)}")

    async def converse(self, index: int, name: str, coro: Any = None) -> None:
        """One run: start it, talk with it, and wait for its end, which is told twice: to `finish` and to monitors."""
        chance = random.Random(f"{self.seed} {name}")
        count = chance.choice([1, 5, 30, 30, 60])
        manner = chance.choices(["return", "raise", "block"], [6, 2, 1])[0]
        self.record("asked", name, index)
        try:
            run = await self.talking.run(
                self.where[index], coro, str(self.folder), name, count, manner
            )
        except DiscoroError as error:
            self.record("outcome", name, [type(error).__name__, None])
            await asyncio.sleep(0.05)
            return
        self.names[run.process, run.number] = name
        for who, watcher in (("own", coro), ("watchman", self.watchman)):
            self.record("watched", name, who)
            await watcher.monitor(run)
        tasks = [
            asyncio.ensure_future(self.talk(run, name, count, chance)),
            asyncio.ensure_future(self.tell(run, name)),
        ]
        while not isinstance(message := await coro.receive(), MonitorException):
            number, _ = message
            self.record("received", name, number)
        self.record("down", name, ["own", message.args[1][0].__name__])
        await tasks[1]
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)

    async def talk(self, run: Any, name: str, count: int, chance: random.Random) -> None:
        """Send what the run waits for, some of it with a receipt."""
        for number in range(count):
            message = (number, bytes(chance.choice(SIZES)))
            self.record("sent", name, number)
            try:
                if number % 5 == 4:
                    self.record("delivered", name, [number, await run.deliver(message)])
                else:
                    run.send(message)
            except DiscoroError:
                return
            await asyncio.sleep(chance.expovariate(1 / 0.03))

    async def tell(self, run: Any, name: str) -> None:
        """Write down how a run ended."""
        try:
            outcome = ["StopIteration", await run.finish()]
        except Exception as error:
            outcome = [type(error).__name__, str(error)]
        self.record("outcome", name, outcome)

    async def watch(self, coro: Any = None) -> None:
        """Lives as long as the client: would see a monitor that fires twice, or one that nobody set."""
        while True:
            who, (kind, _) = (await coro.receive()).args
            name = self.names.get((who.process, who.number), "")
            self.record("down", name, ["watchman", kind.__name__])

    async def run(self, coro: Any) -> None:
        """All of it."""
        self.watchman = Coro(self.watch)
        numbers = itertools.count()
        workers = [
            asyncio.ensure_future(self.work(index, numbers))
            for index in range(len(self.where))
            for _ in range(WORKERS)
        ]
        while not (self.folder / "stop").exists():
            await asyncio.sleep(0.1)
        self.over.set()
        await asyncio.gather(*workers)
        for index, where in enumerate(self.where):
            await self.show(index, where)
        self.record("farewell")

    async def show(self, index: int, where: Location) -> None:
        """Show that a server is usable."""
        computation: Computation[Any, Any] = Computation(jobs.nothing)
        await computation.setup(where, timeout=30)
        await (await computation.run(where)).finish(timeout=30)
        await computation.close(where, timeout=30)
        self.record("usable", "", index)


async def main(coro: Any = None) -> None:
    folder, name, seed, _, host, *ports = sys.argv[1:]
    where = [Location(host, int(port)) for port in ports]
    await Client(Path(folder), name, int(seed), where).run(coro)


if __name__ == "__main__":
    Scheduler(node="127.0.0.1", udp_port=int(sys.argv[4])).run(main)

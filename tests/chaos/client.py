"""A client of a chaos plan: holds conversations with all servers until it is told to stop. Run as a program.

``python -m tests.chaos.client FOLDER NAME SEED UDP_PORT STUCK HOST PORT...``: where the fault proxies are, one per server, and
after how many seconds a run is given up whose messages were all handed on. It
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
NOTHING = ("", "")


class Client:
    """The work of one process."""

    def __init__(
        self, folder: Path, name: str, seed: int, stuck: float, where: list[Location]
    ) -> None:
        self.folder = folder
        self.name = name
        self.record = Recorder(folder, name)
        self.seed = seed
        self.where = where
        self.stuck = stuck
        self.over = asyncio.Event()
        self.watchman: Any = None
        self.names: dict[tuple[bytes, int], str] = {}
        self.talking: Computation[Any, Any] = Computation(
            jobs.converse, depends=[str(folder / "depends.bin")]
        )
        self.passing: Computation[Any, Any] = Computation(jobs.pass_on)

    async def work(self, index: int, numbers: Any) -> None:
        """One conversation after the other with one server."""
        while not self.over.is_set():
            name = f"{self.name}/{index}/{next(numbers)}"
            try:
                await self.talking.setup(self.where[index])
                if random.Random(f"{self.seed} {name} manner").random() < 0.25:
                    other = (index + 1) % len(self.where)
                    await self.passing.setup(self.where[other])
                    await Coro(self.relay, index, other, name)
                else:
                    await Coro(self.converse, index, name)
            except DiscoroError:
                await asyncio.sleep(0.1)

    async def begin(self, coro: Any, started: Any, index: int, name: str) -> Any:
        """Start a run, and have its end told twice: to `finish` and to monitors. None where it did not start."""
        self.record("asked", name, index)
        try:
            run = await started
        except DiscoroError as error:
            self.record("outcome", name, [type(error).__name__, str(error)])
            await asyncio.sleep(0.05)
            return None
        self.names[run.process, run.number] = name
        for who, watcher in (("own", coro), ("watchman", self.watchman)):
            self.record("watched", name, who)
            await watcher.monitor(run)
        return run

    async def converse(self, index: int, name: str, coro: Any = None) -> None:
        """One run, which answers."""
        chance = random.Random(f"{self.seed} {name}")
        count = chance.choice([1, 5, 30, 30, 60])
        manner = chance.choices(["return", "raise", "block"], [6, 2, 1])[0]
        where, folder = self.where[index], str(self.folder)
        started = self.talking.run(where, coro, folder, name, count, manner)
        run = await self.begin(coro, started, index, name)
        if run is None:
            return
        talking = asyncio.ensure_future(self.talk(run, name, count, chance))
        telling = asyncio.ensure_future(self.tell(run, name))
        while await self.hear(coro, name) is None:
            pass
        await self.over_with(talking, telling)

    async def relay(self, index: int, other: int, name: str, coro: Any = None) -> None:
        """Two runs: what we tell one is handed on to the other, which answers to us."""
        chance = random.Random(f"{self.seed} {name}")
        count = chance.choice([5, 30])
        folder, speaker_name = str(self.folder), f"{name}-hands-on"
        started = self.talking.run(self.where[index], coro, folder, name, count, "return")
        run = await self.begin(coro, started, index, name)
        if run is None:
            return
        tasks = [asyncio.ensure_future(self.tell(run, name))]
        started = self.passing.run(self.where[other], run, folder, speaker_name, name, count)
        speaker = await self.begin(coro, started, other, speaker_name)
        talking = None
        if speaker is not None:
            tasks.append(asyncio.ensure_future(self.tell(speaker, speaker_name)))
            talking = asyncio.ensure_future(self.talk(speaker, speaker_name, count, chance))
        else:
            self.give_up(run, name, "alone")
        ends: dict[str, str] = {} if speaker is not None else {speaker_name: ""}
        patience = None
        while len(ends) < 2:
            end = await self.hear(coro, name, patience)
            if end == NOTHING:
                self.give_up(run, name, "stuck")
                patience = None
            elif end is not None:
                ends[end[0]] = end[1]
                if end[0] == speaker_name and end[1] == "StopIteration":
                    patience = self.stuck
                elif end[0] == speaker_name and name not in ends:
                    self.give_up(run, name, "alone")
        await self.over_with(talking, *tasks)

    def give_up(self, run: Any, name: str, why: str) -> None:
        if run.is_alive():
            self.record("terminated", name, why)
            run.terminate()

    async def hear(
        self, coro: Any, name: str, timeout: float | None = None
    ) -> tuple[str, str] | None:
        """Take a message. Of an end: whose, and how; NOTHING if there was none in time; of anything else None."""
        message = await coro.receive(timeout)
        if message is None:
            return NOTHING
        if not isinstance(message, MonitorException):
            self.record("received", name, message[0])
            return None
        who, (kind, _) = message.args
        whose = self.names[who.process, who.number]
        self.record("down", whose, ["own", kind.__name__])
        return whose, kind.__name__

    async def over_with(self, talking: asyncio.Task[None] | None, *telling: Any) -> None:
        """Wait until all outcomes are written down; who still talks, talks to nobody."""
        await asyncio.gather(*telling)
        if talking is not None:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def talk(self, run: Any, name: str, count: int, chance: random.Random) -> None:
        """Send what the run waits for, some of it with a receipt."""
        for number in range(count):
            message = (number, bytes(chance.choice(SIZES)))
            if not run.is_alive():  # there is another way to its process, and that knows no proxy
                return
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
    folder, name, seed, _, stuck, host, *ports = sys.argv[1:]
    where = [Location(host, int(port)) for port in ports]
    await Client(Path(folder), name, int(seed), float(stuck), where).run(coro)


if __name__ == "__main__":
    Scheduler(node="127.0.0.1", udp_port=int(sys.argv[4])).run(main)

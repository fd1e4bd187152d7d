"""Coroutines of one process: messages between two, making and ending them, the memory of those that wait."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant, Question
from benchmarks.floor.local import BURST, Create, grown, resident
from discoro import Coro, Scheduler

_ASYNC, _GENERATOR = "discoro, async def", "discoro, generators"


def _question(
    name: str, title: str, size: int, goal: float, peer: list[str], **more: Any
) -> Question:
    cls = "".join(part.capitalize() for part in name.split("-")).rstrip("0123456789")
    return Question(
        name=f"local-{name}",
        title=title,
        unit=more.pop("unit", "per s"),
        size=size,
        quick_size=1000,
        floor=f"benchmarks.floor.local:{cls}",
        others=[f"benchmarks.local:Async{cls}", f"benchmarks.local:Generator{cls}", *peer],
        goals={_ASYNC: goal, _GENERATOR: goal},
        beats={"pycos": 1},
        **more,
    )


QUESTIONS = [
    _question(
        "burst",
        "messages from one coroutine to another, a thousand in one go",
        200_000,
        1.15,
        ["benchmarks.peers.pycos:Burst"],
    ),
    _question(
        "ping-pong",
        "a message between two coroutines and its answer",
        50_000,
        3,
        ["benchmarks.peers.pycos:PingPong"],
    ),
    _question(
        "create-1000",
        "make and finish coroutines, 1,000 at a time",
        1_000,
        0.85,
        ["benchmarks.peers.pycos:Create"],
    ),
    _question("create-20000", "make and finish coroutines, 20,000 at a time", 20_000, 0.75, []),
    _question(
        "waiting",
        "memory of a coroutine that waits for a message",
        100_000,
        1.1,
        [],
        unit="bytes",
        lower_is_better=True,
        rounds=1,
    ),
]


class Local(Contestant):
    """In a scheduler without any network."""

    async def start(self) -> None:
        self._scheduler = await Scheduler(local=True).__aenter__()

    async def measure(self) -> float:
        """Do the work of a round in a coroutine."""
        raise NotImplementedError

    async def round(self) -> float:
        result: float = await Coro(self.measure)
        return result

    async def stop(self) -> None:
        await self._scheduler.__aexit__(None, None, None)


async def _read(count: int, coro: Any = None) -> None:
    for _ in range(count):
        await coro.receive()


def _read_generator(count: int, coro: Any = None) -> Any:
    for _ in range(count):
        yield coro.receive()


class AsyncBurst(Local):
    label = _ASYNC
    reader: Any = staticmethod(_read)

    async def measure(self) -> float:
        reader = Coro(type(self).reader, self.size)
        begun = perf_counter()
        for i in range(self.size):
            reader.send(i)
            if i % BURST == BURST - 1:
                await asyncio.sleep(0)
        await reader
        return self.size / (perf_counter() - begun)


class GeneratorBurst(AsyncBurst):
    label = _GENERATOR
    reader = staticmethod(_read_generator)


class AsyncPingPong(Local):
    label = _ASYNC

    async def measure(self) -> float:
        async def answer(client: Any, coro: Any = None) -> None:
            for _ in range(self.size):
                client.send(await coro.receive())

        async def ask(coro: Any = None) -> float:
            answering = Coro(answer, coro)
            begun = perf_counter()
            for i in range(self.size):
                answering.send(i)
                await coro.receive()
            return perf_counter() - begun

        return self.size / (await Coro(ask))


class GeneratorPingPong(Local):
    label = _GENERATOR

    async def measure(self) -> float:
        def answer(client: Any, coro: Any = None) -> Any:
            for _ in range(self.size):
                client.send((yield coro.receive()))

        def ask(coro: Any = None) -> Any:
            answering = Coro(answer, coro)
            begun = perf_counter()
            for i in range(self.size):
                answering.send(i)
                yield coro.receive()
            return perf_counter() - begun

        taken: float = await Coro(ask)
        return self.size / taken


async def _nothing() -> None:
    pass


def _nothing_generator() -> Any:
    return
    yield


class AsyncCreate(Local):
    label = _ASYNC
    made: Any = staticmethod(_nothing)

    async def measure(self) -> float:
        rounds = max(1, Create.total // self.size) if self.size >= 1000 else 1
        made = type(self).made
        begun = perf_counter()
        for _ in range(rounds):
            for coro in [Coro(made) for _ in range(self.size)]:
                await coro
        return rounds * self.size / (perf_counter() - begun)


class GeneratorCreate(AsyncCreate):
    label = _GENERATOR
    made = staticmethod(_nothing_generator)


class AsyncWaiting(Local):
    label = _ASYNC
    made: Any = staticmethod(_read)

    async def measure(self) -> float:
        before = resident()
        made = type(self).made
        coros: list[Coro[Any]] = [Coro(made, 1) for _ in range(self.size)]
        await asyncio.sleep(0)
        while not all(coro._recv for coro in coros):  # type: ignore[attr-defined]  # it waits
            await asyncio.sleep(0.01)
        figure = grown(before, self.size)
        for coro in coros:
            coro.send(None)
        for coro in coros:
            await coro
        return figure


class GeneratorWaiting(AsyncWaiting):
    label = _GENERATOR
    made = staticmethod(_read_generator)

"""Disorder with a seed: sends, cancels, throws and timeouts in any order; no message is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import Scheduler
from tests.kit import run_async

Yields = Generator[Any, Any, Any]

END = object()
NOTHING = object()


class Thrown(Exception):
    """Thrown at any moment."""


def by_generator(chance: random.Random, got: list[Any], coro: Any = None) -> Yields:
    def nested() -> Yields:
        return (yield coro.receive(chance.choice([None, 0, 0.0002]), NOTHING))

    message = None
    while message is not END:
        try:
            kind = chance.randrange(4)
            if kind == 0:
                message = yield coro.receive()
            elif kind == 1:
                message = yield coro.receive(chance.choice([0, 0.0001, 0.001]), NOTHING)
            elif kind == 2:
                message = yield nested()
            else:
                yield coro.sleep(chance.choice([0, 0.0001]))
                continue
        except (GeneratorExit, Thrown):
            continue
        if message is not NOTHING:
            got.append(message)
    return got


async def by_async(chance: random.Random, got: list[Any], throws: bool, coro: Any = None) -> Any:
    message = None
    while message is not END:
        try:
            kind = chance.randrange(7)
            if kind == 0:
                message = await coro.receive()
            elif kind == 1:
                message = await coro.receive(chance.choice([0, 0.0001, 0.001]), NOTHING)
            elif kind == 2:
                async with asyncio.timeout(chance.choice([0, 0.0001, 0.001])):
                    message = await coro.receive()
            elif kind == 3 and (sys.version_info >= (3, 12) or not throws):
                message = await asyncio.wait_for(coro.receive(), 0.0002)
            elif kind == 4:
                await asyncio.sleep(0)
                continue
            elif kind == 5:
                await coro.sleep(0.0001)
                continue
            else:
                async with asyncio.timeout(0.0005), asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(0.0001))
                    message = await coro.receive()
                    got.append(message)  # here: the group's end may be cancelled
                continue
        except (asyncio.CancelledError, TimeoutError, Thrown):
            continue
        except BaseExceptionGroup:
            continue
        if message is not NOTHING:
            got.append(message)
    return got


async def disturb(chance: random.Random, coro: Any, rounds: int, throws: bool) -> int:
    sent = 0
    loop = asyncio.get_running_loop()
    for _ in range(rounds):
        for _ in range(chance.randrange(4)):
            kind = chance.randrange(8)
            if kind < 4:
                coro.send(sent)
                sent += 1
            elif kind == 4:
                coro.cancel()
            elif kind == 5 and throws:
                coro.throw(Thrown())
            elif kind == 6:
                coro.resume("resumed")
            else:
                loop.call_later(chance.choice([0, 0.0002]), coro.cancel)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([0, 0, 0.0001]))
    await asyncio.sleep(0.005)
    coro.send(END)
    return sent


def fuzz(kind: str, seed: int, rounds: int, throws: bool) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        async with Scheduler() as scheduler:
            got: list[Any] = []
            if kind == "generator":
                coro = scheduler.spawn(by_generator, (chance, got))
            else:
                coro = scheduler.spawn(by_async, (chance, got, throws))
            await asyncio.sleep(0)
            sent = await disturb(chance, coro, rounds, throws)
            await coro
            assert got[-1] is END
            assert got[:-1] == list(range(sent))

    run_async(main)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("throws", [False, True], ids=["cancels", "throws"])
@pytest.mark.parametrize("kind", ["generator", "async"])
def test_no_message_is_lost_or_doubled_or_overtaken(kind: str, throws: bool, seed: int) -> None:
    fuzz(kind, seed, 300, throws)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 112))
@pytest.mark.parametrize("kind", ["generator", "async"])
def test_no_message_is_lost_in_three_thousand_rounds(kind: str, seed: int) -> None:
    fuzz(kind, seed, 3000, True)

"""Real TCP, TLS and handshake through a proxy that cuts: nothing lost, nothing twice, everything in order."""

from __future__ import annotations

import asyncio
import random
import sys
import time

import psutil
import pytest

from discoro.transport.limits import MIB, Limits
from discoro.transport.session import Session
from tests.kit import eventually, run_async
from tests.proxy import CuttingProxy
from tests.transport.ends import End, ends


async def talk(end: End, session: Session, count: int, rng: random.Random) -> None:
    """Send ``count`` numbered messages in bursts with pauses."""
    number = 0
    while number < count:
        for _ in range(min(rng.choice((1, 1, 3, 20, 150)), count - number)):
            size = rng.choice((8, 8, 8, 8, 200, 1500))
            session.send(1, number % 5, 5, (b"%d " % number).ljust(size, b"."))
            number += 1
        await asyncio.sleep(0 if rng.random() < 0.5 else 0.004)
        await session.room()


def numbers(end: End) -> list[int]:
    return [int(data.split()[0]) for *_, data in end.got]


async def through_cuts(
    count: int, cuts: int, seed: int, kept: list[End] | None = None, *, corrupt: bool = False
) -> CuttingProxy:
    rng = random.Random(seed)
    left = cuts
    mean = count * 2 * 150 / cuts

    def budget() -> int | None:
        # A third of the cuts falls into TLS or the handshake, a third soon after it.
        nonlocal left
        left -= 1
        if left < 0:
            return None
        if corrupt and left == cuts - 1:
            return 10_000  # not in the first handshake: a first dial tells its caller that this is no TLS
        return rng.choice(
            (
                rng.randint(0, 2600),
                2600 + rng.randint(0, 4000),
                int(rng.expovariate(1 / mean)) + 2600,
            )
        )

    limits = Limits(dial_first=0.002, dial_most=0.01)
    async with ends(limits=limits) as (one, other):
        if kept is not None:
            kept += [one, other]
        port = await other.listen()
        proxy = CuttingProxy("127.0.0.1", port, budget=budget, seed=seed, corrupt=corrupt)
        async with proxy:
            session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=20)
            talks = [
                asyncio.ensure_future(talk(one, session, count, random.Random(seed + 1))),
                asyncio.ensure_future(talk(other, other.session, count, random.Random(seed + 2))),
            ]
            await asyncio.gather(*talks)
            while proxy.cuts < cuts and len(one.got) + len(other.got) < 2 * count:
                await asyncio.sleep(0.005)
            await eventually(lambda: len(one.got) >= count and len(other.got) >= count, guard=300)
            assert numbers(one) == list(range(count)), "in order, none lost, none twice"
            assert numbers(other) == list(range(count))
            await eventually(lambda: session.idle and other.session.idle, what="kept is empty")
            assert not one.told("lost") and not other.told("lost")
    return proxy


@pytest.mark.parametrize("seed", range(2))
def test_messages_both_ways_through_cuts(seed: int) -> None:
    proxy = run_async(lambda: through_cuts(2000, 20, seed))
    assert proxy.cuts >= 10


@pytest.mark.parametrize(
    ("count", "cuts"),
    [
        pytest.param(20_000, 200, marks=pytest.mark.slow),
        pytest.param(100_000, 1000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)]),
    ],
)
def test_many_messages_each_way_through_many_cuts_in_bounded_memory(count: int, cuts: int) -> None:
    """Both ends, their proxy, and all that arrived are in this process; so the messages themselves are taken off."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    process = psutil.Process()
    run_async(lambda: through_cuts(2000, 20, seed))
    before, begin = process.memory_info().rss, time.monotonic()
    ends: list[End] = []
    proxy = run_async(lambda: through_cuts(count, cuts, seed, ends), guard=400)
    grown = process.memory_info().rss - before - sum(map(kept, ends))
    took = time.monotonic() - begin
    print(f"{proxy.cuts} cuts, {took:.1f} s, {grown / MIB:.1f} MiB more beside what arrived")
    assert proxy.cuts >= cuts * 3 // 4
    assert grown < 32 * MIB


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (2_000, 20),
        pytest.param(100_000, 1000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)]),
    ],
)
def test_a_byte_that_is_changed_on_the_way_costs_a_connection_and_nothing_else(
    count: int, changes: int
) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    proxy = run_async(lambda: through_cuts(count, changes, seed, corrupt=True), guard=400)
    print(f"{proxy.cuts} changed bytes, {count} messages each way")
    assert proxy.cuts >= changes // 2


def kept(end: End) -> int:
    """What the messages that an end has recorded take, about."""
    return sum(sys.getsizeof(one) + sys.getsizeof(one[3]) + 8 for one in end.got)

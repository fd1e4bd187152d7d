"""Many times the same: afterwards descriptors, tasks, threads, coroutines and memory are where they were."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
from typing import Any

import psutil
import pytest

from discoro import Computation, Coro
from discoro.errors import DiscoroError
from discoro.transport.limits import MIB
from tests.faults import faultjobs
from tests.kit import run_async
from tests.processes import ServerProgram, World, until


async def census(server: ServerProgram) -> dict[str, int]:
    counting: Computation[Any, Any] = Computation(faultjobs.census)
    await counting.setup(server.location)
    found: dict[str, int] = await (await counting.run(server.location))
    await counting.close(server.location)
    return found


def at_home() -> dict[str, int]:
    gc.collect()
    return {"threads": threading.active_count(), "descriptors": psutil.Process().num_fds()}


def is_as_before(world: World, server: ServerProgram, before: dict[str, int], growth: int) -> None:
    """Wait until the server holds no more than before, but for this much memory."""

    async def look() -> dict[str, int]:
        async with world.scheduler():
            return await census(server)

    now: dict[str, int] = {}

    def settled() -> bool:
        now.update(run_async(look))
        # The connection of the census before may be closing still.
        slack = {"descriptors": 1, "memory": growth}
        return all(now[key] <= before[key] + slack.get(key, 0) for key in before)

    try:
        until(settled, "", 10.0)
    except AssertionError:
        raise AssertionError({key: (before[key], now[key]) for key in before}) from None
    print(f"{(now['memory'] - before['memory']) / MIB:.1f} MiB more")


@pytest.fixture
def settled(own: World) -> tuple[ServerProgram, dict[str, int]]:
    """A server that has been used a little, and what it holds then."""
    server = own.server()

    async def warm() -> dict[str, int]:
        async with own.scheduler():
            for _ in range(20):
                computation: Computation[Any, Any] = Computation(faultjobs.sleepy)
                await computation.setup(server.location)
                assert await (await computation.run(server.location, 0, 5)) == 5
                await computation.close(server.location)
            return await census(server)

    run_async(warm)
    return server, run_async(warm)


@pytest.mark.parametrize(
    "count", [100, pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])]
)
def test_connecting_and_closing_leaves_nothing(
    count: int, own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    server, before = settled

    async def main() -> None:
        for _ in range(count):
            async with own.scheduler() as scheduler:
                assert await scheduler.peer(server.location) is not None

    run_async(main, guard=200)
    here = at_home()
    run_async(main, guard=200)
    after = at_home()
    assert after["threads"] <= here["threads"] and after["descriptors"] <= here["descriptors"] + 1
    is_as_before(own, server, before, 12 * MIB)


@pytest.mark.parametrize(
    "count", [150, pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])]
)
def test_computations_leave_nothing(
    count: int, own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    server, before = settled

    async def main() -> None:
        async with own.scheduler() as scheduler:
            for number in range(count):
                computation: Computation[Any, Any] = Computation(faultjobs.sleepy)
                await computation.setup(server.location)
                run = await computation.run(server.location, 0 if number % 2 else 30, number)
                if number % 2:
                    assert await run == number
                await computation.close(server.location)
            network = scheduler.network
            (peer,) = network.live_peers()
            assert not peer.runs and not peer.replies and not peer.watched

    run_async(main, guard=200)
    is_as_before(own, server, before, 16 * MIB)


@pytest.mark.parametrize(
    "count",
    [100_000, pytest.param(1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])],
)
def test_messages_leave_nothing(
    count: int, own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    server, before = settled

    async def main() -> None:
        async with own.scheduler():
            counting: Computation[Any, Any] = Computation(faultjobs.count_messages)
            await counting.setup(server.location)
            run = await counting.run(server.location, count)
            for number in range(count):
                run.send(number)
                if number % 1000 == 0:
                    await asyncio.sleep(0)
            assert await run == count

    run_async(main, guard=200)
    is_as_before(own, server, before, 16 * MIB)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_million_messages_have_no_slope(
    own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    """After the first of them have made their room: the line through what both ends hold after each 100,000."""
    server, _ = settled
    here: list[int] = []
    there: list[int] = []

    async def main() -> None:
        async with own.scheduler():
            echoing: Computation[Any, Any] = Computation(faultjobs.count_messages)
            await echoing.setup(server.location)
            for _ in range(13):
                run = await echoing.run(server.location, 100_000)
                for number in range(100_000):
                    run.send(number)
                    if number % 1000 == 0:
                        await asyncio.sleep(0)
                assert await run == 100_000
                gc.collect()
                here.append(psutil.Process().memory_info().rss)
                there.append((await census(server))["memory"])

    run_async(main, guard=500)
    for name, sizes in (("sender", here[3:]), ("receiver", there[3:])):
        slope = statistics.linear_regression(range(len(sizes)), sizes).slope / 100
        print(f"{name}: {slope:.0f} bytes per 1,000 messages, {[s // 1024 for s in sizes]} KiB")
        assert slope < 1000


def test_searches_for_names_that_nobody_has_leave_nothing(
    own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    server, before = settled

    async def main() -> None:
        async with own.scheduler() as scheduler:
            await scheduler.peer(server.location)
            for number in range(300):
                found = await Coro.locate(f"nobody {number}", server.location, timeout=0.005)
                assert found is None

    run_async(main)
    is_as_before(own, server, before, 4 * MIB)


def test_two_clients_with_equal_code_set_it_up_at_once(
    own: World, settled: tuple[ServerProgram, dict[str, int]]
) -> None:
    """Their bundles have one digest: each must find its own."""
    server, before = settled

    async def one(number: int) -> None:
        computation: Computation[Any, Any] = Computation(faultjobs.sleepy)
        await computation.setup(server.location)
        assert await (await computation.run(server.location, 0, number)) == number
        await computation.close(server.location)

    async def main() -> None:
        async with own.scheduler():
            await asyncio.gather(*(one(number) for number in range(40)))

    run_async(main)
    is_as_before(own, server, before, 8 * MIB)


def test_dials_that_are_refused_or_given_up_leave_nothing(own: World) -> None:
    server = own.server()
    assert server.port

    async def main() -> None:
        async with own.scheduler(secret="another secret than theirs") as scheduler:
            for _ in range(4):
                with pytest.raises((DiscoroError, TimeoutError)):
                    await scheduler.peer(server.location, timeout=0.5)
            before = {*asyncio.all_tasks()}
            for _ in range(30):
                with pytest.raises((DiscoroError, TimeoutError)):
                    await scheduler.peer(server.location, timeout=0.005)
            await asyncio.sleep(0.1)
            assert len({*asyncio.all_tasks()} - before) <= 1

    run_async(main)
    here = at_home()
    run_async(main)
    assert at_home()["descriptors"] <= here["descriptors"] + 1

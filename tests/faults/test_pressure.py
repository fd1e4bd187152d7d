"""Back-pressure: who does not take, or sends without end, fills a bounded amount of memory and holds up nobody else."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from discoro import Computation, Coro
from discoro.errors import MailboxFull, NoSuchCoro, Terminated
from discoro.scheduler import MonitorException
from discoro.transport.limits import KIB, MIB
from tests.faults import faultjobs
from tests.faults.byhand import Member
from tests.kit import run_async
from tests.processes import ServerProgram, World, memory

#: A receiver's share small, so that the bounds are near.
TIGHT = {"lane_queue": 4 * MIB, "first_grant": 64 * KIB, "most_grant": 256 * KIB, "window": 2 * MIB}


@contextmanager
def bounded(server: ServerProgram, limit: int) -> Iterator[None]:
    before = memory(server.process.pid)
    yield
    grown = memory(server.process.pid) - before
    print(f"{grown / MIB:.1f} MiB more")
    assert grown < limit, f"{grown / MIB:.1f} MiB more"


async def started(function: Any, server: ServerProgram, *args: Any) -> Coro[Any]:
    computation: Computation[Any, Any] = Computation(function)
    await computation.setup(server.location)
    return await computation.run(server.location, *args)


def test_a_receiver_that_never_receives_fills_its_share_and_can_be_ended(own: World) -> None:
    server = own.server(limits=TIGHT)

    async def main(coro: Any = None) -> None:
        deaf = await started(faultjobs.deaf, server)
        echo = await started(faultjobs.echo, server, coro)
        sent = 0
        with bounded(server, 8 * MIB):
            with pytest.raises(MailboxFull):
                for _ in range(100_000):
                    deaf.send(bytes(KIB))
                    sent += 1
                    if sent % 64 == 0:
                        await asyncio.sleep(0)
            print(f"{sent} messages of 1 KiB were taken")
            assert sent < 10_000
            assert await deaf.deliver(b"late", timeout=0.3) == 0
            for number in range(100):  # the same session goes on for everybody else
                echo.send(number)
                assert await coro.receive(timeout=5) == number
            done = await started(faultjobs.sleepy, server, 0, "a start and an end")
            assert await done == "a start and an end"
        waiting = asyncio.ensure_future(deaf.deliver(b"waits"))
        await coro.monitor(deaf)
        await asyncio.sleep(0.05)
        deaf.terminate()
        message = await coro.receive(timeout=5)
        assert isinstance(message, MonitorException) and message.args[1][0] is Terminated
        with pytest.raises(NoSuchCoro):
            await waiting
        assert deaf.send(b"to nobody") == 0

    own.scheduler(limits=TIGHT).run(main)


def test_a_client_that_never_receives_stops_its_sender_and_nobody_else(own: World) -> None:
    """The reader that never reads is the client; the server's coroutine sends without waiting."""
    server = own.server(limits=TIGHT)

    async def main(coro: Any = None) -> None:
        async def deaf(coro: Any = None) -> None:
            await coro.suspend()

        listening: Coro[Any] = Coro(deaf)
        await (await started(faultjobs.flood, server, Coro(deaf), 10, KIB))
        with bounded(server, 16 * MIB):
            flood = await started(faultjobs.flood, server, listening, 200_000, KIB)
            echo = await started(faultjobs.echo, server, coro)
            for number in range(100):
                echo.send(number)
                assert await coro.receive(timeout=5) == number
            assert await flood.finish(timeout=10) == "full"
        listening.terminate()

    own.scheduler(limits=TIGHT).run(main)


@pytest.mark.parametrize(
    "count",
    [100_000, pytest.param(1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])],
)
def test_a_sender_that_never_waits_is_told_and_all_it_queued_arrives_in_order(
    count: int, own: World
) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        counting = await started(faultjobs.count_messages, server, count)
        echo = await started(faultjobs.echo, server, coro)
        slowest = 0.0
        with bounded(server, 48 * MIB):
            for number in range(count):
                while True:
                    try:
                        counting.send(number)
                        break
                    except MailboxFull:
                        await asyncio.sleep(0.01)
            for number in range(20):
                start = time.monotonic()
                echo.send(number)
                assert await coro.receive(timeout=30) == number
                slowest = max(slowest, time.monotonic() - start)
            assert await counting.finish(timeout=60) == count
        print(f"slowest echo beside it {slowest:.3f} s")

    own.scheduler().run(main)


def test_two_that_only_deliver_to_each_other_wait_like_any_bounded_queue(own: World) -> None:
    one, two = own.server(limits=TIGHT), own.server(limits=TIGHT)

    async def main(coro: Any = None) -> None:
        here = await started(faultjobs.meet, one)
        there = await started(faultjobs.meet, two)
        echo = await started(faultjobs.echo, one, coro)
        here.send((there, 12, 60 * KIB))
        there.send((here, 12, 60 * KIB))
        for number in range(50):
            echo.send(number)
            assert await coro.receive(timeout=5) == number
        results = [divmod(await run.finish(timeout=100), 1_000_000) for run in (here, there)]
        for (delivered, _), (_, got) in (results, results[::-1]):
            # Some found no room and were taken back, or came late; none was lost, none came twice.
            assert 0 < delivered < 12 and delivered <= got <= 12, results

    own.scheduler(limits=TIGHT).run(main)


def test_starts_ends_and_receipts_go_on_while_the_window_is_full_of_results(own: World) -> None:
    server = own.server(limits=TIGHT)

    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(faultjobs.remember_values)
        await computation.setup(server.location)
        runs = [
            asyncio.ensure_future(computation.run(server.location, 512 * KIB)) for _ in range(64)
        ]
        echo = await started(faultjobs.echo, server, coro)
        for number in range(20):
            assert await echo.deliver(number, timeout=10) == 1
            assert await coro.receive(timeout=10) == number
        assert [len(await (await run)) for run in runs] == [512 * KIB] * 64

    own.scheduler(limits=TIGHT).run(main)


def quantile(values: list[float], part: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


@pytest.mark.parametrize(
    "size",
    [256 * MIB, pytest.param(1000 * MIB, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])],
)
def test_small_messages_pass_a_big_transfer(size: int, own: World) -> None:
    """Measured within one run; the bound is wide, because two cores are shared with whatever else runs."""
    server = own.server()

    async def main(coro: Any = None) -> None:
        echo = await started(faultjobs.echo, server, coro)
        deaf = await started(faultjobs.deaf, server)

        async def rounds(enough: Any) -> list[float]:
            times: list[float] = []
            while not enough(times):
                start = time.perf_counter()
                echo.send(len(times))
                assert await coro.receive(timeout=30) == len(times)
                times.append(time.perf_counter() - start)
            return times

        await rounds(lambda times: len(times) >= 200)
        quiet = await rounds(lambda times: len(times) >= 2000)
        transfer = asyncio.ensure_future(deaf.deliver(bytes(size)))
        during = await rounds(lambda times: transfer.done())
        assert await transfer == 1
        print(
            f"{size / MIB:.0f} MiB, {len(during)} echoes beside it: median {quantile(during, 0.5) * 1e6:.0f} us, "
            f"p99 {quantile(during, 0.99) * 1e6:.0f} us; quiet {quantile(quiet, 0.5) * 1e6:.0f} and "
            f"{quantile(quiet, 0.99) * 1e6:.0f} us"
        )
        assert len(during) > 100
        assert quantile(during, 0.99) < 0.25

    own.scheduler().run(main)


def test_results_that_the_server_keeps_for_late_questions_take_bounded_memory(own: World) -> None:
    """Outcomes are kept for a while; the values in them must not be kept without a limit."""
    server = own.server()

    async def main() -> None:
        async with own.scheduler():
            computation: Computation[Any, Any] = Computation(faultjobs.remember_values)
            await computation.setup(server.location)
            for _ in range(3):
                await (await computation.run(server.location, 900 * KIB))
            with bounded(server, 96 * MIB):
                for _ in range(300):
                    assert len(await (await computation.run(server.location, 900 * KIB)))

    run_async(main, guard=60)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ten_thousand_sessions_that_say_nothing_take_little_and_hold_up_nobody(own: World) -> None:
    """They know the secret, opened a session each, and do not even answer pings: their kernel does."""
    count = 10_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < count + 1000:
        pytest.skip(f"only {hard} descriptors")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 900, hard))
    server = own.server()
    process = psutil.Process(server.process.pid)
    empty = memory(server.port and process.pid)
    members: list[Member] = []

    async def main(coro: Any = None) -> None:
        echo = await started(faultjobs.echo, server, coro)

        async def rounds() -> list[float]:
            times = []
            for number in range(500):
                start = time.perf_counter()
                echo.send(number)
                assert await coro.receive(timeout=30) == number
                times.append(time.perf_counter() - start)
                await asyncio.sleep(0.02)
            return times

        quiet = await rounds()

        def open_many() -> None:
            with ThreadPoolExecutor(8) as threads:
                many = threads.map(lambda _: Member.opened(server.port, own.secret), range(count))
                members.extend(many)

        begin = time.monotonic()
        await asyncio.to_thread(open_many)
        opened = time.monotonic() - begin
        await asyncio.sleep(16.0)  # now each has been silent for longer than a session may be
        times, used = process.cpu_times(), time.monotonic()
        full = await rounds()
        after, used = process.cpu_times(), time.monotonic() - used
        share = (after.user + after.system - times.user - times.system) / used
        grown = memory(process.pid) - empty
        print(
            f"{count} sessions opened in {opened:.0f} s, {grown / MIB:.0f} MiB; echo p99 "
            f"{quantile(full, 0.99) * 1e3:.1f} ms, alone {quantile(quiet, 0.99) * 1e3:.1f} ms; {share:.0%} of a CPU"
        )
        assert grown < 400 * MIB
        assert quantile(full, 0.99) < 0.25

    try:
        own.scheduler().run(main)
    finally:
        for member in members:
            member.hang_up()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""Processes that are killed: servers of a real node, and clients in the middle of everything."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from discoro import Computation, Coro, Location
from discoro.errors import DiscoroError, PeerLost, ServerKilled
from discoro.scheduler import MonitorException
from discoro.transport.limits import MIB
from tests.faults import faultjobs
from tests.functional.nodes import REAL, NodeProcess, ended_at_last
from tests.kit import run_async
from tests.processes import World, until

BRIEF = {"resume_server": 1.0, "tick": 0.1, "close_timeout": 0.5}


@pytest.fixture
def node(own: World) -> Iterator[NodeProcess]:
    """A real node of two servers."""
    folder = own.folder / "state"
    folder.mkdir()
    made = NodeProcess(
        folder,
        *("-u", str(own.udp_port), "-i", "127.0.0.1", "-c", "2", "-n", "node"),
        command=REAL,
        environment={"DISCORO_SECRET": own.secret},
    )
    with ended_at_last(made):
        made.ready()
        yield made
        if made.process.poll() is None:
            made.process.send_signal(signal.SIGTERM)
            assert made.ends() == 0


def place(node: NodeProcess, index: int) -> Location:
    return Location("127.0.0.1", node.server(index)["addresses"][0][1])


async def set_up(computation: Computation[Any, Any], where: Location) -> None:
    """Set up at a server that is just being started again."""
    limit = time.monotonic() + 20
    while True:
        try:
            await computation.setup(where, timeout=5)
            return
        except (DiscoroError, TimeoutError):
            if time.monotonic() > limit:
                raise
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "kills",
    [
        5,
        pytest.param(20, marks=pytest.mark.slow),
        pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(900)]),
    ],
)
def test_a_killed_server_is_told_once_with_its_signal_and_comes_back(
    kills: int, own: World, node: NodeProcess
) -> None:
    took: list[float] = []

    async def main(coro: Any = None) -> None:
        hanging: Computation[Any, Any] = Computation(faultjobs.hang)
        echoing: Computation[Any, Any] = Computation(faultjobs.echo)
        pids: Computation[Any, Any] = Computation(faultjobs.own_pid)
        first, second = place(node, 0), place(node, 1)
        await echoing.setup(second)
        echo = await echoing.run(second, coro)
        for number in range(kills):
            await set_up(hanging, first)
            await set_up(pids, first)
            pid = await (await pids.run(first))
            runs = [await hanging.run(first) for _ in range(10)]
            for run in runs:
                await coro.monitor(run)
            waiting = asyncio.ensure_future(runs[0].finish())
            await asyncio.sleep(0)
            start = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            seen = set()
            for _ in runs:
                message = await coro.receive(timeout=20)
                took.append(time.monotonic() - start)
                assert isinstance(message, MonitorException), message
                kind, error = message.args[1]
                assert kind is ServerKilled and error.signal == signal.SIGKILL, message
                seen.add(message.args[0].number)
            assert seen == {run.number for run in runs}
            with pytest.raises(ServerKilled):
                await waiting
            # Nothing fires twice, and the other server has not noticed.
            echo.send(number)
            assert await coro.receive(timeout=10) == number
        await asyncio.sleep(0.2)
        assert await coro.receive(timeout=0.1, alarm_value="nothing") == "nothing"

    own.scheduler().run(main)
    took.sort()
    print(
        f"{len(took)} monitors, median {took[len(took) // 2]:.3f} s, 99 % {took[-1 - len(took) // 100]:.3f} s"
    )
    assert took[int(len(took) * 0.98)] < 1.0
    assert took[-1] < 5.0


def test_who_was_away_while_a_server_died_and_came_back_is_told_the_signal_as_well(
    own: World, node: NodeProcess
) -> None:
    """The process that answers has another id and knows from the node how the one before it ended."""

    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(faultjobs.hang)
        await set_up(computation, place(node, 0))
        run = await computation.run(place(node, 0))
        await coro.monitor(run)
        before = node.server(0)["pid"]
        os.kill(before, signal.SIGKILL)
        # The client stands still, as a laptop that sleeps.
        until(lambda: node.server(0)["pid"] not in (None, before))
        until(lambda: node.server(0)["state"] == "running")
        message = await coro.receive(timeout=20)
        assert isinstance(message, MonitorException), message
        kind, error = message.args[1]
        assert kind is ServerKilled and error.signal == signal.SIGKILL, message

    own.scheduler().run(main)


#: How user code ends, and what its client is told: an exception of that coroutine, or how the process ended.
BAD_ENDS: dict[str, Any] = {
    "segfault": (signal.SIGSEGV, None),
    "abort": (signal.SIGABRT, None),
    "_exit": (None, 3),
    "fork": (signal.SIGKILL, None),
    "memory": MemoryError,
    "raise": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
}


def test_however_user_code_ends_its_client_is_told_the_reason_and_the_node_is_usable(
    own: World, node: NodeProcess
) -> None:
    """And so are those whose coroutines were in the same process. A child that it forked does not keep it looking alive."""

    async def main(coro: Any = None) -> None:
        for how, reason in BAD_ENDS.items():
            where = place(node, 0)
            ending: Computation[Any, Any] = Computation(faultjobs.end_badly)
            echoing: Computation[Any, Any] = Computation(faultjobs.echo)
            await set_up(ending, where)
            await set_up(echoing, where)
            echo = await echoing.run(where, coro)
            await coro.monitor(echo)
            with pytest.raises(BaseException) as caught:
                await (await ending.run(where, how))
            if isinstance(reason, tuple):
                assert isinstance(caught.value, ServerKilled), (how, caught.value)
                assert (caught.value.signal, caught.value.exit_code) == reason, how
                message = await coro.receive(timeout=10)
                assert message.args[0] == echo and message.args[1][0] is ServerKilled, how
                assert message.args[1][1].signal == reason[0], how
            else:
                assert caught.type.__name__ == reason.__name__ or reason.__name__ in str(
                    caught.value
                ), (how, caught.value)
                echo.send(how)
                assert await coro.receive(timeout=10) == how
                echo.terminate()
                assert isinstance(await coro.receive(timeout=10), MonitorException)

    own.scheduler().run(main)


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_hundred_thousand_monitors_fire_when_a_server_is_killed(
    own: World, node: NodeProcess
) -> None:
    runs, watchers = 1_000, 100

    async def main(coro: Any = None) -> None:
        hanging: Computation[Any, Any] = Computation(faultjobs.hang)
        pids: Computation[Any, Any] = Computation(faultjobs.own_pid)
        where = place(node, 0)
        await hanging.setup(where)
        await pids.setup(where)
        pid = await (await pids.run(where))
        started = [await hanging.run(where) for _ in range(runs)]

        async def watch(coro: Any = None) -> set[int]:
            for run in started:
                await coro.monitor(run)
            ready.append(coro)
            seen = []
            while (message := await coro.receive(timeout=None if not seen else 3)) is not None:
                assert message.args[1][0] is ServerKilled
                seen.append(message.args[0].number)
            assert len(seen) == runs
            return set(seen)

        ready: list[Any] = []
        watching = [Coro(watch) for _ in range(watchers)]
        while len(ready) < watchers:
            await asyncio.sleep(0.01)
        await (await pids.run(where))  # all of them are known there
        before, begin = psutil.Process().memory_info().rss, time.monotonic()
        os.kill(pid, signal.SIGKILL)
        numbers = {run.number for run in started}
        assert all([await one == numbers for one in watching])
        took = time.monotonic() - begin - 3
        grown = psutil.Process().memory_info().rss - before
        print(f"{runs * watchers} monitors in {took:.1f} s, {grown / MIB:.0f} MiB more")

    own.scheduler().run(main)


def test_a_server_killed_under_load_loses_nothing_silently(own: World, node: NodeProcess) -> None:
    """Every run ends with its result or with the reason why not; which of them ran is another matter."""

    async def main(coro: Any = None) -> None:
        sleepy: Computation[Any, Any] = Computation(faultjobs.sleepy)
        pids: Computation[Any, Any] = Computation(faultjobs.own_pid)
        where = place(node, 0)
        await sleepy.setup(where)
        await pids.setup(where)
        pid = await (await pids.run(where))
        results = errors = 0

        async def one(number: int) -> None:
            nonlocal results, errors
            try:
                assert await (await sleepy.run(where, 0.3 * (number % 5), number)) == number
                results += 1
            except PeerLost:
                errors += 1

        work = [asyncio.ensure_future(one(number)) for number in range(1000)]
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*work), 20)
        assert results + errors == 1000 and results and errors
        print(f"{results} results, {errors} errors")

    own.scheduler().run(main)


CLIENT = """
import asyncio, os, sys
from discoro import Computation, Location, Scheduler
from discoro.transport.limits import Limits
from tests.faults import faultjobs

async def main(coro=None):
    where = Location("127.0.0.1", int(sys.argv[1]))
    hanging, echoing = Computation(faultjobs.hang), Computation(faultjobs.echo)
    for one in (hanging, echoing):
        await one.setup(where)
    for _ in range(50):
        run = await hanging.run(where)
        await coro.monitor(run)
        run.send(bytes(100_000))     # beyond what may be in flight: the rest waits here
    for _ in range(5):
        echo = await echoing.run(where, coro)
        for _ in range(100):
            echo.send(bytes(10_000))
        echo.send(bytes(50 << 20))   # on its way when we are killed
        echo.send("behind it")
    if len(sys.argv) > 2:
        asyncio.ensure_future(coro.scheduler.send_file(where, sys.argv[2]))
    await asyncio.sleep(0.05)
    print("killed in the middle of it", flush=True)
    await coro.suspend()

Scheduler(node="127.0.0.1", udp_port=int(os.environ["DISCORO_TEST_UDP_PORT"])).run(main)
"""


@pytest.mark.parametrize(
    "times",
    [
        2,
        pytest.param(10, marks=pytest.mark.slow),
        pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)]),
    ],
)
def test_a_killed_client_leaves_nothing_at_its_server(
    times: int, own: World, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    server = own.server(limits=BRIEF, dest_path=str(dest))
    sent = tmp_path / "large"
    sent.write_bytes(os.urandom(1 << 20) * 150)

    async def count() -> dict[str, int]:
        async with own.scheduler():
            census: Computation[Any, Any] = Computation(faultjobs.census)
            await census.setup(server.location)
            return dict(await (await census.run(server.location)))

    run_async(count)
    before = run_async(count)
    for number in range(times):
        client = own.program(CLIENT, server.port, *([sent] if number == 0 else []))
        client.says("in the middle")
        client.kill()
    compared = set(before) - {"memory"}

    def settled() -> bool:
        now = run_async(count)
        now["descriptors"] -= (
            1  # one more than before is no leak: a connection of this census may be closing
        )
        return all(now[key] <= before[key] for key in compared)

    until(settled, "everything to be as before", 20.0)
    after = run_async(count)
    grown = after["memory"] - before["memory"]
    print(f"{grown / MIB:.1f} MiB more after {times} clients")
    assert grown < (64 if times < 10 else 96) * MIB
    left = [path for path in dest.rglob("*") if path.is_file() and ".part" in path.name]
    assert not left
    assert "Traceback" not in server.err, server.err


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_killed_client_is_forgotten_in_80_s(own: World, tmp_path: Path) -> None:
    """With the limits that users have; coroutines, descriptors, sessions, tasks and files are as before."""
    dest = tmp_path / "dest"
    server = own.server(dest_path=str(dest))
    sent = tmp_path / "large"
    sent.write_bytes(os.urandom(1 << 20) * 150)

    async def count() -> dict[str, int]:
        async with own.scheduler():
            census: Computation[Any, Any] = Computation(faultjobs.census)
            await census.setup(server.location)
            return dict(await (await census.run(server.location)))

    run_async(count)
    before = run_async(count)
    client = own.program(CLIENT, server.port, sent)
    client.says("in the middle")
    client.kill()
    begin = time.monotonic()

    def settled() -> bool:
        now = run_async(count)
        files = [path for path in dest.rglob("*") if path.is_file() and ".part" in path.name]
        return not files and all(
            now[key] <= before[key] + (key == "descriptors") for key in before if key != "memory"
        )

    assert not settled()
    until(settled, "everything to be as before", 85.0)
    print(f"as before after {time.monotonic() - begin:.1f} s")


def test_a_killed_node_takes_its_servers_with_it(own: World, node: NodeProcess) -> None:
    node.status()
    pids = set(node.pids)
    node.process.kill()
    node.process.wait(5)
    until(
        lambda: (
            not any(
                psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids
            )
        ),
        "its servers to end",
        8.0,
    )


def test_messages_that_were_queued_for_a_lost_process_are_said_not_dropped_in_silence(
    own: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Also those that had no grant yet, which no session has ever seen."""
    server = own.server()

    async def main(coro: Any = None) -> None:
        deaf: Computation[Any, Any] = Computation(faultjobs.deaf)
        await deaf.setup(server.location)
        run = await deaf.run(server.location)
        for _ in range(500):
            run.send(bytes(1000))
        await asyncio.sleep(0.2)
        await coro.monitor(run)
        server.kill()
        assert isinstance(await coro.receive(timeout=20), MonitorException)

    own.scheduler(limits={"resume_client": 1.0, "tick": 0.1}).run(main)
    said = [line for line in caplog.messages if "were not acknowledged" in line]
    assert len(said) == 1 and int(said[0].split()[0]) > 300, caplog.messages

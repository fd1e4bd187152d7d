"""Processes that stand still: stopped, computing, or not there yet. Busy is not dead, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import pytest

from discoro import Computation, Coro, Location
from discoro.remotecoro import RemoteCoro
from discoro.scheduler import MonitorException
from tests.faults import faultjobs
from tests.functional.nodes import REAL, NodeProcess, ended_at_last, until
from tests.kit import run_async
from tests.processes import World, free_port
from tests.proxy import CuttingProxy

QUICK = {"tick": 0.1, "ping_idle": 0.3, "silence": 1.0, "own_stall": 0.3}


def test_messages_taken_back_before_the_session_opens_use_up_no_grant(own: World) -> None:
    """A deliver that timed out while its peer was stopped must not stand in the way of the next one for ever."""
    server = own.server()

    async def main() -> None:
        async with own.scheduler():
            found = await Coro.locate("discoro_server", server.location)
            assert isinstance(found, RemoteCoro)
            process, number = found.process, found.number
        async with own.scheduler() as scheduler:
            there: Coro[Any] = RemoteCoro(
                scheduler.network, process, number, "server", ("127.0.0.1", server.port)
            )
            server.signal(signal.SIGSTOP)
            try:
                for _ in range(3):
                    assert await there.deliver(bytes(100_000), timeout=0.2) == 0
            finally:
                server.signal(signal.SIGCONT)
            assert await there.deliver("after", timeout=10) == 1

    run_async(main)


@pytest.mark.parametrize(
    ("seconds", "limits"),
    [
        (3, QUICK),
        *[
            pytest.param(seconds, {}, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])
            for seconds in (5, 30, 120)
        ],
    ],
)
def test_a_stopped_server_is_busy_and_nothing_is_lost_or_fires(
    seconds: float, limits: dict[str, Any], own: World
) -> None:
    server = own.server(limits=limits)
    silence = {"silence": 15.0, **limits}["silence"]

    async def main(coro: Any = None) -> None:
        states: list[Any] = []
        messages: list[Any] = []
        scheduler = coro.scheduler
        scheduler.peer_status(lambda name, where, status: states.append(status), busy=True)
        computation: Computation[Any, Any] = Computation(faultjobs.echo)
        await computation.setup(server.location)
        echo = await computation.run(server.location, coro)
        await coro.monitor(echo)
        server.signal(signal.SIGSTOP)
        try:
            for number in range(500):
                echo.send(number)
            assert await echo.deliver("late", timeout=0.5) == 0
            assert await computation.ping(server.location, timeout=0.3) == -1
            await asyncio.sleep(seconds)
            assert ("busy" in states) == (seconds > silence) and 0 not in states
        finally:
            server.signal(signal.SIGCONT)
        for _ in range(501):
            messages.append(await coro.receive(timeout=20))
        assert messages == [*range(500), "late"]
        assert await computation.ping(server.location, timeout=10) == 0
        assert 0 not in states
        echo.send(None)
        end = await coro.receive(timeout=10)
        assert isinstance(end, MonitorException)
        assert await coro.receive(timeout=0.2, alarm_value="nothing more") == "nothing more"

    own.scheduler(limits=limits).run(main)


def test_a_coroutine_that_blocks_its_loop_costs_time_and_nothing_else(own: World) -> None:
    server = own.server(limits=QUICK)

    async def main(coro: Any = None) -> None:
        lost: list[Any] = []
        coro.scheduler.peer_status(
            lambda name, where, status: lost.append(status) if status == 0 else None, busy=True
        )
        computation: Computation[Any, Any] = Computation(faultjobs.block)
        echoing: Computation[Any, Any] = Computation(faultjobs.echo)
        await computation.setup(server.location)
        await echoing.setup(server.location)
        echo = await echoing.run(server.location, coro)
        blocking = asyncio.ensure_future(computation.run(server.location, 3.0))
        await asyncio.sleep(0.2)
        echo.send("while it blocks")
        assert await computation.ping(server.location, timeout=0.5) == -1
        async with asyncio.timeout(20):
            async with own.scheduler(name="new", limits=QUICK) as other:  # a new client waits, too
                assert await other.peer(server.location, timeout=15) is not None
        assert await (await blocking) == "blocked"
        assert await coro.receive(timeout=10) == "while it blocks"
        assert not lost

    own.scheduler(limits=QUICK).run(main)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(7.0, marks=pytest.mark.slow),
        pytest.param(100.0, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
def test_a_server_of_a_node_that_computes_is_named_and_nobody_loses_anything(
    seconds: float, own: World
) -> None:
    """With the limits that users have: its clients go on, a new one waits, and what was cut meanwhile is resumed."""
    folder = own.folder / "elsewhere"  # no way to it but through the proxy
    folder.mkdir()
    node = NodeProcess(
        folder,
        *("-u", str(free_port(socket.SOCK_DGRAM)), "-i", "127.0.0.1", "-c", "1", "-n", "node"),
        *("--ext_ip_addr", "127.2.0.1"),
        command=REAL,
        environment={"DISCORO_SECRET": own.secret},
    )

    async def main(coro: Any = None) -> None:
        direct = Location("127.0.0.1", node.server()["addresses"][0][1])
        async with CuttingProxy("127.0.0.1", direct.port, listen="127.1.0.1") as proxy:
            where = Location("127.1.0.1", proxy.port)
            states: list[Any] = []
            coro.scheduler.peer_status(lambda name, at, status: states.append(status), busy=True)
            computation: Computation[Any, Any] = Computation(faultjobs.block)
            echoing: Computation[Any, Any] = Computation(faultjobs.echo)
            await computation.setup(where)
            await echoing.setup(where)
            echo = await echoing.run(where, coro)
            await coro.monitor(echo)
            blocking = asyncio.ensure_future(computation.run(where, seconds))
            busy = await asyncio.to_thread(
                until, lambda: node.server()["busy"], "status to name it", 5.0
            )
            assert busy["function"] == "block" and busy["file"].endswith("faultjobs.py"), busy
            echo.send("while it computes")
            assert await computation.ping(where, timeout=0.5) == -1
            async with own.scheduler(name="impatient") as other:
                with pytest.raises(TimeoutError):
                    await other.peer(direct, timeout=1.0)
            await asyncio.to_thread(node.says, "blocked for", 10.0)
            assert "faultjobs.py:" in node.text and "in block" in node.text, node.text
            proxy.cut()
            echo.send("after a cut")
            async with own.scheduler(name="patient") as other:
                assert await other.peer(direct, timeout=seconds + 20) is not None
            assert await (await blocking) == "blocked"
            assert await coro.receive(timeout=20) == "while it computes"
            assert await coro.receive(timeout=20) == "after a cut"
            assert await coro.receive(timeout=0.1) is None
            assert await computation.ping(where, timeout=10) == 0
            assert 0 not in states and proxy.cuts == 1 and proxy.connections
            echo.send(None)
            assert isinstance(await coro.receive(timeout=10), MonitorException)
            print(f"told: {states}")

    with ended_at_last(node):
        node.ready()
        own.scheduler().run(main)
        node.process.send_signal(signal.SIGTERM)
        assert node.ends() == 0


def test_a_client_that_is_stopped_comes_back_to_all_its_results(own: World) -> None:
    server = own.server(limits=QUICK)
    client = own.program(
        """
        import os, signal, sys
        from discoro import Computation, Location, Scheduler
        from tests.faults import faultjobs

        async def main(coro=None):
            where = Location("127.0.0.1", int(sys.argv[1]))
            slow = Computation(faultjobs.sleepy)
            await slow.setup(where)
            runs = [await slow.run(where, number / 100, number) for number in range(100)]
            print("running", flush=True)
            print([await run for run in runs] == list(range(100)), flush=True)

        Scheduler(node="127.0.0.1", udp_port=int(os.environ["DISCORO_TEST_UDP_PORT"])).run(main)
        """,
        server.port,
    )
    client.says("running")
    client.signal(signal.SIGSTOP)
    try:

        async def main() -> None:  # somebody else is served meanwhile
            async with own.scheduler(limits=QUICK):
                computation: Computation[Any, Any] = Computation(faultjobs.sleepy)
                await computation.setup(server.location)
                for number in range(30):
                    run = await computation.run(server.location, 0.05, number)
                    assert await run == number

        run_async(main)
    finally:
        client.signal(signal.SIGCONT)
    assert "True" in client.ends()

"""Processes that die, connections that break: everybody who waits is told, and nothing is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import psutil
import pytest

from discoro import Computation, Coro, Location, MonitorException
from discoro.errors import ComputationClosed, PeerLost, PeerUnreachable, Terminated
from tests.functional import jobs
from tests.processes import ServerProgram, World, until
from tests.proxy import CuttingProxy

QUICK = {"resume_client": 2.0, "resume_server": 2.5, "refused_timeout": 0.3, "close_timeout": 0.5}


async def started(where: Any, function: Any, *arguments: Any) -> Any:
    computation: Computation[Any, Any] = Computation(function)
    await computation.setup(where)
    return await computation.run(where, *arguments)


def test_a_server_killed_by_signal_9_is_told_to_all_who_wait_for_something(own: World) -> None:
    """A run, a start, a finish, a delivery, a monitor, a channel, a locate and a setup wait when it dies."""
    server = own.server()

    async def main(coro: Any = None) -> None:
        hang: Computation[Any, Any] = Computation(jobs.hang)
        await hang.setup(server.location)
        run = await hang.run(server.location)
        where = run.location
        statuses: list[Any] = []
        coro.scheduler.peer_status(lambda *args: statuses.append(args[2]))
        await coro.monitor(run)
        server.signal(signal.SIGSTOP)
        until(lambda: psutil.Process(server.process.pid).status() == psutil.STATUS_STOPPED)
        waiting = {
            "finish": run.finish(),
            "run": hang.run(server.location),
            "deliver": run.deliver("x"),
            "locate": Coro.locate("nobody", where),
            "setup": Computation(jobs.add).setup(where),
            "close": hang.close(where),
        }
        tasks = {name: asyncio.ensure_future(one) for name, one in waiting.items()}
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in tasks.values()), tasks
        server.kill()
        results = dict(
            zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True)
        )
        assert {name: type(error) for name, error in results.items()} == dict.fromkeys(
            tasks, PeerLost
        )
        message = await coro.receive(10)
        assert isinstance(message, MonitorException) and message.args[1][0] is PeerLost
        assert await coro.receive(0.05) is None
        assert statuses == [1, 0]
        assert not run.is_alive()
        with pytest.raises(PeerLost):
            await run.finish(5)
        assert await hang.ping(where) == -1
        with pytest.raises(PeerUnreachable):
            await Computation(jobs.add).setup(where, timeout=10)

    own.run(main, limits=QUICK)


def test_the_coroutines_of_a_client_that_was_killed_end_and_detached_ones_go_on(
    own: World,
) -> None:
    server = own.server(limits=QUICK)
    client = own.program(
        """
        import sys
        from discoro import Computation, Location, discoro_server, run
        from tests.functional import jobs

        async def main(coro=None):
            where = Location("127.0.0.1", int(sys.argv[1]))
            computation = Computation(jobs.touch_at_end)
            await computation.setup(where)
            await computation.run(where, sys.argv[2] + "/attached", 600)
            await computation.options(detach=True).run(where, sys.argv[2] + "/detached", 6)
            print("running", flush=True)
            await coro.suspend()

        run(main)
        """,
        server.port,
        own.folder,
    )
    client.says("running")
    assert not (own.folder / "attached").exists()
    client.kill()
    until(lambda: (own.folder / "attached").exists())
    assert (own.folder / "attached").read_text() == "cancelled"
    assert not (own.folder / "detached").exists()
    until(lambda: (own.folder / "detached").exists())
    assert (own.folder / "detached").read_text() == "returned"


def test_the_coroutines_of_a_client_that_ends_in_order_end_at_once(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        await started(server.location, jobs.touch_at_end, str(own.folder / "attached"), 600)

    own.run(main)
    until(lambda: (own.folder / "attached").exists(), guard=2)


def test_a_new_session_after_a_loss_works_and_says_that_the_computation_is_closed(
    own: World,
) -> None:
    port = own.server(limits=QUICK).port

    async def main(coro: Any = None) -> None:
        async with CuttingProxy("127.0.0.1", port) as proxy:
            where = Location("127.0.0.1", proxy.port)
            computation: Computation[Any, Any] = Computation(jobs.echo)
            await computation.setup(where)
            run = await computation.run(where, coro)
            await proxy.stop_listening()
            proxy.cut()
            with pytest.raises(PeerLost):
                await run.finish(10)
            await proxy.start(proxy.port)
            with pytest.raises(ComputationClosed, match="set it up again"):
                await computation.run(where, coro)
            assert await computation.setup(where) == 0
            run = await computation.run(where, coro)
            assert await run.deliver("again") == 1
            assert await coro.receive() == "again"

    own.run(main, limits=QUICK)


def budgets(seed: int, low: int, high: int) -> Any:
    """After how many bytes each connection is cut. The handshake takes about 3 KiB, a full batch 64: what no connection lives to carry never arrives."""
    random_one = random.Random(seed)
    return lambda: random_one.randint(low, high)


@pytest.mark.parametrize(
    ("seed", "runs", "messages", "most", "cuts"),
    [
        *[(seed, 2_000, 20_000, 20_000, 20) for seed in range(3)],
        pytest.param(
            *(3, 10_000, 400_000, 45_000, 200),
            marks=[pytest.mark.nightly, pytest.mark.timeout(400)],
        ),
    ],
)
def test_nothing_is_lost_doubled_or_reordered_while_the_connection_is_cut_again_and_again(
    own: World, seed: int, runs: int, messages: int, most: int, cuts: int
) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        budget = budgets(seed, 5_000, most)
        async with CuttingProxy("127.0.0.1", server.port, budget=budget, seed=seed) as proxy:
            where = Location("127.0.0.1", proxy.port)
            echo: Computation[Any, Any] = Computation(jobs.echo)
            note: Computation[Any, Any] = Computation(jobs.note)
            await echo.setup(where)
            await note.setup(where)
            echoing = await echo.run(where, coro)
            await coro.monitor(echoing)

            async def one(number: int) -> int:
                result: int = await (await note.run(where, number))
                return result

            async def talk() -> list[Any]:
                """Never more than 2,000 messages ahead of the answers."""
                got: list[Any] = []
                for begin in range(0, messages, 500):
                    for number in range(begin, begin + 500):
                        echoing.send(number)
                    while len(got) < begin - 1500:
                        got.append(await coro.receive())
                while len(got) < messages:
                    got.append(await coro.receive())
                return got

            talking = asyncio.ensure_future(talk())
            results = []
            for begin in range(0, runs, 100):
                batch = range(begin, begin + 100)
                results += await asyncio.gather(*(one(number) for number in batch))
            assert results == list(range(runs))
            assert await talking == list(range(messages))
            noted: Any = await (await note.run(where, None))
            assert sorted(noted) == list(range(runs))
            echoing.send(None)
            ended = await coro.receive()
            assert ended.args[1][0] is StopIteration
            assert await coro.receive(0.05) is None
            print(f"{runs} starts and results, {messages} messages each way, {proxy.cuts} cuts")
            assert proxy.cuts > cuts, proxy.cuts

    own.run(main, guard=60 if runs < 5_000 else 360)


@pytest.mark.slow
def test_big_messages_survive_cuts(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        budget = budgets(7, 300_000, 3_000_000)
        async with CuttingProxy("127.0.0.1", server.port, budget=budget) as proxy:
            where = Location("127.0.0.1", proxy.port)
            echo = await started(where, jobs.echo, coro)
            sizes = [2_000_000, 10, 5_000_000, 1_500_000, 3]
            for number, size in enumerate(sizes):
                echo.send((number, bytes([number]) * size))
            for number, size in enumerate(sizes):
                got, data = await coro.receive()
                assert got == number and data == bytes([number]) * size
            assert proxy.cuts > 3

    own.run(main, guard=60)


def test_a_stalled_connection_loses_nothing(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        async with CuttingProxy("127.0.0.1", server.port) as proxy:
            echo = await started(Location("127.0.0.1", proxy.port), jobs.echo, coro)
            proxy.stall(True)
            for number in range(100):
                echo.send(number)
            assert await echo.deliver("late", timeout=0.1) == 0
            proxy.stall(False)
            assert [await coro.receive() for _ in range(100)] == list(range(100))
            assert await coro.receive() == "late"  # it had left: it still arrives, once
            assert await coro.receive(0.05) is None

    own.run(main)


def test_a_stopped_server_is_busy_and_not_lost(own: World) -> None:
    server = own.server(limits={"silence": 0.6, "ping_idle": 0.3, "tick": 0.1})

    async def main(coro: Any = None) -> None:
        statuses: list[Any] = []
        echo = await started(server.location, jobs.echo, coro)
        computation: Computation[Any, Any] = Computation(jobs.add)
        await computation.setup(server.location)
        coro.scheduler.peer_status(lambda *args: statuses.append(args[2]), busy=True)
        server.signal(signal.SIGSTOP)
        assert await computation.ping(server.location, timeout=0.2) == -1
        limit = asyncio.get_running_loop().time() + 15
        while "busy" not in statuses and asyncio.get_running_loop().time() < limit:
            await asyncio.sleep(0.02)
        assert statuses == [1, "busy"]
        echo.send("meanwhile")
        server.signal(signal.SIGCONT)
        assert await coro.receive(10) == "meanwhile"
        assert await computation.ping(server.location) == 0
        while statuses[-1] == "busy" and asyncio.get_running_loop().time() < limit:
            await asyncio.sleep(0.02)
        assert statuses == [1, "busy", 1]

    own.run(main, limits={"silence": 0.6, "ping_idle": 0.3, "tick": 0.1})


def test_a_computation_that_kills_its_process_is_told_to_its_client(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        with pytest.raises(PeerLost, match="server-1"):
            await (await started(server.location, jobs.kill_own_process))

    own.run(main, limits=QUICK)


def test_a_server_that_is_ended_in_order_tells_why(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        run = await started(server.location, jobs.hang)
        peer = await Coro.locate("discoro_server", server.location)
        assert peer is not None
        await coro.monitor(run)
        peer.terminate()
        message = await coro.receive(10)
        assert message.args[1][0] in (Terminated, PeerLost)
        with pytest.raises((Terminated, PeerLost)):
            await run.finish(5)

    own.run(main, limits=QUICK)
    server.ends(status=None)


def test_one_client_that_dies_does_not_disturb_another(own: World) -> None:
    server: ServerProgram = own.server(limits=QUICK)
    text = """
        import sys
        from discoro import Computation, Location, run
        from tests.functional import jobs

        async def main(coro=None):
            where = Location("127.0.0.1", int(sys.argv[1]))
            computation = Computation(jobs.echo)
            await computation.setup(where)
            echo = await computation.run(where, coro)
            print("running", flush=True)
            while True:
                echo.send(bytes(1000))
                await coro.receive()

        run(main)
        """
    victims = [own.program(text, server.port) for _ in range(2)]
    for victim in victims:
        victim.says("running")

    async def main(coro: Any = None) -> None:
        echo = await started(server.location, jobs.echo, coro)
        for number in range(3000):
            echo.send(number)
            assert await coro.receive() == number
            if number == 1000:
                victims[0].kill()
            if number == 2000:
                victims[1].signal(signal.SIGSTOP)

    own.run(main)
    victims[1].kill()

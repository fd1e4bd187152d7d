"""Where promises end: full servers, kept outcomes, pending deliveries, values that blow up, sessions to oneself."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from discoro import Computation, Coro, Location, MonitorException, discoro_server
from discoro.errors import NoSuchCoro, NotPicklable, RunRefused, Terminated
from tests.functional import jobs
from tests.processes import ServerProgram, World, memory


async def started(where: Any, function: Any, *arguments: Any) -> Any:
    computation: Computation[Any, Any] = Computation(function)
    await computation.setup(where)
    return await computation.run(where, *arguments)


def test_a_full_server_refuses_runs_and_takes_them_again(own: World) -> None:
    server = own.server(limits={"max_runs": 3})

    async def main(coro: Any = None) -> None:
        hang: Computation[Any, Any] = Computation(jobs.hang)
        await hang.setup(server.location)
        runs = [await hang.run(server.location) for _ in range(3)]
        with pytest.raises(RunRefused, match="3 runs"):
            await hang.run(server.location)
        runs[0].terminate()
        with pytest.raises(Terminated):
            await runs[0]
        assert (await hang.run(server.location)).is_alive()

    own.run(main)


def test_only_the_newest_outcomes_are_kept_and_not_for_ever(own: World) -> None:
    server = own.server(limits={"outcomes_kept": 2, "outcome_seconds": 0.5})

    async def main(coro: Any = None) -> None:
        add: Computation[Any, Any] = Computation(jobs.add)
        await add.setup(server.location)
        runs: list[Any] = [await add.run(server.location, number) for number in range(3)]
        for run in runs:
            await run
        # The starter has its outcomes; another reference has to ask.
        copies = [type(run)(run.network, run.process, run.number) for run in runs]
        with pytest.raises(NoSuchCoro):
            await copies[0].finish(5)
        assert await copies[2].finish(5) == 12
        await asyncio.sleep(0.6)
        with pytest.raises(NoSuchCoro):
            await type(runs[2])(runs[2].network, runs[2].process, runs[2].number).finish(5)
        assert await runs[0] == 10

    own.run(main)


def test_a_value_that_ends_the_process_while_it_is_unpickled_costs_that_process_alone(
    own: World,
) -> None:
    victim, other = own.server(), own.server()

    async def main(coro: Any = None) -> None:
        run = await started(victim.location, jobs.gather_messages, 1)
        well = await started(other.location, jobs.echo, coro)
        run.send(jobs.Deadly())
        with pytest.raises(Exception, match="lost"):
            await run.finish(10)
        well.send("alive")
        assert await coro.receive() == "alive"

    own.run(main, limits={"resume_client": 1.0, "refused_timeout": 0.3})


def test_a_coroutine_that_raises_system_exit_or_keyboard_interrupt_ends_alone(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit"):
            run = await started(server.location, jobs.raise_base, name)
            await coro.monitor(run)
            message = await coro.receive(10)
            assert isinstance(message, MonitorException)
            assert message.args[1][0].__name__ in (name, "Terminated")
        assert await (await started(server.location, jobs.add, 1)) == 11

    shared.run(main)


def test_runs_leave_no_memory_behind(shared: World) -> None:
    server = shared.server(name="measured")

    async def main(coro: Any = None) -> None:
        add: Computation[Any, Any] = Computation(jobs.make)
        await add.setup(server.location)

        async def many(count: int) -> None:
            for _ in range(count // 100):
                runs = await asyncio.gather(*(add.run(server.location, 1000) for _ in range(100)))
                for run in runs:
                    await run

        await many(3000)
        before = memory(server.process.pid)
        await many(6000)
        grown = memory(server.process.pid) - before
        assert grown < 4 << 20, grown
        (peer,) = coro.scheduler.network.live_peers()
        assert not peer.runs

    shared.run(main, guard=60)


def test_receivers_that_come_and_go_leave_nothing_behind(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        async def short(coro: Any = None) -> Any:
            return await coro.receive()

        relay: Computation[Any, Any] = Computation(jobs.relay)
        await relay.setup(server.location)
        for _ in range(300):
            local: Coro[Any] = Coro(short)
            assert await (await relay.run(server.location, local, "x")) == 1
            await local
        network = coro.scheduler.network
        (peer,) = network.live_peers()
        assert len(peer.taking) == 0 and len(network.inbound._holders) == 0
        assert len(peer.lanes) == 0
        ended = weakref.ref(local)
        del local
        gc.collect()
        assert ended() is None or len(network.ended_coros) <= 1

    shared.run(main)


def test_everything_works_towards_oneself(own: World) -> None:
    """References and computations of the own process go the same way as others, without a connection."""

    async def main(coro: Any = None) -> None:
        Coro(discoro_server)
        peer = await Coro.locate("discoro_server")
        where = coro.location
        assert where.id is not None
        assert peer is not None
        for there in (peer, where):
            computation: Computation[Any, Any] = Computation(jobs.fail)
            await computation.setup(there)
            with pytest.raises(ValueError, match="at home"):
                await (await computation.run(there, "at home"))
            with pytest.raises(RunRefused):
                await computation.run(there)
            with pytest.raises(NotPicklable):
                import threading

                await computation.run(there, threading.Lock())
            assert await computation.ping(there) == 0
            await computation.close(there)
            assert await computation.ping(there) == -1
        run = await started(where, jobs.echo, coro)
        for message in ("a", bytes(3_000_000), ["b"]):
            run.send(message)
            assert await coro.receive() == message
            assert await run.deliver(message) == 1
            assert await coro.receive() == message
        await coro.monitor(run)
        run.terminate()
        ended = await coro.receive()
        assert ended.args[1][0] is Terminated
        assert coro.scheduler.peers() == []

    own.run(main)


def test_a_client_that_is_its_own_server_serves_others_too(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        assert await (await started(server.location, jobs.add, 1)) == 11
        # The same process id answers when the address of this very process is dialled.
        scheduler = coro.scheduler
        Coro(discoro_server)
        await scheduler.network.publish()
        here = Location("127.0.0.1", scheduler.location.port)
        assert await (await started(here, jobs.add, 2)) == 12
        assert len(scheduler.peers()) == 1

    own.run(main)


def test_closing_a_client_in_the_middle_of_everything_is_quick_and_quiet(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server.location, jobs.echo, coro)
        for _ in range(200):
            run.send(bytes(50_000))
        run.send(bytes(20_000_000))
        for _ in range(20):
            asyncio.ensure_future(run.deliver("x")).add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )

    shared.run(main)

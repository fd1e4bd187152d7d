"""Messages and monitors across real processes: order, receipts, bounds, endings, references that travel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discoro import Computation, Coro, Location, MonitorException
from discoro.errors import (
    MailboxFull,
    MessageRefused,
    NoSuchCoro,
    NotPicklable,
    Terminated,
)
from tests.functional import jobs
from tests.processes import ServerProgram, World, memory


async def started(server: ServerProgram, function: Any, *arguments: Any) -> Any:
    """A run of ``function`` at a server."""
    computation: Computation[Any, Any] = Computation(function)
    await computation.setup(server.location)
    return await computation.run(server.location, *arguments)


def test_messages_go_both_ways(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.echo, coro)
        for message in (1, "text", {"a": [1, 2]}, (None, True), b"bytes", 1.5, {1, 2}):
            assert run.send(message) == 0
            assert await coro.receive() == message
        run.send(None)
        assert await run == "done"

    shared.run(main)


def test_fifty_thousand_messages_arrive_once_and_in_order_both_ways(
    shared: World, server: ServerProgram
) -> None:
    count = 50_000

    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.gather_messages, count)
        back = await started(server, jobs.flood, coro, count)
        for number in range(count):
            run.send(number)
        assert await run == list(range(count))
        assert [await coro.receive() for _ in range(count)] == list(range(count))
        assert await back == "flooded"

    shared.run(main)


def test_deliver_gives_1_once_the_message_is_in_the_mailbox(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.gather_messages, 3)
        assert await run.deliver("a") == 1
        run.send("b")
        assert await run.deliver("c", timeout=10) == 1
        assert await run == ["a", "b", "c"]

    shared.run(main)


def test_deliver_to_one_who_has_ended_raises_no_such_coro_and_send_is_dropped(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.add, 1)
        await run
        with pytest.raises(NoSuchCoro):
            await run.deliver("late")
        for _ in range(1000):
            assert run.send("late") == 0
        with pytest.raises(NoSuchCoro):
            await run.deliver("late")
        assert await run.finish(5) == 11

    shared.run(main)


def test_deliveries_that_wait_for_room_are_told_when_the_receiver_ends(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.hang)
        tasks = [asyncio.ensure_future(run.deliver(bytes(50_000))) for _ in range(60)]
        done, waiting = await asyncio.wait(tasks, timeout=0.2)
        assert done and waiting, (len(done), len(waiting))
        run.terminate()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        taken = [result for result in results if result == 1]
        told = [result for result in results if isinstance(result, NoSuchCoro)]
        assert len(taken) + len(told) == 60 and len(taken) == len(done)

    shared.run(main)


def test_a_delivery_that_times_out_while_it_waits_for_room_never_arrives(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.counts_when_told)
        sent = 0
        while await run.deliver(("fill", sent, bytes(20_000)), timeout=0.2) == 1:
            sent += 1
        assert sent > 2
        assert await run.deliver("never", timeout=0.05) == 0
        run.send("stop")
        run.resume()
        got = await run
        assert [entry[1] for entry in got[:-1]] == list(range(sent)) and got[-1] == "stop"

    shared.run(main)


def test_a_receiver_that_never_receives_costs_its_senders_a_bounded_amount_and_nobody_else(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        silent = await started(server, jobs.hang)
        lively = await started(server, jobs.echo, coro)
        before = memory(server.process.pid)
        sent = 0
        with pytest.raises(MailboxFull, match=r"64|67108864") as caught:
            while True:
                silent.send((sent, bytes(100_000)))
                sent += 1
                assert sent < 1000
        assert caught.value.unit == "bytes"
        assert 600 < sent < 700
        for number in range(100):
            lively.send(number)
            assert await coro.receive() == number
        assert await lively.deliver("x") == 1
        assert await coro.receive() == "x"
        assert memory(server.process.pid) - before < 40 << 20
        # What was queued is kept, and nothing else: one who ends lets it go.
        silent.terminate()
        with pytest.raises(Terminated):
            await silent

    shared.run(main)


def test_a_message_that_cannot_be_pickled_is_the_senders_error(
    shared: World, server: ServerProgram
) -> None:
    import threading

    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.gather_messages, 2)
        for refused in (threading.Lock(), {"deep": [threading.Lock()]}):
            with pytest.raises(NotPicklable, match="lock"):
                run.send(refused)
            with pytest.raises(NotPicklable, match="lock"):
                await run.deliver(refused)
        run.send(1)
        assert await run.deliver(2) == 1
        assert await run == [1, 2]

    shared.run(main)


def test_a_message_that_cannot_be_decoded_is_an_error_of_that_delivery_alone(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.gather_messages, 2)
        run.send(jobs.Undecodable())
        with pytest.raises(MessageRefused, match="not on this side"):
            await run.deliver(jobs.Undecodable())
        assert await run.deliver("a") == 1
        run.send("b")
        assert await run == ["a", "b"]

    shared.run(main)


# --- monitors


@pytest.mark.parametrize("count", [0, 3, 20_000])
@pytest.mark.parametrize("ending", ["return", "raise", "terminate"])
def test_a_monitor_gets_one_message_behind_all_messages(
    shared: World, server: ServerProgram, ending: str, count: int
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.flood_when_told, coro, count, ending)
        assert await coro.monitor(run) == 0
        run.send("go")
        if count > 100:
            await asyncio.sleep(0.1)  # let them pile up until they wait for a grant
        assert [await coro.receive() for _ in range(count)] == list(range(count))
        if ending == "terminate":
            run.terminate()
        message = await coro.receive()
        assert isinstance(message, MonitorException)
        ended, (kind, value) = message.args
        assert ended == run and ended is not None
        if ending == "return":
            assert kind is StopIteration and value.value == "flooded"
        elif ending == "raise":
            assert kind is ValueError and str(value) == "after the flood"
        else:
            assert kind is Terminated
        assert await coro.receive(0.05) is None

    shared.run(main)


def test_monitoring_and_finishing_what_has_ended_gives_its_outcome(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.add, 1)
        assert await run == 11
        assert await coro.monitor(run) == 0
        message = await coro.receive()
        assert message.args[1][0] is StopIteration and message.args[1][1].value == 11
        failing = await started(server, jobs.fail, "no")
        with pytest.raises(ValueError):
            await failing
        await coro.monitor(failing)
        message = await coro.receive()
        assert message.args[1][0] is ValueError and str(message.args[1][1]) == "no"

    shared.run(main)


def test_a_third_party_learns_the_outcome_of_what_has_ended(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.add, 1)
        await run
        ask = await started(other, jobs.finish_and_monitor, run)
        assert await ask == (11, "StopIteration", 11)

    shared.run(main)


def test_monitoring_what_never_was_says_no_such_coro(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.hang)
        run.number += 1000
        assert await coro.monitor(run) == 0
        message = await coro.receive()
        assert message.args[1][0] is NoSuchCoro
        with pytest.raises(NoSuchCoro):
            await run.finish(5)

    shared.run(main)


def test_a_remote_coroutine_monitors_one_of_the_client(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        async def short(coro: Any = None) -> str:
            return str(await coro.receive())

        run = await started(server, jobs.tell_of_monitor, coro)
        local: Coro[Any] = Coro(short)
        assert await run.monitor(local) == 0
        local.send("bye")
        assert await coro.receive() == ("StopIteration", "bye", True)
        watched: Coro[Any] = Coro(short)
        telling = await started(server, jobs.monitor_and_tell, coro, watched)
        assert await coro.receive() == "watching"
        watched.send("later")
        assert await coro.receive() == ("StopIteration", "later", True)
        await telling

    shared.run(main)


def test_monitor_of_something_else_is_a_type_error(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        for wrong in (5, None, "name", Location("localhost", 5)):
            with pytest.raises(TypeError):
                await coro.monitor(wrong)

    shared.run(main)


# --- references


def test_a_reference_works_for_a_third_party(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        echo = await started(server, jobs.echo, coro)
        relay = await started(other, jobs.relay, echo, "through three processes")
        assert await relay == 1
        assert await coro.receive() == "through three processes"
        # The client does not listen: the second server reaches it through the session that the client has dialled.
        assert await (await started(other, jobs.relay, coro, "straight home")) == 1
        assert await coro.receive() == "straight home"

    shared.run(main)


def test_a_reference_that_comes_home_is_the_coroutine_itself(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        echo = await started(server, jobs.echo, coro)

        async def short(coro: Any = None) -> int:
            return 5

        local: Coro[Any] = Coro(short)
        echo.send((coro, local))
        got, ended = await coro.receive()
        assert got is coro
        await local
        assert ended is local
        echo.send(local)
        again = await coro.receive()
        assert again is local and await again == 5
        echo.send(echo)
        same = await coro.receive()
        assert same == echo and hash(same) == hash(echo)
        assert await (await started(server, jobs.is_own, echo)) is False
        run = await started(server, jobs.is_itself)
        run.send(run)
        assert await run is True

    shared.run(main)


def test_a_reference_to_an_ended_coroutine_of_ones_own_still_answers(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        async def short(coro: Any = None) -> int:
            return 5

        echo = await started(server, jobs.echo, coro)
        echo.send(Coro(short))
        await asyncio.sleep(0.05)
        ended = await coro.receive()
        assert await ended.finish(5) == 5
        with pytest.raises(NoSuchCoro):
            await ended.deliver("late")
        assert await coro.monitor(ended) == 0
        assert (await coro.receive()).args[1][1].value == 5

    shared.run(main)


def test_locations_compare_by_id_and_are_immutable(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.where)
        pid, there = await run
        assert pid == server.process.pid
        assert there == run.location and hash(there) == hash(run.location)
        assert there.name == run.location.name == "first"
        assert there != (await (await started(other, jobs.where)))[1]
        assert server.location != there and there != server.location
        assert server.location == Location("127.0.0.1", server.port)
        assert coro.location == coro.scheduler.location
        with pytest.raises(AttributeError):
            there.port = 5
        assert there in coro.scheduler.peers()

    shared.run(main)


def test_setters_work_on_references(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.echo, coro)
        assert run.register("through a reference") == 0
        found = await Coro.locate("through a reference", server.location, timeout=10)
        assert found == run
        assert run.unregister("through a reference") == 0
        assert run.set_daemon() == 0
        assert run.hot_swappable(True) == 0
        assert await run.deliver("in between") == 1
        await coro.receive()
        assert await Coro.locate("through a reference", server.location, timeout=0.05) is None

    shared.run(main)


# --- names


def test_locate_finds_here_there_and_later(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        coro.register("local one")
        assert await Coro.locate("local one") is coro
        assert await Coro.locate("nobody", timeout=0.05) is None
        assert await Coro.locate("nobody", server.location, timeout=0.05) is None
        assert await Coro.locate("local one", server.location, timeout=0.05) is None
        found = await Coro.locate("discoro_server", server.location)
        assert found is not None and found.name == "discoro_server"
        run = await started(server, jobs.register_when_told, coro)
        looking = asyncio.ensure_future(Coro.locate("a later one", server.location, timeout=10))
        anywhere = asyncio.ensure_future(Coro.locate("a later one", timeout=10))
        await asyncio.sleep(0.05)
        run.send("a later one")
        assert await looking == run
        assert await anywhere == run
        here = asyncio.ensure_future(Coro.locate("here and later", timeout=10))
        await asyncio.sleep(0.01)
        coro.register("here and later")
        assert await here is coro

    shared.run(main)


def test_a_server_finds_what_the_client_registers(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.locate_and_greet, "the client's", 10)
        await asyncio.sleep(0.02)
        coro.register("the client's")
        assert await coro.receive(10) == "greetings"
        assert await run is True

    shared.run(main)


def test_a_name_is_gone_when_its_coroutine_has_ended(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        run = await started(server, jobs.register_when_told, coro)
        run.send("short-lived")
        assert await Coro.locate("short-lived", server.location, timeout=10) == run
        run.send("end")
        await run
        assert await Coro.locate("short-lived", server.location, timeout=0.05) is None

    shared.run(main)

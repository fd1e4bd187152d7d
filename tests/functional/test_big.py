"""Messages, arguments and results of megabytes: whole, in order, as they were when they were sent."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy
import pytest

from discoro import Channel, Computation, Coro
from discoro.errors import MailboxFull
from discoro.peers.big import MessageTooBig
from tests.functional import jobs
from tests.kit import run_async
from tests.processes import ServerProgram, World

MIB = 1 << 20


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(size % 251)


BIG: list[tuple[str, Any]] = [
    ("bytes", pattern(3 * MIB)),
    ("bytearray", bytearray(pattern(5 * MIB))),
    ("array", numpy.arange(2 * MIB, dtype="f8")),
    ("64 MiB", numpy.arange(8 * MIB, dtype="i8").reshape(1024, -1)),
    ("columns first", numpy.asfortranarray(numpy.arange(600_000).reshape(600, -1))),
    ("a part of one", numpy.arange(4 * MIB)[::2]),
    ("read-only", numpy.frombuffer(pattern(2 * MIB), "u1")),
    ("in containers", {"a": [pattern(2 * MIB), 5], "b": (numpy.ones(MIB), "text")}),
    ("deep down", [[[[["x" * 100, pattern(3 * MIB)]]]]]),
    ("many small", list(range(1_500_000))),
    ("text", "ä" * (2 * MIB)),
    ("just below", pattern(MIB - 20)),
    ("just at", pattern(MIB - 8)),
    ("just above", pattern(MIB + 1)),
]


def same(one: Any, two: Any) -> bool:
    if isinstance(one, numpy.ndarray):
        return (
            isinstance(two, numpy.ndarray)
            and one.dtype == two.dtype
            and bool((one == two).all())
            and one.shape == two.shape
        )
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)) and len(one) < 100:
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@pytest.mark.parametrize("value", [value for _, value in BIG], ids=[name for name, _ in BIG])
def test_a_big_value_goes_as_argument_result_message_and_delivery(
    shared: World, server: ServerProgram, value: Any
) -> None:
    async def main(coro: Any = None) -> None:
        identity: Computation[Any, Any] = Computation(jobs.identity)
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await identity.setup(server.location)
        await echo.setup(server.location)
        assert same(value, await (await identity.run(server.location, value)))
        run = await echo.run(server.location, coro)
        run.send(value)
        run.send("behind it")
        assert same(value, await coro.receive())
        assert await coro.receive() == "behind it"
        assert await run.deliver(value) == 1
        assert same(value, await coro.receive())
        run.send(None)
        assert await run == "done"

    shared.run(main)


def test_keyword_arguments_may_be_big(shared: World, server: ServerProgram) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.keywords)
            await computation.setup(server.location)
            given = {"a": pattern(2 * MIB), "b": [[[pattern(2 * MIB)]]]}
            assert await (await computation.run(server.location, **given)) == given

    run_async(main)


def test_order_holds_among_big_and_small_messages_of_all_sizes(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        sizes = [20 * MIB, 3, 2 * MIB, 10, 10, 9 * MIB, MIB + 1, MIB - 1, 5, 4 * MIB, 1]
        for number, size in enumerate(sizes):
            run.send((number, bytes(size)))
        for number, size in enumerate(sizes):
            got, data = await coro.receive()
            assert (got, len(data)) == (number, size)

    shared.run(main)


def test_nobody_else_waits_for_a_big_message(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        slow, quick = [await echo.run(server.location, coro) for _ in range(2)]
        slow.send(("big", bytes(48 * MIB)))
        quick.send("small")
        assert await coro.receive() == "small"
        kind, data = await coro.receive()
        assert kind == "big" and len(data) == 48 * MIB

    shared.run(main)


def test_a_change_after_send_is_not_seen(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        array = numpy.zeros(2 * MIB)
        text = bytearray(3 * MIB)
        small = [1, 2]
        for value in (array, text, small):
            run.send(value)
        array[:] = 1
        text[:] = b"x" * len(text)
        small.append(3)
        assert not (await coro.receive()).any()
        assert not any(await coro.receive())
        assert await coro.receive() == [1, 2]

    shared.run(main)


def test_a_result_is_what_it_was_at_the_return(shared: World, server: ServerProgram) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.count_in_place)
            await computation.setup(server.location)
            runs = [await computation.run(server.location, 3 * MIB) for _ in range(5)]
            for number, run in enumerate(runs, 1):
                assert set(await run) == {number}

    run_async(main)


def test_what_arrives_may_be_written_to(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        run.send(numpy.zeros(2 * MIB))
        array = await coro.receive()
        array += 1
        assert array.sum() == 2 * MIB

    shared.run(main)


def test_a_delivery_of_something_big_that_takes_too_long_is_withdrawn_and_the_lane_lives_on(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        for _ in range(20):
            assert await run.deliver(bytes(60 * MIB), timeout=0.001) == 0
        for number in range(3):
            assert await run.deliver((number, bytes(2 * MIB))) == 1
            assert (await coro.receive())[0] == number
        run.send("still here")
        assert await coro.receive() == "still here"

    shared.run(main)


def test_a_message_beyond_the_limit_is_refused_and_everything_goes_on(own: World) -> None:
    async def main(coro: Any = None) -> None:
        limits = {"max_message": 4 * MIB}
        server = own.server(limits=limits)
        identity: Computation[Any, Any] = Computation(jobs.identity)
        await identity.setup(server.location)
        for value in (bytes(5 * MIB), [[[[bytes(5 * MIB)]]]]):
            with pytest.raises(MessageTooBig, match="send it in parts, or as a file"):
                await identity.run(server.location, value)
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        with pytest.raises(MessageTooBig):
            run.send(bytes(5 * MIB))
        with pytest.raises(MessageTooBig):
            await run.deliver(bytes(5 * MIB))
        make: Computation[Any, Any] = Computation(jobs.make)
        await make.setup(server.location)
        with pytest.raises(MessageTooBig):
            await (await make.run(server.location, 5 * MIB))
        assert len(await (await make.run(server.location, 3 * MIB))) == 3 * MIB
        run.send("still here")
        assert await coro.receive() == "still here"

    own.run(main, limits={"max_message": 4 * MIB})


def test_big_messages_to_one_who_does_not_take_them_end_in_mailbox_full(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        hang: Computation[Any, Any] = Computation(jobs.hang)
        await hang.setup(server.location)
        run = await hang.run(server.location)
        with pytest.raises(MailboxFull):
            for _ in range(100):
                run.send(bytes(2 * MIB))
        assert await hang.ping(server.location) == 0
        await hang.close(server.location)

    shared.run(main)


def test_a_big_outcome_reaches_monitors_and_third_parties(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        make: Computation[Any, Any] = Computation(jobs.make_later)
        await make.setup(server.location)
        ask: Computation[Any, Any] = Computation(jobs.finish)
        await ask.setup(other.location)
        for ending in ("return", "raise"):
            run = await make.run(server.location, 3 * MIB, ending)
            await coro.monitor(run)
            asking = await ask.run(other.location, run)
            run.send("go")
            message = await coro.receive()
            kind, length = await asking
            if ending == "return":
                assert message.args[1][0] is StopIteration
                assert len(message.args[1][1].value) == 3 * MIB
                assert (kind, length) == ("returned", 3 * MIB)
            else:
                assert message.args[1][0] is ValueError
                assert len(str(message.args[1][1])) == 3 * MIB
                assert (kind, length) == ("ValueError", 3 * MIB)

    shared.run(main)


def test_a_channel_delivers_and_sends_big_messages(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.own_channel)
        await computation.setup(server.location)
        await computation.run(server.location, coro)
        channel: Channel = await coro.receive()
        await channel.subscribe(coro)
        assert await channel.deliver(bytes(3 * MIB), timeout=20, n=1) == 1
        assert len(await coro.receive()) == 3 * MIB
        channel.send(bytes(4 * MIB))
        assert len(await coro.receive(20)) == 4 * MIB

    shared.run(main)


def test_resume_and_throw_take_big_things(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.suspended)
        await computation.setup(server.location)
        run = await computation.run(server.location, coro)
        await coro.receive()
        run.resume(bytes(3 * MIB))
        assert len(await run) == 3 * MIB
        run = await computation.run(server.location, coro)
        await coro.receive()
        run.throw(ValueError("x" * 3 * MIB))
        with pytest.raises(ValueError):
            await run

    shared.run(main)


def test_a_first_message_to_a_reference_may_be_big(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    """The second server has no session with the first one yet."""

    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run = await echo.run(server.location, coro)
        third = shared.server()
        burst: Computation[Any, Any] = Computation(jobs.send_sizes)
        await burst.setup(third.location)
        sizes = [5, 3 * MIB, 7, 2 * MIB, 1]
        await (await burst.run(third.location, run, sizes))
        assert [len(await coro.receive(20)) for _ in sizes] == sizes
        fourth = shared.server()
        relay: Computation[Any, Any] = Computation(jobs.relay)
        await relay.setup(fourth.location)
        sending = await relay.run(fourth.location, run, bytes(3 * MIB))
        assert len(await coro.receive(20)) == 3 * MIB
        assert await sending == 1

    shared.run(main)


@pytest.mark.slow
def test_more_big_results_at_once_than_transfers_may_be_open(own: World) -> None:
    async def main() -> None:
        async with own.scheduler(limits={"max_transfers": 8}):
            server = own.server(limits={"max_transfers": 8})
            make: Computation[Any, Any] = Computation(jobs.make)
            await make.setup(server.location)

            async def one(number: int) -> int:
                return len(await (await make.run(server.location, MIB + 100 + number)))

            lengths = await asyncio.gather(*(one(number) for number in range(40)))
            assert lengths == [MIB + 100 + number for number in range(40)]

    run_async(main)


def test_big_messages_within_one_process(shared: World) -> None:
    async def main(coro: Any = None) -> None:
        async def listen(coro: Any = None) -> Any:
            return await coro.receive()

        array = numpy.ones(2 * MIB)
        listener: Coro[Any] = Coro(listen)
        listener.send(array)
        assert await listener is array

    shared.run(main, local=True)


@pytest.mark.parametrize(
    ("job", "arguments", "lent"),
    [
        (jobs.fresh, ["at once"], True),
        (jobs.fresh, ["after a wait"], True),
        (jobs.fresh, ["in containers"], True),
        (jobs.fresh_of_a_generator, [], True),
        (jobs.identity, [numpy.zeros(3 * MIB, "u1")], True),
        (jobs.identity, [bytearray(3 * MIB)], True),
        (jobs.fresh, ["somebody has it"], False),
        (jobs.fresh, ["somebody has a part"], False),
        (jobs.fresh, ["somebody has what is in it"], False),
        (jobs.fresh, ["somebody can find it"], False),
        (jobs.fresh, ["of a class"], False),
        (jobs.awaited, [], False),
    ],
    ids=lambda value: value[0] if type(value) is list and value and type(value[0]) is str else None,
)
def test_a_result_that_nobody_else_has_is_not_copied(
    shared: World, server: ServerProgram, job: Any, arguments: list[Any], lent: bool
) -> None:
    """The figures in hostedruns.py are those of CPython's reference counts on this way: if this fails, count again."""

    async def main(coro: Any = None) -> None:
        work: Computation[Any, Any] = Computation(job)
        note: Computation[Any, Any] = Computation(jobs.note_lent)
        noted: Computation[Any, Any] = Computation(jobs.lent)
        for computation in (work, note, noted):
            await computation.setup(server.location)
        await (await note.run(server.location))
        await (await work.run(server.location, *arguments))
        assert await (await noted.run(server.location)) == [lent]

    shared.run(main)


def test_a_result_arrives_as_it_was_when_it_was_returned(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        work: Computation[Any, Any] = Computation(jobs.changed_afterwards)
        await work.setup(server.location)
        result = await (await work.run(server.location))
        assert not any(result)

    shared.run(main)

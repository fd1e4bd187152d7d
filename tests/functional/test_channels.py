"""Channels across processes: subscribers anywhere, hierarchies, deliveries that count, transforms, late subscribers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discoro import Channel, Computation, Coro
from discoro.errors import DiscoroError
from tests.functional import jobs
from tests.processes import ServerProgram, World


async def started(server: ServerProgram, function: Any, *arguments: Any) -> Any:
    computation: Computation[Any, Any] = Computation(function)
    await computation.setup(server.location)
    return await computation.run(server.location, *arguments)


async def collect(count: int, coro: Any = None) -> list[Any]:
    return [await coro.receive() for _ in range(count)]


def test_one_message_reaches_subscribers_here_and_in_two_processes(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        channel = Channel("news")
        here: Coro[Any] = Coro(collect, 100)
        there = [await started(one, jobs.gather_messages, 100) for one in (server, other)]
        for subscriber in (here, *there):
            assert await channel.subscribe(subscriber) == 0
        assert await channel.deliver(0, timeout=10, n=3) == 3
        for number in range(1, 100):
            assert channel.send(number) == 0
        for subscriber in (here, *there):
            assert await subscriber == list(range(100))

    shared.run(main)


def test_a_remote_channel_is_located_subscribed_and_sent_to(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        host = await started(server, jobs.host_channel, "weather", 50)
        channel = await Channel.locate("weather", server.location, timeout=10)
        assert channel is not None
        assert await Channel.locate("weather", timeout=10) == channel
        assert await Channel.locate("no weather", server.location, timeout=0.05) is None
        assert await channel.subscribe(coro) == 0
        for number in range(50):
            channel.send(number)
        assert [await coro.receive() for _ in range(50)] == list(range(50))
        assert await host == list(range(50))  # it has subscribed itself
        assert await channel.unsubscribe(coro) == 0
        assert await channel.deliver("nobody", timeout=1) == 0
        assert await coro.receive(0.05) is None

    shared.run(main)


def test_deliver_waits_for_so_many_subscribers_and_gives_up_in_time(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        await started(server, jobs.host_channel, "late", 1000)
        channel = await Channel.locate("late", server.location, timeout=10)
        assert await channel.deliver("too early", timeout=0.1, n=2) == 0
        delivering = asyncio.ensure_future(channel.deliver("both", timeout=10, n=2))
        await asyncio.sleep(0.05)
        assert not delivering.done()
        await channel.subscribe(coro)
        assert await delivering == 2
        assert await coro.receive() == "both"
        local = Channel("local")
        waiting = asyncio.ensure_future(local.deliver("x", timeout=10, n=1))
        run = await started(server, jobs.subscribe_and_wait, local)
        assert await waiting == 1
        assert await run == "x"

    shared.run(main)


def test_a_hierarchy_over_three_processes_counts_its_end_recipients(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        top = Channel("top")
        for one, name in ((server, "branch one"), (other, "branch two")):
            await started(one, jobs.host_channel, name, 1000)
            branch = await Channel.locate(name, one.location, timeout=10)
            await top.subscribe(branch)
        below = await Channel.locate("branch two", other.location)
        await below.subscribe(coro)
        assert await top.deliver("to all", timeout=10, n=2) == 3
        assert await coro.receive() == "to all"
        top.send("and again")
        assert await coro.receive() == "and again"
        await top.unsubscribe(below)
        assert await top.deliver("to one", timeout=10) == 1
        assert await coro.receive(0.05) is None

    shared.run(main)


def test_transforms_change_and_drop_messages_on_the_way(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        def odd_only(name: str, message: Any) -> Any:
            return None if message % 2 == 0 else (name, message)

        channel = Channel("odd", transform=odd_only)
        run = await started(server, jobs.gather_messages, 3)
        await channel.subscribe(run)
        await channel.subscribe(coro)
        for number in range(6):
            channel.send(number)
        assert await run == [("odd", 1), ("odd", 3), ("odd", 5)]
        assert await coro.receive() == ("odd", 1)
        assert await channel.deliver(2, timeout=1) == 0

    shared.run(main)


def test_a_late_subscriber_gets_what_is_sent_from_then_on(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        channel = Channel("kept by nobody")
        channel.send("early")
        run = await started(server, jobs.gather_messages, 1)
        await channel.subscribe(run)
        channel.send("late")
        assert await run == ["late"]

    shared.run(main)


def test_a_subscriber_that_has_ended_is_no_subscriber_any_more(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        channel = Channel("with an ended one")
        run = await started(server, jobs.gather_messages, 1)
        await channel.subscribe(run)
        await channel.subscribe(coro)
        assert await channel.deliver("x", timeout=10) == 2
        await run
        limit = asyncio.get_running_loop().time() + 5
        while len(channel.subscribers) > 1 and asyncio.get_running_loop().time() < limit:
            await asyncio.sleep(0.005)
        assert await channel.deliver("y", timeout=10) == 1
        assert [await coro.receive(), await coro.receive()] == ["x", "y"]

    shared.run(main)


def test_one_subscriber_that_does_not_take_costs_the_others_nothing(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        channel = Channel("uneven")
        silent = await started(server, jobs.hang)
        lively = await started(server, jobs.gather_messages, 300)
        for subscriber in (silent, lively, coro):
            await channel.subscribe(subscriber)
        for number in range(300):
            channel.send((number, bytes(10_000)))
        assert [message[0] for message in await lively] == list(range(300))
        assert [(await coro.receive())[0] for _ in range(300)] == list(range(300))
        assert await channel.deliver("all but one", timeout=0.3) in (1, 2)

    shared.run(main)


def test_a_channel_travels_in_messages_and_comes_home_as_itself(
    shared: World, server: ServerProgram, other: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        channel = Channel("travelling")
        echo = await started(server, jobs.echo, coro)
        echo.send(channel)
        assert await coro.receive() is channel
        run = await started(other, jobs.subscribe_and_wait, channel)
        assert await channel.deliver("x", timeout=10, n=1) == 1
        assert await run == "x"

    shared.run(main)


def test_wrong_subscribers_and_names_are_refused(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        for wrong in (5, "", None, b"x"):
            with pytest.raises(TypeError):
                Channel(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Channel("x", transform=5)  # type: ignore[arg-type]
        channel = Channel("picky")
        for nobody in (5, None, "coro"):
            with pytest.raises(TypeError):
                await channel.subscribe(nobody)
        await started(server, jobs.host_channel, "picky too", 1)
        remote = await Channel.locate("picky too", server.location, timeout=10)
        for nobody in (5, None, "coro"):
            with pytest.raises(TypeError):
                await remote.subscribe(nobody)
        with pytest.raises(DiscoroError):
            await channel.subscribe(channel)

    shared.run(main)


def test_a_channel_that_was_closed_is_gone(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        host = await started(server, jobs.host_and_close, "closing")
        remote = await Channel.locate("closing", server.location, timeout=10)
        await remote.subscribe(coro)
        host.send("close")
        assert await host == "closed"
        remote.send("into nothing")
        with pytest.raises(DiscoroError, match="no such channel"):
            await remote.subscribe(coro)
        assert await Channel.locate("closing", server.location, timeout=0.05) is None

    shared.run(main)

"""`send` in one function does what the modules it passes by do: the same entries, grants, batches and errors."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from discoro import Coro, Scheduler
from discoro.errors import MailboxFull, NotPicklable
from discoro.remotecoro import RemoteCoro
from discoro.shipping.values import dumps
from tests.kit import run_async
from tests.processes import world


class Word(str):
    pass


MESSAGES: list[Any] = [
    *[{"i": number, "x": "abc"} for number in (0, 7, 2**40, 2**64 - 1, 2**64, -(2**63))],
    *[{}, {"a": None}, {b"k": 1}, {(1, 2): 3}, {1: 2}, {"half": "\ud800"}],
    *[{"x": "y" * 1023}, {"x": "y" * 1024}, {"x": "y" * 1025}, {"k" * 3000: 1}],
    *[dict.fromkeys(map(str, range(8)), 1.5), dict.fromkeys(map(str, range(9)), 1.5)],
    *[{"x": [1]}, {"x": (1,)}, {"x": Word("w")}, {Word("w"): 1}, {"x": {"y": 1}}],
    *[None, True, 3, "word", (1, "two"), [1, 2], Word("w"), bytes(100), bytes(2000), "y" * 2000],
    bytes(30_000),
]
UNSENDABLE = {"x": (value for value in ())}


def two_schedulers(
    folder: Path, main: Callable[[Scheduler, Scheduler], Awaitable[None]], **limits: int
) -> None:
    """Call ``main(client, server)``; they have no session yet."""

    async def both() -> None:
        with world(folder) as here:
            async with (
                here.scheduler(name="server", tcp_port=0) as server,
                here.scheduler(name="client", limits=limits) as client,
            ):
                await main(client, server)

    run_async(both)


def test_what_send_queues_is_what_its_parts_queue(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler) -> None:
        both = [await reference(client, server) for _ in range(2)]
        await compare(both, random.Random(1))  # from no coroutine of ours
        await client.spawn(compare_inside, (both, random.Random(2)))

    two_schedulers(tmp_path, main, lane_queue=200_000)


async def reference(client: Scheduler, server: Scheduler) -> Any:
    """A coroutine of the server that takes all, as the client sees it: with a session and a lane."""
    remote = seen_by(client, server.spawn(take_all))
    await remote.deliver("first")
    return remote


def seen_by(client: Scheduler, coro: Any) -> Any:
    """A coroutine of the server as the client sees it, without a session."""
    server = coro.scheduler
    hint = ("127.0.0.1", server.location.port)
    return RemoteCoro(client.network, server.network.process, server.export(coro), coro.name, hint)


async def take_all(coro: Any = None) -> None:
    while True:
        await coro.receive()


async def compare_inside(both: list[Any], chance: random.Random) -> None:
    await compare(both, chance)


async def compare(both: list[Any], chance: random.Random) -> None:
    """Send by the one function and by its parts, each without a turn of the loop in between."""
    one, other = both
    peer = one.peer()
    session = peer.session

    async def queued(send: Any, target: int, messages: list[Any]) -> tuple[Any, ...]:
        await session.settled()
        lane = peer.lane(target)
        lane.credit, errors = 60_000, []
        lane.drain()
        before = len(session.unacknowledged())
        batch = session.outbox.last
        for message in messages:
            try:
                send(message)
            except (MailboxFull, NotPicklable) as error:
                errors.append(type(error))
        entries = session.unacknowledged()[before:]
        waiting = [(entry[2], entry[3]) for entry, _ in lane.waiting]
        return (
            [(entry.kind, entry.source, entry.payload) for entry in entries],
            session.outbox.last - batch,
            session.batch_size,
            lane.credit,
            waiting,
            errors,
        )

    full = 0
    for _ in range(30):
        messages = chance.choices(MESSAGES, k=chance.choice((1, 5, 50, 700)))
        if chance.random() < 0.3:
            messages.insert(len(messages) // 2, UNSENDABLE)
        mine = await queued(one.send, one.number, messages)
        assert mine == await queued(
            lambda message: peer.send_value(other.number, message), other.number, messages
        )
        full += MailboxFull in mine[-1]
    assert full > 1  # so there were all cases: with a grant, without, and with too much


def test_a_batch_is_closed_by_the_message_that_fills_it(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler) -> None:
        remote = await reference(client, server)
        session = remote.peer().session
        session.flush()
        remote.peer().lane(remote.number).credit = 1 << 20
        sent = session.outbox.last
        for number in range(1000):
            remote.send({"i": number, "x": "abc"})
        assert session.outbox.last - sent == 2
        assert session.batch_size < client.network.limits.batch_bytes

    two_schedulers(tmp_path, main)


def test_messages_to_several_and_of_several_are_told_apart_in_one_batch(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler) -> None:
        both = [await reference(client, server) for _ in range(2)]
        session = both[0].peer().session
        await session.settled()

        def send(first: Any, second: Any) -> Any:
            for number in range(3):
                first.send({"i": number})
                first.send({"i": number})
                second.send({"i": number})
                yield  # the other one has its turn; nothing goes out before both are through

        def look(coro: Any = None) -> Any:
            senders = [client.spawn(send, (*both,)), client.spawn(send, (*both[::-1],))]
            for _ in range(3):
                yield
            found.extend((one.source, one.target) for one in session.unacknowledged())
            expected.extend(
                (sender.number, remote.number)
                for _ in range(3)
                for sender, order in zip(senders, (both, both[::-1]), strict=True)
                for remote in (order[0], order[0], order[1])
            )

        found: list[tuple[int, int]] = []
        expected: list[tuple[int, int]] = []
        await client.spawn(look)
        assert len(found) == 18 and found == expected

    two_schedulers(tmp_path, main)


def test_another_thread_hands_its_message_to_the_one_of_the_loop(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler) -> None:
        remote = await reference(client, server)
        session = remote.peer().session
        await session.settled()
        thread = threading.Thread(target=remote.send, args=({"i": 1},))
        thread.start()
        thread.join()
        assert session.idle  # the loop has not had its turn: nothing was queued in its place
        await asyncio.sleep(0)
        assert [one.payload for one in session.unacknowledged()] == [dumps({"i": 1})]

    two_schedulers(tmp_path, main)


@pytest.mark.parametrize("ended", [True, False])
def test_who_has_ended_and_who_was_never_met_are_sent_to_by_a_new_session(
    tmp_path: Path, ended: bool
) -> None:
    async def main(client: Scheduler, server: Scheduler) -> None:
        got: list[Any] = []

        async def take(coro: Any = None) -> None:
            while "last" not in got:
                got.append(await coro.receive())

        taking: Coro[None] = server.spawn(take)
        remote = seen_by(client, taking)
        if ended:
            await remote.deliver("first")
            await client.network._endpoint.close_session(remote.peer().session)
        assert remote.send({"i": 1}) == 0
        assert remote.send("last") == 0
        await taking
        assert got == [*["first"][:ended], {"i": 1}, "last"]

    two_schedulers(tmp_path, main)

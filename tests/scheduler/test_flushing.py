"""When what a turn has collected goes out."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from discoro.scheduler import Coro, Scheduler
from discoro.scheduler.mailbox import Mailbox, Mark
from discoro.scheduler.stepping import FLUSH_TURNS, STEPS
from tests.kit import run_async


class Thing:
    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.turns: list[int] = []

    def flush(self) -> None:
        self.turns.append(self.scheduler.turns)


def test_while_many_run_a_flush_comes_every_few_turns_and_at_the_last() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            thing = Thing(scheduler)

            async def work() -> None:
                for _ in range(STEPS * FLUSH_TURNS * 3):
                    scheduler.flush_later(thing)
                    await asyncio.sleep(0)

            coros = [Coro(work) for _ in range(3)]
            while not thing.turns:
                await asyncio.sleep(0)
            for coro in coros:
                await coro
            await asyncio.sleep(0)
            waits = [b - a for a, b in zip(thing.turns, thing.turns[1:], strict=False)]
            assert max(waits) <= FLUSH_TURNS

    run_async(main)


def test_who_asks_for_a_turn_of_the_loop_holds_a_flush_up_for_a_few_turns_only() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            thing = Thing(scheduler)

            async def work() -> None:
                for _ in range(FLUSH_TURNS * 10):
                    scheduler.flush_later(thing)
                    await asyncio.sleep(0)

            await Coro(work)
            turns = sorted(set(thing.turns))
            waits = [b - a for a, b in pairwise(turns)]
            assert set(waits[:-1]) == {FLUSH_TURNS}

    run_async(main)


def test_a_cancelled_turn_of_the_loop_holds_no_flush_back() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            thing = Thing(scheduler)

            async def work() -> None:
                scheduler.flush_later(thing)
                await asyncio.sleep(0)

            for _ in range(2 * FLUSH_TURNS):  # whatever turn it is
                thing.turns.clear()
                coro = Coro(work)
                while not scheduler.turning:
                    await asyncio.sleep(0)
                coro.cancel()
                for _ in range(5):
                    await asyncio.sleep(0)
                assert thing.turns and not scheduler.turning

    run_async(main)


def test_messages_put_together_are_handed_over_and_queued_in_order() -> None:
    async def main() -> None:
        async with Scheduler():
            got: list[Any] = []

            async def read(coro: Any = None) -> None:
                while len(got) < 7:
                    got.append(await coro.receive())

            reader: Any = Coro(read)
            await asyncio.sleep(0)
            reader.put_all([1, 2, 3])
            reader.put_all([])
            reader.put_all([4])
            reader.put(5)
            reader.put_all([6, 7])
            await reader
            assert got == [1, 2, 3, 4, 5, 6, 7]

    run_async(main)


def test_a_mark_behind_messages_is_told_when_they_are_taken_by_hand() -> None:
    told = []

    class Told(Mark):
        def taken(self) -> None:
            told.append(True)

    mailbox = Mailbox()
    mailbox.extend([1, 2])
    mailbox.put_mark(Told())
    taken = []
    while mailbox:
        taken.append(mailbox.popleft())
        if mailbox.attention:
            mailbox.attention -= 1
            if not mailbox.attention:
                mailbox.attend()
    assert (taken, told, mailbox.attention) == ([1, 2], [True], 0)

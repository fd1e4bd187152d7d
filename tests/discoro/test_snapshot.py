"""What is said of the coroutines of one process, taken by its loop and by another thread."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from discoro import Coro, Scheduler
from discoro.node.snapshot import snapshot, waits_in
from tests.kit import run_async

HERE = __file__


def line_of(text: str) -> int:
    """Return the number of the only line of this file that ends with a mark."""
    with open(HERE) as file:
        found = [n for n, line in enumerate(file, 1) if line.rstrip().endswith(f"# {text}")]
    assert len(found) == 1, text
    return found[0]


def generator(coro: Any = None) -> Iterator[Any]:
    yield coro.receive()  # generator waits


def inner(coro: Any) -> Iterator[Any]:
    yield coro.sleep(1000)  # inner waits


def outer(coro: Any = None) -> Iterator[Any]:
    yield inner(coro)


async def asynchronous(coro: Any = None) -> None:
    await helper(coro)


async def helper(coro: Any) -> None:
    await coro.receive(1000)  # helper waits


async def suspended(coro: Any = None) -> None:
    await coro.suspend()


async def in_a_library(coro: Any = None) -> None:
    await asyncio.sleep(1000)  # library waits


async def finishing(other: Any, coro: Any = None) -> None:
    await other.finish()


def facts_of(scheduler: Scheduler, most: int = 100) -> dict[str, dict[str, Any]]:
    found = snapshot(scheduler, most)
    json.dumps(found)  # it travels as JSON
    return {one["name"]: one for one in found["coroutines"]}


def test_each_coroutine_is_told_by_name_line_what_it_waits_in_and_mailbox() -> None:
    async def main() -> None:
        async with Scheduler(local=True) as scheduler:
            coros: list[Any] = [
                Coro(f) for f in (generator, outer, asynchronous, suspended, in_a_library)
            ]
            Coro(finishing, coros[0])
            await asyncio.sleep(0.01)
            coros[1].send("one")
            coros[1].send("two")
            facts = facts_of(scheduler)
            places = {
                name: (one["line"], one["function"], one["waits_in"]) for name, one in facts.items()
            }
            assert places["generator"] == (line_of("generator waits"), "generator", "receive")
            assert places["outer"] == (line_of("inner waits"), "inner", "sleep")
            assert places["asynchronous"] == (line_of("helper waits"), "helper", "receive")
            assert places["suspended"][2] == "suspend"
            assert places["in_a_library"] == (line_of("library waits"), "in_a_library", "sleep")
            assert places["finishing"][2] == "finish of generator"
            assert facts["outer"]["mailbox"] == 2 and facts["generator"]["mailbox"] == 0
            assert {one["file"] for one in facts.values()} == {HERE}
            assert facts["outer"]["computation"] is None

    run_async(main)


def test_the_longest_mailboxes_are_told_and_the_others_counted() -> None:
    async def main() -> None:
        async with Scheduler(local=True) as scheduler:
            coros: list[Any] = [Coro(suspended) for _ in range(50)]
            await asyncio.sleep(0.01)
            for _ in range(3):
                coros[33].send("a message")
            coros[7].send("a message")
            found = snapshot(scheduler, 2)
            assert [one["mailbox"] for one in found["coroutines"]] == [3, 1]
            assert found["more_coroutines"] == 48
            assert found["counts"]["coroutines"] == 50
            assert snapshot(scheduler, 0)["more_coroutines"] == 50

    run_async(main)


def test_of_very_many_coroutines_some_are_looked_at_and_all_counted() -> None:
    async def main() -> None:
        async with Scheduler(local=True) as scheduler:
            coros: list[Any] = [Coro(suspended) for _ in range(30_000)]
            await asyncio.sleep(0)
            found = snapshot(scheduler, 5)
            assert len(found["coroutines"]) == 5 and found["more_coroutines"] == len(coros) - 5

    run_async(main)


def blocks(release: threading.Event, begun: threading.Event, coro: Any = None) -> Iterator[Any]:
    begun.set()
    release.wait(10)  # it blocks
    yield


def test_another_thread_sees_where_a_blocked_loop_stands() -> None:
    with Scheduler(local=True) as scheduler:
        release, begun = threading.Event(), threading.Event()
        Coro(suspended)
        blocked: Any = Coro(blocks, release, begun)
        assert begun.wait(10)
        facts = facts_of(scheduler)
        release.set()
        blocked.value(10)
        assert facts["blocks"]["waits_in"] == "running"
        assert facts["blocks"]["line"] == line_of("it blocks")
        assert facts["suspended"]["waits_in"] in ("suspend", "ready to run")
        for coro in list(scheduler.coros):
            coro.terminate()


def test_a_thread_that_looks_while_coroutines_come_and_go_gets_an_answer() -> None:
    with Scheduler(local=True) as scheduler:
        stop, begun = False, threading.Event()

        async def brief() -> None:
            await asyncio.sleep(0)

        async def restless(coro: Any = None) -> None:
            begun.set()
            while not stop:
                for _ in range(20):
                    Coro(brief)
                await coro.sleep(0)

        working: Any = Coro(restless)
        assert begun.wait(10)
        limit = time.monotonic() + 0.3
        looks = 0
        while time.monotonic() < limit:
            assert "restless" in facts_of(scheduler, 10_000)
            looks += 1
        stop = True
        working.value(10)
        assert looks


def test_what_is_waited_in_has_a_word_for_everything() -> None:
    assert waits_in(object(), "open_connection") == "open_connection"
    assert waits_in(object(), "") == "a future"
    assert inspect.isgeneratorfunction(generator)

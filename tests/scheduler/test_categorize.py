from __future__ import annotations

import asyncio
import functools
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import CategorizeMessages, Coro, Scheduler


def even(message: Any) -> str | None:
    return "even" if isinstance(message, int) and message % 2 == 0 else None


def kind(name: str, of: type, message: Any) -> str | None:
    return name if isinstance(message, of) else None


def test_messages_of_a_category_come_first_and_the_others_are_kept_in_order() -> None:
    def main(coro: Any = None) -> Generator[Any, Any, Any]:
        messages = CategorizeMessages(coro)
        messages.add(functools.partial(kind, "number", int))
        messages.add(even)
        for message in (1, "a", 2, 3, "b", 4):
            coro.send(message)
        got = []
        for category in ("even", "even", None, "number"):
            got.append((yield messages.receive(category)))
        late = yield messages.receive("even", timeout=0.001, alarm_value="late")
        messages.remove(even)
        coro.send(6)
        got.append((yield messages.receive("number")))
        got.append((yield messages.receive("number")))
        return got, late, (yield messages.receive())

    assert Scheduler().run(main) == ([2, 4, "a", 1, 3, 6], "late", "b")


def test_a_cancelled_receive_keeps_what_it_has_sorted() -> None:
    async def main(coro: Any = None) -> Any:
        messages = CategorizeMessages(coro)
        messages.add(even)
        coro.send(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await messages.receive("even")
        coro.send(2)
        return await messages.receive("even"), await messages.receive()

    assert Scheduler().run(main) == (2, 1)


def test_only_functions_categorize_and_only_the_coroutine_receives() -> None:
    def waits(coro: Any = None) -> Generator[Any, Any, Any]:
        yield coro.receive()

    async def main(coro: Any = None) -> None:
        messages = CategorizeMessages(Coro(waits))
        with pytest.raises(TypeError):
            messages.add(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            messages.remove(even)
        with pytest.raises(Exception, match="only 'waits' itself"):
            await messages.receive()

    Scheduler().run(main)

"""Messages by category: receive those of one kind first, leave the others for later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from .coro import Coro

Categorizer = Callable[[Any], Hashable | None]


class CategorizeMessages:
    """Sorts the messages of a coroutine into categories: those of one are received first, the others kept for later.

    A category function takes a message and gives its category, or None to let the next one try; the
    one added last is tried first. What none of them claims has category None. The coroutine should
    receive only here: what it receives directly was never categorized.

    Args:
        coro: The coroutine whose messages are sorted; it alone may receive.
    """

    __module__ = "discoro"

    def __init__(self, coro: Coro[Any]) -> None:
        self._coro = coro
        self._functions: list[Categorizer] = []
        self._kept: dict[Hashable, deque[Any]] = {}

    def add(self, function: Categorizer) -> int:
        """Try this category function before the others; gives 0. A second time it changes nothing.

        Raises:
            TypeError: If it is no function.
        """
        if not callable(function):
            raise TypeError(f"a category function takes a message, {function!r} takes nothing")
        if function not in self._functions:
            self._functions.insert(0, function)
        return 0

    def remove(self, function: Categorizer) -> int:
        """Do not use this category function any more; gives 0. Messages sorted already stay where they are.

        Raises:
            ValueError: If it was not added.
        """
        self._functions.remove(function)
        return 0

    async def receive(
        self,
        category: Hashable | None = None,
        timeout: float | None = None,
        alarm_value: Any = None,
    ) -> Any:
        """Await: the oldest message of a category. A cancelled wait loses nothing: messages are given or kept.

        Args:
            category: The category.
            timeout: Seconds to wait; 0: take what is there; None: without end.
            alarm_value: What is given when none came in time.

        Raises:
            NotTheCoroutine: If this is another coroutine.
        """
        kept = self._kept.get(category)
        if kept:
            return self._take(category, kept)
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            left = None if end is None else max(0.0, end - loop.time())
            message = await self._coro.receive(left, _NOTHING)
            if message is _NOTHING:
                return alarm_value
            found = self._category(message)
            if found == category:
                return message
            self._kept.setdefault(found, deque()).append(message)

    def _take(self, category: Hashable | None, kept: deque[Any]) -> Any:
        message = kept.popleft()
        if not kept:
            del self._kept[category]
        return message

    def _category(self, message: Any) -> Hashable | None:
        for function in self._functions:
            category = function(message)
            if category is not None:
                return category
        return None


_NOTHING = object()

"""Time limits: one whose TimeoutError says what has not happened and what is true now, one that gives None."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from discoro.scheduler.checks import check_timeout

T = TypeVar("T")


@asynccontextmanager
async def within(timeout: float | None, text: Callable[[], str]) -> AsyncIterator[None]:
    """Raise TimeoutError, with what ``text()`` says, after ``timeout`` seconds; None: never.

    A TimeoutError that the work itself raised is passed on.

    Raises:
        TypeError, ValueError: If ``timeout`` is no number of seconds.
    """
    check_timeout(timeout)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(text()) from None


async def found_within(timeout: float | None, found: asyncio.Future[T]) -> T | None:
    """What ``found`` gives; None after ``timeout`` seconds. A TimeoutError that it gives itself is passed on."""
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await found
    except TimeoutError:
        if not limit.expired():
            raise
        return None

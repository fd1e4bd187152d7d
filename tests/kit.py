"""Vocabulary of the tests: run an async function, wait for a fact, start and end real processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_async(
    main: Callable[[], Coroutine[Any, Any, T]], *, guard: float = 30.0, debug: bool = False
) -> T:
    """Run ``main()`` on a fresh uvloop; fail, rather than hang, after ``guard`` seconds."""

    async def guarded() -> T:
        async with asyncio.timeout(guard):
            return await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=debug) as runner:
        return runner.run(guarded())


async def eventually(fact: Callable[[], Any], *, guard: float = 10.0, what: str = "") -> None:
    """Return as soon as ``fact()`` is true; fail after ``guard`` seconds."""
    limit = time.monotonic() + guard
    while not fact():
        if time.monotonic() > limit:
            raise AssertionError(f"not within {guard} s: {what or fact}")
        await asyncio.sleep(0.002)

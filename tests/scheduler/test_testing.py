from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import Coro, Scheduler
from discoro.scheduler.testing import Deadlock, run_virtual


def test_hours_pass_in_no_time_and_in_order() -> None:
    log: list[tuple[float, int]] = []

    def sleeps(n: int, coro: Any = None) -> Generator[Any, Any, None]:
        for _ in range(3):
            yield coro.sleep(n * 1000)
            log.append((asyncio.get_running_loop().time(), n))

    async def main() -> float:
        async with Scheduler() as scheduler:
            for coro in [scheduler.spawn(sleeps, (n,)) for n in (1, 2)]:
                await coro
            return asyncio.get_running_loop().time()

    started = time.monotonic()
    assert run_virtual(main) == 6000
    assert time.monotonic() - started < 60
    assert log == sorted(log, key=lambda entry: entry[0])
    assert [n for _, n in log].count(1) == 3


def test_a_deadlock_is_said_and_does_not_hang() -> None:
    def waits(coro: Any = None) -> Generator[Any, Any, None]:
        yield coro.receive()

    async def main() -> None:
        async with Scheduler():
            await Coro(waits)

    with pytest.raises(Deadlock):
        run_virtual(main)

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import Condition, Coro, Event, Lock, RLock, Scheduler, Semaphore
from tests.kit import run_async

Yields = Generator[Any, Any, Any]


def run(func: Any, *args: Any) -> Any:
    async def main() -> Any:
        async with Scheduler() as scheduler:
            return await scheduler.spawn(func, args)

    return run_async(main)


def test_a_lock_is_held_by_one_at_a_time_in_the_order_of_asking() -> None:
    log: list[tuple[str, int]] = []

    def by_generator(lock: Lock, n: int, coro: Any = None) -> Yields:
        assert (yield lock.acquire())
        log.append(("in", n))
        yield coro.sleep(0.0001)
        log.append(("out", n))
        lock.release()

    async def by_async(lock: Lock, n: int, coro: Any = None) -> None:
        async with lock:
            log.append(("in", n))
            await coro.sleep(0.0001)
            log.append(("out", n))

    async def main() -> None:
        lock = Lock()
        for coro in [Coro((by_generator, by_async)[n % 2], lock, n) for n in range(10)]:
            await coro
        assert not lock.locked()

    run(main)
    assert log == [(what, n) for n in range(10) for what in ("in", "out")]


@pytest.mark.parametrize("make", [Lock, RLock])
def test_acquire_gives_false_at_its_timeout_and_without_blocking(make: type[RLock]) -> None:
    async def holds(lock: RLock) -> None:
        await lock.acquire()
        await asyncio.sleep(10)

    async def main() -> Any:
        lock = make()
        Coro(holds, lock)
        await asyncio.sleep(0)
        return await lock.acquire(timeout=0.001), await lock.acquire(blocking=False)

    assert run(main) == (False, False)


@pytest.mark.parametrize("make", [Lock, RLock])
def test_only_the_owner_releases(make: type[RLock]) -> None:
    async def other(lock: RLock) -> None:
        with pytest.raises(RuntimeError):
            lock.release()

    async def main() -> None:
        lock = make()
        with pytest.raises(RuntimeError):
            lock.release()
        await lock.acquire()
        await Coro(other, lock)
        lock.release()

    run(main)


def test_an_rlock_is_released_as_often_as_it_was_acquired() -> None:
    async def main() -> None:
        lock = RLock()
        assert await lock.acquire() and await lock.acquire()
        lock.release()
        assert lock.locked()
        lock.release()
        assert not lock.locked()

    run(main)


@pytest.mark.parametrize("make", [Lock, lambda: Semaphore(1)])
def test_what_a_cancelled_waiter_was_just_given_goes_to_the_next(make: Any) -> None:
    async def takes(lock: Any) -> str:
        await lock.acquire()
        return "got it"

    async def main() -> Any:
        lock = make()
        await lock.acquire()
        first, second = Coro(takes, lock), Coro(takes, lock)
        await asyncio.sleep(0.001)
        lock.release()
        first.terminate()
        return await second

    assert run(main) == "got it"


def test_an_event_wakes_all_and_its_wait_gives_false_at_the_timeout() -> None:
    def waits(event: Event) -> Yields:
        return (yield event.wait(10))

    async def main() -> Any:
        event = Event()
        late = await event.wait(0.001)
        coros = [Coro(waits, event) for _ in range(3)]
        await asyncio.sleep(0)
        event.set()
        woken = [await coro for coro in coros]
        assert event.is_set() and await event.wait()
        event.clear()
        return late, woken, event.is_set()

    assert run(main) == (False, [True] * 3, False)


def test_a_condition_notifies_n_and_holds_the_lock_afterwards() -> None:
    log: list[int] = []

    async def waits(condition: Condition, n: int) -> Any:
        async with condition:
            result = await condition.wait()
            log.append(n)
            return result, condition.locked()

    async def main() -> Any:
        condition = Condition()
        coros = [Coro(waits, condition, n) for n in range(4)]
        await asyncio.sleep(0.001)
        with pytest.raises(RuntimeError):
            condition.notify()
        async with condition:
            condition.notify(1)
        await asyncio.sleep(0.001)
        assert log == [0]
        async with condition:
            late = await condition.wait(0.001)
            condition.notify_all()
        return late, [await coro for coro in coros]

    assert run(main) == (False, [(True, True)] * 4)
    assert log == [0, 1, 2, 3]


def test_a_cancelled_wait_of_a_condition_takes_the_lock_again_first() -> None:
    async def waits(condition: Condition) -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                assert condition.locked()
                condition.notify_all()  # would raise if the lock were not ours

    async def main() -> Any:
        condition = Condition()
        coro = Coro(waits, condition)
        await asyncio.sleep(0.001)
        coro.terminate()
        await asyncio.wait([coro])
        return coro.cancelled(), condition.locked()

    assert run(main) == (True, False)


def test_wait_for_waits_until_the_predicate_holds() -> None:
    async def main() -> Any:
        condition, values = Condition(), []

        async def adds() -> None:
            for n in range(3):
                async with condition:
                    values.append(n)
                    condition.notify()
                await asyncio.sleep(0)

        async with condition:
            Coro(adds)
            full = await condition.wait_for(lambda: len(values) == 3)
            never = await condition.wait_for(lambda: len(values) == 4, timeout=0.001)
        return full, never

    assert run(main) == (True, False)


def test_a_semaphore_lets_so_many_in() -> None:
    inside, most = 0, 0

    def enters(semaphore: Semaphore, coro: Any = None) -> Yields:
        nonlocal inside, most
        yield semaphore.acquire()
        inside += 1
        most = max(most, inside)
        yield coro.sleep(0.0001)
        inside -= 1
        semaphore.release()

    async def main() -> Any:
        semaphore = Semaphore(3)
        for coro in [Coro(enters, semaphore) for _ in range(10)]:
            await coro
        async with semaphore:
            got = [await semaphore.acquire(blocking=False) for _ in range(3)]
        return got

    assert run(main) == [True, True, False]
    assert most == 3
    with pytest.raises(ValueError):
        Semaphore(-1)


@pytest.mark.parametrize("seed", range(5))
def test_a_lock_under_cancels_and_timeouts_is_never_lost(seed: int) -> None:
    import random

    chance = random.Random(seed)
    inside = 0

    async def worker(lock: Lock) -> None:
        nonlocal inside
        for _ in range(20):
            if await lock.acquire(timeout=chance.choice([-1, 0.0001, 0.001])):
                try:
                    inside += 1
                    assert inside == 1
                    await asyncio.sleep(chance.choice([0, 0, 0.0001]))
                finally:
                    inside -= 1
                    lock.release()

    async def main() -> Any:
        lock = Lock()
        workers = [Coro(worker, lock) for _ in range(10)]
        for _ in range(30):
            await asyncio.sleep(0.0005)
            chance.choice(workers).terminate()
        await asyncio.wait(workers)
        for w in workers:
            assert w.cancelled() or w.exception() is None
        return await lock.acquire(timeout=1)

    assert run(main) is True

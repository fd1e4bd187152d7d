"""Locks, conditions, events and semaphores between coroutines of one loop.

``yield lock.acquire()`` in a generator, ``await lock.acquire()`` or ``async with lock`` in ``async
def``; plain asyncio tasks may take part. Waiting ends with False at a timeout. Who waited longest
comes first, and what one releases is handed to the next directly: nobody can overtake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_Task = Any


def _me() -> _Task:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("locks are for coroutines: no coroutine runs here")
    return task


def _limit(timeout: float | None) -> float | None:
    """Return the timeout; None, or negative as in ``threading``, stands for none."""
    return None if timeout is None or timeout < 0 else timeout


class _Waiters:
    """Those who wait, in order. A waiter is woken with True, or with False at its timeout."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[bool], _Task]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, timeout: float | None, give_back: Callable[[], None]) -> bool:
        """Wait to be woken; ``give_back()`` is called if that was in vain, as the wait was cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        entry = future, _me()
        self._waiting.append(entry)
        timer = None if timeout is None else loop.call_later(timeout, _settle, future, False)
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.result():
                give_back()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if not future.done() or future.cancelled() or not future.result():
                try:
                    self._waiting.remove(entry)
                except ValueError:
                    pass

    def wake(self) -> _Task | None:
        """Wake the one that waited longest; returns its task."""
        while self._waiting:
            future, task = self._waiting.popleft()
            if not future.done():
                future.set_result(True)
                return task
        return None


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


class RLock:
    """A lock that its owner may acquire again; released as often as it was acquired.

    ``async with lock:`` in ``async def``; ``yield lock.acquire()`` and ``lock.release()`` in generators. It is between coroutines
    of one process. Who waited longest comes first; a cancelled wait does not take it.
    """

    __module__ = "discoro"

    _reentrant = True

    def __init__(self) -> None:
        self._owner: _Task | None = None
        self._count = 0
        self._waiters = _Waiters()

    async def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Await: acquire the lock; True once it is ours, False if it is not in time.

        Args:
            blocking: Whether to wait at all.
            timeout: Seconds to wait; None, or negative: without end.
        """
        me = _me()
        if self._owner is me and self._reentrant:
            self._count += 1
            return True
        if self._owner is None:
            self._owner, self._count = me, 1
            return True
        if not blocking:
            return False
        # release() makes the next one the owner before it runs
        return await self._waiters.wait(_limit(timeout), self._pass_on)

    def _pass_on(self) -> None:
        self._owner = self._waiters.wake()
        self._count = 0 if self._owner is None else 1

    def release(self) -> None:
        """Give the lock back; the next one that waits has it at once.

        Raises:
            RuntimeError: If it is not ours.
        """
        self._check_owner("release")
        self._count -= 1
        if not self._count:
            self._pass_on()

    def _check_owner(self, call: str) -> None:
        if self._owner is None or self._owner is not asyncio.current_task():
            raise RuntimeError(f"{call}() of a lock that this coroutine does not hold")

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._owner is not None

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = f"held by {self._owner!r}" if self.locked() else "free"
        return f"<{type(self).__name__} {state}, {len(self._waiters)} waiting>"


class Lock(RLock):
    """A lock; only the coroutine that acquired it may release it.

    As :class:`RLock`, but its owner, too, waits when acquiring it again: without a timeout for ever.
    """

    __module__ = "discoro"

    _reentrant = False


class Condition:
    """Wait, under a lock, until somebody says that something has changed.

    ``async with condition:`` holds the lock; ``release()`` and ``locked()`` are those of the lock.

    Args:
        lock: The lock, which others may use as well; None: one of its own.
    """

    __module__ = "discoro"

    def __init__(self, lock: RLock | None = None) -> None:
        self._lock = RLock() if lock is None else lock
        self._waiters = _Waiters()
        self.locked = self._lock.locked
        self.release = self._lock.release

    async def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Await: acquire the lock; True once it is ours, False if it is not in time.

        Args:
            blocking: Whether to wait at all.
            timeout: Seconds to wait; None, or negative: without end.
        """
        return await self._lock.acquire(blocking, timeout)

    async def __aenter__(self) -> Self:
        await self._lock.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    async def wait(self, timeout: float | None = None) -> bool:
        """Await: release the lock, wait for a notify, acquire it again; gives True, or False after ``timeout`` seconds.

        The lock is held again whatever happens, a cancel included.

        Raises:
            RuntimeError: If the lock is not ours.
        """
        lock = self._lock
        lock._check_owner("wait")
        me, count = lock._owner, lock._count
        lock._count = 0
        lock._pass_on()
        try:
            return await self._waiters.wait(_limit(timeout), self.notify_next)
        finally:
            cancelled: asyncio.CancelledError | None = None
            while lock._owner is not me:
                try:
                    await lock.acquire()
                except asyncio.CancelledError as error:
                    cancelled = error
            lock._count = count
            if cancelled is not None:
                raise cancelled

    async def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Await: wait until ``predicate()`` is true; gives its last value, which is false after ``timeout`` seconds.

        Raises:
            RuntimeError: If the lock is not ours.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while not (result := predicate()):
            left = None if end is None else max(0.0, end - loop.time())
            if left == 0.0 or not await self.wait(left):
                return predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake ``n`` of those who wait; they go on once the lock is released.

        Raises:
            RuntimeError: If the lock is not ours.
        """
        self._lock._check_owner("notify")
        for _ in range(min(n, len(self._waiters))):
            self._waiters.wake()

    def notify_all(self) -> None:
        """Wake all who wait; they go on, one after the other, once the lock is released.

        Raises:
            RuntimeError: If the lock is not ours.
        """
        self.notify(len(self._waiters))

    notifyAll = notify_all  # its name in programs of 2014

    def notify_next(self) -> None:
        """Pass on a wake-up that its receiver could not use."""
        self._waiters.wake()


class Event:
    """A flag to wait for, between coroutines of one process."""

    __module__ = "discoro"

    def __init__(self) -> None:
        self._flag = False
        self._waiters = _Waiters()

    def set(self) -> None:
        """Set the flag: everybody who waits goes on."""
        self._flag = True
        while len(self._waiters):
            self._waiters.wake()

    def clear(self) -> None:
        """Clear the flag: who waits from now on waits for the next :meth:`set`."""
        self._flag = False

    def is_set(self) -> bool:
        """Tell whether the flag is set."""
        return self._flag

    async def wait(self, timeout: float | None = None) -> bool:
        """Await: wait until the flag is set; gives True, or False after ``timeout`` seconds (None: without end)."""
        if self._flag:
            return True
        return await self._waiters.wait(_limit(timeout), lambda: None)

    def __repr__(self) -> str:
        return f"<Event {'set' if self._flag else 'not set'}, {len(self._waiters)} waiting>"


class Semaphore:
    """At most ``value`` at a time: ``async with semaphore:``. Between coroutines of one process.

    Who waited longest comes first; a cancelled wait takes nothing.

    Args:
        value: How many.

    Raises:
        ValueError: If it is negative.
    """

    __module__ = "discoro"

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("a semaphore's value is at least 0")
        self._value = value
        self._waiters = _Waiters()

    async def acquire(self, blocking: bool = True, timeout: float | None = -1) -> bool:
        """Await: take one place; gives True once there is room, False if there is none in time.

        Args:
            blocking: Whether to wait at all.
            timeout: Seconds to wait; None, or negative: without end.
        """
        if self._value:
            self._value -= 1
            return True
        if not blocking:
            return False
        return await self._waiters.wait(_limit(timeout), self.release)

    def release(self, n: int = 1) -> None:
        """Give back ``n`` places. Anybody may: there is no owner."""
        for _ in range(n):
            if self._waiters.wake() is None:
                self._value += 1

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore {self._value} free, {len(self._waiters)} waiting>"

"""A coroutine as users see it: messages, sleep, the end, names, hot swap.

How it runs is in :mod:`.machine`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Generator
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import default, driver, entry
from .checks import check_timeout
from .errors import (
    HotSwapRefused,
    MailboxBusy,
    MailboxFull,
    NoSuchCoro,
    NotTheCoroutine,
)
from .machine import CANCEL, SWAP
from .outcome import MonitorException, Outcome, exception_of
from .taskface import TaskFace
from .waits import (
    ENDED,
    HANDED,
    Act,
    Deliver,
    Ending,
    Join,
    OutsideEnding,
    Pause,
    Receive,
    TimedReceive,
    Wait,
    stepping,
)

if TYPE_CHECKING:
    from .scheduler import Scheduler

T = TypeVar("T")

_init = asyncio.Future.__init__
_await_done: Any = asyncio.Future.__await__


class Coro(TaskFace[T]):
    """A coroutine that runs ``func(*args, **kwargs)`` in a scheduler, from now on.

    ``func`` is a generator function or a coroutine function. May be called from any thread.

    Raises:
        NotACoroutine: If ``func`` is something else.
        TypeError: If the arguments do not fit.
        SchedulerClosed: If the scheduler is.
    """

    __slots__ = ()

    def __init__(self, func: Any, /, *args: Any, **kwargs: Any) -> None:
        here = default.HERE.get()  # of the coroutine that runs this: nearly always there is one
        scheduler: Any = here if here is not None and here.thread_id else self._scheduler()
        _init(self, loop=scheduler.loop)
        self._prepare(scheduler, func, args, kwargs, copy_context() if here is scheduler else None)
        if get_ident() == scheduler.thread_id:
            # What scheduler.begin() does, without two calls: this makes every coroutine.
            scheduler.coros.add(self)
            scheduler.ready.append(self)
            if not scheduler.armed:
                scheduler.arm()
        else:
            scheduler.begin(self)

    @classmethod
    def _scheduler(cls) -> Scheduler:
        """Find the scheduler of a new coroutine."""
        return cast("Scheduler", default.here())

    def send(self, msg: Any) -> int:
        """Send a message; returns 0. May be called from any thread; never waits.

        To a coroutine that has ended it is dropped: what ``send`` does never depends on a race with
        the end. Who wants to know monitors, finishes, or delivers.

        Raises:
            MailboxFull: If the scheduler has ``max_mailbox`` and that many messages wait already.
        """
        scheduler, queue = self.scheduler, self._queue
        if get_ident() != scheduler.thread_id:
            if not self.has_room():
                raise MailboxFull(self._name, scheduler.max_mailbox or 0)
            scheduler.call(self.put, msg)
        elif queue and scheduler.max_mailbox is None:
            queue.append(msg)  # nobody waits for a message while there is one
        elif self._wait is self._recv:
            self._wait = HANDED
            self._value = msg
            scheduler.ready.append(self)
            if not scheduler.armed:
                scheduler.arm()
        elif scheduler.max_mailbox is not None and not self.has_room():
            raise MailboxFull(self._name, scheduler.max_mailbox)
        elif queue:
            queue.append(msg)
        else:
            self._enqueue(msg)
        return 0

    def deliver(self, msg: Any, timeout: float | None = None) -> Wait:
        """Await: send a message, and know that it is in the mailbox: 1; 0: no room within ``timeout`` s.

        Raises:
            NoSuchCoro: If the coroutine has ended.
        """
        return Deliver(self, msg, timeout)

    def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Wait:
        """Await: the oldest message; ``alarm_value`` when none came within ``timeout`` seconds.

        Only the coroutine itself may receive (or a task that it awaits). Cancelling is safe: a message
        is either returned or stays in the mailbox.
        """
        if timeout is None:
            return self._recv or self._first_receive()
        return TimedReceive(self, timeout, alarm_value)

    recv = receive

    def _first_receive(self) -> Receive:
        recv = Receive(self)
        if self._wait is not ENDED:
            self._recv = recv
        return recv

    async def _receive_outside(self, timeout: float | None, alarm_value: Any) -> Any:
        """Receive for a task that works for this coroutine.

        The message is taken by the task when it runs, not handed to its future: a cancel between the
        two would lose it.
        """
        scheduler = self.scheduler
        scheduler.check_thread("receive")
        task = asyncio.current_task()
        if isinstance(task, Coro) and task is not self:
            raise NotTheCoroutine(self._name, "receive")
        rare = self._rarely()
        if rare.reader is not None or isinstance(self._wait, (Receive, TimedReceive)):
            raise MailboxBusy(self._name)
        loop = scheduler.loop
        limit = None if timeout is None else loop.time() + timeout
        while not self._queue:
            if self._wait is ENDED:
                raise NoSuchCoro(self._name)
            if limit is not None and loop.time() >= limit:
                return alarm_value
            future = rare.reader = loop.create_future()
            timer = None if limit is None else loop.call_at(limit, _settle, future)
            try:
                await future
            finally:
                rare.reader = None
                if timer is not None:
                    timer.cancel()
        return self._queue.take()

    def sleep(self, timeout: float | None = None, alarm_value: Any = None) -> Wait:
        """Await: ``timeout`` seconds, then gives ``alarm_value``; or until somebody calls :meth:`resume`."""
        return Pause(self, timeout, alarm_value)

    suspend = sleep

    def resume(self, update: Any = None) -> int:
        """End the coroutine's sleep or suspend, which gives ``update``; returns 0.

        Ignored if it does neither. May be called from any thread.
        """
        self.scheduler.call(self._resume, update)
        return 0

    wakeup = resume

    def _resume(self, update: Any) -> None:
        wait = self._wait
        if isinstance(wait, Pause):
            wait.stop_timer()
            self._wake(update)

    def finish(self, timeout: float | None = None) -> Wait:
        """Await: the result; raises what the coroutine raised, ``Terminated`` if it was ended.

        Cancelling the wait, and its end at ``timeout`` (TimeoutError), leave the coroutine alone.
        """
        return Join(self, timeout)

    def __await__(self) -> Generator[Any, None, T]:
        if self._wait is ENDED and not self.cancelled():
            return _await_done(self)  # type: ignore[no-any-return]  # in C, without a frame
        return self._await_end()

    def _await_end(self) -> Generator[Any, None, T]:
        if stepping(self.scheduler) is not None:
            return (yield self)  # type: ignore[return-value]  # a scheduler takes it for a wait
        if self._wait is not ENDED:
            self.scheduler.check_thread("await")
            outside = OutsideEnding()
            self._watch_end(outside)
            try:
                yield from outside.future
            finally:
                self.unwatch(outside)
        result: T = Ending(self).result()
        return result

    __iter__ = __await__

    def value(self, timeout: float | None = None) -> T:
        """Return the result, from another thread, blocking it.

        Raises:
            WrongThread: In the scheduler's own thread, where nobody would run the coroutine.
            TimeoutError: If it has not ended within ``timeout`` seconds.
            Terminated: If it was ended.
        """
        check_timeout(timeout)
        scheduler = self.scheduler
        if self._wait is not ENDED and get_ident() == scheduler.thread_id:
            scheduler.refuse_blocking("value")
        ended: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
        if self._wait is ENDED and self.outcome is not None:
            ended.set_result(self.outcome)
        else:
            scheduler.call(self.watch, ended, lambda coro, outcome: ended.set_result(outcome))
        try:
            outcome = ended.result(timeout)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(
                f"{self._name!r} has not ended after {timeout} s; it goes on"
            ) from None
        result: T = outcome.result()
        return result

    def monitor(self, observed: Any) -> Wait:
        """Await: gives 0. When ``observed`` ends, this coroutine gets one ``MonitorException`` message."""
        return Act("coro.monitor()", self._monitor, observed)

    def _monitor(self, observed: Any) -> int:
        scheduler = self.scheduler
        scheduler.check_thread("monitor")
        if isinstance(observed, Coro):
            observed.watch(("monitor", self), self._observed)
        elif scheduler.elsewhere is None or not scheduler.elsewhere.monitor(self, observed):
            raise TypeError(f"{observed!r} is no coroutine, and cannot be monitored")
        return 0

    def _observed(self, coro: Any, outcome: Outcome) -> None:
        self.put(MonitorException(coro, outcome.to_info()))

    def terminate(self) -> int:
        """End the coroutine; returns 0. May be called from any thread.

        It gets GeneratorExit (a generator) or CancelledError (``async def``) where it waits, and may
        clean up; what has not ended 10 s later is reported.
        """
        self.scheduler.call(self._terminate, "")
        return 0

    def _terminate(self, reason: str) -> None:
        if self._wait is not ENDED:
            rare = self._rarely()
            rare.asked = True
            rare.reason = reason or rare.reason
            self.cancel()
            self.scheduler.reports.terminating(self)

    def _terminate_once(self, reason: str) -> None:
        """Terminate it unless somebody did: a second time would cut its clean-up short."""
        if self._rare is None or not self._rare.asked:
            self._terminate(reason)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> int:
        """Raise an exception in the coroutine where it waits; returns 0.

        Throwing something else than CancelledError into 3.11's ``asyncio.wait_for`` leaves its helper
        task alive, which then takes what it waits for: to end a coroutine, use :meth:`terminate`.
        """
        self.scheduler.check_thread("throw")
        error = exception_of(error, value, traceback)
        if self._wait is not ENDED and self._pending is not CANCEL:
            self._pending = error
            self._interrupt()
        return 0

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._wait is not ENDED

    def register(self, name: str | None = None) -> int:
        """Let others find this coroutine under ``name`` (default: its own); returns 0.

        Raises:
            NameTaken: If another coroutine has that name.
        """
        self.scheduler.check_thread("register")
        if self._wait is ENDED:
            raise NoSuchCoro(self._name)
        self.scheduler.register("coro", self._name if name is None else name, self)
        return 0

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register` back; returns 0."""
        self.scheduler.check_thread("unregister")
        self.scheduler.unregister("coro", self._name if name is None else name, self)
        return 0

    @classmethod
    def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Any:
        """Await: the coroutine registered as ``name``, here or elsewhere; None at ``timeout``."""
        return default.awaited("locate").find("coro", name, location, timeout)

    def set_daemon(self, flag: bool = True) -> int:
        """Tell whether the scheduler's end waits for this coroutine (it does not for a daemon); returns 0."""
        self.scheduler.check_thread("set_daemon")
        self._rarely().daemon = bool(flag)
        self.scheduler.changed()
        return 0

    @property
    def daemon(self) -> bool:
        """Whether the scheduler's end does not wait for it."""
        return self._rare is not None and self._rare.daemon

    def hot_swappable(self, flag: bool) -> int:
        """Allow :meth:`hot_swap` from now on, or hold it back; returns 0."""
        self.scheduler.check_thread("hot_swappable")
        rare = self._rarely()
        rare.hot_swappable = bool(flag)
        if rare.hot_swappable:
            self._arm_swap()
        elif self._pending is SWAP:
            self._pending = None
        return 0

    def hot_swap(self, func: Any, /, *args: Any, **kwargs: Any) -> int:
        """Replace the running code by ``func(*args, **kwargs)``; returns 0.

        It happens where the coroutine waits in a call of ours, or at the next such place, once it is
        swappable; there ``HotSwapException`` is raised in the old code, which may clean up. Name,
        reference and mailbox stay.

        Raises:
            HotSwapRefused: If one is a generator function and the other ``async def``, or it has ended.
            NotACoroutine: If ``func`` is neither.
        """
        self.scheduler.check_thread("hot_swap")
        if self._wait is ENDED:
            raise HotSwapRefused(f"{self._name!r} has ended")
        frame = entry.first_frame(func, args, kwargs, self)
        bottom = self._stack[0] if self._stack else self._top
        fits = driver.is_generator(frame) == driver.is_generator(bottom)
        frame.close()
        if not fits:
            raise HotSwapRefused(
                f"{self._name!r} can only be replaced by its like: a generator function by a "
                "generator function, async def by async def"
            )
        self._rarely().swap = (func, args, kwargs)
        self._arm_swap()
        return 0

    def _arm_swap(self) -> None:
        rare = self._rare
        if rare is None or rare.swap is None or not rare.hot_swappable or self._pending is not None:
            return
        self._pending = SWAP
        if isinstance(self._wait, Wait):
            self._interrupt()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""The loop in the loop: which coroutine runs next, for how long, and what follows a turn.

Ready coroutines wake each other without a turn of the event loop (one costs 0.8 us on uvloop, a
message 0.3); after ``STEPS`` steps the event loop has its turn.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, current_task
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from .driver import is_generator
from .errors import SchedulerClosed, WrongThread
from .waits import ENDED, HANDED, READY, RUNNING

if TYPE_CHECKING:
    from .machine import Machine

STEPS = 64
"""Steps in a turn: at 1,024 the p99 of a socket beside a ping-pong was 3 to 6 times worse."""


STEP_CREDIT = 4
"""What a step takes of a turn's credit; a message that is there, or what else the same coroutine goes on with at once, takes 1:
that costs about a quarter."""

FLUSH_TURNS = 4
"""While coroutines are ready turn after turn, or will be after asyncio.sleep(0), what was collected goes out with every so many of them: a write to a
connection costs as much as twenty messages, and wakes another process."""


class Flushable(Protocol):
    """Something that collects work during a turn and does it once, at the end."""

    def flush(self) -> None:
        """Do it. Must not raise."""


class Stepper:
    """Runs coroutines in turns of one event loop; takes calls from other threads.

    Attributes:
        loop: The event loop; set when the scheduler opens.
        ready: Coroutines that may run, the next one first.
        in_drain: True inside :meth:`drain`.
        running: The coroutine whose step this is.
        armed: True if :meth:`drain` runs or will run without being asked.
        credit: What is left of this turn: ``STEP_CREDIT`` for a step, 1 for what follows in the same.
        turning: How many coroutines have asked for a turn of the event loop, and run again after it.
        turns: Counts the turns, so that others can tell that something moves.
        thread_id: Of the loop's thread; 0 while there is none.
    """

    def __init__(self) -> None:
        self.loop: AbstractEventLoop = None  # type: ignore[assignment]  # until it opens
        self.context: Context = Context()
        self.ready: deque[Machine[Any]] = deque()
        self.in_drain = False
        self.running: Machine[Any] | None = None
        self.armed = False
        self.turning = 0
        self.turns = 0
        self.credit = 0
        self.thread_id = 0
        self._end_soon = False
        self._scheduled = False
        self._dirty: list[Flushable] = []
        self._flush_scheduled = False
        self._inbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._inbox_scheduled = False

    def drain(self) -> None:
        """Run ready coroutines, up to ``STEPS`` steps; then flush what asked for it, or after some more such turns."""
        if self.in_drain:
            return
        if current_task(self.loop) is not None:  # called inside a task: two cannot be current
            if not self.armed:
                self.arm()
            return
        self.drain_turn()

    def drain_turn(self) -> None:
        """Do what :meth:`drain` does, called from the loop itself, outside of any task and drain."""
        self.in_drain = self.armed = True
        self._end_soon = False
        self.credit = STEPS * STEP_CREDIT
        try:
            self._drain(self.loop, self.ready)
        finally:
            self.in_drain = False
            self.turns += 1
            if self._dirty and (
                self._end_soon or not (self.ready or self.turning) or not self.turns % FLUSH_TURNS
            ):
                self._flush()
            if self.ready and not self._scheduled:
                self.arm()
            self.armed = self._scheduled

    def _drain(self, loop: AbstractEventLoop, ready: deque[Machine[Any]]) -> None:
        """The hot loop: in one function, for speed.

        A step sends a value into the frame on top, or throws an error. What comes out is a yield, a
        return, or an exception; the frequent ones are dealt with here, all others in ``Coro``.
        """
        while ready and self.credit > 0:
            coro = ready.popleft()
            error = None if coro._pending is None else coro._next_error()
            value, coro._value = coro._value, None
            coro._wait = RUNNING
            self.running = coro
            run = coro._context.run
            _enter_task(loop, coro)  # type: ignore[arg-type]  # asks for no Task at run time
            try:
                self.credit -= STEP_CREDIT
                while True:
                    try:
                        if error is None:
                            thing = run(coro._send or coro._top.send, value)
                        else:
                            thing = run(coro._top.throw, error)
                            error = None
                        recv = coro._recv
                        if thing is not recv or recv is None or coro._pending is not None:
                            if not coro._yielded(thing):
                                break
                            value, coro._value = coro._value, None
                            if coro._pending is not None:
                                error = coro._next_error()
                        elif queue := coro._queue:
                            value = queue.popleft()
                            if queue.attention:
                                queue.attention -= 1
                                if not queue.attention:
                                    queue.attend()
                            credit = self.credit
                            if credit <= 0:
                                coro._wait = HANDED
                                coro._value = value
                                ready.append(coro)
                                break
                            self.credit = credit - 1
                            continue
                        else:
                            coro._wait = recv
                            if not coro._send:
                                coro._send = False if coro._send is None else coro._top.send
                            break
                    except StopIteration as stop:
                        # ``value`` is still what the last yield gave.
                        if not coro.last_counts or stop.value is not None or error is not None:
                            value = stop.value
                        elif not is_generator(coro._top):
                            value = None
                        error = None
                        if not coro._stack:
                            coro._returned(value)
                            break
                        coro._pop()
                    except BaseException as raised:
                        error = coro._raised(raised)
                        if coro._wait is ENDED:
                            break
                        value, coro._value = coro._value, None
                    if self.credit <= 0 and (error is None or coro._pending is None):
                        coro._wait = READY
                        coro._value = value
                        if error is not None:
                            coro._pending = error
                        ready.append(coro)
                        break
                    self.credit -= 1
            finally:
                self.running = None
                _leave_task(loop, coro)  # type: ignore[arg-type]
            if self._end_soon:
                break

    def arm(self) -> None:
        """Let a drain follow soon; only in the loop's thread, and only when it is not armed."""
        self.armed = self._scheduled = True
        self.loop.call_soon(self._turn, context=self.context)

    def _turn(self) -> None:
        self._scheduled = False
        if self.ready and not self.in_drain:
            self.drain_turn()
        else:
            self.armed = self.in_drain
            if self._dirty and not self.in_drain:
                self._flush()

    def end_drain_soon(self) -> None:
        """Ask the running drain to end after this step."""
        self._end_soon = True

    def flush_later(self, thing: Flushable) -> None:
        """Call ``thing.flush()`` at the end of a drain, or soon if none runs.

        While there is much to run that is not the running drain but one of the next. The caller keeps its own flag "already marked".
        """
        self._dirty.append(thing)
        if not self.armed and not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_turn, context=self.context)

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for thing in dirty:
            thing.flush()
        # Marked again by a flush: not in this turn; while there is something to run, with one of those.
        if self._dirty and not self.ready and not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_turn, context=self.context)

    # -- threads ----------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call ``function(*args)`` in the loop's thread: now, if this is it; else soon, in order.

        Raises:
            SchedulerClosed: If there is no such thread (any more).
        """
        if get_ident() == self.thread_id:
            function(*args)
            return
        if not self.thread_id:
            raise SchedulerClosed()
        # Appending first and looking second, where the loop's thread clears first and takes second,
        # leaves nothing behind without a lock.
        self._inbox.append((function, args))
        if not self._inbox_scheduled:
            self._inbox_scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._take_inbox, context=self.context)
            except RuntimeError:  # the loop was closed meanwhile
                raise SchedulerClosed() from None

    def _take_inbox(self) -> None:
        self._inbox_scheduled = False
        inbox = self._inbox
        while inbox:
            function, args = inbox.popleft()
            try:
                function(*args)
            except Exception as error:
                self.loop.call_exception_handler(
                    {"message": "a call from another thread failed", "exception": error}
                )

    def check_thread(self, call: str) -> None:
        """Refuse a call from outside the loop's thread.

        Raises:
            WrongThread: If this is another thread.
            SchedulerClosed: If the scheduler does not run.
        """
        if get_ident() != self.thread_id:
            if not self.thread_id:
                raise SchedulerClosed(SchedulerClosed.NO_SCHEDULER)
            raise WrongThread(call)

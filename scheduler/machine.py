"""The machine of a coroutine: its frames, its mailbox, what it waits for, who waits for its end.

A ``Coro`` is an ``asyncio.Future`` stepped by its scheduler's ``drain``, in a ``Context`` of its own,
and is the current task around each step with the documented ``_enter_task`` and ``_leave_task``
("Extending asyncio" in Python's library reference). So ``asyncio.timeout``, ``TaskGroup``, anyio and
aiohttp work in it, while a message costs no turn of the event loop.

``_wait`` is the one token of ownership: a :class:`~.waits.State`, or the very object waited for.
Whoever ends a wait checks it, replaces it and queues the coroutine in one go; so nothing wakes a
coroutine twice, and no late timer ends the next wait. A message handed over stands in ``_value`` with
``_wait`` HANDED until the next step takes it; a cancel or throw that comes first puts it back.

``_pending`` is what will be thrown at the next step: an exception, CANCEL or SWAP; a cancel wins over
a throw, and either over a swap, which then waits for its next occasion.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import driver, entry
from .default import HERE
from .errors import HotSwapException
from .mailbox import Mailbox, Mark
from .outcome import Failed, Outcome, Returned, Stopped
from .waits import (
    ENDED,
    HANDED,
    INTERRUPTED,
    READY,
    RUNNING,
    Ending,
    Once,
    Receive,
    State,
    TimedReceive,
    Wait,
    Waitable,
)

if TYPE_CHECKING:
    from .scheduler import Scheduler

T = TypeVar("T")
Callback = Callable[[Any, Outcome], None]

logger = logging.getLogger("discoro.scheduler")

_FUTURES = frozenset((asyncio.Future, asyncio.Task))

CANCEL = State("cancel")
SWAP = State("swap")

# Looked up once: the coroutine hides the first two behind methods that refuse.
_init = asyncio.Future.__init__
_set_result = asyncio.Future.set_result
_set_exception = asyncio.Future.set_exception
_set_cancelled = asyncio.Future.cancel


class Rare:
    """What few coroutines need: kept apart, for 100,000 that do not."""

    __slots__ = (
        "asked",
        "cancels",
        "daemon",
        "hot_swappable",
        "outcome",
        "reader",
        "reason",
        "swap",
        "swapping",
    )

    def __init__(self) -> None:
        self.asked = False
        self.cancels = 0
        self.daemon = False
        self.hot_swappable = False
        self.outcome: Outcome | None = None
        self.reader: asyncio.Future[None] | None = None
        self.reason = ""
        self.swap: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None
        self.swapping: BaseException | None = None


class Machine(asyncio.Future[T]):
    """A stack of frames, stepped by a scheduler."""

    __slots__ = (
        "_context",
        "_name",
        "_number",
        "_pending",
        "_queue",
        "_rare",
        "_recv",
        "_send",
        "_stack",
        "_top",
        "_value",
        "_wait",
        "_watchers",
        "scheduler",
    )

    scheduler: Scheduler
    last_counts = False
    """Whether a generator that returns nothing returns what its last yield gave: as in programs before 2018."""
    _cancel_message: Any  # the Future's

    @classmethod
    def _start(
        cls,
        scheduler: Scheduler,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        number: int | None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> Self:
        """Make a coroutine of a given scheduler; its caller hands it to ``scheduler.begin``."""
        self = cls.__new__(cls)
        _init(self, loop=scheduler.loop)
        self._prepare(scheduler, func, args, kwargs, context, name)
        if number is not None:
            self._number = number
            scheduler.by_number[number] = self
        return self

    def _prepare(
        self,
        scheduler: Scheduler,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context | None = None,
        name: str | None = None,
    ) -> None:
        """Set all that a Future does not have; a Future it is already."""
        self.scheduler = scheduler
        self._wait: Any = READY
        self._value: Any = None
        self._pending: Any = None
        self._recv: Receive | None = None
        self._queue: Mailbox | None = None
        self._stack: list[Any] | None = None
        self._watchers: dict[Any, Callback | None] | None = None
        self._rare: Rare | None = None
        self._number = 0
        self._name: str = name or getattr(func, "__name__", None) or entry.name_of(func)
        self._top: Any = entry.first_frame(func, args, kwargs, self)
        # Its `send`, once it waits for a message for the second time; False after the first. The method takes a tenth of the
        # memory of a coroutine, and most of 100,000 that wait have never got a message.
        self._send: Any = None
        if context is None:
            context = copy_context()
            if HERE.get(None) is not scheduler:
                context.run(HERE.set, scheduler)
        self._context: Any = context

    @property
    def name(self) -> str:
        """Its name: that of its function, unless it was given another."""
        return self._name

    @property
    def number(self) -> int:
        """Its number, unique in the process, greater than 0."""
        if not self._number:
            self._number = self.scheduler.next_number()
        return self._number

    def put(self, item: Any) -> None:
        """Hand over or queue one message, or put a :class:`Mark` behind all that wait. Only in the loop's thread.

        No limit applies: ``max_mailbox`` binds local senders, the network counts bytes.
        """
        if isinstance(item, Mark):
            if self._queue is None:
                item.taken()
            else:
                self._queue.put_mark(item)
        elif self._wait is self._recv:
            self._wait = HANDED
            self._value = item
            scheduler = self.scheduler
            scheduler.ready.append(self)
            if not scheduler.armed:
                scheduler.arm()
        elif self._queue:  # so nobody waits for a message
            self._queue.append(item)
        else:
            self._enqueue(item)

    def put_all(self, messages: list[Any]) -> None:
        """Hand over or queue messages, none of them a :class:`Mark`. Only in the loop's thread."""
        left = iter(messages)
        for message in left:
            if self._queue:  # so nobody waits for a message
                self._queue.append(message)
                self._queue.extend(left)
            else:
                self.put(message)

    def _enqueue(self, message: Any) -> None:
        wait = self._wait
        if wait.__class__ is TimedReceive:
            wait.stop_timer()
            self._wait = HANDED
            self._value = message
            self._queue_up()
        elif wait is ENDED:
            self.scheduler.reports.dropped(self)
        else:
            queue = self._queue
            if queue is None:
                queue = self._queue = Mailbox()
            queue.append(message)
            rare = self._rare
            if rare is not None and rare.reader is not None and not rare.reader.done():
                rare.reader.set_result(None)

    def has_room(self) -> bool:
        """Return whether a message may be put in, as far as ``max_mailbox`` is concerned."""
        limit = self.scheduler.max_mailbox
        queue = self._queue
        return limit is None or queue is None or len(queue) < limit

    @property
    def waiting(self) -> int:
        """How many messages wait in the mailbox."""
        return 0 if self._queue is None else len(self._queue)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while it runs."""
        if self._wait is not ENDED:
            return None
        if self.cancelled():
            return Stopped("" if self._rare is None else self._rare.reason)
        error = asyncio.Future.exception(self)  # so nobody need be told of it any more
        if error is None:
            return Returned(self.result())
        rare = self._rarely()
        if rare.outcome is None:
            rare.outcome = Failed(error)
        return rare.outcome

    def watch(self, key: Any, callback: Callback) -> None:
        """Call ``callback(coro, outcome)`` once, at the end, in the order of watching; at once if that was.

        Only in the loop's thread. A key watches once.
        """
        outcome = self.outcome
        if outcome is not None:
            callback(self, outcome)
        elif self._watchers is None:
            self._watchers = {key: callback}
        else:
            self._watchers.setdefault(key, callback)

    def _watch_end(self, ending: Any) -> None:
        """Call ``ending.returned(value)`` or ``ending.ended()`` at the end, which is still to come."""
        if self._watchers is None:
            self._watchers = {ending: None}
        else:
            self._watchers[ending] = None

    def unwatch(self, key: Any) -> None:
        """Take a :meth:`watch` back; ignored if there is none."""
        if self._watchers is not None:
            self._watchers.pop(key, None)

    def _interrupt(self) -> None:
        """Take the coroutine out of its wait, so that the next step throws what is pending."""
        wait = self._wait
        if isinstance(wait, State):
            return
        if isinstance(wait, Wait):
            wait.drop()
            self._wait = INTERRUPTED
        else:
            wait.remove_done_callback(self._wakeup)
            self._wait = READY
        self._queue_up()

    def cancelling(self) -> int:
        """Return how many cancels have not been taken back; for ``asyncio.timeout`` and its like."""
        return 0 if self._rare is None else self._rare.cancels

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``callback()`` after ``delay`` seconds."""
        scheduler = self.scheduler
        return scheduler.loop.call_later(delay, callback, context=scheduler.context)

    def _rarely(self) -> Rare:
        if self._rare is None:
            self._rare = Rare()
        return self._rare

    def _queue_up(self) -> None:
        scheduler = self.scheduler
        scheduler.ready.append(self)
        if not scheduler.armed:
            scheduler.arm()

    def _wake(self, value: Any = None, error: BaseException | None = None) -> None:
        """End the wait, with a value or an error."""
        self._wait = READY
        self._value = value
        if error is not None and self._pending is None:
            self._pending = error
        self._queue_up()

    def _wakeup(self, future: Any) -> None:
        """Hear that the awaited future is done. The frame on top asks it for the result."""
        if self._wait is not future:
            return
        self._wait = READY
        scheduler = self.scheduler
        scheduler.ready.append(self)
        if not scheduler.armed:
            if future.__class__ in _FUTURES:  # they call back from the loop, never inside a task
                scheduler.drain_turn()
            else:
                scheduler.arm()

    def _next_error(self) -> BaseException | None:
        """Take what is pending, in the form for the frame on top; a message in hand goes back."""
        pending = self._pending
        rare = self._rare
        error: BaseException
        if pending is SWAP:
            if self._wait is not INTERRUPTED:
                return None  # not in a call of ours: at the next one
            self._pending = None
            error = self._swap_error()
        else:
            self._pending = None
            error = self._cancelled_error() if pending is CANCEL else pending
            if rare is not None and rare.swap is not None and rare.hot_swappable:
                self._pending = SWAP
        if self._wait is HANDED:
            if self._queue is None:
                self._queue = Mailbox()
            self._queue.put_back(self._value)
        self._value = None
        return driver.suited(
            error, self._top, CancelledError, rare is not None and rare.cancels > 0
        )

    def _cancelled_error(self) -> CancelledError:
        message = self._cancel_message
        return CancelledError() if message is None else CancelledError(message)

    def _swap_error(self) -> BaseException:
        rare = self._rarely()
        assert rare.swap is not None
        rare.swapping = HotSwapException(rare.swap[0])
        return rare.swapping

    def _swap_frames(self) -> None:
        """Put the new code in the place of the old, which has ended."""
        rare = self._rarely()
        assert rare.swap is not None
        func, args, kwargs = rare.swap
        rare.swap = rare.swapping = None
        rare.hot_swappable = False
        self._stack = None
        self._top = entry.first_frame(func, args, kwargs, self)
        self._send = self._top.send
        self._value = None

    def _push(self, frame: Any) -> None:
        if self._stack is None:
            self._stack = [self._top]
        else:
            self._stack.append(self._top)
        self._top = frame
        self._send = frame.send

    def _pop(self) -> None:
        assert self._stack
        self._top = top = self._stack.pop()
        self._send = top.send

    def _yielded(self, thing: Any) -> bool:
        """Do what a yield asks for. True: take the next step now, with ``_value`` or ``_pending``."""
        if (
            thing.__class__ in _FUTURES
            and thing._asyncio_future_blocking
            and self._pending is None
            and thing.get_loop() is self.scheduler.loop
        ):
            thing._asyncio_future_blocking = False
            self._wait = thing
            thing.add_done_callback(self._wakeup, context=self.scheduler.context)
            return False
        if isinstance(thing, Machine) and self._joins(thing):
            return False
        try:
            return self._begin(thing)
        except BaseException as error:  # of the call that was yielded: raised at the yield
            self._wait = RUNNING
            self._pending = error
            return True

    def _joins(self, other: Machine[Any]) -> bool:
        """Wait for another coroutine of this scheduler, if that is all there is to it."""
        if other._wait is ENDED or self._pending is not None or other is self:
            return False
        if other.scheduler is not self.scheduler:
            return False
        self._wait = ending = Ending(other)
        ending.waiter = self
        if other._watchers is None:
            other._watchers = {ending: None}
        else:
            other._watchers[ending] = None
        return True

    def _begin(self, thing: Any) -> bool:
        if isinstance(thing, Machine):
            thing = Ending(thing)
        elif isinstance(thing, Waitable):
            thing = thing.waiting() or thing
        if isinstance(thing, Wait):
            if isinstance(thing, Once):
                thing.begun = True
            if self._pending is not None:  # it was cancelled, or asked to swap, while it ran
                self._wait = INTERRUPTED
                self._queue_up()
                return False
            self._wait = thing
            if thing.start(self):
                self._wait = RUNNING
                return True
            return False
        blocking = getattr(thing, "_asyncio_future_blocking", None)
        if blocking:
            self._await_future(thing)
            return False
        if not driver.is_generator(self._top):
            return self._yielded_by_async(thing)
        frame = driver.as_frame(thing)
        if frame is None:
            self._wait = READY
            self._value = thing
            self._queue_up()
            return False
        self._push(frame)
        return True

    def _yielded_by_async(self, thing: Any) -> bool:
        if thing is not None:
            raise RuntimeError(
                f"{self._name!r} awaited something that yielded {thing!r}: it belongs to another "
                "framework than asyncio, or to a generator coroutine"
            )
        # asyncio.sleep(0): everything that the loop has already queued comes first
        self._wait = thing = object.__new__(_Turn)
        self.scheduler.turning += 1
        self.scheduler.loop.call_soon(self._turn, thing, context=self.scheduler.context)
        return False

    def _turn(self, turn: Any) -> None:
        scheduler = self.scheduler
        scheduler.turning -= 1
        if self._wait is turn:
            self._wake()
        elif (
            not scheduler.armed
        ):  # cancelled meanwhile; what was to go out after this turn still is
            scheduler.arm()

    def _await_future(self, future: Any) -> None:
        if future.get_loop() is not self.scheduler.loop:
            raise RuntimeError(f"{self._name!r} awaited a future of another event loop: {future!r}")
        future._asyncio_future_blocking = False
        self._wait = future
        future.add_done_callback(self._wakeup, context=self.scheduler.context)
        if self._pending is CANCEL:
            if future.cancel(msg=self._cancel_message):
                self._pending = None
        elif self._pending is not None and self._pending is not SWAP:
            self._interrupt()

    def _returned(self, value: Any) -> None:
        """The last frame has returned: the frequent end here, so what _ended() does stands here as well."""
        self._wait = ENDED
        self._recv = self._top = self._send = self._stack = self._context = None
        self.scheduler.coros.discard(self)
        if (
            self._number
            or self._queue is not None
            or self._rare is not None
            or self._pending is not None
            or self.scheduler._changed is not None
        ):
            self._ended_rarely()
        _set_result(self, value)
        if self._watchers:
            self._tell(True, value)

    def _raised(self, error: BaseException) -> BaseException | None:
        """Hear that the frame on top raised.

        Returns what to raise in the next one; None: go on with ``_value``, unless it has ended.
        """
        top = self._top
        if type(error) is RuntimeError:
            stop = driver.raised_stop_iteration(error, top)
            if stop is not None:
                return self._returned_by_raise(stop.value)
            driver.explain(error)
        trace = error.__traceback__
        if trace is not None:  # the scheduler's own frame tells nobody anything
            error.__traceback__ = trace.tb_next
        if self._stack:
            self._pop()
            return driver.suited(error, self._top, CancelledError, self.cancelling() > 0)
        if self._rare is not None and error is self._rare.swapping:
            try:
                self._swap_frames()
                return None
            except Exception as failure:
                error = failure
        self._ended()
        if isinstance(error, (CancelledError, GeneratorExit)):
            _set_cancelled(self)
        elif isinstance(error, StopIteration):  # a Future refuses it
            wrapped = RuntimeError("a coroutine was thrown StopIteration")
            wrapped.__cause__ = error
            _set_exception(self, wrapped)
        else:
            _set_exception(self, error)
        self._failed()
        return None

    def _failed(self) -> None:
        """It has ended and not returned: tell who watches, and if nobody does, everybody."""
        if self._watchers:
            self._tell()
        elif not self.cancelled():
            self.scheduler.reports.failed(self)

    def _returned_by_raise(self, value: Any) -> BaseException | None:
        code = getattr(self._top, "gi_code", None) or getattr(self._top, "cr_code", None)
        try:
            warnings.warn_explicit(
                "`raise StopIteration(value)` in a coroutine counts as `return value`; write that",
                DeprecationWarning,
                code.co_filename if code else "<unknown>",
                code.co_firstlineno if code else 0,
            )
        except DeprecationWarning as warning:  # the program asked for warnings to be errors
            return self._raised(warning)
        if self._stack:
            self._pop()
            self._value = value
        else:
            self._returned(value)
        return None

    def _ended(self) -> None:
        """Let go of everything: cycles would wait for the garbage collector."""
        self._wait = ENDED
        self._recv = self._top = self._send = self._stack = self._context = None
        self.scheduler.coros.discard(self)
        self._ended_rarely()

    def _ended_rarely(self) -> None:
        """Let go of what few coroutines have: a number, messages, names; and say so where somebody waits for the last to end."""
        scheduler = self.scheduler
        if self._number:
            scheduler.by_number.pop(self._number, None)
        if scheduler._changed is not None and not scheduler.coros:
            scheduler.changed()
        self._value = self._pending = None
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.end()
        rare = self._rare
        if rare is not None:
            if rare.reader is not None and not rare.reader.done():
                rare.reader.set_result(None)
            self.scheduler.forget_names(self)

    def _abandon(self) -> None:
        """The loop ends, and the coroutine has not: close its frames, and say that it was ended."""
        frames = [*(self._stack or ()), self._top]
        if self._wait is RUNNING:
            return
        self._ended()
        for frame in reversed(frames):
            try:
                frame.close()
            except BaseException as error:
                logger.warning("%s did not let itself be closed: %r", self._name, error)
        _set_cancelled(self)
        self._failed()

    def _tell(self, returned: bool = False, value: Any = None) -> None:
        watchers, self._watchers = self._watchers, None
        for key, callback in (watchers or {}).items():
            if callback is None:
                if returned:
                    key.returned(value)
                else:
                    key.ended()
                continue
            outcome = self.outcome
            assert outcome is not None
            try:
                callback(self, outcome)
            except Exception:
                logger.exception("a watcher of %s failed", self._name)


class _Turn:
    """Waited for by ``asyncio.sleep(0)``: a turn of the event loop."""

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Refuse: the turn comes soon enough."""
        return False

    def remove_done_callback(self, callback: Any) -> None:
        """Do nothing: a turn that nobody waits for is ignored."""

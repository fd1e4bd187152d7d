"""What a coroutine waits for in calls of ours: a message, time, a resume, another coroutine, room.

Each call makes one :class:`Wait`. A coroutine yields it (``x = yield coro.receive()``) or awaits it
(``x = await coro.receive()``: then ``__await__`` yields it); the scheduler calls ``start``. A wait is
used once, so that a late timer can never end the next one.

Awaited by anything else than a running coroutine (a plain asyncio task, ``asyncio.gather``, 3.11's
``asyncio.wait_for``), it goes through a real future.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Generator
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .checks import check_timeout
from .errors import DiscoroError, ForgottenWait, NoSuchCoro, NotTheCoroutine
from .outcome import Outcome

if TYPE_CHECKING:
    from .coro import Coro
    from .machine import Machine
    from .stepping import Stepper


EAGER = sys.version_info >= (3, 12)
"""Whether an eager task may run inside the step of a coroutine, and be the current task there."""


def stepping(scheduler: Stepper) -> Machine[Any] | None:
    """Return the coroutine that ``scheduler`` steps, if it is what runs the caller."""
    coro = scheduler.running
    if coro is None or get_ident() != scheduler.thread_id:
        return None
    return None if EAGER and asyncio.current_task() is not cast(Any, coro) else coro


class State:
    """A value of ``Coro._wait`` that is not something waited for."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


READY = State("ready")
"""It stands in the queue of those that may run."""
HANDED = State("handed a message")
"""As ready; the value it will get is a message, which goes back if something else comes first."""
INTERRUPTED = State("interrupted")
"""As ready; it was taken out of a wait, and something will be thrown into it."""
RUNNING = State("running")
ENDED = State("ended")


class Wait:
    """Something to wait for, once.

    Attributes:
        call: The call that gives it, for people.
    """

    __slots__ = ()

    call: str = "the call"

    def __reduce__(self) -> NoReturn:
        raise ForgottenWait(self.call)

    def start(self, waiter: Any) -> bool:
        """Begin. True: it is there already, in ``waiter._value``. May raise what the call raises."""
        raise NotImplementedError

    def drop(self) -> None:
        """Stop waiting; called when something else ended the wait."""

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        if task is not None and getattr(task, "_wait", None) is RUNNING:
            return (yield self)
        return (yield from self.outside().__await__())

    async def outside(self) -> Any:
        """Wait in a task that is no coroutine of ours."""
        outsider = Outsider()
        if self.start(outsider):
            return outsider._value
        outsider._wait = self
        try:
            return await outsider.future
        finally:
            self.drop()


class Waitable:
    """Something of another package that coroutines may yield: it knows what to wait for."""

    __slots__ = ()

    def waiting(self) -> Wait | None:
        """Return a wait for it; None: it must be awaited."""
        raise NotImplementedError


class Outsider:
    """Stands in for a task that is no coroutine of ours."""

    __slots__ = ("_value", "_wait", "future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self._wait: object = RUNNING
        self._value: Any = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``callback()`` after ``delay`` seconds."""
        return self.loop.call_later(delay, callback)

    def _wake(self, value: Any = None, error: BaseException | None = None) -> None:
        self._wait = READY
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


class Once(Wait):
    """A call that does nothing until it is yielded or awaited; where that was forgotten it says so, as a coroutine object does.

    Attributes:
        begun: Whether it was.
    """

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False

    def __await__(self) -> Generator[Any, Any, Any]:
        self.begun = True
        return super().__await__()

    def __reduce__(self) -> NoReturn:
        self.begun = True  # what is raised says so, too
        super().__reduce__()

    def __del__(self) -> None:
        # One that could not be made has no such attribute.
        if not getattr(self, "begun", True) and not sys.is_finalizing():
            warnings.warn(
                f"`{self.call}` was neither yielded nor awaited: nothing was done",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


class Act(Once):
    """A call that is awaited for the sake of its twin on a remote coroutine, and is done at once."""

    __slots__ = ("_args", "_function", "call")

    def __init__(self, call: str, function: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self.call = call
        self._function = function
        self._args = args

    def start(self, waiter: Any) -> bool:
        """Do it."""
        waiter._value = self._function(*self._args)
        return True


class _Timed(Once):
    """A wait that may have a timer."""

    __slots__ = ("_timer", "timeout", "waiter")

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None:
            check_timeout(timeout)
        super().__init__()
        self.timeout = timeout
        self.waiter: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, waiter: Any) -> None:
        self.waiter = waiter
        if self.timeout is not None:
            self._timer = waiter.call_later(self.timeout, self._at_timeout)

    def _at_timeout(self) -> None:
        waiter, self._timer = self.waiter, None
        if waiter is not None and waiter._wait is self:
            self.expired(waiter)

    def expired(self, waiter: Any) -> None:
        """End the wait, at its timeout."""
        raise NotImplementedError

    def stop_timer(self) -> None:
        """Forget the timer: the wait is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        """Stop waiting."""
        self.stop_timer()
        self.waiter = None


class Receive(Wait):
    """A coroutine's own wait for a message, without a timeout. One per coroutine, used again."""

    __slots__ = ("coro",)

    call = "coro.receive()"

    def __init__(self, coro: Coro[Any]) -> None:
        self.coro = coro

    def start(self, waiter: Any) -> bool:
        """Take the oldest message, or wait."""
        coro = self.coro
        if waiter is not coro:
            raise NotTheCoroutine(coro.name, "receive")
        if coro._queue:
            waiter._wait = RUNNING  # so that what comes into the room this makes is queued, and not handed over
            waiter._value = coro._queue.take()
            return True
        return False

    def __await__(self) -> Generator[Any, Any, Any]:
        coro = self.coro
        if coro._wait is RUNNING and (not EAGER or asyncio.current_task() is cast(Any, coro)):
            # A message that is there is taken without leaving the frame, while the turn lasts.
            queue = coro._queue
            if queue and (scheduler := coro.scheduler).credit > 0 and coro._pending is None:
                scheduler.credit -= 1
                message = queue.popleft()
                if queue.attention:
                    queue.attention -= 1
                    if not queue.attention:
                        queue.attend()
                return message
            return (yield self)
        return (yield from self.outside().__await__())

    async def outside(self) -> Any:
        """Wait in a task that is no coroutine of ours."""
        return await self.coro._receive_outside(None, None)


class TimedReceive(_Timed):
    """A wait for a message that ends at a timeout."""

    __slots__ = ("alarm_value", "coro")

    call = "coro.receive()"

    def __init__(self, coro: Coro[Any], timeout: float, alarm_value: Any) -> None:
        super().__init__(timeout)
        self.coro = coro
        self.alarm_value = alarm_value

    def start(self, waiter: Any) -> bool:
        """Take the oldest message, or wait."""
        coro = self.coro
        if waiter is not coro:
            raise NotTheCoroutine(coro.name, "receive")
        if coro._queue:
            waiter._wait = RUNNING
            waiter._value = coro._queue.take()
            return True
        if self.timeout is not None and self.timeout <= 0:
            waiter._value = self.alarm_value
            return True
        self.begin(waiter)
        return False

    def expired(self, waiter: Any) -> None:
        """Give the alarm value."""
        waiter._wake(self.alarm_value)

    async def outside(self) -> Any:
        """Wait in a task that is no coroutine of ours."""
        return await self.coro._receive_outside(self.timeout, self.alarm_value)


class Pause(_Timed):
    """Sleep and suspend: until a timeout, or a resume."""

    __slots__ = ("alarm_value", "coro")

    call = "coro.sleep()"

    def __init__(self, coro: Coro[Any], timeout: float | None, alarm_value: Any) -> None:
        super().__init__(timeout)
        self.coro = coro
        self.alarm_value = alarm_value

    def start(self, waiter: Any) -> bool:
        """Go to sleep."""
        if waiter is not self.coro:
            raise NotTheCoroutine(self.coro.name, "sleep")
        if self.timeout is not None and self.timeout <= 0:
            waiter._wake(self.alarm_value)  # at once, but after the others have had their turn
            return False
        self.begin(waiter)
        return False

    def expired(self, waiter: Any) -> None:
        """Give the alarm value."""
        waiter._wake(self.alarm_value)

    async def outside(self) -> Any:
        """Sleep in a task that belongs to the coroutine; only itself can be suspended, though."""
        self.coro.scheduler.check_thread("sleep")
        if isinstance(getattr(asyncio.current_task(), "_wait", None), State):
            raise NotTheCoroutine(self.coro.name, "sleep")
        if self.timeout is None:
            raise NotTheCoroutine(self.coro.name, "suspend")
        await asyncio.sleep(self.timeout)
        return self.alarm_value


class Ending(Wait):
    """Wait for the end of a coroutine, as ``await coro`` does: the frequent case of :class:`Join`.

    It stands among the coroutine's watchers without a callback, and is told directly.
    """

    __slots__ = ("target", "waiter")

    call = "the coroutine"

    def __init__(self, target: Machine[Any]) -> None:
        self.target = target
        self.waiter: Any = None

    def start(self, waiter: Any) -> bool:
        """Give the coroutine's result, raise what it raised, or wait."""
        target = self.target
        if target._wait is ENDED:
            waiter._value = self.result()
            return True
        if get_ident() != target.scheduler.thread_id:
            target.scheduler.check_thread("await")
        if target is waiter:
            raise DiscoroError(f"{target.name!r} waits for its own end")
        self.waiter = waiter
        target._watch_end(self)
        return False

    def result(self) -> Any:
        """Give the result of the coroutine, which has ended, or raise what it raised."""
        target = self.target
        if not target.cancelled():
            return target.result()
        outcome = target.outcome
        assert outcome is not None
        return outcome.result()

    def returned(self, value: Any) -> None:
        """Hear that it has returned ``value``."""
        waiter = self.waiter
        if waiter is not None and waiter._wait is self:
            waiter._wake(value)

    def ended(self) -> None:
        """Hear that it has ended in another way."""
        waiter = self.waiter
        if waiter is None or waiter._wait is not self:
            return
        try:
            value = self.result()
        except BaseException as error:  # SystemExit too: it is the coroutine's, and is passed on
            waiter._wake(error=error)
        else:
            waiter._wake(value)

    def drop(self) -> None:
        """Stop waiting."""
        self.waiter = None
        if self.target._watchers is not None:
            self.target._watchers.pop(self, None)


class OutsideEnding:
    """What a task that is no coroutine of ours awaits with ``await coro``, among its watchers."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        """Hear that it has ended."""
        if not self.future.done():
            self.future.set_result(None)

    def returned(self, value: Any) -> None:
        """Hear that it has returned."""
        self.ended()


class Join(_Timed):
    """Wait for the end of a coroutine, up to a timeout; leaves it alone when the wait is cancelled."""

    __slots__ = ("target",)

    call = "coro.finish()"

    def __init__(self, target: Machine[Any], timeout: float | None = None) -> None:
        super().__init__(timeout)
        self.target = target

    def start(self, waiter: Any) -> bool:
        """Give its result, raise what it raised, or wait."""
        target = self.target
        if get_ident() != target.scheduler.thread_id:
            target.scheduler.check_thread("finish")
        if target is waiter:
            raise DiscoroError(f"{target.name!r} waits for its own end")
        outcome = target.outcome
        if outcome is not None:
            waiter._value = outcome.result()
            return True
        if self.timeout is not None and self.timeout <= 0:
            raise TimeoutError(f"{target.name!r} has not ended; it goes on")
        target.watch(self, self._ended)
        self.begin(waiter)
        return False

    def _ended(self, coro: Any, outcome: Outcome) -> None:
        waiter = self.waiter
        self.stop_timer()
        if waiter is None or waiter._wait is not self:
            return
        try:
            value = outcome.result()
        except BaseException as error:  # SystemExit too: it is the coroutine's, and is passed on
            waiter._wake(error=error)
        else:
            waiter._wake(value)

    def expired(self, waiter: Any) -> None:
        """Raise TimeoutError."""
        self.target.unwatch(self)
        waiter._wake(
            error=TimeoutError(
                f"{self.target.name!r} has not ended after {self.timeout} s; it goes on"
            )
        )

    def drop(self) -> None:
        """Stop waiting."""
        super().drop()
        self.target.unwatch(self)


class Deliver(_Timed):
    """Put a message into a mailbox, waiting for room if that has a limit."""

    __slots__ = ("message", "target")

    call = "coro.deliver()"

    def __init__(self, target: Coro[Any], message: Any, timeout: float | None) -> None:
        super().__init__(timeout)
        self.target = target
        self.message = message

    def start(self, waiter: Any) -> bool:
        """Give 1 if it is in the mailbox; 0 if there is no time to wait for room."""
        self.target.scheduler.check_thread("deliver")
        if self._delivered():
            waiter._value = 1
            return True
        if self.timeout is not None and self.timeout <= 0:
            waiter._value = 0
            return True
        self._wait_for_room()
        self.begin(waiter)
        return False

    def _delivered(self) -> bool:
        target = self.target
        if target._wait is ENDED:
            raise NoSuchCoro(target.name)
        if not target.has_room():
            return False
        target.put(self.message)
        return True

    def _wait_for_room(self) -> None:
        queue = self.target._queue
        assert queue is not None
        queue.on_room(self._room)

    def _room(self) -> None:
        waiter = self.waiter
        if waiter is None or waiter._wait is not self:
            return
        try:
            if not self._delivered():
                self._wait_for_room()
                return
        except NoSuchCoro as error:
            self.stop_timer()
            waiter._wake(error=error)
        else:
            self.stop_timer()
            waiter._wake(1)

    def expired(self, waiter: Any) -> None:
        """Give 0: withdrawn."""
        self._withdraw()
        waiter._wake(0)

    def drop(self) -> None:
        """Withdraw the message."""
        super().drop()
        self._withdraw()

    def _withdraw(self) -> None:
        queue = self.target._queue
        if queue is not None:
            queue.forget_room(self._room)

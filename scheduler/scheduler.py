"""The scheduler: the coroutines of one process, their names and numbers, its beginning and its end.

It runs in four ways::

    async with Scheduler() as s:      in the running loop; cancels what is left
    Scheduler().run(func, *args)      in a loop of its own, in this thread; cancels what is left
    with Scheduler() as s:            its loop runs in a thread; waits for what is no daemon
    Scheduler()                       the default one: as ``with``, to the end of the script

What lies outside the process is behind the :class:`Elsewhere` given to the constructor.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Token, copy_context
from threading import Thread, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from . import default, exits
from .coro import Coro
from .errors import SchedulerClosed, WrongThread
from .names import Names
from .outcome import Failed, Outcome
from .stepping import Stepper

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

logger = logging.getLogger("discoro.scheduler")

TERMINATE_GRACE = 10.0
"""Seconds after which a coroutine that was asked to end is reported."""
INTERRUPT_GRACE = 0.8
"""Seconds that everything has to end in after Ctrl-C; the network's goodbye fits into the second."""
FAILURE_GRACE = 1.0
"""Seconds in which somebody may ask for the outcome of a failed coroutine before it is logged."""


class Elsewhere(Protocol):
    """The network, as the scheduler sees it."""

    async def opened(self, scheduler: Any) -> None:
        """Hear that the loop runs."""

    async def closing(self) -> None:
        """Say goodbye: the loop is about to stop, and the coroutines have ended."""

    def published(self, kind: str, name: str, thing: Any) -> None:
        """Hear that ``thing`` got a name."""

    def withdrawn(self, kind: str, name: str) -> None:
        """Hear that a name was taken back."""

    async def locate(
        self, kind: str, name: str, location: Any, timeout: float | None
    ) -> object | None:
        """Find what has a name elsewhere; None at ``timeout``."""

    def monitor(self, watcher: Any, observed: Any) -> bool:
        """Monitor ``observed`` for a coroutine of ours; False if it is none of its references."""


class Scheduler(Stepper):
    """Runs coroutines in one event loop.

    Args:
        elsewhere: The network, if there is any.
        max_mailbox: How many messages a mailbox takes before ``send`` raises ``MailboxFull``; None:
            no limit.
        coro_class: What :meth:`spawn` makes.

    Attributes:
        coros: The live coroutines.
        by_number: Those that others may reach, by number; channels too.
        names: What is registered.
        options: What makes this scheduler another one than a second plain one.
    """

    new_loop: ClassVar[Callable[[], AbstractEventLoop]] = staticmethod(asyncio.new_event_loop)
    """Makes the loop of ``run``, ``with`` and the default scheduler."""

    def __init__(
        self,
        *,
        elsewhere: Elsewhere | None = None,
        max_mailbox: int | None = None,
        coro_class: type[Coro[Any]] = Coro,
    ) -> None:
        super().__init__()
        if max_mailbox is not None and max_mailbox < 1:
            raise ValueError(f"max_mailbox is at least 1, not {max_mailbox}")
        self.elsewhere = elsewhere
        self.max_mailbox = max_mailbox
        self.coro_class = coro_class
        self.options: dict[str, Any] = {"max_mailbox": max_mailbox}
        self.coros: set[Coro[Any]] = set()
        self.by_number: dict[int, Any] = {}
        self.names = Names()
        self.next_number: Callable[[], int] = itertools.count(1).__next__
        self.is_open = False
        self.is_closed = False
        self.interrupted = False
        self.thread: Thread | None = None
        self._counted_drops = 0
        self._failed: list[Coro[Any]] = []
        self._terminating: deque[tuple[float, Coro[Any]]] = deque()
        self._changed: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[bool] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._here: Token[Scheduler | None] | None = None
        default.constructed(self)

    # -- coroutines -------------------------------------------------------------------------------

    @classmethod
    def instance(cls) -> Self:
        """Return the scheduler that a call here means: see :mod:`.default`. May start the default one."""
        return default.current(cls)

    @classmethod
    def cur_coro(cls) -> Coro[Any] | None:
        """Return the coroutine that runs this code, or None."""
        try:
            task: object = asyncio.current_task()
        except RuntimeError:
            return None
        return task if isinstance(task, Coro) else None

    def spawn(
        self,
        func: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        number: int | None = None,
        name: str | None = None,
        daemon: bool = False,
        coro_class: type[Coro[Any]] | None = None,
    ) -> Coro[Any]:
        """Start a coroutine. Only in the loop's thread.

        Args:
            func: A generator function or coroutine function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            number: The number it shall have; others may reach it by that.
            name: Its name; default: that of ``func``.
            daemon: Whether the scheduler's end does not wait for it.
            coro_class: What to make of it; default: the scheduler's.
        """
        self.check_thread("spawn")
        cls = coro_class or self.coro_class
        coro = cls._start(self, func, args, kwargs or {}, number=number, name=name)
        if daemon:
            coro._rarely().daemon = True
        self.begin(coro)
        return coro

    def begin(self, coro: Coro[Any]) -> None:
        """Let a new coroutine run. May be called from any thread."""
        if get_ident() == self.thread_id:
            self._begin(coro)
        else:
            self.call(self._begin, coro)

    def _begin(self, coro: Coro[Any]) -> None:
        self.coros.add(coro)
        self.ready.append(coro)
        if not self.armed:
            self.arm()

    def ended(self, coro: Coro[Any]) -> None:
        """Hear that a coroutine has ended; called by it."""
        self.coros.discard(coro)
        if coro._number:
            self.by_number.pop(coro._number, None)
        if coro._rare is not None or self.names.of(coro):
            for kind, name in self.names.of(coro):
                self.unregister(kind, name, coro)
        if self._changed is not None:
            self.changed()

    def changed(self) -> None:
        """Hear that the set of those to wait for may have become smaller."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def failed(self, coro: Coro[Any]) -> None:
        """Hear that a coroutine failed and nobody waits for it: log it, unless somebody soon asks."""
        if not self._failed:
            self.loop.call_later(FAILURE_GRACE, self._log_failures, context=self.context)
        self._failed.append(coro)

    def _log_failures(self) -> None:
        failed, self._failed = self._failed, []
        for coro in failed:
            if coro._log_traceback:
                coro._log_traceback = False
                error = asyncio.Future.exception(coro)
                logger.error("coroutine %s failed", coro.name, exc_info=error)

    def dropped(self, coro: Coro[Any]) -> None:
        """Hear that a message to a coroutine that has ended was dropped."""
        self._counted_drops += 1
        logger.debug(
            "! message %d to an ended coroutine, %s: dropped", self._counted_drops, coro.name
        )

    def terminating(self, coro: Coro[Any]) -> None:
        """Hear that a coroutine was asked to end: report it if it does not."""
        if not self._terminating:
            self.loop.call_later(TERMINATE_GRACE, self._report_stubborn, context=self.context)
        self._terminating.append((self.loop.time() + TERMINATE_GRACE, coro))

    def _report_stubborn(self) -> None:
        now, late = self.loop.time(), []
        while self._terminating and self._terminating[0][0] <= now + 0.01:
            coro = self._terminating.popleft()[1]
            if coro.is_alive():
                late.append(coro)
        if self._terminating:
            self.loop.call_at(self._terminating[0][0], self._report_stubborn, context=self.context)
        for coro in late:
            logger.warning(
                "%s was terminated %g s ago and has not ended; it is %s",
                coro.name,
                TERMINATE_GRACE,
                exits.where(coro),
            )

    def refuse_blocking(self, call: str) -> None:
        """Refuse a call that would block the loop's own thread."""
        raise WrongThread(
            f"{call} blocks, and would wait for ever here; await finish() instead: it"
        )

    # -- names ------------------------------------------------------------------------------------

    def export(self, thing: Any) -> int:
        """Make a coroutine or channel reachable by number; returns the number."""
        number: int = thing.number
        self.by_number[number] = thing
        return number

    def register(self, kind: str, name: str, thing: Any) -> None:
        """Give ``thing`` a name.

        Raises:
            NameTaken: If another thing has it.
        """
        if self.names.register(kind, name, thing) and self.elsewhere is not None:
            self.elsewhere.published(kind, name, thing)

    def unregister(self, kind: str, name: str, thing: Any) -> None:
        """Take a name back; ignored if ``thing`` does not have it."""
        if self.names.unregister(kind, name, thing) and self.elsewhere is not None:
            self.elsewhere.withdrawn(kind, name)

    async def find(
        self, kind: str, name: str, location: Any = None, timeout: float | None = None
    ) -> Any:
        """Find what is registered, here first (unless ``location`` is given), then elsewhere.

        Returns None at ``timeout``.
        """
        self.check_thread("locate")
        if location is not None and self.elsewhere is not None:
            return await self.elsewhere.locate(kind, name, location, timeout)
        thing = self.names.get(kind, name)
        if thing is not None:
            return thing
        token = object()
        here: asyncio.Future[Any] = self.loop.create_future()
        self.names.wait(kind, name, token, lambda thing: _settle(here, thing))
        waiting: set[asyncio.Future[Any]] = {here}
        if self.elsewhere is not None:
            waiting.add(asyncio.ensure_future(self.elsewhere.locate(kind, name, location, timeout)))
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if here in done:
                return here.result()
            return done.pop().result() if done else None
        finally:
            self.names.stop_waiting(kind, name, token)
            for future in waiting:
                future.cancel()

    # -- opening ----------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Take the running loop."""
        if self.is_open or self.is_closed:
            raise SchedulerClosed(
                "this scheduler is open already"
                if self.is_open
                else "this scheduler was closed; make a new one"
            )
        self.loop = asyncio.get_running_loop()
        self._here = default.HERE.set(self)
        self.context = copy_context()
        self.thread_id = get_ident()
        self.is_open = True
        default.opened(self)
        self._guard = self.loop.create_task(self._watch_over(), name="discoro scheduler")

    async def _watch_over(self) -> None:
        """End the coroutines when ``asyncio.run`` cancels everything: they are no tasks of its list."""
        try:
            await self.loop.create_future()
        except asyncio.CancelledError:
            if self.is_open and self._closing is None:
                self._guard = None
                await self._close(wait=False)

    async def _open(self) -> None:
        self._bind()
        await self._open_elsewhere()

    async def _open_elsewhere(self) -> None:
        if self.elsewhere is not None:
            try:
                await self.elsewhere.opened(self)
            except BaseException:
                self._unbind()
                raise

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_open:
            await self._close(wait=False)

    def __enter__(self) -> Self:
        self.start_thread()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            exits.interrupt_thread(self)
        else:
            exits.close_thread(self, wait=error is None)

    def start_thread(self) -> None:
        """Run the scheduler's loop in a thread; returns when it is open."""
        exits.start_thread(self)

    def start(self) -> Self:
        """Open as ``with`` does; in a running loop, open there: ``await scheduler.start()``.

        So a notebook can span cells. :meth:`close` ends it.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.start_thread()
        else:
            self._bind()
            self._opening = loop.create_task(self._open_elsewhere())
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        if self._opening is not None:
            yield from self._opening.__await__()
        return self

    # -- closing ----------------------------------------------------------------------------------

    def close(self, *, cancel: bool = False) -> Closing:
        """End as ``with`` does: wait for all that are no daemons, or with ``cancel`` for none.

        Blocks where the loop runs in another thread. Where it is the running loop (a notebook), it
        is to be awaited; so is it in a coroutine of a scheduler with a thread, where it only asks.
        """
        if not self.is_open:
            self.is_closed = True
            default.closed(self)
            return Closing(None)
        if get_ident() != self.thread_id:
            exits.close_thread(self, wait=not cancel)
            return Closing(None)
        if self.thread is not None:
            self.ask_stop(not cancel)
            return Closing(None)
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(wait=not cancel))
        return Closing(self._closing)

    def ask_stop(self, wait: bool) -> None:
        """Ask the thread's main function to close."""
        if self._stop is not None and not self._stop.done():
            self._stop.set_result(wait)
        elif not wait:  # it waits already: no longer
            self.terminate_all("the scheduler closed")

    def interrupt(self) -> None:
        """End everything within a second: Ctrl-C."""
        self.interrupted = True
        self.terminate_all("interrupted")
        self.ask_stop(False)
        self.changed()

    def terminate_all(self, reason: str) -> None:
        """Terminate every coroutine."""
        for coro in list(self.coros):
            coro._terminate(reason)

    def waited_for(self) -> list[Coro[Any]]:
        """Return the coroutines whose end the scheduler's end waits for."""
        return [coro for coro in list(self.coros) if not coro.daemon]

    async def _close(self, wait: bool) -> None:
        """Wait for the coroutines or terminate them, say goodbye, and let go of the loop."""
        try:
            while wait and not self.interrupted and self.waited_for():
                await self._change(None)
            await self._end_all()
            if self.elsewhere is not None:
                await self.elsewhere.closing()
        finally:
            self._unbind()

    async def _end_all(self) -> None:
        started = time.monotonic()
        asked: set[Coro[Any]] = set()
        while self.coros:
            for coro in self.coros - asked:  # a clean-up may start new ones
                asked.add(coro)
                coro._terminate("" if self.interrupted else "the scheduler closed")
            grace = INTERRUPT_GRACE if self.interrupted else TERMINATE_GRACE
            left = started + grace - time.monotonic()
            if left <= 0:
                break
            await self._change(left)
        for coro in self.coros:
            logger.warning("%s did not end; it is %s", coro.name, exits.where(coro))

    async def _change(self, timeout: float | None) -> None:
        """Wait until a coroutine has ended, or something else has :meth:`changed`."""
        self._changed = self.loop.create_future()
        try:
            await asyncio.wait([self._changed], timeout=timeout)
        finally:
            self._changed = None

    def _unbind(self) -> None:
        self.is_open = False
        self.is_closed = True
        for coro in list(self.coros):
            coro._abandon()
        self._log_failures()
        self._terminating.clear()
        self.ready.clear()
        self._take_inbox()
        default.closed(self)
        self.thread_id = 0
        guard, self._guard = self._guard, None
        if guard is not None and guard is not asyncio.current_task():
            guard.cancel()
        if self._here is not None:
            try:
                default.HERE.reset(self._here)
            except ValueError:  # closed in another context than it was opened in
                pass
            self._here = None

    # -- run --------------------------------------------------------------------------------------

    def run(self, func: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run ``func`` as a coroutine in a new loop in this thread, and return its result.

        What is left is cancelled. The first Ctrl-C terminates everything within a second and raises
        KeyboardInterrupt (exit status 130); a second one ends the process at once.
        """
        with exits.catch_interrupt(self):
            main = exits.run_loop(self, self._main(func, args, kwargs))
        if self.interrupted:
            raise KeyboardInterrupt
        outcome: Outcome = main.outcome
        if isinstance(outcome, Failed) and outcome.exception.__traceback__ is not None:
            raise outcome.exception
        return outcome.result()

    async def _main(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coro[Any]:
        async with self:
            main = self.spawn(func, args, kwargs)
            self._stop = self.loop.create_future()
            stop = self._stop
            main.watch(stop, lambda coro, outcome: _settle(stop, False))
            if self.interrupted:
                self.interrupt()
            await stop
        return main

    async def live(self, opened: Future[None]) -> None:
        """Open, run until asked to stop, close: the main function of a thread."""
        try:
            await self._open()
            self._stop = self.loop.create_future()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        wait = await self._stop
        await self._close(wait)


class Closing:
    """What :meth:`Scheduler.close` gives: to be awaited in the scheduler's own loop."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def __await__(self) -> Generator[Any, Any, None]:
        if self._task is not None:
            yield from asyncio.shield(self._task).__await__()


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)

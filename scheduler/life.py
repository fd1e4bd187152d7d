"""The beginning and the end of a scheduler.

It runs in four ways::

    async with Scheduler() as s:      in the running loop; cancels what is left
    Scheduler().run(func, *args)      in a loop of its own, in this thread; cancels what is left
    with Scheduler() as s:            its loop runs in a thread; waits for what is no daemon
    Scheduler()                       the default one: as ``with``, to the end of the script
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import Generator, Set
from contextvars import Token, copy_context
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from . import default, exits
from .coro import Coro
from .errors import SchedulerClosed
from .outcome import Outcome
from .reports import TERMINATE_GRACE, Reports
from .stepping import Stepper

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

logger = logging.getLogger("discoro.scheduler")

INTERRUPT_GRACE = 0.8
"""Seconds that everything has to end in after Ctrl-C; the network's goodbye fits into the second."""


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


class Life(Stepper):
    """Opens and closes: what ``Scheduler`` is apart from its coroutines and their names."""

    @classmethod
    def unasked(cls) -> Self:
        """Make the default scheduler that nobody has constructed."""
        return cls()

    def __init__(self, elsewhere: Elsewhere | None = None) -> None:
        super().__init__()
        self.elsewhere = elsewhere
        self.options: dict[str, Any] = {}
        self.coros: set[Coro[Any]] = set()
        self.reports = Reports(self)
        self.is_open = False
        self.is_closed = False
        self.interrupted = False
        #: What those are told who wait for a coroutine that the close has ended.
        self.end_reason = "the scheduler closed"
        self.thread: exits.LoopThread | None = None
        self._changed: asyncio.Future[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[bool] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._here: Token[Any] | None = None

    @staticmethod
    def new_loop() -> AbstractEventLoop:
        """Make the loop of ``run``, ``with`` and the default scheduler."""
        return asyncio.new_event_loop()

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
        """Open as ``with`` does; in a running loop, open there: ``await scheduler.start()``. Gives the scheduler.

        So a notebook can span cells. :meth:`close` ends it.

        Raises:
            SchedulerClosed: If it is open already, or was closed: make a new one.
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
        is to be awaited; so is it in a coroutine of a scheduler with a thread, where it only asks. What is left is
        terminated and has 10 s to clean up. A second call does nothing.

        Args:
            cancel: Terminate what runs, instead of waiting for it.
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
            self.terminate_all(self.end_reason)

    def interrupt(self) -> None:
        """End everything within a second: Ctrl-C."""
        self.interrupted = True
        self.terminate_all("interrupted")
        self.ask_stop(False)
        self.changed()

    def terminate_all(self, reason: str) -> None:
        """Terminate every coroutine."""
        for coro in list(self.coros):
            coro._terminate_once(reason)

    def changed(self) -> None:
        """Hear that the set of those to wait for may have become smaller."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def waited_for(self) -> list[Coro[Any]]:
        """Return the coroutines whose end the scheduler's end waits for."""
        return [coro for coro in list(self.coros) if not coro.daemon]

    async def _close(self, wait: bool) -> None:
        """Wait for the coroutines or terminate them, say goodbye, and let go of the loop."""
        try:
            if wait:
                await self._wait_for_all()
            stubborn = await self._end_all()
            if self.elsewhere is not None:
                await self.elsewhere.closing()
                await self._end_all(stubborn)  # what a peer's last call has started meanwhile
        finally:
            self._unbind()

    async def _wait_for_all(self) -> None:
        """Wait until all that are no daemons have ended: for one after the other, there may be many."""
        while not self.interrupted:
            coro = next((coro for coro in self.coros if not coro.daemon), None)
            if coro is None:
                return
            coro.watch(self, lambda coro, outcome: self.changed())
            try:
                await self._change(None)
            finally:
                coro.unwatch(self)

    async def _end_all(self, given_up: Set[Coro[Any]] = frozenset()) -> set[Coro[Any]]:
        """Terminate all coroutines and wait for them; return those that did not end in time."""
        started = time.monotonic()
        while not self.coros <= given_up:
            for coro in list(self.coros):  # again and again: a clean-up may start new ones
                coro._terminate_once(self.end_reason)
            grace = INTERRUPT_GRACE if self.interrupted else TERMINATE_GRACE
            left = started + grace - time.monotonic()
            if left <= 0:
                break
            await self._change(min(left, 0.05))
        stubborn = self.coros - given_up
        for coro in stubborn:
            logger.warning("%s did not end; it is %s", coro.name, coro.where())
        return stubborn

    async def _change(self, timeout: float | None) -> None:
        """Wait until no coroutine is left, or something else has :meth:`changed`."""
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
        self.reports.close()
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
        """Run ``func`` as a coroutine in a new loop in this thread, and give its result, or raise what it raised.

        What is left is cancelled. The first Ctrl-C terminates everything within a second and raises
        KeyboardInterrupt (exit status 130); a second one ends the process at once.

        Args:
            func: A generator function or a coroutine function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            SchedulerClosed: If the scheduler is open already, or was closed.
        """
        with exits.catch_interrupt(self):
            main = exits.run_loop(self, self._main(func, args, kwargs))
        if self.interrupted:
            raise KeyboardInterrupt
        outcome: Outcome | None = main.outcome
        assert outcome is not None
        return outcome.result()

    def spawn(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coro[Any]:
        """Start a coroutine; see ``Scheduler``."""
        raise NotImplementedError

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

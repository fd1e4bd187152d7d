"""Loops of our own, in this thread or another, and how they end: scripts, exceptions, Ctrl-C.

Where we run the loop, the first Ctrl-C terminates everything within a second, and puts SIGINT back to
its default, so that a second one ends the process at once. The exit status is 130.

A script's end waits for the coroutines that are no daemons, unless the script failed; it happens in
``threading``'s shutdown, where a hook registered later runs earlier: before ``concurrent.futures``
refuses work. Python 3.12.1 can start no thread at all by then: the loop's pool has its first ones.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # its exit hook is registered now, so that ours runs before it
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from .threads import Pool

if TYPE_CHECKING:
    from .life import Life

T = TypeVar("T")

STILL = 3.0
"""Seconds of waiting without any movement after which it is said for whom."""
INTERRUPT_LIMIT = 1.0
"""Seconds after Ctrl-C at which we stop waiting for anything."""

_running: list[Life] = []
_hooked = False


def run_loop(scheduler: Life, main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a new loop in this thread and leave nothing of the loop behind."""
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("run() cannot be called from a running event loop: use `async with`")
    loop = scheduler.new_loop()
    pool = Pool()
    try:
        asyncio.set_event_loop(loop)
        loop.set_default_executor(pool)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            pool.shutdown(wait=not scheduler.interrupted)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=INTERRUPT_LIMIT))
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception while the loop was closed",
                    "exception": task.exception(),
                    "task": task,
                }
            )


@contextmanager
def catch_interrupt(scheduler: Life) -> Iterator[None]:
    """Take Ctrl-C while the scheduler's loop runs in this, the main, thread."""

    def interrupted(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        scheduler.interrupted = True
        if scheduler.is_open:
            # Not now: this may be in the middle of a step.
            scheduler.loop.call_soon_threadsafe(scheduler.interrupt)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


# -- a loop in a thread -----------------------------------------------------------------------------


def start_thread(scheduler: Life) -> None:
    """Run the scheduler's loop in a thread; returns when it is open, raises what hindered that."""
    global _hooked
    opened: concurrent.futures.Future[None] = concurrent.futures.Future()
    thread = LoopThread(scheduler, opened)
    thread.start()
    opened.result()
    scheduler.thread = thread
    _running.append(scheduler)
    if not _hooked:
        _hooked = True
        hook = getattr(threading, "_register_atexit", atexit.register)
        try:
            hook(_at_exit)
        except RuntimeError:  # the main thread has ended, and we are in one that has not
            atexit.register(_at_exit)


class LoopThread(threading.Thread):
    """Runs the loop of a scheduler.

    Attributes:
        ended: Set at the end. On 3.11 a ``join`` that Ctrl-C interrupts takes the thread for ended.
        process: Where it runs; a forked child has the object, but not the thread.
    """

    def __init__(self, scheduler: Life, opened: concurrent.futures.Future[None]) -> None:
        super().__init__(name="discoro", daemon=True)
        self._scheduler = scheduler
        self._opened = opened
        self.ended = threading.Event()
        self.process = os.getpid()

    def run(self) -> None:
        """Live through the scheduler's life."""
        try:
            run_loop(self._scheduler, self._scheduler.live(self._opened))
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)
        finally:
            self.ended.set()

    def runs(self) -> bool:
        """Return whether it has not ended."""
        return not self.ended.is_set() and self.process == os.getpid()


def close_thread(scheduler: Life, *, wait: bool) -> None:
    """Close a scheduler whose loop runs in another thread, and wait for that.

    Ctrl-C meanwhile terminates everything, and is raised again.
    """
    if not _alive(scheduler):
        return
    try:
        scheduler.call(scheduler.ask_stop, wait)
        _join(scheduler)
    except KeyboardInterrupt:
        interrupt_thread(scheduler)
        raise
    finally:
        _forget(scheduler)


def interrupt_thread(scheduler: Life) -> None:
    """Terminate everything of a scheduler whose loop runs in another thread, within a second."""
    if _alive(scheduler):
        scheduler.interrupted = True
        scheduler.call(scheduler.interrupt)
        assert scheduler.thread is not None
        scheduler.thread.ended.wait(INTERRUPT_LIMIT)
    _forget(scheduler)


def _alive(scheduler: Life) -> bool:
    return scheduler.is_open and scheduler.thread is not None and scheduler.thread.runs()


def _forget(scheduler: Life) -> None:
    if scheduler in _running:
        _running.remove(scheduler)


def _join(scheduler: Life) -> None:
    """Wait for the thread; say for whom, when nothing has moved for a while."""
    thread = scheduler.thread
    assert thread is not None
    turns, since, said = scheduler.turns, time.monotonic(), False
    while not thread.ended.wait(0.2):
        if scheduler.turns != turns:
            turns, since, said = scheduler.turns, time.monotonic(), False
        elif not said and time.monotonic() - since > STILL:
            said = True
            _say_for_whom(scheduler)
    thread.join()


def _say_for_whom(scheduler: Life) -> None:
    waited = scheduler.waited_for()
    if not waited:
        return
    lines = [f"  {coro.name}: {coro.where()}" for coro in waited[:10]]
    if len(waited) > 10:
        lines.append(f"  and {len(waited) - 10} more")
    text = "\n".join(lines)
    print(
        f"discoro: waiting for {len(waited)} coroutine(s) to end (Ctrl-C terminates them):\n{text}",
        file=sys.stderr,
        flush=True,
    )


def _at_exit() -> None:
    """End what a script left open; waits for it if the script came to its end without an exception."""
    failed = getattr(sys, "last_type", None) is not None and not hasattr(sys, "ps1")
    for scheduler in reversed(list(_running)):
        try:
            if failed and issubclass(sys.last_type or Exception, KeyboardInterrupt):
                interrupt_thread(scheduler)
            else:
                close_thread(scheduler, wait=not failed)
        except KeyboardInterrupt:
            _die_of_interrupt()


def _die_of_interrupt() -> None:
    """End the process as Python ends of Ctrl-C; an exception would only be printed at this point."""
    for scheduler in list(_running):
        interrupt_thread(scheduler)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _forget_parent() -> None:
    _running.clear()


os.register_at_fork(after_in_child=_forget_parent)

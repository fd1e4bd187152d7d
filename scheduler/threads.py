"""Blocking calls in threads.

The pool is the loop's default executor, so ``asyncio.to_thread``, ``getaddrinfo`` and ours share it.
Its threads are daemons: a call that blocks for ever does not keep the process from ending on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["concurrent.futures.Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]

FIRST = 2
"""Threads that start with the pool: at interpreter exit Python 3.12.1 can start none."""


class Pool(concurrent.futures.ThreadPoolExecutor):
    """Threads that run calls, oldest first.

    A ``ThreadPoolExecutor`` because event loops insist on one; nothing of its own is used.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers or min(32, (os.cpu_count() or 1) + 4))
        self._limit = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False
        for _ in range(min(FIRST, self._limit)):
            self._add()

    def _add(self) -> None:
        name = f"discoro-call-{len(self._workers) + 1}"
        worker = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter ends: those that exist will do
            if not self._workers:
                raise
        else:
            self._workers.append(worker)

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Let a thread call ``fn(*args, **kwargs)``."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of threads is closed")
            self._unfinished += 1
            if self._unfinished > len(self._workers) < self._limit:
                self._add()
        self._jobs.put((future, fn, args, kwargs))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, args, kwargs = job
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del job, future, function, args, kwargs  # an idle thread keeps nothing alive
            with self._lock:
                self._unfinished -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with ``wait`` return when those taken have ended."""
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        if cancel_futures:
            self._cancel_waiting()
        for _ in workers:
            self._jobs.put(None)
        if wait:
            for worker in workers:
                worker.join()

    def _cancel_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job[0].cancel()


async def to_thread(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Await: call a blocking function in a thread; gives what it returns or raises what it raises.

    A cancelled wait leaves the thread at work: Python cannot end one. There are as many threads as CPUs and four, at most 32; further
    calls wait for one. A call that blocks for ever does not keep the process from ending.

    Args:
        func: The function; it must not use a coroutine's ``receive`` or ``sleep``.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    return await asyncio.to_thread(func, *args, **kwargs)

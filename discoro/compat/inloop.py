"""Calls from ordinary threads: old programs register, locate and swap from their main thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

T = TypeVar("T")


def in_loop(scheduler: Any, function: Callable[..., T], *args: Any) -> T:
    """Call ``function(*args)`` in the thread of the scheduler's loop, and give what it gives or raise what it raises."""
    if get_ident() == scheduler.thread_id:
        return function(*args)
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def call() -> None:
        try:
            done.set_result(function(*args))
        except BaseException as error:
            done.set_exception(error)

    scheduler.call(call)
    return done.result()

"""Which scheduler a call means: the one module-level state of discoro.

``Scheduler.instance()``, ``Coro(...)`` and ``Channel(...)`` use the current coroutine's scheduler, else
the innermost open one (of this thread's loop, then of any), else the default. The default is the plain
``Scheduler(...)`` that was constructed and not opened otherwise, as every old program has it; without
one it is made.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from .errors import SchedulerConflict

if TYPE_CHECKING:
    from .life import Life

S = TypeVar("S", bound="Life")

HERE: ContextVar[Life | None] = ContextVar("discoro_scheduler", default=None)
"""The scheduler of the coroutine that this code, task or thread works for."""


class _Known:
    """The schedulers of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: list[Life] = []
        self.plain: list[Life] = []
        self.default: Life | None = None
        # Held while the default one starts, which takes `lock` in another thread.
        self.starting = threading.Lock()


_known = _Known()
# The class of the default scheduler where nobody says which.
_base: type[Life] | None = None


def _forget() -> None:
    """In a forked child no scheduler of the parent runs."""
    global _known
    _known = _Known()
    HERE.set(None)


os.register_at_fork(after_in_child=_forget)


def constructed(scheduler: Life) -> None:
    """Note a scheduler that may be meant as the default one."""
    with _known.lock:
        _known.plain.append(scheduler)


def opened(scheduler: Life) -> None:
    """Note that a scheduler runs; it is the innermost one now, unless it is the default."""
    with _known.lock:
        if scheduler in _known.plain:
            _known.plain.remove(scheduler)
        _known.open.append(scheduler)


def closed(scheduler: Life) -> None:
    """Forget a scheduler."""
    with _known.lock:
        for known in (_known.plain, _known.open):
            if scheduler in known:
                known.remove(scheduler)
        if _known.default is scheduler:
            _known.default = None


def provide(cls: type[Life]) -> None:
    """Say of which class the default scheduler is where nobody says so; called by its module."""
    global _base
    _base = cls


def here() -> Life:
    """Return what :func:`current` does, for those whom the class of schedulers imports."""
    assert _base is not None, "the package imports the module that provides it"
    return current(_base)


def current(cls: type[S]) -> S:
    """Return the scheduler that a call means; starts the default one when it is needed.

    Raises:
        SchedulerConflict: If two plain ones with different options ask to be the default.
    """
    found = _of_here() or _innermost()
    if found is None:
        found = _default(cls)
    return found  # type: ignore[return-value]


def innermost() -> Life | None:
    """Return the open scheduler that a call means, if there is one; starts nothing."""
    return _of_here() or _innermost()


def _of_here() -> Life | None:
    here = HERE.get()
    return here if here is not None and here in _known.open else None


def _innermost() -> Life | None:
    with _known.lock:
        candidates = [s for s in _known.open if s is not _known.default]
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    for scheduler in reversed(candidates):
        if loop is not None and scheduler.loop is loop:
            return scheduler
    return candidates[-1] if candidates else None


def _default(cls: type[Life]) -> Life:
    known = _known
    with known.starting:
        with known.lock:
            default = known.default or (known.plain[0] if known.plain else None)
            for other in known.plain:
                if default is not None and other.options != default.options:
                    raise SchedulerConflict(
                        f"two plain schedulers with different options, {default.options} and "
                        f"{other.options}: which is the default? Construct one, or open them "
                        "(`with Scheduler(...) as s:`, `async with`)"
                    )
        if default is None:
            default = cls.unasked()
        if not default.is_open:
            known.default = default
            try:
                default.start_thread()
            except BaseException:
                known.default = None
                raise
        return default

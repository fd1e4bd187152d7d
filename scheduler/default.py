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
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import SchedulerClosed, SchedulerConflict

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
        # Whether somebody has constructed that one, with options of his choice.
        self.asked = False
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
    """Note a scheduler that may be meant as the default one.

    Raises:
        SchedulerConflict: If one with other options has become that already; it stays the default.
    """
    with _known.lock:
        default = _known.default
        if default is not None and _known.asked and default.options != scheduler.options:
            raise _conflict(default, scheduler, "is the default already")
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


def awaited(call: str) -> Any:
    """Return the scheduler of the running loop, for a call that is awaited there; starts nothing.

    Raises:
        SchedulerClosed: If none runs at all.
        WrongThread: If it runs elsewhere: what is awaited here would never be carried on there.
    """
    found = innermost()
    if found is None:
        found = _known.default
    if found is None or not found.is_open:
        raise SchedulerClosed(SchedulerClosed.NO_SCHEDULER)
    found.check_thread(call)
    return found


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
                    # Said once: the first is the default from now on.
                    known.plain.remove(other)
                    raise _conflict(default, other, "was there first")
        asked = default is not None
        if default is None:
            default = cls.unasked()
        if not default.is_open:
            known.default = default
            known.asked = asked
            try:
                default.start_thread()
            except BaseException:
                known.default = None
                raise
        return default


def _conflict(first: Life, second: Life, how: str) -> SchedulerConflict:
    different = ", ".join(_differences("", first.options, second.options))
    return SchedulerConflict(
        f"two plain schedulers with different options ({different}): the first {how}, and stays "
        "the default. Construct one, or open the other by itself (`with Scheduler(...) as s:`, "
        "`async with`) before anything uses the default, or after Scheduler.instance().close()"
    )


def _differences(name: str, one: Any, other: Any) -> list[str]:
    """Say which options differ: ``name='a' and 'b'``; what has no repr (a secret) is only named."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = list(dict.fromkeys([*one, *other]))
        pairs = [(key, one.get(key), other.get(key), True) for key in keys]
    elif is_dataclass(one) and type(one) is type(other):
        pairs = []
        for field in fields(one):
            if field.compare:
                key = field.metadata.get("option", field.name)
                ours, theirs = getattr(one, field.name), getattr(other, field.name)
                pairs.append((key, ours, theirs, field.repr))
    else:
        return [f"{name}={one!r} and {other!r}"]
    found: list[str] = []
    for key, ours, theirs, shown in pairs:
        if ours != theirs:
            found += _differences(key, ours, theirs) if shown else [key]
    return found

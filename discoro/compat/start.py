"""The scheduler of an old program: the first one constructed, else one that the first coroutine starts."""

from __future__ import annotations

import os
import threading
from typing import Any

from discoro.scheduler import default
from discoro.scheduler.errors import SchedulerConflict
from discoro.schedulers import Scheduler
from discoro.statefolder import StateFolder


class _Ours:
    """The default scheduler that was constructed here."""

    scheduler: Scheduler | None = None
    lock = threading.RLock()


def is_there() -> bool:
    """Whether there is a scheduler, so that :func:`home` starts none."""
    ours = _Ours.scheduler
    return default.innermost() is not None or (ours is not None and ours.is_open)


def home(options: dict[str, Any] | None = None) -> Scheduler:
    """The scheduler there is, whatever its options; one with these where there is none."""
    if default.innermost() is None:
        with _Ours.lock:
            if _Ours.scheduler is None or not _Ours.scheduler.is_open:
                return _started(options or {"dest_path": received()})
    return Scheduler.instance()


def _started(options: dict[str, Any]) -> Scheduler:
    ours = None
    try:
        ours = Scheduler(**options)
        found = Scheduler.instance()
    except SchedulerConflict:  # the program has one of discoro's own
        if ours is not None:
            ours.close()
        return Scheduler.instance()
    _Ours.scheduler = ours
    return found


def received() -> str:
    """The folder for files where none was named."""
    return os.path.join(StateFolder().path, "received")

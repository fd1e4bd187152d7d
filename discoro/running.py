"""discoro.run: one function from start to end, as ``asyncio.run`` does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from discoro.schedulers import Scheduler

_OPTIONS = [name for name in inspect.signature(Scheduler).parameters if name != "self"]
# Those that are not for users; they work, and the text of an error does not offer them.
_OURS = {"sockets", "role", "local", "outbound_only", "predecessor", "workdir", "limits"}


def run(func: Callable[..., Any], *args: Any, **scheduler_options: Any) -> Any:
    """Run ``func(*args)`` in a new scheduler; gives its result, or raises what it raised.

    What is left when it ends is cancelled. The first Ctrl-C terminates everything within a second and raises
    KeyboardInterrupt; a second one ends the process at once. In a running loop use ``async with Scheduler():``.

    Args:
        func: A generator function or a coroutine function; a parameter of it named ``coro`` gets its own Coro.
        args: Its positional arguments; for keyword arguments use ``functools.partial``.
        scheduler_options: Options of :class:`Scheduler`.

    Raises:
        NotACoroutine: If ``func`` is something else; it is a TypeError.
        TypeError: If an option is not one of the scheduler's.
    """
    unknown = sorted(set(scheduler_options) - set(_OPTIONS))
    if unknown:
        raise TypeError(
            f"{unknown[0]!r} is not an option of Scheduler "
            f"({', '.join(name for name in _OPTIONS if name not in _OURS)}); "
            "keyword arguments of the function go with it: run(functools.partial(func, key=value))"
        )
    return Scheduler(**scheduler_options).run(func, *args)

"""What a yield means, and how values and exceptions pass between stacked frames. Pure.

A coroutine is a stack of frames. A *frame* is a generator, or what ``async def`` makes; the one on
top runs. In a generator ``x = yield y``::

    y is a generator or awaitable   it becomes the new top; what it returns becomes x, what it raises
                                    is raised at the yield
    y is anything else              x is y, after the others have had their turn

An ``async def`` frame stacks what it awaits by itself; what comes out of it is a future, or ``None``
(``asyncio.sleep(0)``), or one of our own waits.

Ending a coroutine means ``GeneratorExit`` to a generator and ``CancelledError`` to everything else:
generators of 2014 know the first, asyncio's tools need the second. The exception is exchanged where
it passes from one kind of frame to the other (:func:`suited`). ``CancelledError`` is asyncio's and an
argument here.
"""

from __future__ import annotations

from collections.abc import Awaitable
from opcode import opmap
from types import CodeType, CoroutineType, GeneratorType
from typing import Any

_ITERABLE_COROUTINE = 0x100  # inspect.CO_ITERABLE_COROUTINE: made by types.coroutine, awaited
_RAISE_VARARGS = opmap["RAISE_VARARGS"]

CLEAN_UP_HINT = (
    "a clean-up that itself yields works under `x = yield gen()`, not under `yield from gen()`: "
    "Python closes the inner generator there"
)


def is_generator(frame: Any) -> bool:
    """Return whether ``frame`` is a generator that yields to us, as old programs write them."""
    return type(frame) is GeneratorType and not frame.gi_code.co_flags & _ITERABLE_COROUTINE


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def as_frame(value: Any) -> Any | None:
    """Return the frame that a yielded ``value`` asks to run, or ``None`` if it is a plain value."""
    kind = type(value)
    if kind is CoroutineType or kind is GeneratorType:
        return value
    if hasattr(kind, "__await__"):
        return _awaited(value)
    return None


def suited(
    error: BaseException, frame: Any, cancelled: type[BaseException], cancelling: bool
) -> BaseException:
    """Return ``error`` in the form in which ``frame`` expects it.

    Args:
        error: What shall be thrown into the frame.
        frame: The frame.
        cancelled: asyncio's ``CancelledError``.
        cancelling: Whether somebody wants this coroutine to end. Without that a ``CancelledError`` is
            news about some other future, and stays what it is.
    """
    if is_generator(frame):
        if cancelling and isinstance(error, cancelled):
            return GeneratorExit(*error.args).with_traceback(error.__traceback__)
    elif isinstance(error, GeneratorExit):
        return cancelled(*error.args).with_traceback(error.__traceback__)
    return error


def _code(frame: Any) -> CodeType | None:
    code = getattr(frame, "gi_code", None) or getattr(frame, "cr_code", None)
    return code if isinstance(code, CodeType) else None


def raised_stop_iteration(error: BaseException, frame: Any) -> StopIteration | None:
    """Return the ``StopIteration`` that ``frame`` itself raised, as programs before 3.7 returned values.

    Python turns it into ``RuntimeError`` (PEP 479), and does the same to one that leaked from a
    ``next()``. The two are told apart by the instruction that the frame stood at: ``raise`` or a call.
    """
    stop = error.__cause__
    if not isinstance(error, RuntimeError) or not isinstance(stop, StopIteration):
        return None
    place, code = stop.__traceback__, _code(frame)
    if place is None or place.tb_next is not None or code is None:
        return None
    if place.tb_frame.f_code is not code or place.tb_lasti < 0:
        return None
    return stop if code.co_code[place.tb_lasti] == _RAISE_VARARGS else None


def explain(error: BaseException) -> None:
    """Add to an error of Python's own what the user can do about it."""
    if isinstance(error, RuntimeError) and "ignored GeneratorExit" in str(error):
        error.add_note(CLEAN_UP_HINT)

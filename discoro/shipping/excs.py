"""Exceptions to bytes and back: the original type and attributes, and the remote traceback's text.

What travels is a pickled tuple of plain values::

    (type name, text, traceback text, frames, pickle of the exception, its bare parts)

with ``frames`` as (file, line, function) from the outermost on. The exception is pickled by itself
inside, because it may not load here: then its bare parts (type, args, attributes) are tried, which
helps the many exceptions whose ``__init__`` takes other arguments than it passes on, and last comes
:class:`~discoro.shipping.errors.RemoteError`, which is text only.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

from discoro.shipping.dumping import dumps
from discoro.shipping.errors import RemoteError
from discoro.shipping.loading import HOME
from discoro.shipping.privatenames import plain_file, plain_module, plain_text
from discoro.shipping.unpickling import NameResolver, loads

_MOST_FRAMES = 200
_MOST_TEXT = 200_000

Frame = tuple[str, int, str]


class RemoteTraceback(Exception):
    """The traceback of the other process; the cause of an exception that came from there.

    Attributes:
        text: The traceback, with the source lines of the other side.
        frames: (file, line, function) of each frame, outermost first.
    """

    def __init__(self, text: str, frames: tuple[Frame, ...] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.frames = frames

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}\n"

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (self.text, self.frames)

    @property
    def traceback(self) -> TracebackType | None:
        """The remote frames as a traceback object, for debuggers and formatters; None if unknown."""
        if not self.frames:
            return None
        from tblib import Traceback

        chain: dict[str, Any] | None = None
        for filename, line, name in reversed(self.frames):
            code = {"co_filename": filename, "co_name": name}
            frame = {"f_globals": {"__name__": name, "__file__": filename}, "f_code": code}
            frame["f_lineno"] = line  # type: ignore[assignment]
            chain = {"tb_frame": frame, "tb_lineno": line, "tb_next": chain}
        made: TracebackType = Traceback.from_dict(chain).as_traceback()
        return made


def encode_exception(error: BaseException, traceback_text: str | None = None) -> bytes:
    """Return ``error`` as bytes for :func:`decode_exception`; never raises.

    Args:
        error: The exception; its own traceback, cause and context go as text.
        traceback_text: The text, if it was made before (see :func:`format_exception`).
    """
    text = format_exception(error) if traceback_text is None else plain_text(traceback_text)
    head = type_name(type(error)), _text(error), text[-_MOST_TEXT:], _frames(error)
    whole = _try_dumps(error)
    bare = None
    if not _plainly_made(type(error)):
        bare = _try_dumps((type(error), error.args, vars(error)))
    return dumps((*head, whole, bare))


def decode_exception(data: bytes | memoryview, names: NameResolver | None = None) -> BaseException:
    """Return the exception whose bytes these are; never raises, except KeyboardInterrupt.

    Its ``__cause__`` is a :class:`RemoteTraceback`, where it was raised there.

    Args:
        data: What :func:`encode_exception` returned.
        names: The code space of the coroutine that receives it; None for a user's own program.
    """
    try:
        name, text, remote, frames, whole, bare = loads(data)
    except Exception as failure:
        return RemoteError("unreadable", f"an exception arrived damaged: {failure}", "")
    error = _whole(whole, names) or _bare(bare, names) or RemoteError(name, text, remote)
    _translate(error)
    # Of what was never raised there, only told, there is no traceback.
    error.__cause__ = RemoteTraceback(remote, frames) if frames else None
    return error


def _translate(error: BaseException) -> None:
    """Put plain names where the text of the exception holds private ones."""
    args = tuple(plain_text(arg) if type(arg) is str else arg for arg in error.args)
    if args != error.args:
        error.args = args
        if isinstance(error, ImportError):
            error.msg = plain_text(str(error.msg))
    if isinstance(error, (ImportError, NameError, AttributeError)) and type(error.name) is str:
        error.name = plain_module(error.name)


def format_exception(error: BaseException) -> str:
    """Return the traceback as users read it: plain names, source lines, chained exceptions.

    The notes of ``error`` itself are left out: they travel with it, and would show twice.
    """
    try:
        made = traceback.TracebackException.from_exception(error, compact=True)
        made.__notes__ = None
        lines = "".join(made.format())
    except Exception as failure:
        # A user's __str__ or source lookup may raise; the frames are still worth having.
        lines = "".join(traceback.format_tb(error.__traceback__))
        lines += f"{type_name(type(error))} <its traceback could not be formatted: {failure!r}>\n"
    return plain_text(lines)


def type_name(kind: type) -> str:
    """Return the type's name as users write it."""
    module = plain_module(getattr(kind, "__module__", "") or "")
    if module in ("builtins", "__main__", ""):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return plain_text(str(error))
    except Exception as failure:
        return f"<its text could not be made: {type(failure).__name__}>"


def _frames(error: BaseException) -> tuple[Frame, ...]:
    walked = list(traceback.walk_tb(error.__traceback__))
    return tuple(
        (plain_file(frame.f_code.co_filename), line, frame.f_code.co_name)
        for frame, line in walked[-_MOST_FRAMES:]
    )


def _plainly_made(kind: type[BaseException]) -> bool:
    """Does pickle's way, calling the type with ``args``, surely work for this type?"""
    return not any(
        name in vars(cls)
        for cls in kind.__mro__
        if cls.__module__ != "builtins"
        for name in ("__init__", "__new__", "__reduce__", "__reduce_ex__", "__setstate__")
    )


def _try_dumps(value: Any) -> bytes | None:
    try:
        return dumps(value)
    except Exception:
        return None


def _whole(data: bytes | None, names: NameResolver | None) -> BaseException | None:
    if data is None:
        return None
    try:
        error = loads(data, names or HOME)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _bare(data: bytes | None, names: NameResolver | None) -> BaseException | None:
    if data is None:
        return None
    try:
        kind, args, attributes = loads(data, names or HOME)
        error = kind.__new__(kind, *args)
        error.args = args
        vars(error).update(attributes)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None

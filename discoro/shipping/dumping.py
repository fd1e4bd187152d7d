"""User values to bytes: msgpack for flat ones, else plain C pickle, and the careful pickler where that will not do."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from discoro.shipping.pickling import CodePickler
from discoro.shipping.plain import packed
from discoro.shipping.unpicklable import explain

_PROGRAM = b"\x8c\x08__main__"
_PROGRAM_OF_WORKERS = b"\x8c\x0b__mp_main__"

_dumps = pickle.dumps


def names_program(data: bytes) -> bool:
    """Does a pickle name something of ``__main__``, which is another module elsewhere?"""
    return 147 in data and (_PROGRAM in data or _PROGRAM_OF_WORKERS in data)


def dumps(value: Any, what: str = "the value", receiver: str | None = None) -> bytes:
    """Return ``value`` as bytes for :func:`loads` in another process.

    Args:
        value: Anything that pickle takes, and functions and classes of ``__main__``, lambdas,
            closures and notebook cells.
        what: Who sends it, for the error.
        receiver: Key of the bundle that the receiver has, where that is known: what only other
            bundles hold then goes by value.

    Raises:
        NotPicklable: It names the part that cannot be sent and the way to it.
    """
    data = packed(value)
    return pickled(value, what, receiver) if data is None else data


def pickled(value: Any, what: str = "the value", receiver: str | None = None) -> bytes:
    """Do what :func:`dumps` does for a value that is not :func:`~.plain.packed`."""
    try:
        data = _dumps(value, 5)
    except Exception:
        return dumps_carefully(value, what, receiver=receiver)
    # Literals, for this is a hot line: 147 is STACK_GLOBAL.
    if 147 in data and (_PROGRAM in data or _PROGRAM_OF_WORKERS in data):
        return dumps_carefully(value, what, receiver=receiver)
    return data


def dumps_carefully(
    value: Any,
    what: str = "the value",
    buffer_callback: Callable[[Any], Any] | None = None,
    receiver: str | None = None,
) -> bytes:
    """Return ``value`` as bytes, by the careful pickler at once."""
    try:
        return _careful(value, buffer_callback, receiver)
    except Exception as error:
        raise explain(what, value, _careful, error) from error


def _careful(
    value: Any,
    buffer_callback: Callable[[Any], Any] | None = None,
    receiver: str | None = None,
) -> bytes:
    with io.BytesIO() as file:
        CodePickler(file, buffer_callback, receiver).dump(value)
        return file.getvalue()

"""Who else can change what a coroutine has returned: what nobody else holds is sent as it lies there, without a copy.

CPython counts the references to every object. Those that the end of a run itself holds are known (a test counts them, on each
Python); one more, and somebody else may change the value while its bytes go out. The same is asked of all that is in it, and of
what the memory of an array belongs to. In doubt the answer is no: it costs a copy. Not seen is a slice, kept by the program, of
the memoryview that NumPy keeps as the base of an array which came from elsewhere.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

_IMMUTABLE = frozenset({int, float, complex, bool, str, bytes, type(None)})
# How many items are looked at: what has more is not a few big buffers.
_MOST_ITEMS = 64
# Later Pythons count otherwise, and so does one without a GIL.
_COUNTED = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)


def is_alone(value: Any, holders: int) -> bool:
    """Whether ``holders`` references lead to a value, this call's own not counted, and no others to what is in it."""
    # Two: our argument, and that of getrefcount.
    return _COUNTED and sys.getrefcount(value) - 2 <= holders and _has_its_own(value)


def _has_its_own(value: Any) -> bool:
    """Whether nobody else reaches what is in a value."""
    kind = type(value)
    if kind is bytearray or kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is list:
        return len(value) <= _MOST_ITEMS and all(_is_inside(item) for item in value)
    if kind is dict:
        return (
            len(value) <= _MOST_ITEMS
            and all(type(key) in _IMMUTABLE for key in value)
            and all(_is_inside(item) for item in value.values())
        )
    if kind is memoryview:
        below = value.obj
        return _is_inside(below)
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        below = value.base
        return not weakref.getweakrefcount(value) and (below is None or _is_inside(below))
    return False


def _is_inside(value: Any) -> bool:
    """Whether one container, and one variable of whoever asks, hold a value, and nobody else what is in it."""
    return type(value) in _IMMUTABLE or (
        sys.getrefcount(value) <= _ONE_CONTAINER and _has_its_own(value)
    )


def _count(value: Any) -> int:
    return sys.getrefcount(value)


def _one_container() -> int:
    held = [bytearray(1)]
    return max(_count(item) for item in held)


_ONE_CONTAINER = _one_container()

"""Memory for big buffers that costs nothing until bytes arrive in it.

``bytearray(n)`` writes zeros: 256 MiB of them take 300 ms, in which the loop stands still. And what has to become ``bytes``
would have to be copied at the end, for as long again. Both are made here without touching their memory, and the ``bytes`` is
filled in place before anybody else has seen it, as C extensions do. Where that is not CPython, plain ways are taken.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Below this a copy is cheaper than the detour.
_WORTH_IT = 64 << 10
_HEADER = bytes.__basicsize__ - 1


def new_bytearray(size: int) -> bytearray:
    """Return a bytearray whose content is whatever was in its memory."""
    if size < _WORTH_IT or sys.implementation.name != "cpython":
        return bytearray(size)
    make = ctypes.pythonapi.PyByteArray_FromStringAndSize
    made: bytearray = _call(make, size)
    return made


def new_bytes(size: int) -> tuple[bytes | bytearray, Any]:
    """Return a bytes object and a writable view of it, to be filled before the object is used.

    Small ones are a bytearray: a copy of those is cheap.
    """
    if size < _WORTH_IT or sys.implementation.name != "cpython":
        plain = bytearray(size)
        return plain, plain
    made: bytes = _call(ctypes.pythonapi.PyBytes_FromStringAndSize, size)
    memory = (ctypes.c_char * size).from_address(id(made) + _HEADER)
    memory._owner = made  # type: ignore[attr-defined]  # whoever holds the view keeps the memory
    return made, memoryview(memory).cast("B")


def _call(make: Any, size: int) -> Any:
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)
    return ctypes.cast(make, prototype)(None, size)

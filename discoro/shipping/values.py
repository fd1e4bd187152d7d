"""User values to bytes and back: all that the rest of discoro needs of pickling.

A small flat value is packed (:mod:`discoro.shipping.plain`). Any other is a pickle of protocol 5, made
by plain C pickle. Only where that fails, or where the bytes name something of ``__main__``, the careful
pickler (:mod:`discoro.shipping.pickling`) runs instead. No global can be named without the byte 147
(STACK_GLOBAL), so most values cost one search for a byte more than ``pickle.dumps``, and no unpickler
of ours at the other end. The one unpickling of the program stands in :mod:`discoro.shipping.unpickling`.

The out-of-band form, for big values::

    head:    I  number of buffers, little endian; then one byte per buffer
             (0 bytes, 1 bytearray, 2 read-only memory, 3 writable memory); then a pickle
    buffers: the bytes of the buffers, in order
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from itertools import islice
from typing import Any

from discoro.shipping.dumping import dumps, dumps_carefully, names_program, pickled
from discoro.shipping.errors import UndecodableValue
from discoro.shipping.excs import decode_exception, encode_exception
from discoro.shipping.plain import packed, packed_arguments
from discoro.shipping.unpickling import NameResolver, loads, loads_each

#: Buffers above this many bytes go out of band, where the caller asks for that.
OUT_OF_BAND = 1 << 20

_COUNT = struct.Struct("<I")
_BYTES, _BYTEARRAY, _READ_ONLY, _WRITABLE = range(4)


def size_hint(value: Any) -> int:
    """Return roughly how many bytes of ``value`` lie at its top; cheap, never pickles.

    It looks at the value and, when that is a tuple, list or dict, at its items and theirs, at most
    64 of each. Use :func:`dumps_parts` where it is large.
    """
    kind = type(value)
    if kind in _SIZED:
        return len(value)
    if kind not in _CONTAINERS:
        return 0 if kind in _SMALL else _buffer_size(value)
    size = 0
    for item in _items(value, kind):
        kind = type(item)
        if kind in _SMALL:
            continue
        if kind in _SIZED:
            size += len(item)
        elif kind not in _CONTAINERS:
            size += _buffer_size(item)
        elif item:
            inner = _items(item, kind)
            size += sum(len(one) if type(one) in _SIZED else _buffer_size(one) for one in inner)
    return size


#: Values of these types are small, or pickle as fast as they can be copied.
PLAIN = frozenset({int, float, bool, str, type(None)})
_SMALL = frozenset({int, float, bool, type(None)})
_SIZED = frozenset({str, bytes, bytearray})
_CONTAINERS = frozenset({tuple, list, dict})


def _buffer_size(value: Any) -> int:
    size = getattr(value, "nbytes", 0)
    return size if type(size) is int else 0


def _items(value: Any, kind: type) -> Any:
    items = value.values() if kind is dict else value
    return items if len(items) <= 64 else islice(items, 64)


def dumps_parts(
    value: Any, threshold: int = OUT_OF_BAND, what: str = "the value"
) -> tuple[bytes, list[memoryview]]:
    """Return ``value`` as a head and the big buffers beside it, which are not copied.

    ``bytes`` and ``bytearray`` above ``threshold`` bytes go beside when they are the value itself,
    an item of its top-level tuple, list or dict, or an item of one of those (so: also arguments);
    so does every other big buffer that protocol 5 hands out, for example of numpy arrays. The views
    borrow the memory: keep the value unchanged until they are sent, or copy them.

    Raises:
        NotPicklable: It names the part that cannot be sent and the way to it.
    """
    kinds = bytearray()
    views: list[memoryview] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes <= threshold:
            return True
        views.append(view)
        kinds.append(_kind(view))
        return False

    marked = _mark(value, threshold, 2)
    try:
        data = pickle.dumps(marked, 5, buffer_callback=beside)
        plainly = not names_program(data)
    except Exception:
        plainly = False
    if not plainly:
        views.clear()
        kinds.clear()
        data = dumps_carefully(marked, what, beside)
    return _COUNT.pack(len(views)) + bytes(kinds) + data, views


def part_kinds(head: bytes | memoryview) -> list[str]:
    """Return, per buffer, ``"bytes"`` or ``"bytearray"``: what to receive it into without a copy."""
    kinds, _ = _split(head)
    return ["bytes" if kind in (_BYTES, _READ_ONLY) else "bytearray" for kind in kinds]


def loads_parts(
    head: bytes | bytearray | memoryview,
    buffers: Sequence[bytes | bytearray | memoryview],
    names: NameResolver | None = None,
) -> Any:
    """Return the value from what :func:`dumps_parts` returned; writable where it was.

    Buffers of the kind that :func:`part_kinds` names are not copied.

    Raises:
        UndecodableValue: As :func:`loads`.
    """
    try:
        kinds, data = _split(head)
        if len(kinds) != len(buffers):
            raise ValueError(f"{len(buffers)} buffers arrived, and {len(kinds)} were announced")
    except (ValueError, struct.error) as error:
        raise UndecodableValue(str(error)) from error
    fitting = [_fitting(kind, buffer) for kind, buffer in zip(kinds, buffers, strict=True)]
    return loads(data, names, fitting)


def _split(head: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
    (count,) = _COUNT.unpack_from(head)
    end = _COUNT.size + count
    if end > len(head):
        raise ValueError("the head of a big value is cut")
    return bytes(head[_COUNT.size : end]), bytes(head[end:])


def _kind(view: memoryview) -> int:
    owner = type(view.obj)
    if owner is bytes:
        return _BYTES
    if owner is bytearray:
        return _BYTEARRAY
    return _READ_ONLY if view.readonly else _WRITABLE


def _fitting(kind: int, buffer: bytes | bytearray | memoryview) -> Any:
    """Return the buffer as an object of the announced kind, copied only if it is another."""
    whole: Any = buffer
    if isinstance(buffer, memoryview) and type(buffer.obj) in (bytes, bytearray):
        whole = buffer.obj if memoryview(buffer.obj).nbytes == buffer.nbytes else buffer
    if kind == _BYTES:
        return whole if type(whole) is bytes else bytes(buffer)
    if kind == _BYTEARRAY:
        return whole if type(whole) is bytearray else bytearray(buffer)
    if kind == _WRITABLE and memoryview(buffer).readonly:
        return bytearray(buffer)
    return buffer


class _Beside:
    """Stands for big bytes at the top of a value; arrives as what it stands for."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return as_it_was, (pickle.PickleBuffer(self.data),)


def as_it_was(buffer: Any) -> Any:
    """Return the object itself that lies out of band, which has its own type already."""
    return buffer.obj if type(buffer) is memoryview else buffer


def _mark(value: Any, threshold: int, depth: int) -> Any:
    """Return ``value`` with stand-ins for big bytes; containers without any are the same object."""
    kind = type(value)
    if (kind is bytes or kind is bytearray) and len(value) > threshold:
        return _Beside(value)
    if not depth or kind not in (tuple, list, dict):
        return value
    items = value.values() if kind is dict else value
    marked = [_mark(item, threshold, depth - 1) for item in items]
    if all(new is old for new, old in zip(marked, items, strict=True)):
        return value
    if kind is dict:
        return dict(zip(value, marked, strict=True))
    return tuple(marked) if kind is tuple else marked


__all__ = [
    "NameResolver",
    "decode_exception",
    "dumps",
    "dumps_carefully",
    "dumps_parts",
    "encode_exception",
    "loads",
    "loads_each",
    "loads_parts",
    "packed",
    "packed_arguments",
    "part_kinds",
    "pickled",
    "size_hint",
]

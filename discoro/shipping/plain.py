"""Flat values as msgpack: most messages, arguments and results are a number, a word, or a handful of them.

Packing those takes a third of the time of a pickle, and unpacking needs no look for names. What
arrives is what was sent, also in its types; so only what msgpack tells apart goes this way:

* None, bool, float, str, and int of 64 bits, each exactly of that type, no subclass;
* a tuple of at most 8 of these; arrays arrive as tuples, so lists are pickled;
* a dict with at most 8 of these as values, whatever its keys are that msgpack takes.

All other values are pickled. The first byte tells which it is: a pickle begins with 128 (PROTO), which
would be an empty dict here, and that is pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import msgpack

#: First byte of a pickle of protocol 2 and above, and of no value that was packed here.
PICKLED = 128
#: Longer strings are pickled: a packer keeps the memory of the longest that it has packed.
SHORT = 1024
#: What is small whatever its value is; beside int and str, which are looked at first.
ATOMS = frozenset({float, bool, type(None)})
#: As many items are looked at.
FEW = 8

Pack: TypeAlias = Callable[[Any], bytes]


def dict_packer() -> Pack:
    """Return what packs a dict with small values; it refuses subclasses, because nobody has looked at the keys.

    Not to be called again before it has returned. That can happen where it fails: the error is an object, making one may start
    the garbage collector (on 3.11), and that a finalizer, which may send, or give way to another thread.
    """
    pack: Pack = msgpack.Packer(strict_types=True).pack
    return pack


_pack_dict = dict_packer()
_pack_flat: Pack = msgpack.Packer().pack
_packing = False
#: What packing raises for an int of more than 64 bits, half a surrogate pair, a key that msgpack has no form for.
UNPACKABLE = (OverflowError, ValueError, TypeError)

_unpack = msgpack.unpackb
_first = itemgetter(0)
# "array 32" of the specification of msgpack: the number of items follows in four bytes.
_ARRAY = b"\xdd"


def packed(value: Any) -> bytes | None:
    """Return ``value`` as msgpack where it is flat and small; None otherwise: then it is to be pickled."""
    kind = type(value)
    if kind is dict or kind is tuple:
        if not 0 < len(value) <= FEW or not all_small(value.values() if kind is dict else value):
            return None
    elif kind is not int and kind not in ATOMS and (kind is not str or len(value) > SHORT):
        return None
    return _by(_pack_dict if kind is dict else _pack_flat, value)


def packed_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
    """Return ``(args,)``, or ``(args, kwargs)`` if there are any, as msgpack where they are few and small; None otherwise."""
    if len(args) > FEW or not all_small(args):
        return None
    if not kwargs:
        return _by(_pack_flat, (args,))
    if len(kwargs) > FEW or not all_small(kwargs.values()):
        return None
    return _by(_pack_flat, (args, kwargs))


def _by(pack: Pack, value: Any) -> bytes | None:
    global _packing
    if _packing:
        return None
    _packing = True
    try:
        return pack(value)
    except UNPACKABLE:
        return None
    finally:
        _packing = False


def all_small(items: Any) -> bool:
    """Return whether each of some values may be packed, as far as its type and length tell."""
    for item in items:
        kind = type(item)
        if kind is not int and (kind is not str or len(item) > SHORT) and kind not in ATOMS:
            return False
    return True


def unpacked(data: bytes) -> Any:
    """Return the value that :func:`packed` has packed.

    Raises:
        Exception: Of msgpack, or ValueError: it is something else.
    """
    return _unpack(data, use_list=False, strict_map_key=False)


def all_unpacked(payloads: Sequence[bytes | memoryview]) -> list[Any] | None:
    """Return the values of many messages, read as one array in a third less time; None where that is not possible.

    It is not where one of them was not packed, or the whole is damaged: then each has to be looked at alone. A sender whose pieces
    are no values by themselves, but are as many together, gets those.
    """
    try:
        if PICKLED in bytes(map(_first, payloads)):
            return None
        count = len(payloads).to_bytes(4, "big")
        return list(unpacked(b"".join((_ARRAY, count, *payloads))))
    except Exception:  # whatever is the matter is said of the one message it is the matter with
        return None

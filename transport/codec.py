"""Control data <-> bytes: msgpack with a closed vocabulary and limits.

Pure. Allowed are None, bool, int (64 bits), float, str, bytes, lists, and maps with str keys; nothing else
goes out, nothing else comes in. User values are never written with this: they travel as opaque bytes, because
nested msgpack grows 64-fold when it is unpacked, and because only one place in the program may load pickles.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgpack

from .errors import ControlError
from .limits import Limits

#: What control data is made of; a recursive type would not help its users, who check each field anyway.
Control: TypeAlias = Any

_PLAIN = (bool, int, float, str, bytes)


def encode(value: Control, limits: Limits) -> bytes:
    """Return ``value`` as bytes.

    Raises:
        ControlError: If it holds something outside the vocabulary, or goes beyond the limits. The fault is ours.
    """
    _check(value, limits, limits.control_depth)
    try:
        data: bytes = msgpack.packb(value, use_bin_type=True)
    except (ValueError, OverflowError) as exc:
        raise ControlError(f"control data cannot be written: {exc}") from exc
    if len(data) > limits.max_payload:
        raise ControlError(f"control data of {len(data)} bytes, at most {limits.max_payload}")
    return data


def decode(data: bytes | bytearray | memoryview, limits: Limits) -> Control:
    """Return what ``data`` says.

    Raises:
        ControlError: If it is not exactly one value of the vocabulary within the limits.
    """
    if len(data) > limits.max_payload:
        raise ControlError(f"control data of {len(data)} bytes, at most {limits.max_payload}")
    seen = 0

    def count(items: Any) -> Any:
        # Lists of lists would take sixty times their bytes: all items together are bounded, while they are read.
        nonlocal seen
        seen += len(items) + 1
        if seen > 4 * limits.control_items:
            raise ControlError(f"more than {4 * limits.control_items} items in control data")
        return items

    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            list_hook=count,
            object_hook=count,
            max_array_len=limits.control_items,
            max_map_len=limits.control_items,
            max_str_len=limits.max_payload,
            max_bin_len=limits.max_payload,
            max_ext_len=0,
        )
    except (
        Exception
    ) as exc:  # msgpack lets out half a dozen classes, RecursionError-like ones among them
        raise ControlError(f"control data cannot be read: {type(exc).__name__}: {exc}") from exc
    _check(value, limits, limits.control_depth)
    return value


def _check(value: Control, limits: Limits, depth: int) -> None:
    """Raise :class:`ControlError` unless ``value`` is of the vocabulary and at most ``depth`` deep."""
    if value is None or type(value) in _PLAIN:
        return
    if depth <= 0:
        raise ControlError(f"control data nested deeper than {limits.control_depth}")
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise ControlError(f"key of type {type(key).__name__} in control data")
        items = list(value.values())
    elif type(value) is list or type(value) is tuple:
        items = list(value)
    else:
        raise ControlError(f"{type(value).__name__} in control data")
    if len(items) > limits.control_items:
        raise ControlError(f"{len(items)} items in control data, at most {limits.control_items}")
    for item in items:
        _check(item, limits, depth - 1)


def field(data: Control, name: str, kind: type[Any], default: Control = None) -> Any:
    """Return ``data[name]``, which must be of type ``kind``; ``default`` stands in for what is missing.

    Raises:
        ControlError: If ``data`` is no map, or the field is missing without a default, or is of another type.
    """
    if type(data) is not dict:
        raise ControlError(f"{type(data).__name__} where a map of control data should be")
    value = data.get(name, default)
    if type(value) is not kind:
        raise ControlError(f"field {name!r} is {type(value).__name__}, expected {kind.__name__}")
    return value

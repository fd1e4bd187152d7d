"""Sizes and lengths of time as people type and read them: ``512M``, ``1.5GiB``, ``30s``, ``5min``. Pure."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Return the number of bytes; K, M, G and T, with B or iB behind them or not, are powers of 1024.

    Raises:
        ValueError: Saying what a size looks like.
    """
    found = _NUMBER.fullmatch(text)
    unit = found[2].lower().removesuffix("b").removesuffix("i") if found else "?"
    if found is None or unit not in _SIZES or found[2].lower() in ("i", "ib"):
        raise ValueError(f"{text!r} is no size; 500000, 100K, 20M, 1.5G are")
    return int(float(found[1]) * _SIZES[unit]) if "." in found[1] else int(found[1]) * _SIZES[unit]


def parse_seconds(text: str) -> float:
    """Return the number of seconds.

    Raises:
        ValueError: Saying what a length of time looks like.
    """
    found = _NUMBER.fullmatch(text)
    unit = found[2].lower() if found else "?"
    if found is None or unit not in _TIMES:
        raise ValueError(f"{text!r} is no length of time; 30, 30s, 1.5min, 1h are")
    return float(found[1]) * _TIMES[unit]


def size_text(size: int) -> str:
    """Return a number of bytes as people write it: ``2.1 GiB``, ``512 MiB``."""
    amount, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{_three_digits(amount)} {units[0]}"


def seconds_text(seconds: float) -> str:
    """Return a length of time as people write it: ``31 s``, ``1.5 s``, ``5 min``."""
    if seconds < 120:
        return f"{_three_digits(seconds)} s"
    if seconds < 7200:
        return f"{_three_digits(seconds / 60)} min"
    return f"{_three_digits(seconds / 3600)} h"


def _three_digits(amount: float) -> str:
    """Return an amount with three digits, or as a whole number where that has more."""
    return f"{amount:.3g}" if amount < 999.5 else f"{amount:.0f}"

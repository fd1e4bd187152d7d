"""What calls are given, checked where they are made: the caller hears of it, and nothing was sent. Pure."""

from __future__ import annotations

import math
from typing import Any


def check_timeout(timeout: Any) -> None:
    """See that ``timeout`` is a number of seconds, or None for "as long as it takes".

    Raises:
        TypeError: If it is something else.
        ValueError: If it is no number at all (nan), which would never pass.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError(f"a timeout is a number of seconds or None, not {timeout!r}")


def check_name(name: Any, what: str = "a name") -> None:
    """See that ``name`` is a text that can be written in UTF-8, as names go over the network.

    Raises:
        TypeError: If it is no text, or empty.
        ValueError: If it holds half a character (a lone surrogate), as from a file name that is no UTF-8.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what} is a text that is not empty, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is a text that UTF-8 can hold, not {name!r}") from None


def check_count(count: Any, what: str = "n") -> None:
    """See that ``count`` is a number of things.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is negative.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{what} is a whole number, not {count!r}")
    if count < 0:
        raise ValueError(f"{what} is not negative, as {count} is")

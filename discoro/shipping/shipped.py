"""Which code this process has shipped (bundles), and which was shipped to it (code spaces).

The two tables belong to the process, as ``sys.modules`` does, because a name in an arriving pickle
means the same whichever scheduler it arrives at. Their keys are random, so nobody's entries meet.
A bundle is listed while it lives; a code space from its making to its ``close``.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class Shipped(Protocol):
    """One side of a computation's code: objects that travelled by value, by number.

    ``key`` is the bundle's id as 32 hex digits.
    """

    key: str

    def number_of(self, thing: Any) -> int | None:
        """Return the number of ``thing``, if it travelled by value with this bundle."""

    def numbered(self, number: int) -> Any:
        """Return this side's own object with that number."""

    def named(self, module: str, name: str) -> Any:
        """Return this side's own object of that plain module and qualified name, or raise."""


bundles: weakref.WeakValueDictionary[str, Shipped] = weakref.WeakValueDictionary()
spaces: dict[str, Shipped] = {}


def candidates(thing: Any) -> list[tuple[str, int]]:
    """Return (bundle id, number) for every bundle that holds ``thing`` by value."""
    found = []
    for ref in bundles.valuerefs():
        bundle = ref()
        number = None if bundle is None else bundle.number_of(thing)
        if bundle is not None and number is not None:
            found.append((bundle.key, number))
    for key, space in list(spaces.items()):
        number = space.number_of(thing)
        if number is not None:
            found.append((key, number))
    return found

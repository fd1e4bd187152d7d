"""Names: (kind, name) -> thing, in one process. Pure.

Kinds are "coro", "channel" and "rci". A thing may have several names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .checks import check_name
from .errors import NameTaken

Key = tuple[str, str]


class Names:
    """What is registered, and who waits for it to be."""

    def __init__(self) -> None:
        self._things: dict[Key, Any] = {}
        self._keys: dict[int, set[Key]] = {}
        self._waiting: dict[Key, dict[object, Callable[[Any], None]]] = {}

    def register(self, kind: str, name: str, thing: Any) -> bool:
        """Enter a name; False if ``thing`` has it already.

        Raises:
            NameTaken: If another thing has it.
            TypeError, ValueError: If ``name`` is no text, or empty, or cannot be encoded.
        """
        check_name(name)
        key = kind, name
        if key in self._things:
            if self._things[key] is not thing:
                raise NameTaken(kind, name)
            return False
        self._things[key] = thing
        self._keys.setdefault(id(thing), set()).add(key)
        for callback in self._waiting.pop(key, {}).values():
            callback(thing)
        return True

    def unregister(self, kind: str, name: str, thing: Any) -> bool:
        """Take a name out; False if ``thing`` does not have it."""
        check_name(name)
        key = kind, name
        if self._things.get(key) is not thing:
            return False
        del self._things[key]
        keys = self._keys[id(thing)]
        keys.discard(key)
        if not keys:
            del self._keys[id(thing)]
        return True

    def of(self, thing: Any) -> list[Key]:
        """Return the names that ``thing`` has."""
        return sorted(self._keys.get(id(thing), ()))

    def get(self, kind: str, name: str) -> Any | None:
        """Return the thing of that name, or None."""
        return self._things.get((kind, name))

    def items(self) -> list[tuple[str, str, Any]]:
        """Return every name: (kind, name, thing)."""
        return [(kind, name, thing) for (kind, name), thing in self._things.items()]

    def wait(self, kind: str, name: str, token: object, callback: Callable[[Any], None]) -> None:
        """Call ``callback(thing)`` once when the name is registered."""
        self._waiting.setdefault((kind, name), {})[token] = callback

    def stop_waiting(self, kind: str, name: str, token: object) -> None:
        """Take a :meth:`wait` back; ignored if there is none."""
        waiting = self._waiting.get((kind, name))
        if waiting is not None:
            waiting.pop(token, None)
            if not waiting:
                del self._waiting[kind, name]

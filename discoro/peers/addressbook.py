"""What is known of processes beyond their sessions: names, addresses that led to them, and which of them are dead.

Pure. References outlive sessions; here they find the way to dial again, and people the name of who is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from discoro.errors import DiscoroError, ServerKilled
from discoro.transport.addresses import Location

Address = tuple[str, int]


@dataclass(slots=True)
class Known:
    """One process.

    Attributes:
        name: Its name.
        seen: Address that was dialled, or that it called from.
        dialled: Whether ``seen`` was dialled, and so may be dialled again.
        given: Whether a user typed that address.
        announced: Where it says it listens; port 0 where it does not.
        dead: How it ended, where that is known for sure.
    """

    name: str
    seen: Address
    dialled: bool
    given: bool
    announced: Address
    dead: ServerKilled | None = None


class AddressBook:
    """The processes that one scheduler has met.

    Args:
        most: How many are remembered, those met last.
    """

    def __init__(self, most: int = 16_384) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def met(
        self,
        process: bytes,
        name: str,
        seen: Address,
        announced: Address,
        *,
        dialled: bool,
        given: bool,
    ) -> None:
        """There is a session with a process."""
        self._known[process] = Known(name, seen, dialled, given, announced)
        self._known.move_to_end(process)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def ended(self, process: bytes, error: DiscoroError) -> None:
        """The session with a process is over; remember if that is because the process is."""
        known = self._known.get(process)
        if known is not None and isinstance(error, ServerKilled):
            known.dead = error

    def dead(self, process: bytes) -> ServerKilled | None:
        """How a process ended, where that is known for sure; it will not come back."""
        known = self._known.get(process)
        return None if known is None else known.dead

    def name(self, process: bytes) -> str:
        """Its name, or the beginning of its id."""
        known = self._known.get(process)
        return known.name if known is not None else process.hex()[:8]

    def location(self, process: bytes, hint: Address | None) -> Location:
        """Where it is, or was, as far as known."""
        known = self._known.get(process)
        if known is None:
            host, port = hint or ("unknown", 0)
            return Location(host or "unknown", port, None, process)
        host, port = known.seen if known.dialled or not known.announced[1] else known.announced
        return Location(host or "unknown", port, known.name, process)

    def ways(self, process: bytes, hint: Address | None) -> list[tuple[Address, bool]]:
        """Addresses to dial it at, the best first, each with whether a user typed it."""
        known = self._known.get(process)
        ways: list[tuple[Address, bool]] = []
        if known is not None and known.dialled:
            ways.append((known.seen, known.given))
        if hint is not None:
            ways.append((hint, False))
        if known is not None:
            ways.append((known.announced, False))
        found = dict(reversed([way for way in ways if way[0][0] and way[0][1]]))
        return list(reversed(found.items()))

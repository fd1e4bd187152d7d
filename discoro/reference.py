"""What all references to things of other processes have in common: who is meant, and the way there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from discoro import registry
from discoro.transport.addresses import Location

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoro.peers.network import Network
    from discoro.peers.peer import Peer


class Reference:
    """A thing of another process: (process id, number). Compares equal everywhere, and can be sent to anybody.

    Attributes:
        process: Id of its process.
        number: Its number there.
        name: Its name, for people.
        hint: (host, port) that its process announced, for whoever has no session with it.
        code: Key of the bundle whose code it runs, where that is known here.
        resolve: What a pickled one calls where it arrives.
    """

    __slots__ = ("_network", "_peer", "code", "hint", "name", "number", "process")

    resolve: ClassVar[Callable[..., Any]]

    if not TYPE_CHECKING:
        # Named, so that it is C's own also below Coro, which has one in Python.
        __new__ = object.__new__

    def __init__(
        self,
        network: Network | None,
        process: bytes,
        number: int,
        name: str = "",
        hint: tuple[str, int] | None = None,
    ) -> None:
        # None for one that came in a message: then the scheduler of whoever uses it first is taken.
        self._network = network
        self._peer: Peer | None = None
        self.process = process
        self.number = number
        self.name = name
        self.hint = hint
        self.code: str | None = None

    def __repr__(self) -> str:
        return (
            f"<discoro.{type(self).__name__} {self.name or '?'}/{self.number:x} at {self.location}>"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, type(self)):
            return self.number == other.number and self.process == other.process
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.process, self.number))

    def __reduce__(self) -> tuple[Any, ...]:
        hint = self.network.hint_of(self)
        return type(self).resolve, (self.process, self.number, self.name, *hint)

    @property
    def network(self) -> Network:
        """The network through which it is reached."""
        if self._network is None:
            self._network = registry.scheduler_class().instance().elsewhere
        return cast("Network", self._network)

    @property
    def location(self) -> Location:
        """Where it lives."""
        return self.network.location_of(self.process, self.hint)

    def peer(self) -> Peer:
        """What we have with its process; dials a new session after a loss."""
        peer = self._peer
        if peer is None or peer.ended is not None:
            peer = self._peer = self.network.peer(self.process, self.hint)
        return peer

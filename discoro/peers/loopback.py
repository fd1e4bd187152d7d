"""A session of a process with itself, for references to its own coroutines and computations set up at home.

Entries go through the same handlers as those from elsewhere, at the end of the turn, so that nothing has to know the
difference; there is no encoding of frames and no link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discoro.transport.errors import TransportError

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.transport.frames import Hello


@dataclass(frozen=True)
class _Moved:
    """A transfer that is there as soon as it is expected."""

    number: int
    size: int
    done: Any


class LoopbackBulk:
    """Big buffers of a process to itself: copied when they are expected."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._sent: dict[int, list[memoryview]] = {}
        self._last = 0

    def send(self, source: Any, size: int | None = None) -> _Moved:
        """Number a transfer of these buffers, or of this file."""
        self._last += 1
        if isinstance(source, str) or hasattr(source, "__fspath__"):
            with open(source, "rb") as file:
                source = [memoryview(file.read())]
        self._sent[self._last] = parts = [memoryview(part).cast("B") for part in source]
        done = self._network.loop.create_future()
        return _Moved(self._last, sum(map(len, parts)), done)

    def expect(self, number: int, size: int, into: Any) -> Any:
        """Copy it into its place."""
        future = self._network.loop.create_future()
        parts = self._sent.pop(number)
        place = into() if callable(into) and not hasattr(into, "finish") else into
        if hasattr(place, "finish"):
            for part in parts:
                place.write(part)
            future.set_result(place.finish())
            return future
        if len(place) == size:
            offset = 0
            for part in parts:
                place[offset : offset + len(part)] = part
                offset += len(part)
        future.set_result(None)
        return future

    def cancel(self, number: int, reason: str = "", *, incoming: bool = False) -> None:
        """Forget a transfer."""
        self._sent.pop(number, None)


class LoopbackSession:
    """The part of a session that peers use, towards the own process."""

    def __init__(self, network: Network, hello: Hello) -> None:
        self._network = network
        self.peer = self.ours = hello
        self.first_grant = hello.first_grant
        self.process_id = hello.process_id
        self.address = (hello.host or "localhost", hello.port)
        self.bulk = LoopbackBulk(network)
        self.user: Any = None
        self.congested = False
        #: As in a session: no entry joins one before it, each goes through :meth:`send`.
        self.run_kind = 0
        self.busy = False
        self._entries: list[tuple[int, int, int, bytes]] = []
        self._marked = False

    def send(self, kind: int, target: int, source: int, payload: bytes) -> None:
        """Queue an entry for the end of this turn."""
        self._entries.append((kind, target, source, payload))
        if not self._marked:
            self._marked = True
            self._network.scheduler.flush_later(self)

    def flush(self) -> None:
        """Hand over what was queued, in a turn of its own."""
        self._network.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._marked = False
        entries, self._entries = self._entries, []
        handlers = self._network.inbound.handlers
        for kind, target, source, payload in entries:
            handlers[kind](self, target, source, [payload])  # type: ignore[arg-type]  # as a peer uses it

    async def ping(self, timeout: float | None) -> bool:
        """We are here."""
        return True

    async def room(self) -> None:
        """There is always room."""

    def unacknowledged(self) -> list[Any]:
        """Nothing is lost on the way to oneself."""
        return []

    def lost_error(self) -> TransportError | None:
        """It never ends."""
        return None

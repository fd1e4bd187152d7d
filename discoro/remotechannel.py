"""A channel of another process: the same calls as on a local one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from discoro import registry
from discoro.coro import LocalCoro
from discoro.messages import ChannelDeliver, Done, Subscribe
from discoro.transport.addresses import Location
from discoro.values import dumps

if TYPE_CHECKING:
    from discoro.network import Network
    from discoro.peer import Peer


class RemoteChannel:
    """A reference to a channel of another process."""

    __module__ = "discoro"
    __slots__ = ("_network", "_peer", "hint", "name", "number", "process")

    def __init__(
        self,
        network: Network | None,
        process: bytes,
        number: int,
        name: str,
        hint: tuple[str, int] | None,
    ) -> None:
        self._network = network
        self.process = process
        self.number = number
        self.name = name
        self.hint = hint
        self._peer: Peer | None = None

    def __repr__(self) -> str:
        return f"<discoro.RemoteChannel {self.name} at {self.location}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RemoteChannel):
            return self.number == other.number and self.process == other.process
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.process, self.number))

    def __reduce__(self) -> tuple[Any, ...]:
        return resolve_channel, (
            self.process,
            self.number,
            self.name,
            *self.network.hint_of(self),
        )

    @property
    def network(self) -> Network:
        """The network through which it is reached."""
        if self._network is None:
            self._network = LocalCoro.home().elsewhere
        return cast("Network", self._network)

    @property
    def location(self) -> Location:
        """Where the channel lives."""
        return self.network.location_of(self.process, self.hint)

    def peer(self) -> Peer:
        """What we have with its process; dials a new session after a loss."""
        peer = self._peer
        if peer is None or peer.ended is not None:
            peer = self._peer = self.network.peer(self.process, self.hint)
        return peer

    def send(self, message: Any) -> int:
        """Queue a message for all its subscribers, without waiting; gives 0. From any thread."""
        if threading.get_ident() == self.network.thread:
            self.peer().send_value(self.number, message)
        else:
            self.network.send_from_thread(self, message)
        return 0

    async def deliver(self, message: Any, timeout: float | None = None, n: int = 0) -> int:
        """Put a message into the mailboxes of all subscribers once there are ``n``; gives how many took it."""
        answer = await self.network.requests.ask(
            self.peer(), ChannelDeliver(self.number, dumps(message), n, timeout)
        )
        return answer.value or 0 if isinstance(answer, Done) else 0

    async def subscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Let a coroutine or channel, wherever it lives, get what is sent to this channel; gives 0."""
        await self.network.requests.ask(
            self.peer(), Subscribe(self.number, dumps(subscriber), False)
        )
        return 0

    async def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Take a subscriber out; gives 0."""
        await self.network.requests.ask(
            self.peer(), Subscribe(self.number, dumps(subscriber), True)
        )
        return 0


def resolve_channel(process: bytes, number: int, name: str, host: str, port: int) -> Any:
    """The channel (process, number): itself, if it lives here, else a reference.

    Pickles name this function: its name and arguments are part of the protocol.
    """
    home = registry.home(process)
    if home is not None:
        channel = home.scheduler.by_number.get(number)
        if channel is not None:
            return channel
    return RemoteChannel(home, process, number, name, (host, port) if port else None)

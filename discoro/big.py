"""Messages above 1 MiB: a small numbered entry on the control connection, the bytes beside it.

The entry (kind BIG) names the entry that it stands for (SEND, DELIVER, RUN or RESULT), carries the pickle, and lists
a transfer for each big buffer; the buffers come over the session's bulk connection, straight into the memory that the value
will have. Whatever the same sender sends to the same receiver meanwhile is held back until the value is complete; nobody
else waits.

The payload is control data: ``[kind, receipt, head or null, [[transfer, size], ...]]``; where the pickle itself is big, the first
transfer brings it and ``head`` is null.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from discoro.errors import DiscoroError, NoSuchCoro
from discoro.outcomes import failed
from discoro.peer import OVERHEAD
from discoro.scheduler.outcome import Returned
from discoro.transport import codec
from discoro.transport.errors import ControlError
from discoro.transport.frames import Kind
from discoro.values import dumps_parts, loads_parts, size_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoro.network import Network
    from discoro.peer import Peer
    from discoro.transport.session import Session

log = logging.getLogger("discoro.big")

# Values of these types are small, or pickle as fast as they can be copied.
_PLAIN = frozenset((int, float, bool, str, type(None)))
# A pickle up to this length travels inside the entry.
_INLINE = 512 << 10


class MessageTooBig(DiscoroError):
    """A message is longer than the limit; nothing was sent.

    Attributes:
        size: Its length, in bytes.
        limit: What is allowed, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a message of {size} bytes, and {limit} is the limit: send it in parts, or as a file (send_file)"
        )
        self.size = size
        self.limit = limit


class _Place:
    """Memory for one buffer, made when its transfer's turn has come."""

    __slots__ = ("buffer", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.buffer: bytearray | None = None

    def make(self) -> bytearray:
        """Make it, now."""
        self.buffer = bytearray(self.size)
        return self.buffer


class _Incoming:
    """One big value on its way here."""

    def __init__(
        self, kind: int, target: int, source: int, receipt: int, head: bytes | None
    ) -> None:
        self.kind = kind
        self.target = target
        self.source = source
        self.receipt = receipt
        self.head = head
        # Pickle and buffers together: what its sender counted.
        self.size = len(head or b"")
        self.places: list[_Place] = []
        self.coming: list[asyncio.Future[Any]] = []


class BigMessages:
    """The big messages of one process, both ways."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._incoming: dict[Peer, list[_Incoming]] = {}

    def wants(self, value: Any) -> bool:
        """Whether a value should go beside the control connection, as far as a short look tells."""
        return type(value) not in _PLAIN and size_hint(value) > self._network.limits.max_payload

    # --- sending

    def send(
        self, peer: Peer, kind: int, target: int, value: Any, source: int | None = None
    ) -> None:
        """Queue a big value; its buffers are copied, since the caller may change them."""
        head, buffers = dumps_parts(value)
        if source is None:
            source = self._network.sender_number()
        parts = [memoryview(bytes(buffer)) for buffer in buffers]
        self._post(peer, kind, target, source, 0, head, parts)

    def send_pickled(self, peer: Peer, kind: int, target: int, data: bytes) -> None:
        """Queue a value whose pickle turned out to be big."""
        head = bytes(4) + data  # no buffers: the form of dumps_parts
        self._post(peer, kind, target, self._network.sender_number(), 0, head, [])

    def post(self, peer: Peer, kind: int, target: int, source: int, value: Any) -> list[Any]:
        """Send a big value whose buffers are borrowed until the returned futures are done."""
        head, buffers = dumps_parts(value)
        return self._post(peer, kind, target, source, 0, head, buffers)

    async def deliver(self, peer: Peer, target: int, value: Any, timeout: float | None) -> int:
        """Deliver a big value; its buffers are borrowed until this returns."""
        head, buffers = dumps_parts(value)
        receipt, future = peer.expect_receipt()
        await peer.wait_open()
        transfers = self._post(
            peer, Kind.DELIVER, target, self._network.sender_number(), receipt, head, buffers
        )

        def withdraw() -> None:
            for transfer in transfers:
                peer.bulk.cancel(transfer.number, "withdrawn")

        return await peer.receipt_within(receipt, future, timeout, withdraw)

    def _post(
        self,
        peer: Peer,
        kind: int,
        target: int,
        source: int,
        receipt: int,
        head: bytes,
        buffers: Sequence[memoryview],
    ) -> list[Any]:
        size = len(head) + sum(len(buffer) for buffer in buffers)
        limit = self._network.limits.max_message
        if size > limit:
            raise MessageTooBig(size, limit)
        parts = [buffer.cast("B") for buffer in buffers]
        if len(head) > _INLINE:
            parts.insert(0, memoryview(head))
        transfers = [peer.bulk.send([part], len(part)) for part in parts]
        inline = head if len(head) <= _INLINE else None
        listed = [[transfer.number, transfer.size] for transfer in transfers]
        payload = codec.encode([int(kind), receipt, inline, listed], self._network.limits)
        if kind in (Kind.SEND, Kind.DELIVER):
            peer.queue((Kind.BIG, target, source, payload), size + OVERHEAD, limited=kind == Kind.SEND)
        else:
            peer.post(Kind.BIG, target, source, payload)
        return transfers

    # --- receiving

    def on_big(self, session: Session, target: int, source: int, payloads: Any) -> None:
        """A big value announces itself: make room, and say which bytes are wanted."""
        peer: Peer = session.user
        incoming, listed = self._parse(target, source, payloads[0])
        if incoming.kind in (Kind.SEND, Kind.DELIVER) and peer.inbound.taking(peer, target) is None:
            for number, size in listed:
                peer.refuse_transfer(number, size, "its receiver has ended")
            if incoming.receipt:
                peer.inbound.receipt(peer, incoming.receipt, NoSuchCoro())
            return
        for number, size in listed:
            place = _Place(size)
            incoming.size += size
            incoming.places.append(place)
            incoming.coming.append(peer.bulk.expect(number, size, place.make))
        self._incoming.setdefault(peer, []).append(incoming)
        if incoming.kind in (Kind.SEND, Kind.DELIVER):
            peer.held.setdefault((target, source), [])
        waiting = asyncio.gather(*incoming.coming)
        waiting.add_done_callback(partial(self._complete, peer, incoming))

    def _parse(self, target: int, source: int, data: Any) -> tuple[_Incoming, list[Any]]:
        parts = codec.decode(data, self._network.limits)
        if not isinstance(parts, list) or len(parts) != 4:
            raise ControlError("a big message has four fields")
        kind, receipt, head, listed = parts
        if (
            kind not in (Kind.SEND, Kind.DELIVER, Kind.RUN, Kind.RESULT)
            or type(receipt) is not int
            or not (head is None or type(head) is bytes)
            or type(listed) is not list
        ):
            raise ControlError("a big message with fields of the wrong types")
        total = 0
        for item in listed:
            if type(item) is not list or [type(field) for field in item] != [int, int]:
                raise ControlError("a big message lists [transfer, size]")
            total += item[1]
        if total > self._network.limits.max_message or (head is None and not listed):
            raise ControlError(f"a big message of {total} bytes")
        return _Incoming(kind, target, source, receipt, head), listed

    def _complete(
        self, peer: Peer, incoming: _Incoming, waiting: asyncio.Future[list[Any]]
    ) -> None:
        if incoming in self._incoming.get(peer, ()):
            self._incoming[peer].remove(incoming)
        if waiting.cancelled() or waiting.exception() is not None:
            if peer.ended is None:
                self._release(peer, incoming)
            return
        buffers: list[Any] = [place.buffer for place in incoming.places]
        head = incoming.head
        if head is None:
            head = bytes(buffers[0])
            buffers = buffers[1:]
        self._hand_over(peer, incoming, head, buffers)
        self._release(peer, incoming)

    def _hand_over(self, peer: Peer, incoming: _Incoming, head: bytes, buffers: list[Any]) -> None:
        inbound, target = peer.inbound, incoming.target
        if incoming.kind == Kind.RUN:
            server = self._network.server
            if server is not None:
                server.run_big(peer, target >> 1, bool(target & 1), incoming.source, head, buffers)
            return
        if incoming.kind == Kind.RESULT:
            try:
                peer.run_ended(target, Returned(loads_parts(head, buffers)))
            except DiscoroError as undecodable:
                peer.run_ended(target, failed(undecodable))
            return
        taking = inbound.taking(peer, target)
        error: Exception | None = None
        if taking is None:
            error = NoSuchCoro()
        else:
            try:
                taking.put(loads_parts(head, buffers, taking.names))
            except DiscoroError as undecodable:
                error = inbound.undecodable(peer, target, undecodable)
            inbound.owe(peer, target, taking, incoming.size + OVERHEAD)
        if incoming.receipt:
            inbound.receipt(peer, incoming.receipt, error)

    def _release(self, peer: Peer, incoming: _Incoming) -> None:
        """Let go on what was held back behind a big message."""
        key = (incoming.target, incoming.source)
        others = self._incoming.get(peer, [])
        if any((other.target, other.source) == key for other in others):
            return  # another one of the same sender comes first
        for kind, target, source, payloads in peer.held.pop(key, ()):
            peer.inbound.handlers[kind](peer.session, target, source, payloads)

    def cancel_run(self, peer: Peer, number: int) -> None:
        """A run was cancelled whose arguments are still on their way."""
        for incoming in self._incoming.get(peer, []):
            if incoming.kind == Kind.RUN and incoming.source == number:
                for coming in incoming.coming:
                    coming.cancel()

    def peer_lost(self, peer: Peer) -> None:
        """Nothing more will come from there."""
        self._incoming.pop(peer, None)

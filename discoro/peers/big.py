"""Messages above 1 MiB: a small numbered entry on the control connection, the bytes beside it.

The entry (kind BIG) names the entry that it stands for (SEND, DELIVER, RUN or RESULT), carries the pickle, and lists
a transfer for each big buffer; the buffers come over the session's bulk connection, straight into the memory that the value
will have. Whatever the same sender sends to the same receiver meanwhile is held back until the value is complete; nobody
else waits. An entry of another kind whose payload is too long for a batch travels whole, as one transfer.

The payload is control data: ``[kind, receipt, head or null, [[transfer, size], ...]]``; where the pickle itself is big, the first
transfer brings it and ``head`` is null. An empty ``head`` says that the one transfer is the whole payload of the entry.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from discoro.errors import DiscoroError, MailboxFull, MessageRefused, NoSuchCoro
from discoro.outcomes import FAILED, failed
from discoro.peers.freshmemory import new_bytearray, new_bytes
from discoro.scheduler.outcome import Returned
from discoro.shipping.values import (
    PLAIN,
    dumps_parts,
    encode_exception,
    loads_parts,
    part_kinds,
    size_hint,
)
from discoro.transport import codec
from discoro.transport.errors import ControlError, ProtocolError, TransportError
from discoro.transport.frames import Kind
from discoro.transport.lanes import OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.transport.session import Session

log = logging.getLogger("discoro.big")

# A pickle up to this length travels inside the entry.
_INLINE = 512 << 10
# Before a pickle without buffers: the form of dumps_parts.
_NO_BUFFERS = bytes(4)
_WHOLE = b""
# Kinds that go into mailboxes, in order, and need a grant; and all that may be carried.
_MESSAGES = frozenset((Kind.SEND, Kind.DELIVER))
_CARRIED = _MESSAGES | {
    Kind.RUN,
    Kind.RESULT,
    Kind.OUTCOME,
    Kind.RECEIPT,
    Kind.REQUEST,
    Kind.REPLY,
    Kind.NOTICE,
    Kind.DOWN,
    Kind.WAKE,
    Kind.THROW,
}


class MessageTooBig(DiscoroError):
    """A message is longer than the limit; nothing was sent.

    Send it in parts, or as a file with ``Scheduler.send_file``.

    Attributes:
        size: Its length, in bytes.
        limit: What is allowed, in bytes.
    """

    __module__ = "discoro.errors"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a message of {size} bytes, and {limit} is the limit: send it in parts, or as a file (send_file)"
        )
        self.size = size
        self.limit = limit


class _Place:
    """Memory for one buffer, made when its transfer's turn has come."""

    __slots__ = ("buffer", "is_bytes", "size")

    def __init__(self, size: int, is_bytes: bool) -> None:
        self.size = size
        self.is_bytes = is_bytes
        self.buffer: bytes | bytearray | None = None

    def make(self) -> Any:
        """Make it, now; returns where its bytes go."""
        if self.is_bytes:
            self.buffer, view = new_bytes(self.size)
            return view
        self.buffer = new_bytearray(self.size)
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
        # Nothing of the same sender to the same receiver comes before it.
        self.is_next = True
        self.is_here = False
        # Why it will not come.
        self.failed: BaseException | None = None

    def parts(self) -> tuple[bytes, list[Any]]:
        """The pickle and the buffers beside it."""
        buffers: list[Any] = [place.buffer for place in self.places]
        if self.head is None:
            return bytes(buffers[0]), buffers[1:]
        return self.head, buffers


def _kept(buffers: Sequence[memoryview]) -> Sequence[memoryview]:
    """What is in these buffers now, whatever becomes of them: copies, save of bytes, which nobody can change."""
    return [
        buffer if type(buffer.obj) is bytes else memoryview(bytes(buffer)) for buffer in buffers
    ]


def _arrays(head: bytes | None, count: int) -> set[int]:
    """Which of the transfers become a bytearray; the others, the pickle and a whole payload among them, become bytes."""
    if head is None:
        return set(range(1, count))
    if head == _WHOLE:
        return set()
    try:
        kinds = part_kinds(head)
    except (ValueError, struct.error) as error:
        raise ControlError(f"a big message with a head that is none: {error}") from error
    return {at for at, kind in enumerate(kinds) if kind == "bytearray"}


class BigMessages:
    """The big messages of one process, both ways."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._max_payload = network.limits.max_payload
        self._incoming: dict[Peer, list[_Incoming]] = {}

    def wants(self, value: Any) -> bool:
        """Whether a value should go beside the control connection, as far as a short look tells."""
        kind = type(value)
        if kind in PLAIN:
            return False
        if (kind is dict or kind is tuple) and len(value) <= 8:
            # Once per message, and nearly always a few small values.
            for item in value.values() if kind is dict else value:
                if type(item) not in PLAIN:
                    break
            else:
                return False
        return size_hint(value) > self._max_payload

    # --- sending

    def send(self, peer: Peer, target: int, value: Any) -> None:
        """Queue a big message; its buffers are copied, since the caller may change them.

        Raises:
            MailboxFull: If too much waits for its receiver already.
        """
        head, buffers = dumps_parts(value)
        self._send_parts(peer, target, head, _kept(buffers))

    def send_pickled(self, peer: Peer, target: int, data: bytes) -> None:
        """Queue a message whose pickle turned out to be big."""
        self._send_parts(peer, target, _NO_BUFFERS + data, [])

    def _send_parts(
        self, peer: Peer, target: int, head: bytes, parts: Sequence[memoryview]
    ) -> None:
        self._check(head, parts)
        source = self._network.sender_number()
        if peer.session is None:
            peer.when_open(lambda: self._post(peer, Kind.SEND, target, source, 0, head, parts))
        else:
            self._post(peer, Kind.SEND, target, source, 0, head, parts)

    def post_run(self, peer: Peer, target: int, number: int, arguments: Any, what: str) -> None:
        """Start a coroutine with big arguments, borrowed until word of its start comes; ``what`` is for errors."""
        head, buffers = dumps_parts(arguments, what=what)
        self._post(peer, Kind.RUN, target, number, 0, head, buffers)

    def post_result(self, peer: Peer, number: int, value: Any, *, lent: bool = False) -> None:
        """Send a big result; its buffers are copied, unless they are lent: what runs here goes on and may change them."""
        head, buffers = dumps_parts(value)
        self._post(peer, Kind.RESULT, number, 0, 0, head, buffers if lent else _kept(buffers))

    def post_whole(self, peer: Peer, kind: int, target: int, source: int, payload: bytes) -> None:
        """Send an entry of any other kind whose payload is too long for a batch."""
        self._check(payload, ())
        transfer = peer.bulk.send([payload], len(payload))
        listed = [[transfer.number, transfer.size]]
        entry = codec.encode([int(kind), 0, _WHOLE, listed], self._network.limits)
        peer.post(Kind.BIG, target, source, entry)

    async def deliver(self, peer: Peer, target: int, value: Any, timeout: float | None) -> int:
        """Deliver a big value; its buffers are borrowed until this returns."""
        head, buffers = dumps_parts(value)
        return await self.deliver_parts(peer, target, head, buffers, timeout)

    async def deliver_pickled(
        self, peer: Peer, target: int, data: bytes, timeout: float | None
    ) -> int:
        """Deliver a value whose pickle turned out to be big."""
        return await self.deliver_parts(peer, target, _NO_BUFFERS + data, [], timeout)

    async def deliver_parts(
        self,
        peer: Peer,
        target: int,
        head: bytes,
        buffers: Sequence[memoryview],
        timeout: float | None,
    ) -> int:
        """Deliver what ``dumps_parts`` gave."""
        self._check(head, buffers)
        source = self._network.sender_number()
        receipt, future = peer.expect_receipt()
        withdraw: list[Callable[[], None]] = []

        def post() -> None:
            if not future.done():
                posted = self._post(peer, Kind.DELIVER, target, source, receipt, head, buffers)
                withdraw.append(posted)

        def take_back() -> None:
            future.cancel()
            for step in withdraw:
                step()

        if peer.session is None:
            peer.when_open(post)
        else:
            post()
        return await peer.receipt_within(receipt, future, timeout, take_back)

    def _check(self, head: bytes, buffers: Sequence[memoryview]) -> None:
        size = len(head) + sum(len(buffer) for buffer in buffers)
        limit = self._network.limits.max_message
        if size > limit:
            raise MessageTooBig(size, limit)

    def _post(
        self,
        peer: Peer,
        kind: int,
        target: int,
        source: int,
        receipt: int,
        head: bytes,
        buffers: Sequence[memoryview],
    ) -> Callable[[], None]:
        """Announce the transfers and queue the entry. Returns what takes both back, as far as they have not left."""
        self._check(head, buffers)
        parts = [buffer.cast("B") for buffer in buffers]
        size = len(head) + sum(len(part) for part in parts)
        if len(head) > _INLINE:
            parts.insert(0, memoryview(head))
        transfers = [peer.bulk.send([part], len(part)) for part in parts]
        inline = head if len(head) <= _INLINE else None
        listed = [[transfer.number, transfer.size] for transfer in transfers]
        payload = codec.encode([int(kind), receipt, inline, listed], self._network.limits)
        entry = (Kind.BIG, target, source, payload)

        def take_back() -> None:
            peer.withdraw(target, entry)
            for transfer in transfers:
                if peer.ended is None:
                    peer.bulk.cancel(transfer.number, "withdrawn")

        if kind not in _MESSAGES:
            peer.post(*entry)
            return take_back
        try:
            peer.queue(entry, size + OVERHEAD, limited=kind == Kind.SEND)
        except MailboxFull:
            take_back()
            raise
        return take_back

    def drop_waiting(self, peer: Peer, payload: bytes) -> bool:
        """An entry that waited for a grant will never leave: its receiver has ended. True: nobody had to be told."""
        kind, receipt, _, listed = cast(list[Any], codec.decode(payload, self._network.limits))
        for number, _ in listed:
            peer.bulk.cancel(number, "its receiver has ended")
        if kind != Kind.DELIVER:
            return True
        peer.receipt_came(receipt, NoSuchCoro())
        return False

    # --- receiving

    def on_big(self, session: Session, target: int, source: int, payloads: Any) -> None:
        """Big values announce themselves: make room, and say which bytes are wanted."""
        for payload in payloads:
            self._announced(session.user, target, source, payload)

    def _announced(self, peer: Peer, target: int, source: int, payload: Any) -> None:
        incoming, listed = self._parse(target, source, payload)
        is_message = incoming.kind in _MESSAGES
        taking = peer.inbound.taking(peer, target) if is_message else None
        if is_message and taking is None:
            for number, size in listed:
                peer.refuse_transfer(number, size, "its receiver has ended")
            if incoming.receipt:
                peer.inbound.receipt(peer, incoming.receipt, NoSuchCoro())
            return
        incoming.size += sum(size for _, size in listed)
        if taking is not None:
            taking.lane.arrived(incoming.size + OVERHEAD)
        elif len(self._incoming.get(peer, ())) >= self._network.limits.max_runs:
            raise ProtocolError(f"{self._network.limits.max_runs} big entries on their way")
        arrays = _arrays(incoming.head, len(listed))
        for number, size in listed:
            place = _Place(size, len(incoming.places) not in arrays)
            incoming.places.append(place)
            try:
                incoming.coming.append(peer.bulk.expect(number, size, place.make))
            except ValueError as error:
                raise ProtocolError(f"a big message with a transfer of another: {error}") from error
        self._incoming.setdefault(peer, []).append(incoming)
        if is_message:
            line = peer.held.get((target, source))
            if line is None:
                peer.held[target, source] = deque()
            else:
                incoming.is_next = False
                line.append(incoming)
        waiting = asyncio.gather(*incoming.coming)
        waiting.add_done_callback(partial(self._arrived, peer, incoming))

    def _parse(self, target: int, source: int, data: Any) -> tuple[_Incoming, list[Any]]:
        parts = codec.decode(data, self._network.limits)
        if not isinstance(parts, list) or len(parts) != 4:
            raise ControlError("a big message has four fields")
        kind, receipt, head, listed = parts
        if (
            kind not in _CARRIED
            or type(receipt) is not int
            or not (head is None or type(head) is bytes)
            or type(listed) is not list
        ):
            raise ControlError("a big message with fields of the wrong types")
        total = 0
        for item in listed:
            if type(item) is not list or [type(field) for field in item] != [int, int]:
                raise ControlError("a big message lists [transfer, size]")
            if item[0] < 1 or item[1] < 0:
                raise ControlError(f"a big message lists {item}")
            total += item[1]
        if len({number for number, _ in listed}) < len(listed):
            raise ControlError("a big message lists a transfer twice")
        if total > self._network.limits.max_message or (head is None and not listed):
            raise ControlError(f"a big message of {total} bytes")
        if head == _WHOLE and (kind in _MESSAGES or len(listed) != 1):
            raise ControlError("a big message without a pickle")
        return _Incoming(kind, target, source, receipt, head), listed

    def _arrived(self, peer: Peer, incoming: _Incoming, waiting: asyncio.Future[list[Any]]) -> None:
        """All bytes are there, or there is no hope for them."""
        if incoming in self._incoming.get(peer, ()):
            self._incoming[peer].remove(incoming)
        incoming.is_here = True
        incoming.failed = asyncio.CancelledError() if waiting.cancelled() else waiting.exception()
        if peer.ended is not None:
            return
        if incoming.kind not in _MESSAGES:
            self._hand_over(peer, incoming)
        elif incoming.is_next:
            self._hand_over(peer, incoming)
            self._release(peer, (incoming.target, incoming.source))

    def _release(self, peer: Peer, key: tuple[int, int]) -> None:
        """Let go on what was held back behind a big message, up to the next one that is still on its way."""
        line = peer.held.pop(key, None)
        while line:
            item = line.popleft()
            if isinstance(item, _Incoming):
                if not item.is_here:
                    item.is_next = True
                    peer.held[key] = line
                    return
                self._hand_over(peer, item)
            else:
                kind, target, source, payloads = item
                peer.inbound.let_go(peer, kind, target, source, payloads)

    def _hand_over(self, peer: Peer, incoming: _Incoming) -> None:
        """Give a value that has come, or word that it will not, to whom it is for."""
        kind, target, source = incoming.kind, incoming.target, incoming.source
        if kind in _MESSAGES:
            self._hand_message(peer, incoming)
        elif kind == Kind.RUN and incoming.failed:
            peer.post(Kind.OUTCOME, source, 2, b"cancelled before it began")
        elif incoming.failed:
            self._did_not_arrive(peer, incoming)
        elif kind == Kind.RUN and incoming.head != _WHOLE:
            self._hand_run(peer, incoming)
        elif kind == Kind.RESULT and incoming.head != _WHOLE:
            try:
                peer.run_ended(target, Returned(loads_parts(*incoming.parts())))
            except DiscoroError as undecodable:
                peer.run_ended(target, failed(undecodable))
        else:
            payload = bytes(incoming.places[0].buffer or b"")
            assert peer.session is not None
            peer.inbound.handlers[kind](peer.session, target, source, [payload])

    def _refused(self, peer: Peer, incoming: _Incoming) -> MessageRefused:
        """What a big value that did not come means to whoever waits for it."""
        refused = MessageRefused(
            f"a value of {incoming.size} bytes did not arrive: {incoming.failed or 'given up'}"
        )
        if not incoming.receipt and not isinstance(incoming.failed, asyncio.CancelledError):
            log.warning("%s (from %s)", refused, peer.name)
        return refused

    def _did_not_arrive(self, peer: Peer, incoming: _Incoming) -> None:
        """Tell whoever waits for it, here or there: nobody may wait for ever."""
        kind, target, source = incoming.kind, incoming.target, incoming.source
        refused = self._refused(peer, incoming)
        if kind in (Kind.RESULT, Kind.OUTCOME):
            peer.run_ended(target, failed(refused))
        elif kind == Kind.REPLY:
            self._network.requests.reply_came(peer, target, 1, encode_exception(refused))
        elif kind == Kind.REQUEST:
            peer.post(Kind.REPLY, source, 1, encode_exception(refused))
        elif kind == Kind.RECEIPT:
            peer.receipt_came(target, refused)
        elif kind == Kind.DOWN:
            peer.down_came(target, source, FAILED, encode_exception(refused))

    def _hand_run(self, peer: Peer, incoming: _Incoming) -> None:
        server = self._network.server
        if server is None:
            peer.inbound.refuse_run(peer, incoming.source)
            return
        handle, detach = incoming.target >> 1, bool(incoming.target & 1)
        server.runs.run_big(peer, handle, detach, incoming.source, *incoming.parts())

    def _hand_message(self, peer: Peer, incoming: _Incoming) -> None:
        inbound, target = peer.inbound, incoming.target
        taking = inbound.taking(peer, target)
        error: Exception | None = None
        if taking is None:
            error = NoSuchCoro()
        elif not incoming.failed:
            try:
                taking.put(loads_parts(*incoming.parts(), taking.names))
            except DiscoroError as undecodable:
                error = inbound.undecodable(peer, target, undecodable)
        if taking is not None:
            inbound.put_big(peer, target, taking, incoming.size + OVERHEAD)
        if incoming.failed:
            error = self._refused(peer, incoming)
        # One that its sender took back waits for no receipt, and passes over this one.
        if incoming.receipt:
            inbound.receipt(peer, incoming.receipt, error)
            # Not at the end of the turn: who takes the value may let go of the one before, for which the kernel takes its time.
            peer.flush()

    def cancel_run(self, peer: Peer, number: int) -> None:
        """A run was cancelled whose arguments are still on their way."""
        for incoming in self._incoming.get(peer, []):
            if incoming.kind == Kind.RUN and incoming.source == number:
                for coming in incoming.coming:
                    coming.cancel()

    def peer_lost(self, peer: Peer) -> None:
        """Nothing more will come: what stood behind a value that never came was acknowledged, and is handed over."""
        self._incoming.pop(peer, None)
        lines, peer.held = peer.held, {}
        for (target, _), line in lines.items():
            log.warning(
                "a big message for coroutine %x did not arrive before the session with %s was lost",
                target,
                peer.name,
            )
            for item in line:
                # Answers cannot be sent any more.
                with suppress(TransportError):
                    if not isinstance(item, _Incoming):
                        peer.inbound.let_go(peer, *item)
                    elif item.is_here and not item.failed:
                        self._hand_over(peer, item)

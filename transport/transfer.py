"""Transfers: which bytes of which big message or file go over a bulk connection next. Pure.

One :class:`Transfers` per session, at each end, keeps both directions across any number of bulk connections. A transfer has
a number, chosen by its sender, counting from 1 per session and direction. The receiver learns number and size on the control
connection and says on the bulk connection from which offset it wants the bytes (WANT): nothing is sent unasked. After a cut
the receiver says WANT again, with the offset where it stopped, and repeats the ends that the sender may not have heard of.

The frames are those of :mod:`.bulkframes`. What breaks these rules raises :class:`~.errors.ProtocolError`: the bulk
connection is dropped, the session is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .bulkframes import (
    HEADER_BYTES,
    MOST_DATA,
    Frame,
    FrameType,
    data_header,
    encode,
    pack_reason,
    pack_want,
    unpack_want,
)
from .errors import ProtocolError
from .limits import Limits

_MOST_DROPPED = 4096
_MOST_ANSWERS = 16_384
"""Frames that may wait for a peer which asks and does not read: 1,024 transfers end with some thousand."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes to send next: ``length`` bytes from ``offset`` of transfer ``number``, behind ``header``."""

    number: int
    offset: int
    length: int
    header: bytes


class EndKind(Enum):
    """How a transfer ended, as heard from the peer."""

    SENT = "our transfer is stored at the receiver"
    REFUSED = "the receiver does not want our transfer, or could not store it"
    DROPPED = "the sender gave up a transfer that we expected"


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer ended a transfer; ``reason`` is its own text, empty for SENT."""

    kind: EndKind
    number: int
    reason: str = ""


@dataclass(slots=True)
class _Outgoing:
    size: int
    sent: int = 0
    limit: int = 0
    # True from the WANT of the present connection on.
    wanted: bool = False


@dataclass(slots=True)
class _Incoming:
    size: int
    # Bytes that may be on their way to a slow target; None: the target is memory, all of them.
    window: int | None = None
    got: int = 0
    limit: int = 0
    active: bool = False
    # True once this connection has carried our WANT.
    wanted: bool = False


class Transfers:
    """Both directions of one session's transfers, across its bulk connections.

    After any call the shell sends :meth:`data_to_send` and then, as long as there is one, :meth:`next_part`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._number = 0
        self._outgoing: dict[int, _Outgoing] = {}
        # Outgoing transfers whose receiver has room for more, in the order of their turns.
        self._turns: deque[int] = deque()
        # DROPPED frames that the receiver has not HEARD of: of transfers that we gave up.
        self._withdrawn: dict[int, bytes] = {}
        self._incoming: dict[int, _Incoming] = {}
        # Reasons of transfers that the sender gave up before they were expected here.
        self._dropped: dict[int, str] = {}
        # Expected transfers that may not start yet, oldest first; `_active` and `_active_bytes` count those that may.
        self._waiting: deque[int] = deque()
        self._active = 0
        self._active_bytes = 0
        # The frame that told the end (DONE or REFUSED) of incoming transfers, until the sender has SETTLED it.
        self._ended: dict[int, bytes] = {}
        self._attached = False
        self._control: list[bytes] = []

    @property
    def outgoing(self) -> list[int]:
        """Numbers of our transfers that have not ended."""
        return list(self._outgoing)

    @property
    def incoming(self) -> list[int]:
        """Numbers of expected transfers that have not ended."""
        return list(self._incoming)

    @property
    def unsettled(self) -> int:
        """How many ends the peer has not confirmed to have heard."""
        return len(self._ended) + len(self._withdrawn)

    @property
    def busy(self) -> bool:
        """Whether a connection is needed."""
        return bool(self._outgoing or self._incoming or self._ended or self._withdrawn)

    # --- the connection --------------------------------------------------------------------------------------------

    def attached(self) -> None:
        """A new connection stands: say again what we want, and what has ended."""
        self.detached()
        self._attached = True
        for number, incoming in self._incoming.items():
            if incoming.limit and incoming.got < incoming.size:
                self._say_want(number, incoming)
        self._control.extend(self._ended.values())
        self._control.extend(self._withdrawn.values())

    def detached(self) -> None:
        """The connection is gone; what was on its way on it never arrives."""
        self._attached = False
        self._control.clear()
        self._turns.clear()
        for outgoing in self._outgoing.values():
            outgoing.wanted = False
        for incoming in self._incoming.values():
            incoming.wanted = False

    def ping(self, token: int) -> None:
        """Ask the peer for a sign of life."""
        self._say(encode(FrameType.PING, token))

    def data_to_send(self) -> bytes:
        """Return the control frames that wait, joined."""
        if not self._control:
            return b""
        data = b"".join(self._control)
        self._control.clear()
        return data

    def _say(self, frame: bytes) -> None:
        if self._attached:
            self._control.append(frame)

    # --- as the sender ---------------------------------------------------------------------------------------------

    def offer(self, size: int) -> int:
        """Number a new transfer of ours; its bytes wait until the receiver wants them."""
        self._number += 1
        self._outgoing[self._number] = _Outgoing(size)
        return self._number

    def withdraw(self, number: int, reason: str) -> bool:
        """Give up a transfer of ours; False if it had ended already."""
        if self._outgoing.pop(number, None) is None:
            return False
        self._drop(number, reason)
        return True

    def _drop(self, number: int, reason: str) -> None:
        frame = encode(FrameType.DROPPED, number, 0, pack_reason(reason))
        self._withdrawn[number] = frame
        self._say(frame)

    def next_part(self, ready: Callable[[int, int], int]) -> Part | None:
        """Return the next bytes to send, of each transfer in turn, or None.

        Args:
            ready: Called with number and offset; how many bytes from there its source has at hand. A transfer whose
                source has none keeps its turn, and the next one is asked.
        """
        alone = len(self._turns) == 1
        most = MOST_DATA if alone else self._limits.bulk_write - HEADER_BYTES
        for _ in range(len(self._turns)):
            number = self._turns.popleft()
            outgoing = self._outgoing.get(number)
            if outgoing is None:
                continue
            offset = outgoing.sent
            length = min(outgoing.limit - offset, most, ready(number, offset))
            if length > 0:
                outgoing.sent = offset + length
                header = data_header(number, offset, length)
                if outgoing.sent < outgoing.limit:
                    self._turns.append(number)
                return Part(number, offset, length, header)
            self._turns.append(number)
        return None

    # --- as the receiver -------------------------------------------------------------------------------------------

    def expect(self, number: int, size: int) -> Ended | None:
        """Consent to a transfer of the peer; it starts when :meth:`start_next` has named it and :meth:`want` was called.

        Args:
            number: As the sender chose it.
            size: In bytes; one byte more is a protocol error.

        Returns:
            Its end, if the sender has given it up already.

        Raises:
            ValueError: If this number is expected already, or has just ended.
        """
        if number in self._incoming or number in self._ended:
            raise ValueError(f"transfer {number} was expected before")
        if number in self._dropped:
            return Ended(EndKind.DROPPED, number, self._dropped.pop(number))
        self._incoming[number] = _Incoming(size)
        self._waiting.append(number)
        return None

    def start_next(self) -> int | None:
        """Return the number of the next transfer that may start now: so many at once, so many bytes together."""
        while self._waiting and self._waiting[0] not in self._incoming:
            self._waiting.popleft()
        if not self._waiting:
            return None
        number = self._waiting[0]
        incoming = self._incoming[number]
        full = (
            self._active >= self._limits.max_transfers
            or self._active_bytes + incoming.size > self._limits.transfer_bytes
        )
        if full and self._active:
            return None
        self._waiting.popleft()
        incoming.active = True
        self._active += 1
        self._active_bytes += incoming.size
        return number

    def want(self, number: int, window: int | None = None) -> None:
        """The target stands: ask for the bytes. A transfer without bytes needs no asking.

        Args:
            number: As :meth:`start_next` gave it.
            window: For a slow target: how many bytes may be under way beyond what :meth:`stored` has reported.
        """
        incoming = self._incoming[number]
        incoming.window = window
        self._grant(incoming, 0)
        if incoming.size:
            self._say_want(number, incoming)

    def stored(self, number: int, upto: int) -> None:
        """A slow target has taken all bytes up to that offset: more may come."""
        incoming = self._incoming.get(number)
        if incoming is None:
            return
        before = incoming.limit
        self._grant(incoming, upto)
        if incoming.wanted and incoming.limit > before:
            self._say(encode(FrameType.MORE, number, incoming.limit))

    def complete(self, number: int) -> None:
        """The target has all bytes and has checked them."""
        incoming = self._incoming.get(number)
        if incoming is not None:
            self._end(number, encode(FrameType.DONE, number, incoming.size))

    def refuse(self, number: int, reason: str) -> bool:
        """Stop a transfer of the peer, whatever came of it so far; False if it had ended already."""
        if number not in self._incoming:
            return False
        self._end(number, encode(FrameType.REFUSED, number, 0, pack_reason(reason)))
        return True

    def offset(self, number: int) -> int:
        """Bytes of an expected transfer that have come."""
        return self._incoming[number].got

    def _grant(self, incoming: _Incoming, upto: int) -> None:
        window = incoming.size if incoming.window is None else incoming.window
        incoming.limit = max(incoming.limit, min(incoming.size, upto + window))

    def _say_want(self, number: int, incoming: _Incoming) -> None:
        if self._attached:
            incoming.wanted = True
            payload = pack_want(incoming.size, incoming.limit)
            self._say(encode(FrameType.WANT, number, incoming.got, payload))

    def _end(self, number: int, frame: bytes) -> None:
        self._forget_incoming(number)
        self._ended[number] = frame
        self._say(frame)

    def _forget_incoming(self, number: int) -> None:
        incoming = self._incoming.pop(number)
        if incoming.active:
            self._active -= 1
            self._active_bytes -= incoming.size

    # --- what comes in ---------------------------------------------------------------------------------------------

    def data_begins(self, frame: Frame) -> bool:
        """Check a DATA header; True: the bytes are wanted, False: drop them, the transfer was refused while they came.

        Raises:
            ProtocolError: If nobody asked for these bytes.
        """
        number = frame.number
        incoming = self._incoming.get(number)
        if incoming is None:
            if number not in self._ended:
                raise ProtocolError(f"bytes of transfer {number}, which nobody asked for")
            return False
        if not incoming.wanted or frame.value != incoming.got:
            raise ProtocolError(
                f"transfer {number} goes on at {frame.value}, expected {incoming.got}"
            )
        if incoming.got + frame.length > incoming.limit:
            raise ProtocolError(f"more bytes of transfer {number} than were asked for")
        return True

    def data_came(self, number: int, count: int) -> bool:
        """Count bytes of a DATA frame that are in the target; True once the transfer has all of them."""
        incoming = self._incoming.get(number)
        if incoming is None:
            return False
        incoming.got += count
        return incoming.got == incoming.size

    def control_came(self, frame: Frame, payload: bytes) -> Ended | None:
        """Act on a frame that is not DATA; return what it ended, if anything.

        Raises:
            ProtocolError: If it says what cannot be.
        """
        if len(self._control) >= _MOST_ANSWERS:
            raise ProtocolError(f"{len(self._control)} answers wait, and none is read")
        number = frame.number
        match frame.type:
            case FrameType.WANT:
                return self._wanted(frame, payload)
            case FrameType.MORE:
                self._more(frame)
            case FrameType.DONE:
                return self._done(frame)
            case FrameType.REFUSED:
                self._say(encode(FrameType.SETTLED, number))
                if self._outgoing.pop(number, None) is not None:
                    return Ended(EndKind.REFUSED, number, payload.decode("utf-8", "replace"))
            case FrameType.DROPPED:
                return self._dropped_by_peer(number, payload.decode("utf-8", "replace"))
            case FrameType.HEARD:
                self._withdrawn.pop(number, None)
            case FrameType.SETTLED:
                self._ended.pop(number, None)
            case FrameType.PING:
                self._say(encode(FrameType.PONG, number))
            case _:
                pass
        return None

    def _wanted(self, frame: Frame, payload: bytes) -> Ended | None:
        number = frame.number
        size, limit = unpack_want(payload)
        outgoing = self._outgoing.get(number)
        if outgoing is None:
            if not 0 < number <= self._number:
                raise ProtocolError(f"transfer {number} is wanted, which was never sent")
            if number not in self._withdrawn:
                self._drop(number, "it has ended")
            return None
        if size != outgoing.size:
            reason = f"{outgoing.size} bytes are sent, {size} were expected"
            self.withdraw(number, reason)
            return Ended(EndKind.REFUSED, number, reason)
        if outgoing.wanted or not frame.value <= limit <= size:
            raise ProtocolError(f"transfer {number} wanted twice, or beyond its end")
        outgoing.wanted = True
        outgoing.sent = frame.value
        outgoing.limit = limit
        if outgoing.sent < limit:
            self._turns.append(number)
        return None

    def _dropped_by_peer(self, number: int, reason: str) -> Ended | None:
        self._say(encode(FrameType.HEARD, number))
        if number in self._incoming:
            self._forget_incoming(number)
            return Ended(EndKind.DROPPED, number, reason)
        if number not in self._ended:
            # Said before it is expected here. Its announcement comes, or the sender gave it up before announcing it.
            self._dropped[number] = reason
            while len(self._dropped) > _MOST_DROPPED:
                del self._dropped[next(iter(self._dropped))]
        return None

    def _more(self, frame: Frame) -> None:
        outgoing = self._outgoing.get(frame.number)
        if outgoing is None:
            return
        if not outgoing.wanted or not outgoing.limit <= frame.value <= outgoing.size:
            raise ProtocolError(f"transfer {frame.number}: limit {frame.value} cannot be")
        idle = outgoing.sent == outgoing.limit
        outgoing.limit = frame.value
        if idle and outgoing.sent < outgoing.limit:
            self._turns.append(frame.number)

    def _done(self, frame: Frame) -> Ended | None:
        outgoing = self._outgoing.get(frame.number)
        if outgoing is not None and frame.value != outgoing.size:
            raise ProtocolError(f"transfer {frame.number} done with {frame.value} bytes")
        self._say(encode(FrameType.SETTLED, frame.number))
        if outgoing is None:
            return None
        del self._outgoing[frame.number]
        return Ended(EndKind.SENT, frame.number)

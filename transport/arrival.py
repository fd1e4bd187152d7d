"""A connection before it belongs to a session: the handshake, then one frame. Shell.

Two objects on purpose: what an unproved peer sends goes to the handshake and to nothing else; what it sends after its
proof goes to one function, once. Then the connection is handed to a link (or a bulk connection) in the same step, so
that not a byte is lost between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from .errors import FrameTooBig, ProtocolError, TransportError
from .frames import HEADER, FrameType, check_header
from .handshake import Accepted

#: The longest first frame: an OPEN with its hello.
FIRST_FRAME = 8 * 1024


class Handshake(Protocol):
    """A side of the handshake, see :mod:`.handshake`."""

    done: Accepted | None
    failed: TransportError | None

    def receive_data(self, data: bytes) -> None:
        """Take bytes."""

    def receive_eof(self) -> None:
        """The peer has closed."""

    def data_to_send(self) -> bytes:
        """Return what has to be written."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is no batch."""

    type: FrameType
    number: int
    ack: int
    body: bytes


class Arrival(asyncio.BufferedProtocol):
    """Asyncio protocol of a connection until it is handed on.

    Args:
        accepted: Called when both ends have proved themselves; a side that dialled says its first frame there.
        frame: Called with the peer's first frame. It must hand the connection on, or close it.

    Attributes:
        transport: The connection, once there is one.
        proof: What the handshake gave, once it is done.
        done: Future that ends when the connection was handed on (result None), or failed (exception).
    """

    def __init__(
        self,
        accepted: Callable[[Arrival], None],
        frame: Callable[[Arrival, Frame], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.proof: Accepted | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever is interested asks; an arrival that fails while nobody waits is no news.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._accepted = accepted
        self._frame = frame
        self._handshake: Handshake | None = None
        self._early = b""
        self._failed = False
        # The first frame has been handed over; its answer may take a moment.
        self._framed = False
        self._data = bytearray(FIRST_FRAME)
        self._filled = 0

    def begin(self, handshake: Handshake) -> None:
        """Start the handshake; the connection is there."""
        self._handshake = handshake
        self.write(handshake.data_to_send())
        early, self._early = self._early, b""
        if early:
            self._shake(early)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return memoryview(self._data)[0 if self.done.done() else self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived."""
        if self.done.done():
            if not self._failed:
                # Handed on, and the new owner has not taken it yet: its task runs in the next turn of the loop.
                self._early += bytes(self._data[:nbytes])
            return
        if self.proof is None:
            data = bytes(self._data[:nbytes])
            if self._handshake is None:
                # A few bytes between TLS and the start of the handshake; a whole hello is 84.
                self._early += data
                if len(self._early) > 1024:
                    self.fail(ProtocolError("the peer sends ahead of the handshake"))
            else:
                self._shake(data)
        elif self._framed:
            self.fail(ProtocolError("the peer goes on before its first frame is answered"))
        else:
            self._filled += nbytes
            self._first_frame()

    def _shake(self, data: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
        handshake.receive_data(data)
        self._after_handshake_step(handshake)

    def _after_handshake_step(self, handshake: Handshake) -> None:
        self.write(handshake.data_to_send())
        if handshake.failed is not None:
            self.fail(handshake.failed)
        elif handshake.done is not None:
            self.proof = handshake.done
            self._handshake = None
            leftover = handshake.done.leftover
            self._data[: len(leftover)] = leftover
            self._filled = len(leftover)
            self._accepted(self)
            if leftover and not self.done.done():
                self._first_frame()

    def _first_frame(self) -> None:
        if self._filled < HEADER.size:
            return
        length, kind, flags, zero, number, ack = HEADER.unpack_from(self._data)
        try:
            check_header(length, kind, flags, zero, FIRST_FRAME - 4)
            if kind not in FrameType.__members__.values() or flags:
                raise ProtocolError(f"frame of type {kind} and flags {flags} at the beginning")
        except (ProtocolError, FrameTooBig) as exc:
            self.fail(exc)
            return
        stop = 4 + length
        if self._filled < stop:
            return
        frame = Frame(FrameType(kind), number, ack, bytes(self._data[HEADER.size : stop]))
        self._early = bytes(self._data[stop : self._filled])
        self._framed = True
        self._filled = 0
        try:
            self._frame(self, frame)
        except TransportError as exc:
            self.fail(exc)

    def hand_on(self) -> bytes:
        """The connection belongs to somebody else now; return what was read behind the first frame."""
        if not self.done.done():
            self.done.set_result(None)
        early, self._early = self._early, b""
        return early

    def write(self, data: bytes) -> None:
        """Write to the peer."""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def fail(self, error: TransportError) -> None:
        """Close the connection, after what is written; :attr:`done` raises ``error``."""
        self._failed = True
        if not self.done.done():
            self.done.set_exception(error)
        if self.transport is not None:
            self.transport.close()

    async def leave(self, seconds: float) -> None:
        """Wait until the connection that was failed is gone, at most so long; a loop that ends earlier stumbles over it."""
        if self.transport is None:
            return
        try:
            if self._failed:
                await asyncio.wait([self._gone], timeout=seconds)
        finally:
            if not self._gone.done():
                self.transport.abort()

    def eof_received(self) -> bool:
        """The peer has closed; so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if not self._gone.done():
            self._gone.set_result(None)
        if self.done.done():
            return
        if self._handshake is not None and self.proof is None:
            self._handshake.receive_eof()
        self.done.set_exception(ConnectionLostEarly(exc))


class ConnectionLostEarly(TransportError):
    """The connection ended before it belonged to a session; try again.

    Attributes:
        cause: What the loop said, or None.
    """

    def __init__(self, cause: Exception | None) -> None:
        super().__init__(f"the connection ended early{f': {cause}' if cause else ''}")
        self.cause = cause

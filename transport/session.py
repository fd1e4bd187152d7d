"""A session: the relation of two processes, over any number of connections one after the other.

Pure: bytes come in through :meth:`Session.received`, go out through the ``write`` of the link that is attached, and
the time is an argument; what a session wants besides, it asks of its :class:`Shell`. Entries are queued by
:meth:`Session.send`, put together into numbered batches at the end of a turn, kept until they are acknowledged, and
written again after a reconnect, so that each is delivered once and in order::

    NEW -> UP <-> DOWN -> LOST        any but LOST -> CLOSED

UP has a link, the others have none; LOST and CLOSED are final. An epoch counts the links and only grows; bytes of an
older link are not even parsed. The window bounds what is sent and not acknowledged; what is over it waits
unnumbered. There is no credit beside it: a session is always drained by the process that receives.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from .addresses import format_address
from .delivery import Outlet, Sending, finish
from .errors import ProtocolError, SessionLost, TransportError
from .frames import (
    HEADER,
    KINDS,
    ONE_HEADER,
    BatchCoder,
    FrameType,
    Hello,
    Kind,
    Payload,
    bare,
    check_header,
)
from .limits import Limits

logger = logging.getLogger("discoro.transport")

#: Called with the session, target, source and payloads of an entry. Memoryviews among the payloads are valid during the call only.
Handler: TypeAlias = Callable[["Session", int, int, list[Payload]], None]

_HEADER_SIZE = HEADER.size
_ONE_SIZE = ONE_HEADER.size
# Plain numbers: comparing with a member of an enum costs five times as much, and these stand on the hot path.
_BATCH, _ONE, _ACK = int(FrameType.BATCH), int(FrameType.ONE), int(FrameType.ACK)
_unpack_header = HEADER.unpack_from
_unpack_one = ONE_HEADER.unpack_from
_pack_header = HEADER.pack
_MOST_PONGS = 64


class State(enum.Enum):
    """Where a session stands."""

    NEW = "new"
    UP = "up"
    DOWN = "down"
    LOST = "lost"
    CLOSED = "closed"


class Judgement(enum.Enum):
    """What the clock says about a session."""

    FINE = "nothing to do"
    BACK = "heard again, after it was busy"
    PING = "quiet: ask for a sign of life"
    SILENT = "nothing heard for long: ask the kernel whether the other kernel answers"
    EXPIRED = "no link for too long"


class Shell(Outlet, Protocol):
    """What a session asks of the loop it lives in."""

    def ack_later(self, session: Session) -> None:
        """Call ``session.ack_due()`` after ``ack_delay``."""

    def closed_by_peer(self, session: Session) -> None:
        """CLOSE has arrived."""

    def new_bulk(self, session: Session) -> Any:
        """Return what moves big things for this session."""

    async def wait(self, future: Any, timeout: float | None) -> bool:
        """Wait for ``future``; False when ``timeout`` seconds passed first."""

    def time(self) -> float:
        """Return the loop's clock."""


class Session(Sending):
    """One peer process.

    Attributes:
        id: 16 bytes, chosen by the side that dialled.
        key: Key of the handshake in which it was opened; only who has it can resume.
        ours: What we said about ourselves when it was opened.
        peer: What the other side said.
        dialled: Whether this side dials, first and after a loss.
        address: Host and port that were dialled, or that the peer called from.
        given: Whether a user typed that address (then a refusal there says nothing about the peer).
        state: See :class:`State`.
        busy: The peer's kernel answers, the peer does not.
        congested: The window is full; new entries wait. See :meth:`room`.
        epoch: Number of the present or last link.
        lost: Why it is over, once it is.
        rtt: Seconds of the last answered ping, or None.
        lanes: Free for the user of the session.
        user: Free for the user of the session.
        first_grant: Bytes that may be in flight on a new lane to the peer.
    """

    __slots__ = (
        *(
            "address",
            "busy",
            "dialled",
            "dialled_epoch",
            "epoch",
            "first_grant",
            "given",
            "heard",
            "id",
        ),
        *("key", "lanes", "offences", "ours", "peer", "rtt", "state", "user", "__weakref__"),
        *(
            "_ack_armed",
            "_ack_bytes",
            "_bulk",
            "_down_at",
            "_handlers",
            "_heard_at",
            "_max_frame",
            "_ping_token",
        ),
        *("_pinged_at", "_pings", "_pongs_due", "_settlers", "_shell"),
    )

    def __init__(
        self,
        id: bytes,
        key: bytes,
        ours: Hello,
        peer: Hello,
        *,
        dialled: bool,
        address: tuple[str, int],
        given: bool = False,
        limits: Limits,
        coder: BatchCoder,
        handlers: Sequence[Handler],
        shell: Shell,
    ) -> None:
        super().__init__(limits, coder, shell)
        self.id = id
        self.key = key
        self.ours = ours
        self.peer = peer
        self.dialled = dialled
        self.address = address
        self.given = given
        self.state = State.NEW
        self.busy = False
        self.epoch = 0
        self.rtt: float | None = None
        self.lanes: dict[Any, Any] = {}
        self.user: Any = None
        self.first_grant = peer.first_grant
        self._bulk: Any = None
        #: Number of the last link that was dialled, whether or not it came up.
        self.dialled_epoch = 0
        #: Links in a row that ended because the peer broke the rules.
        self.offences = 0
        #: Set by the link with every read: somebody is there.
        self.heard = False
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._down_at = 0.0
        self._max_frame = limits.max_frame
        self._ack_bytes = limits.ack_bytes
        self._handlers = handlers
        self._shell = shell
        self._ack_armed = False
        # Futures of calls that wait for an idle session, for an answer.
        self._settlers: list[Any] = []
        self._pings: dict[int, Any] = {}
        self._ping_token = 0
        # Tokens of PINGs that came while the link took no more; the newest, since the peer does not read them anyway.
        self._pongs_due: deque[int] = deque(maxlen=_MOST_PONGS)

    @property
    def process_id(self) -> bytes:
        """The peer's process id."""
        return self.peer.process_id

    @property
    def bulk(self) -> Any:
        """Its big transfers (:class:`.bulk.Bulk`), made on first use."""
        if self._bulk is None:
            self._bulk = self._shell.new_bulk(self)
            if self.lost is not None:
                self._bulk.close(self.lost)
        return self._bulk

    @property
    def has_bulk(self) -> bool:
        """Whether there were any."""
        return self._bulk is not None

    @property
    def ended(self) -> bool:
        """Whether it is LOST or CLOSED."""
        return self.state is State.LOST or self.state is State.CLOSED

    def __str__(self) -> str:
        return f"{self.peer.name or self.process_id.hex()[:8]} at {format_address(*self.address)}"

    def __repr__(self) -> str:
        host, port = self.address
        return (
            f"<Session {self.peer.name or self.process_id.hex()[:8]} at {host}:{port} {self.state.value}"
            f"{' busy' if self.busy else ''} epoch {self.epoch} kept {self.outbox.kept_bytes} bytes>"
        )

    # --- receiving -------------------------------------------------------------------------------------------------

    def received(self, buffer: bytearray, view: memoryview, end: int) -> int:
        """Take the frames in ``buffer[:end]``; return where the first incomplete one begins.

        Args:
            buffer: What was read.
            view: A view of the same bytes; payloads are cut from it.
            end: How much was read.

        Raises:
            ProtocolError: If the peer broke the rules; everything before that was delivered.
        """
        offset = 0
        inbox, outbox, handlers = self.inbox, self.outbox, self._handlers
        while end - offset >= _HEADER_SIZE:
            kind = buffer[offset + 4]
            target = source = 0
            if kind == _ONE and end - offset >= _ONE_SIZE:
                length, _, flags, zero, number, ack, target, source = _unpack_one(buffer, offset)
            else:
                length, _, flags, zero, number, ack = _unpack_header(buffer, offset)
            if length < 20 or length > self._max_frame or zero:
                check_header(length, kind, flags, zero, self._max_frame)
            start = offset
            stop = offset + 4 + length
            if stop > end:
                break
            offset = stop
            if ack >= outbox.first:
                self._acknowledged(ack)
            if kind == _ONE:
                if length < 36 or not 0 < flags < KINDS:
                    raise ProtocolError(f"message of {length} bytes and kind {flags}")
                inbox.take(number, length)
                try:
                    handlers[flags](self, target, source, [view[start + _ONE_SIZE : stop]])
                except Exception as exc:
                    self._handler_failed(flags, exc)
            elif kind == _BATCH:
                # Decoded as a whole before anything of it is let through.
                entries = self._coder.decode(view[start + _HEADER_SIZE : stop], flags)
                inbox.take(number, length)
                for what, target, source, payloads in entries:
                    try:
                        handlers[what](self, target, source, payloads)
                    except Exception as exc:
                        self._handler_failed(what, exc)
            else:
                self._other(kind, flags, number, length)
                continue
            if not self._ack_armed or inbox.owed >= self._ack_bytes:
                self._owe_ack()
            if self._write is None:
                # Over, in the middle of what it had sent: bytes of a link that is not current are not parsed.
                return end
        return offset

    def _acknowledged(self, number: int) -> None:
        """The peer has everything up to batch ``number``."""
        self.outbox.acknowledged(number)
        if self.congested or not self._flowing:
            self._pump()
        if self._settlers and self.idle:
            self._settlers = finish(self._settlers)

    def _handler_failed(self, kind: int, exc: Exception) -> None:
        if isinstance(exc, ProtocolError):
            self._shell.link_broken(self, exc)
        else:
            logger.error(
                "handling %s of %r failed; this is a bug in discoro",
                Kind(kind).name,
                self,
                exc_info=exc,
            )

    def _owe_ack(self) -> None:
        """See that what has arrived is acknowledged: with the next batch, or alone."""
        if self.inbox.owed >= self._ack_bytes:
            self._ack_now()
        if not self._ack_armed:
            self._ack_armed = True
            self._shell.ack_later(self)

    def _ack_now(self) -> None:
        if self._write is not None and not self._paused:
            self._put(_pack_header(20, _ACK, 0, 0, 0, self.inbox.told()))

    def resume_writing(self) -> None:
        """The link takes more: what it was spared comes first."""
        super().resume_writing()
        while self._pongs_due and not self._paused:
            number = self._pongs_due.popleft()
            self._put(_pack_header(20, FrameType.PONG, 0, 0, number, self.inbox.told()))
        if self.inbox.acked < self.inbox.last:
            self._ack_now()

    def ack_due(self) -> None:
        """The timer of :meth:`Shell.ack_later` has fired."""
        self._ack_armed = False
        if self.inbox.acked < self.inbox.last:
            self._ack_now()

    def _other(self, kind: int, flags: int, number: int, length: int) -> None:
        """Take a frame that is no batch."""
        if length != 20 or flags:
            raise ProtocolError(f"frame of type {kind} with flags {flags} and {length} bytes")
        if kind == FrameType.PING:
            if self._paused:
                # Who asks and does not read gets the newest answers once it does; they must not fill our memory.
                self._pongs_due.append(number)
            else:
                self._put(_pack_header(20, FrameType.PONG, 0, 0, number, self.inbox.told()))
        elif kind == FrameType.PONG:
            future = self._pings.get(number)
            if future is not None and not future.done():
                future.set_result(None)
        elif kind == FrameType.CLOSE and not number:
            self._shell.closed_by_peer(self)
        elif kind != FrameType.ACK or number:
            raise ProtocolError(f"frame of type {kind} and number {number} on a session that is up")

    async def ping(self, timeout: float | None) -> bool:
        """Ask the peer's link for a sign of life; False when none came within ``timeout`` seconds."""
        if self.ended:
            return False
        self._ping_token += 1
        token, start = self._ping_token, self._shell.time()
        future = self._pings[token] = self._shell.future()
        self._put(bare(FrameType.PING, token, self.inbox.told()))
        try:
            answered = await self._shell.wait(future, timeout) and not self.ended
        finally:
            del self._pings[token]
        if answered:
            self.rtt = self._shell.time() - start
        return answered

    # --- links and time --------------------------------------------------------------------------------------------

    def check_link(self, epoch: int, peer_last: int) -> None:
        """Raise :class:`ProtocolError` unless a link of this number, to a peer that has so much, can be attached."""
        if epoch <= self.epoch:
            raise ProtocolError(f"link number {epoch} after {self.epoch}")
        self.outbox.check_restart(peer_last)

    def attach(
        self, write: Callable[[bytes], None], epoch: int, peer_last: int, now: float
    ) -> None:
        """Go UP on a new link. The old one, if any, must have been detached.

        Args:
            write: Writes bytes to the link.
            epoch: Number of the link, above all before it.
            peer_last: Last batch that the peer has received in order.
            now: The time.

        Raises:
            ProtocolError: If that cannot be; then nothing has changed.
        """
        self.check_link(epoch, peer_last)
        if self.ended or self.state is State.UP:
            raise ProtocolError(f"a link for a session that is {self.state.value}")
        self.outbox.restart(peer_last)
        self.inbox.told()
        self.state = State.UP
        self.epoch = epoch
        self.busy = False
        self.heard = False
        self._heard_at = self._pinged_at = now
        self._paused = False
        self._pongs_due.clear()
        self._write = write
        for token, future in self._pings.items():
            if not future.done():
                self._put(bare(FrameType.PING, token, self.inbox.last))
        self._pump()

    def detach(self, now: float, error: Exception | None = None) -> None:
        """Go DOWN: the link is gone."""
        if self.state is not State.UP:
            return
        self.offences = self.offences + 1 if isinstance(error, ProtocolError) else 0
        self.state = State.DOWN
        self.busy = False
        self._down_at = now
        self._write = None
        self._flowing = False

    def excuse(self, seconds: float) -> None:
        """We stood still ourselves (or the peer is known to be busy): do not hold these seconds against it."""
        self._heard_at += seconds
        self._pinged_at += seconds
        self._down_at += seconds

    def judge(self, now: float) -> Judgement:
        """Say what the clock means for this session; the caller acts."""
        if self.state is State.UP:
            if self.heard:
                self.heard = False
                self._heard_at = now
                return Judgement.BACK if self.busy else Judgement.FINE
            quiet = now - self._heard_at
            if quiet >= self.limits.silence:
                return Judgement.SILENT
            if quiet >= self.limits.ping_idle and now - self._pinged_at >= self.limits.ping_idle:
                self._pinged_at = now
                return Judgement.PING
        elif self.state is State.DOWN and now - self._down_at >= self.patience:
            return Judgement.EXPIRED
        return Judgement.FINE

    @property
    def patience(self) -> float:
        """Seconds without a link after which this side gives up."""
        return self.limits.resume_client if self.dialled else self.limits.resume_server

    def ask_for_life(self) -> None:
        """Send a PING that nobody waits for; any byte that comes back is the answer."""
        self._put(bare(FrameType.PING, 0, self.inbox.told()))

    # --- the end ---------------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until everything that was queued has been acknowledged, or the session is over."""
        while not self.idle and not self.ended:
            future = self._shell.future()
            self._settlers.append(future)
            await future

    def say_close(self) -> None:
        """Write CLOSE; the ack in it says exactly what was delivered here."""
        self._put(bare(FrameType.CLOSE, 0, self.inbox.told()))

    def end(self, error: SessionLost, *, closed: bool = False) -> None:
        """Go LOST, or CLOSED. What was not acknowledged stays readable; waiting calls come back."""
        if self.ended:
            return
        self.state = State.CLOSED if closed else State.LOST
        self.lost = error
        self.busy = False
        self._write = None
        self._flowing = False
        self.run_kind = 0  # so that the next send() comes by the check
        self.congested = False
        self._rooms = finish(self._rooms)
        self._settlers = finish(self._settlers)
        finish(list(self._pings.values()))

    def validate(self) -> None:
        """Check the invariants."""
        super().validate()
        overfull = self._waiting_bytes >= self.limits.session_queue
        up = self.state is State.UP and not overfull
        assert (self._write is not None) == up, "exactly UP has a link"
        assert (self.lost is not None) == self.ended, "an end has a reason"


def describe(error: BaseException | None) -> str:
    """Return an error in words for another error's text."""
    if error is None:
        return "the connection was closed"
    if isinstance(error, TransportError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

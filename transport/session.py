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

from .delivery import Inbox, Outbox
from .errors import FrameTooBig, ProtocolError, SessionLost, TransportError
from .frames import (
    ENTRY_COST,
    HEADER,
    LAST_RUN_KIND,
    ONE_HEADER,
    PAYLOAD_COST,
    BatchCoder,
    Entry,
    FrameType,
    Hello,
    Kind,
    Payload,
    bare,
    check_header,
    split,
)
from .limits import Limits

logger = logging.getLogger("discoro.transport")

#: Called with the session, target, source and payloads of an entry. Memoryviews among the payloads are valid during the call only.
Handler: TypeAlias = Callable[["Session", int, int, list[Payload]], None]

_HEADER_SIZE = HEADER.size
_ONE_SIZE = ONE_HEADER.size
# Plain numbers: comparing with a member of an enum costs five times as much, and these stand on the hot path.
_BATCH, _ONE, _ACK = int(FrameType.BATCH), int(FrameType.ONE), int(FrameType.ACK)
_SEND, _LAST_RUN = int(Kind.SEND), int(LAST_RUN_KIND)
_unpack_header = HEADER.unpack_from
_unpack_one = ONE_HEADER.unpack_from
_pack_header = HEADER.pack


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


class Shell(Protocol):
    """What a session asks of the loop it lives in."""

    def flush_later(self, session: Session) -> None:
        """Call ``session.flush()`` at the end of this turn."""

    def ack_later(self, session: Session) -> None:
        """Call ``session.ack_due()`` after ``ack_delay``."""

    def batch_full(self) -> None:
        """A batch is full: it would be good if the turn ended."""

    def link_broken(self, session: Session, error: Exception) -> None:
        """The link's ``write`` raised, or a handler found the peer breaking the rules; drop the link, later."""

    def closed_by_peer(self, session: Session) -> None:
        """CLOSE has arrived."""

    def new_bulk(self, session: Session) -> Any:
        """Return what moves big things for this session."""

    def future(self) -> Any:
        """Return a new awaitable with ``set_result`` and ``done``."""

    async def wait(self, future: Any, timeout: float | None) -> bool:
        """Wait for ``future``; False when ``timeout`` seconds passed first."""

    def time(self) -> float:
        """Return the loop's clock."""


class Session:
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
        self.id = id
        self.key = key
        self.ours = ours
        self.peer = peer
        self.dialled = dialled
        self.address = address
        self.given = given
        self.state = State.NEW
        self.busy = False
        self.congested = False
        self.epoch = 0
        self.lost: SessionLost | None = None
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
        self._limits = limits
        self._max_frame = limits.max_frame
        self._batch_bytes = limits.batch_bytes
        self._raw_from = limits.raw_payload
        self._coder = coder
        self._encode = coder.encode
        self._handlers = handlers
        self._shell = shell
        self._flush_later = shell.flush_later
        self.outbox = Outbox()
        self.inbox = Inbox()
        # The write of the link that is attached; None without one.
        self._write: Callable[[bytes], None] | None = None
        # The link takes no more for now.
        self._paused = False
        # A new batch may be numbered and written at once.
        self._flowing = False
        # The batch that is being put together: entries [kind, target, source, payload, ...], raw payloads, size;
        # and what the next entry has to be in order to join the last run.
        self._out: list[list[Any]] = []
        self._raw: list[bytes] = []
        self._size = 0
        self._run: list[Any] = []
        self._run_kind = 0
        self._run_target = 0
        self._run_source = 0
        # flush() has been asked for.
        self._marked = False
        # Full batches that may not be numbered yet: (entries, raw payloads, size).
        self._waiting: deque[tuple[list[list[Any]], list[bytes], int]] = deque()
        self._waiting_bytes = 0
        self._ack_armed = False
        # Futures of calls that wait for room, for an idle session, for an answer.
        self._rooms: list[Any] = []
        self._settlers: list[Any] = []
        self._pings: dict[int, Any] = {}
        self._ping_token = 0

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

    def __repr__(self) -> str:
        host, port = self.address
        return (
            f"<Session {self.peer.name or self.process_id.hex()[:8]} at {host}:{port} {self.state.value}"
            f"{' busy' if self.busy else ''} epoch {self.epoch} kept {self.outbox.kept_bytes} bytes>"
        )

    # --- sending ---------------------------------------------------------------------------------------------------

    def send(self, kind: int, target: int, source: int, payload: bytes) -> None:
        """Queue one entry. Never waits; it leaves at the end of this turn, or when 64 KiB are together.

        Args:
            kind: A :class:`~.frames.Kind`.
            target: See the table of kinds in ``docs/architecture.md``.
            source: The same.
            payload: At most 1 MiB.

        Raises:
            SessionLost: If the session is over; nothing was queued.
            FrameTooBig: If the payload is longer than a batch may carry.
        """
        size = len(payload)
        if (
            kind == self._run_kind
            and target == self._run_target
            and source == self._run_source
            and size < self._raw_from
        ):
            self._run.append(payload)
            size = self._size = self._size + size + PAYLOAD_COST
            if kind != _SEND:
                self._count_on(kind)
        else:
            size = self._append(kind, target, source, payload)
        if not self._marked:
            self._marked = True
            self._flush_later(self)
        if size >= self._batch_bytes:
            self._batch_is_full()

    def _append(self, kind: int, target: int, source: int, payload: bytes) -> int:
        """Queue an entry that does not simply join the last run; return the size of the batch."""
        if self.lost is not None:
            raise self.lost
        length = len(payload)
        limits = self._limits
        if length > limits.max_payload:
            raise FrameTooBig(length, limits.max_payload)
        if self._out and self._size + length > self._batch_bytes:
            self._batch_is_full()
        what: bytes | int = payload
        if length >= self._raw_from:
            self._raw.append(payload)
            what = length
        joins = kind == self._run_kind and target == self._run_target and source == self._run_source
        if joins:
            self._run.append(what)
        else:
            self._run = [kind, target, source, what]
            self._out.append(self._run)
            # Only some kinds share an entry: the others have exactly one payload on the wire.
            self._run_kind = kind if kind <= _LAST_RUN else 0
            self._run_target = target
            self._run_source = source
        if kind != _SEND:
            self._count_on(kind)
        self._size += length + (PAYLOAD_COST if joins else ENTRY_COST)
        return self._size

    def _count_on(self, kind: int) -> None:
        """The numbers of runs and of results count on by one through an entry."""
        if kind == Kind.RUN:
            self._run_source += 1
        elif kind == Kind.RESULT:
            self._run_target += 1

    def _batch_is_full(self) -> None:
        self._close_batch()
        self._shell.batch_full()

    def flush(self) -> None:
        """Write what was queued, as one batch, if it may go now. Never raises."""
        self._marked = False
        if self._out and self._flowing:
            self._close_batch()

    def _close_batch(self) -> None:
        """Write the batch that was put together, or let it wait for the window or the link."""
        out, raw, size = self._out, self._raw, self._size
        self._out = []
        self._size = 0
        self._run_kind = 0
        if raw:
            self._raw = []
        if self._flowing:
            self._number(out, raw)
            return
        self._waiting.append((out, raw, size))
        self._waiting_bytes += size
        if self._waiting_bytes + self.outbox.kept_bytes >= self._limits.window:
            self.congested = True

    def _number(self, out: list[list[Any]], raw: list[bytes]) -> None:
        """Number a batch, keep it and write it."""
        outbox = self.outbox
        # The ack counts as told here, where it is written: a batch that is numbered only has told nothing.
        frame = self._encode(outbox.last + 1, self.inbox.told(), out, raw)
        outbox.keep(frame)
        if outbox.kept_bytes >= self._limits.window:
            self._flowing = False
            self.congested = True
        self._put(frame)

    def _put(self, data: bytes) -> None:
        """Write to the link, if there is one; a link that breaks over it is dropped later."""
        if self._write is None:
            return
        try:
            self._write(data)
        except (
            Exception
        ) as exc:  # uvloop raises RuntimeError on a closed transport, asyncio OSErrors
            self._shell.link_broken(self, exc)

    def pause_writing(self) -> None:
        """Number nothing for now: the link has enough to write."""
        self._paused = True
        self._flowing = False

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        """Write what may go: first what must go again, then what waits; then new batches flow."""
        if self._write is None:
            return
        outbox, limits = self.outbox, self._limits
        if outbox.behind and not self._paused:
            frames = outbox.next_again(limits.resend_ahead)
            if frames:
                self._put(b"".join(frames))
        if outbox.behind:
            self._flowing = False
            return
        waiting = self._waiting
        while waiting and not self._paused and outbox.kept_bytes < limits.window:
            out, raw, size = waiting.popleft()
            self._waiting_bytes -= size
            self._number(out, raw)
        self._flowing = not waiting and not self._paused and outbox.kept_bytes < limits.window
        if self._flowing and self._out and not self._marked:
            self._close_batch()
        if self.congested and self._waiting_bytes + outbox.kept_bytes <= limits.window // 2:
            self.congested = False
            self._rooms = _finish(self._rooms)

    async def room(self) -> None:
        """Wait until the window has room, or the session is over. Cancelling is safe: nothing was queued."""
        while self.congested and not self.ended:
            future = self._shell.future()
            self._rooms.append(future)
            await future

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
            length, kind, flags, zero, number, ack = _unpack_header(buffer, offset)
            start = offset
            stop = offset + 4 + length
            if length < 20 or length > self._max_frame or zero:
                check_header(length, kind, flags, zero, self._max_frame)
            if stop > end:
                break
            offset = stop
            if ack >= outbox.first:
                outbox.acknowledged(ack)
                if self.congested or not self._flowing:
                    self._pump()
                if self._settlers and self.idle:
                    self._settlers = _finish(self._settlers)
            if kind == _ONE:
                if length < 36 or not 0 < flags < len(handlers):
                    raise ProtocolError(f"message of {length} bytes and kind {flags}")
                inbox.take(number, length)
                *_, target, source = _unpack_one(buffer, start)
                payload = view[start + _ONE_SIZE : stop]
                try:
                    handlers[flags](self, target, source, [payload])
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
            if inbox.owed:
                self._owe_ack()
            if self._write is None:
                # Over, in the middle of what it had sent: bytes of a link that is not current are not parsed.
                return end
        return offset

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
        if self.inbox.owed >= self._limits.ack_bytes:
            self._ack_now()
        elif not self._ack_armed:
            self._ack_armed = True
            self._shell.ack_later(self)

    def _ack_now(self) -> None:
        if self._write is not None:
            self._put(_pack_header(20, _ACK, 0, 0, 0, self.inbox.told()))

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
            if quiet >= self._limits.silence:
                return Judgement.SILENT
            if quiet >= self._limits.ping_idle and now - self._pinged_at >= self._limits.ping_idle:
                self._pinged_at = now
                return Judgement.PING
        elif self.state is State.DOWN and now - self._down_at >= self.patience:
            return Judgement.EXPIRED
        return Judgement.FINE

    @property
    def patience(self) -> float:
        """Seconds without a link after which this side gives up."""
        return self._limits.resume_client if self.dialled else self._limits.resume_server

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

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been acknowledged."""
        return not (self._out or self._waiting or self.outbox.kept_bytes)

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
        self._run_kind = 0  # so that the next send() comes by the check
        self.congested = False
        self._rooms = _finish(self._rooms)
        self._settlers = _finish(self._settlers)
        _finish(list(self._pings.values()))

    def unacknowledged(self) -> list[Entry]:
        """Return, in order, what was queued and never acknowledged.

        The peer may have taken some of it: everything up to the first entry it has not, and nothing after.
        """
        entries = []
        for frame in self.outbox.frames():
            entries += self._coder.entries_of(frame)
        for out, raw, _ in [*self._waiting, (self._out, self._raw, 0)]:
            tail = iter(raw)
            for kind, target, source, *payloads in out:
                whole = [next(tail) if type(one) is int else one for one in payloads]
                entries += split([(kind, target, source, whole)])
        return entries

    def validate(self) -> None:
        """Check the invariants."""
        self.outbox.validate()
        self.inbox.validate()
        limits, outbox = self._limits, self.outbox
        assert (self._write is not None) == (self.state is State.UP), "exactly UP has a link"
        assert (self.lost is not None) == self.ended, "an end has a reason"
        assert self._waiting_bytes == sum(size for *_, size in self._waiting)
        assert outbox.kept_bytes < limits.window + limits.max_frame, "window, and one batch over"
        if self._flowing:
            assert self.state is State.UP and not self._paused and not outbox.behind
            assert not self._waiting and outbox.kept_bytes < limits.window
        assert not self.congested or not self.ended


def _finish(futures: list[Any]) -> list[Any]:
    """Let all these waiting calls go on; return the list of those that still wait, an empty one."""
    for future in futures:
        if not future.done():
            future.set_result(None)
    return []


def describe(error: BaseException | None) -> str:
    """Return an error in words for another error's text."""
    if error is None:
        return "the connection was closed"
    if isinstance(error, TransportError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

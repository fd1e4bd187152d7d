"""Delivery: numbers, cumulative acks, replay after a reconnect.

Pure. Nothing here knows of sockets or clocks. :class:`Sending` puts entries together into batches; :class:`Outbox` keeps
the very bytes that were written, until the peer has acknowledged them; :class:`Inbox` lets each number through once and
in order. Kept bytes are sent again unchanged: an old ack in them is harmless, since acks are cumulative. Nothing is
numbered before it can be written, so a batch that was numbered and not written, which would have acknowledged
nothing, cannot exist.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .errors import FrameTooBig, ProtocolError, SessionLost
from .frames import (
    ENTRY_COST,
    LAST_RUN_KIND,
    ONE_HEADER,
    BatchCoder,
    Entry,
    FrameType,
    Kind,
    split,
)
from .limits import Limits

# Plain numbers: comparing with a member of an enum costs five times as much, and these stand on the hot path.
_SEND, _RUN, _LAST_RUN = int(Kind.SEND), int(Kind.RUN), int(LAST_RUN_KIND)
_ONE = int(FrameType.ONE)
_ONE_LENGTH = ONE_HEADER.size - 4
_pack_one = ONE_HEADER.pack


class Outbox:
    """What was sent and is not acknowledged.

    Attributes:
        first: Number of the oldest frame that is kept; ``last + 1`` when none is.
        last: Number of the newest frame; 0 before the first.
        kept: Frames written on the current link, oldest first: their numbers are first, first + 1, ...
        kept_bytes: Length of all that is kept, written again or not.
    """

    __slots__ = ("_again", "_again_bytes", "first", "kept", "kept_bytes", "last")

    def __init__(self) -> None:
        self.first = 1
        self.last = 0
        self.kept_bytes = 0
        self.kept: deque[bytes] = deque()
        # The frames after those: written on an earlier link only.
        self._again: deque[bytes] = deque()
        self._again_bytes = 0

    @property
    def behind(self) -> bool:
        """Whether something must be written again before anything new."""
        return bool(self._again)

    @property
    def written(self) -> int:
        """Number of the last frame that the current link has seen."""
        return self.first + len(self.kept) - 1

    def keep(self, frame: bytes) -> None:
        """Keep the next frame, which is written now."""
        self.last += 1
        self.kept.append(frame)
        self.kept_bytes += len(frame)

    def acknowledged(self, number: int) -> None:
        """Free all frames up to ``number``.

        Raises:
            ProtocolError: If that was not written on this link.
        """
        kept = self.kept
        count = number - self.first + 1
        if count > len(kept):
            raise ProtocolError(
                f"batch {number} acknowledged, {self.written} was the last one written"
            )
        freed = 0
        for _ in range(count):
            freed += len(kept.popleft())
        self.first = number + 1
        self.kept_bytes -= freed

    def check_restart(self, received: int) -> None:
        """Raise :class:`ProtocolError` if the peer cannot have received just that."""
        if not self.first - 1 <= received <= self.last:
            raise ProtocolError(
                f"the peer says it has batch {received}, which is not in {self.first - 1}..{self.last}"
            )

    def restart(self, received: int) -> None:
        """Begin on a new link: the peer has received everything up to ``received``, and the rest must be written again.

        Raises:
            ProtocolError: If it cannot have received that, or has asked for what is kept no longer.
        """
        self.check_restart(received)
        self.kept.extend(self._again)
        self._again.clear()
        self.acknowledged(received)
        self._again, self.kept = self.kept, self._again
        self._again_bytes = self.kept_bytes

    def next_again(self, ahead: int) -> list[bytes]:
        """Return the frames to write again now, so that at most ``ahead`` bytes are out (or one frame)."""
        frames = []
        again = self._again
        written = self.kept_bytes - self._again_bytes
        while again and (not written or written + len(again[0]) <= ahead):
            frame = again.popleft()
            self.kept.append(frame)
            written += len(frame)
            self._again_bytes -= len(frame)
            frames.append(frame)
        return frames

    def frames(self) -> list[bytes]:
        """Return all that is kept, in order."""
        return [*self.kept, *self._again]

    def validate(self) -> None:
        """Check the invariants."""
        frames = self.frames()
        assert self.last == self.first + len(frames) - 1, "numbers of kept frames are contiguous"
        assert self.kept_bytes == sum(map(len, frames)), "kept bytes are counted"
        assert self._again_bytes == sum(map(len, self._again)), "what must go again is counted"


class Inbox:
    """What has arrived.

    Attributes:
        last: Number of the last batch received in order; 0 before the first.
        acked: The last number that the peer was told.
        owed: Bytes received since then.
    """

    __slots__ = ("acked", "last", "owed")

    def __init__(self) -> None:
        self.last = 0
        self.acked = 0
        self.owed = 0

    def take(self, number: int, size: int) -> None:
        """Let batch ``number`` of ``size`` bytes through.

        Raises:
            ProtocolError: If it is not the next one.
        """
        if number != self.last + 1:
            raise ProtocolError(f"batch {number}, expected {self.last + 1}")
        self.last = number
        self.owed += size

    def told(self) -> int:
        """Return the number to tell the peer, in a frame that is written now."""
        self.owed = 0
        self.acked = self.last
        return self.last

    def validate(self) -> None:
        """Check the invariants."""
        assert 0 <= self.acked <= self.last, "nothing is acknowledged that has not arrived"
        assert self.owed >= 0


class Outlet(Protocol):
    """What sending asks of the loop it lives in."""

    def flush_later(self, sending: Any) -> None:
        """Call ``sending.flush()`` at the end of this turn."""

    def batch_full(self) -> None:
        """A batch is full: it would be good if the turn ended."""

    def link_broken(self, sending: Any, error: Exception) -> None:
        """The link's ``write`` raised, or a handler found the peer breaking the rules; drop the link, later."""

    def overfull(self, sending: Any) -> None:
        """More waits than may; end it, later."""

    def future(self) -> Any:
        """Return a new awaitable with ``set_result`` and ``done``."""


class Sending:
    """The sending half of a session: entries -> batches -> kept frames -> the link that is attached.

    Any line may run the garbage collector, that a finalizer, and that may send: so may a handler of a signal. What puts a batch
    together or writes one is therefore held (:meth:`_hold`): an entry that comes meanwhile waits until that is through.

    Attributes:
        limits: All figures.
        inbox: What has arrived; its number rides on every frame.
        outbox: What was sent and is not acknowledged.
        congested: The window is full; new entries wait. See :meth:`room`.
        lost: Why nothing can be sent any more, once that is so.
        run: The entry that the last payload went into: [kind, target, source, payload, ...].
        run_kind: What the next entry has to be in order to join it, 0 if none can; ``run_target`` and ``run_source`` too.
        batch_size: What the batch that is put together counts so far, in bytes.
        batch_bytes: The limit of that, and ``batch_message`` what a message counts beside its length.
        raw_payload: The limit of that name: only shorter ones join at once.
    """

    # Slots: an object with more than thirty attributes has a slow dictionary, and send() runs once per message.
    __slots__ = (
        *("batch_bytes", "batch_message", "batch_size", "congested", "inbox", "limits", "lost"),
        *("outbox", "raw_payload", "run", "run_kind", "run_source", "run_target"),
        *("_coder", "_encode", "_flowing", "_flush_later", "_marked", "_out", "_outlet"),
        *("_held", "_nested", "_paused", "_raw", "_rooms", "_waiting", "_waiting_bytes", "_write"),
    )

    def __init__(self, limits: Limits, coder: BatchCoder, outlet: Outlet) -> None:
        self.limits = limits
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.congested = False
        self.lost: SessionLost | None = None
        self.batch_bytes = limits.batch_bytes
        # Beside its length a message counts the work it makes: the peer has something to do while we go on.
        self.batch_message = limits.batch_message
        self.raw_payload = limits.raw_payload
        self._coder = coder
        self._encode = coder.encode
        self._outlet = outlet
        self._flush_later = outlet.flush_later
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
        self.batch_size = 0
        self.run: list[Any] = []
        self.run_kind = 0
        self.run_target = 0
        self.run_source = 0
        # flush() has been asked for.
        self._marked = False
        # Something puts a batch together, or writes one; and the entries that came in the midst of that.
        self._held = False
        self._nested: deque[tuple[int, int, int, bytes]] = deque()
        # Full batches that may not be numbered yet: (entries, raw payloads, size).
        self._waiting: deque[tuple[list[list[Any]], list[bytes], int]] = deque()
        self._waiting_bytes = 0
        # Futures of calls that wait for room.
        self._rooms: list[Any] = []

    def send(self, kind: int, target: int, source: int, payload: bytes) -> None:
        """Queue one entry. Never waits; it leaves at the end of this turn, or when a batch is full.

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
            target == self.run_target
            and source == self.run_source
            and kind == self.run_kind
            and size < self.raw_payload
        ):
            # Once per message: whatever can be left to _append() is. The batch is marked for a flush already.
            self.run.append(payload)
            size = self.batch_size = self.batch_size + size + self.batch_message
            if kind != _SEND:
                self._count_on(kind)
        else:
            size = self._append(kind, target, source, payload)
        if size >= self.batch_bytes:
            self.batch_is_full()

    def _append(self, kind: int, target: int, source: int, payload: bytes) -> int:
        """Queue an entry that does not simply join the last run; return the size of the batch."""
        if self.lost is not None:
            raise self.lost
        length = len(payload)
        limits = self.limits
        if length > limits.max_payload:
            raise FrameTooBig(length, limits.max_payload)
        if self._held:
            self._nested.append((kind, target, source, payload))
            return 0
        joins = kind == self.run_kind and target == self.run_target and source == self.run_source
        self._hold()
        try:
            if self._out and self.batch_size + length > self.batch_bytes:
                self._close_batch()
                self._outlet.batch_full()
                joins = False
            what: bytes | int = payload
            if length >= self.raw_payload:
                self._raw.append(payload)
                what = length
            if joins:
                self.run.append(what)
            else:
                self.run = [kind, target, source, what]
                self._out.append(self.run)
            if not self._marked:
                self._marked = True
                self._flush_later(self)
            self.batch_size += length + (
                self.batch_message if joins else max(self.batch_message, ENTRY_COST)
            )
            self.run_target = target
            self.run_source = source
            # Only some kinds share an entry: the others have exactly one payload on the wire.
            self.run_kind = kind if kind <= _LAST_RUN else 0
            if kind != _SEND:
                self._count_on(kind)
        finally:
            self._go_on()
        return self.batch_size

    def _hold(self) -> bool:
        """Let nothing be put together or written by anybody else until :meth:`_go_on`; False: somebody else is at it."""
        if self._held:
            return False
        self._held = True
        self.run_kind = 0  # nothing joins a run past the look at this
        return True

    def _go_on(self) -> None:
        """Let entries in again, those first that came meanwhile."""
        self._held = False
        while self._nested and not self._held:
            self.send(*self._nested.popleft())

    def _count_on(self, kind: int) -> None:
        """The numbers of runs and of results count on by one through an entry."""
        if kind == _RUN:
            self.run_source += 1
        elif kind == _LAST_RUN:
            self.run_target += 1

    def batch_is_full(self) -> None:
        """Close the batch that is put together: :attr:`batch_size` has come to :attr:`batch_bytes`."""
        self._close()
        self._outlet.batch_full()

    def flush(self) -> None:
        """Write what was queued, as one batch, if it may go now. Never raises."""
        self._marked = False
        if self._held:
            self._marked = True
            self._flush_later(self)
        elif self._flowing:
            self._close()

    def _close(self) -> None:
        if self._hold():
            try:
                self._close_batch()
            finally:
                self._go_on()

    def _close_batch(self) -> None:
        """Write the batch that was put together, or let it wait for the window or the link; called while held."""
        out, raw, size = self._out, self._raw, self.batch_size
        self._out = []
        self.batch_size = 0
        self._raw = []  # a new list even for an empty one: the old one may wait
        if not out:
            return
        if self._flowing:
            self._number(out, raw)
            return
        self._waiting.append((out, raw, size))
        self._waiting_bytes += size
        if self._waiting_bytes + self.outbox.kept_bytes >= self.limits.window:
            self.congested = True
            if 0 <= self._waiting_bytes - self.limits.session_queue < size:
                # Nothing more is written or, after the batch at hand, read; the end comes in the next turn.
                self._write = None
                self._outlet.overfull(self)

    def _number(self, out: list[list[Any]], raw: list[bytes]) -> None:
        """Number a batch, keep it and write it; the link is up.

        Once per batch, and often there is one message in it: :meth:`Outbox.keep`, :meth:`Inbox.told` and the short form
        of :meth:`BatchCoder.encode` are written out here. After a wake-up each call costs four times what it does warm.
        """
        outbox, inbox, first = self.outbox, self.inbox, out[0]
        # The ack counts as told here, where it is written: a batch that is numbered only has told nothing.
        inbox.owed = 0
        ack = inbox.acked = inbox.last
        number = outbox.last = outbox.last + 1
        if len(out) == 1 and len(first) == 4 and not raw:
            payload = first[3]
            length = len(payload) + _ONE_LENGTH
            frame = _pack_one(length, _ONE, first[0], 0, number, ack, first[1], first[2]) + payload
        else:
            frame = self._encode(number, ack, out, raw)
        outbox.kept.append(frame)
        outbox.kept_bytes += len(frame)
        if outbox.kept_bytes >= self.limits.window:
            self._flowing = False
            self.congested = True
        self._put(frame)

    def _put(self, data: bytes) -> None:
        """Write to the link, if there is one; a link that breaks over it is dropped later."""
        if self._write is None:
            return
        try:
            self._write(data)
        except Exception as exc:  # what a closed transport raises is not the same in all of them
            self._outlet.link_broken(self, exc)

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
        if self._write is not None and self._hold():
            try:
                self._write_on()
            finally:
                self._go_on()

    def _write_on(self) -> None:
        outbox, limits = self.outbox, self.limits
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
            self._rooms = finish(self._rooms)

    async def room(self) -> None:
        """Wait until the window has room, or the session is over. Cancelling is safe: nothing was queued."""
        while self.congested and self.lost is None:
            future = self._outlet.future()
            self._rooms.append(future)
            await future

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

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been acknowledged."""
        return not (self._out or self._waiting or self.outbox.kept_bytes)

    def validate(self) -> None:
        """Check the invariants."""
        self.outbox.validate()
        self.inbox.validate()
        limits, outbox = self.limits, self.outbox
        assert self._waiting_bytes == sum(size for *_, size in self._waiting)
        assert outbox.kept_bytes < limits.window + limits.max_frame + 4, (
            "window, and one batch over"
        )
        if self._flowing:
            assert self._write is not None and not self._paused and not outbox.behind
            assert not self._waiting and outbox.kept_bytes < limits.window
        assert not self.congested or self.lost is None


def finish(futures: list[Any]) -> list[Any]:
    """Let all these waiting calls go on; return the list of those that still wait, an empty one."""
    for future in futures:
        if not future.done():
            future.set_result(None)
    return []

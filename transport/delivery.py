"""Delivery: numbers, cumulative acks, replay after a reconnect.

Pure. Nothing here knows of sockets or clocks. :class:`Outbox` keeps the very bytes that were written, until the
peer has acknowledged them; :class:`Inbox` lets each number through once and in order. Kept bytes are sent again
unchanged: an old ack in them is harmless, since acks are cumulative. Nothing is numbered before it can be written,
so a batch that was numbered and not written, which would have acknowledged nothing, cannot exist.
"""

from __future__ import annotations

from collections import deque

from .errors import ProtocolError


class Outbox:
    """What was sent and is not acknowledged.

    Attributes:
        first: Number of the oldest frame that is kept; ``last + 1`` when none is.
        last: Number of the newest frame; 0 before the first.
        kept_bytes: Length of all that is kept.
    """

    __slots__ = ("_again", "_kept", "_written_bytes", "first", "kept_bytes", "last")

    def __init__(self) -> None:
        self.first = 1
        self.last = 0
        self.kept_bytes = 0
        # Frames written on the current link, oldest first: their numbers are first, first + 1, ...
        self._kept: deque[bytes] = deque()
        self._written_bytes = 0
        # The frames after those: written on an earlier link only.
        self._again: deque[bytes] = deque()

    @property
    def behind(self) -> bool:
        """Whether something must be written again before anything new."""
        return bool(self._again)

    @property
    def written(self) -> int:
        """Number of the last frame that the current link has seen."""
        return self.first + len(self._kept) - 1

    def keep(self, frame: bytes) -> None:
        """Keep the next frame, which is written now."""
        self.last += 1
        self._kept.append(frame)
        self._written_bytes += len(frame)
        self.kept_bytes += len(frame)

    def acknowledged(self, number: int) -> None:
        """Free all frames up to ``number``.

        Raises:
            ProtocolError: If that was not written on this link.
        """
        kept = self._kept
        count = number - self.first + 1
        if count > len(kept):
            raise ProtocolError(
                f"batch {number} acknowledged, {self.written} was the last one written"
            )
        freed = 0
        for _ in range(count):
            freed += len(kept.popleft())
        self.first = number + 1
        self._written_bytes -= freed
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
        self._kept.extend(self._again)
        self._written_bytes = self.kept_bytes
        self._again.clear()
        self.acknowledged(received)
        self._again, self._kept = self._kept, self._again
        self._written_bytes = 0

    def next_again(self, ahead: int) -> list[bytes]:
        """Return the frames to write again now, so that at most ``ahead`` bytes are out (or one frame)."""
        frames = []
        again = self._again
        while again and (not self._written_bytes or self._written_bytes + len(again[0]) <= ahead):
            frame = again.popleft()
            self._kept.append(frame)
            self._written_bytes += len(frame)
            frames.append(frame)
        return frames

    def frames(self) -> list[bytes]:
        """Return all that is kept, in order."""
        return [*self._kept, *self._again]

    def validate(self) -> None:
        """Check the invariants."""
        frames = self.frames()
        assert self.last == self.first + len(frames) - 1, "numbers of kept frames are contiguous"
        assert self.kept_bytes == sum(map(len, frames)), "kept bytes are counted"
        assert self._written_bytes == sum(map(len, self._kept)), "written bytes are counted"


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

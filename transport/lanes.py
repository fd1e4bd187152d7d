"""Lanes: what one process has in flight to one receiver at another, and who may have how much. Pure.

Every (session, receiver) has a grant of its own, in bytes, a message counting its length and 64: so a receiver that does
not take holds up nobody but those who send to it. 64 KiB are granted without asking; each time a quarter of the window
has been *taken* out of the mailbox the receiver's side gives it back, and the window grows, up to 1 MiB, as far as the budget
of the process allows. What has no grant waits, unnumbered, at its sender. A grant may overshoot by one message.

Entries are ``(kind, target, source, payload)``, as they are given to ``Session.send``; nothing here looks into them.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from .errors import LaneFull, ProtocolError
from .limits import KIB, Limits

LaneEntry: TypeAlias = tuple[int, int, int, bytes]
#: What a message counts beside its length; both sides of a lane count alike.
OVERHEAD = 64
#: The smallest first grant. Below it a sender would stop after every message; 200,000 lanes of it are 200 MiB.
LEAST_GRANT = 1 * KIB


class Budget:
    """All grants that a process has given, together.

    Attributes:
        total: What may be given, in bytes.
        given: What is given now.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.total = limits.grant_budget
        self.given = 0

    def first_grant(self) -> int:
        """Return what to announce for new lanes: less when the budget runs low."""
        first = self._limits.first_grant
        # A 4096th of what is left: a quarter of the default budget left still means 64 KiB for everyone who is new.
        return max(LEAST_GRANT, min(first, (self.total - self.given) // 4096))

    def open(self, grant: int) -> None:
        """Take the first grant of a new lane; it cannot be refused, since the sender has it already."""
        self.given += grant

    def grow(self, size: int) -> int:
        """Return how much of ``size`` bytes may be given in addition; the last quarter is kept for new lanes."""
        grown = max(0, min(size, self.total - self.total // 4 - self.given))
        self.given += grown
        return grown

    @property
    def low(self) -> bool:
        """Whether lanes should give back what they have grown."""
        return self.given > self.total - self.total // 8

    def give_back(self, size: int) -> None:
        """Take back what a lane had."""
        self.given -= size


class InLane:
    """The receiver's side.

    Attributes:
        window: What the sender may have in flight for sure, in bytes.
        left: What it may still send now at most; a message may begin while this is above zero.
    """

    __slots__ = ("_budget", "_limits", "_owed", "left", "window")

    def __init__(self, limits: Limits, budget: Budget, announced: int | None = None) -> None:
        """Begin with what the sender was told to have (``first_grant`` of our hello); None: not known, the least is assumed."""
        self._limits = limits
        self._budget = budget
        # Too high a figure here would be a deadlock: the sender would stop before a quarter of it has come.
        self.window = min(announced or LEAST_GRANT, limits.first_grant)
        self.left = limits.first_grant
        self._owed = 0
        budget.open(self.window)

    def came(self, size: int) -> int:
        """Note that ``size`` bytes have been put into the mailbox.

        Returns:
            0; or, every quarter of the window, how many bytes a mark should stand for that goes into the mailbox now.

        Raises:
            ProtocolError: If the sender did not have a grant for them.
        """
        # arrived() and put() in one: this runs for every entry.
        if self.left <= 0:
            raise ProtocolError(f"{size} bytes on a lane without a grant")
        self.left -= size
        owed = self._owed = self._owed + size
        if owed < self.window >> 2:
            return 0
        self._owed = 0
        return owed

    def arrived(self, size: int) -> None:
        """Note that ``size`` bytes have come, wherever they are kept until they are put into the mailbox.

        Raises:
            ProtocolError: If the sender did not have a grant for them.
        """
        if self.left <= 0:
            raise ProtocolError(f"{size} bytes on a lane without a grant")
        self.left -= size

    def put(self, size: int) -> int:
        """Note that bytes of which :meth:`arrived` knows are in the mailbox now; returns what :meth:`came` does."""
        owed = self._owed = self._owed + size
        if owed < self.window >> 2:
            return 0
        self._owed = 0
        return owed

    def taken(self, size: int) -> int:
        """Note that a mark of ``size`` bytes was reached; return what to grant the sender (0: nothing now)."""
        limits, budget = self._limits, self._budget
        if budget.low and self.window > limits.first_grant:
            shrunk = min(size, self.window - limits.first_grant)
            self.window -= shrunk
            budget.give_back(shrunk)
            size -= shrunk
        elif self.window < limits.most_grant:
            step = max(self.window, limits.first_grant)
            grown = budget.grow(min(step, limits.most_grant - self.window))
            self.window += grown
            size += grown
        self.left += size
        return size

    def close(self) -> None:
        """The receiver has ended, or the session: give everything back to the budget."""
        self._budget.give_back(self.window)
        self.window = 0

    def validate(self) -> None:
        """Check the invariants."""
        assert 0 <= self.window <= max(self._limits.most_grant, self._limits.first_grant)
        assert self._owed >= 0


class OutLane:
    """The sender's side.

    Attributes:
        credit: What may be sent now, in bytes; a message may begin while this is above zero.
        waiting: Entries without a grant, with what each counts.
        queued: Bytes in them.
    """

    __slots__ = ("_limit", "credit", "queued", "waiting")

    def __init__(self, limits: Limits, first_grant: int | None = None) -> None:
        """Begin with what the peer grants new lanes; 0 or None: nothing was said, the least is assumed."""
        self._limit = limits.lane_queue
        self.credit = first_grant or LEAST_GRANT
        self.waiting: deque[tuple[LaneEntry, int]] = deque()
        self.queued = 0

    def take(self, size: int) -> bool:
        """Use the grant for an entry of ``size`` bytes; False if it must wait."""
        if self.credit > 0 and not self.waiting:
            self.credit -= size
            return True
        return False

    def queue(self, entry: LaneEntry, size: int) -> None:
        """Let an entry wait.

        Raises:
            LaneFull: If too much waits already; nothing was queued.
        """
        if self.queued >= self._limit:
            raise LaneFull(self.queued, self._limit)
        self.wait(entry, size)

    def wait(self, entry: LaneEntry, size: int) -> None:
        """Let an entry wait, however much does; with ``size`` 0 it needs no grant once it is first."""
        self.waiting.append((entry, size))
        self.queued += size

    def grant(self, size: int) -> list[LaneEntry]:
        """Take a grant; return the entries that may go now, in order."""
        self.credit += size
        return self.ready()

    def ready(self) -> list[LaneEntry]:
        """Return the entries that may go now, in order."""
        entries = []
        waiting = self.waiting
        while waiting and (self.credit > 0 or not waiting[0][1]):
            entry, size = waiting.popleft()
            self.credit -= size
            self.queued -= size
            entries.append(entry)
        return entries

    def withdraw(self, entry: LaneEntry) -> bool:
        """Take a waiting entry back; False if it has left (or never waited).

        What stands behind it may need no grant: the caller sends :meth:`ready` then.
        """
        for index, (one, size) in enumerate(self.waiting):
            if one is entry:
                del self.waiting[index]
                self.queued -= size
                return True
        return False

    def drain(self) -> list[LaneEntry]:
        """Return everything that waits; nothing does any more."""
        entries = [entry for entry, _ in self.waiting]
        self.waiting.clear()
        self.queued = 0
        return entries

    def validate(self) -> None:
        """Check the invariants."""
        assert self.queued == sum(size for _, size in self.waiting)
        assert not self.waiting or (self.credit <= 0 and self.waiting[0][1]), (
            "what may go does not wait"
        )

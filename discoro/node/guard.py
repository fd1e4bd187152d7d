"""When a server process has taken too much: more memory than ``--max-rss``, or its loop for longer than ``--max-stall``.

Pure. The node's parent looks from outside: a thread of the server would see nothing while C code, such as the unpickling of a
gigabyte, keeps Python's lock. The parent asks the server's loop to answer (a *beat*), and measures how long it does not. Time in
which the server was stopped (SIGSTOP), or the parent itself stood still, is nobody's fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from discoro.quantities import seconds_text, size_text

LEAST_RSS = 128 << 20
"""A server that has done little takes 30 to 60 MiB: one with less room would be ended again and again."""
LEAST_STALL = 1.0
"""What loads modules, or compiles, blocks a loop that long."""
LOOK_AT_MEMORY = 0.1
"""Seconds between two looks where memory counts: a gigabyte is filled in half a second .."""
LOOK_AT_LOOP = 0.25
"""... and where only the loop does."""
BEAT_EVERY = 0.5
"""Seconds between two beats at most."""
LAST_WORDS = 3.0
"""Seconds that a server which is to be ended has to say who it was.

It answers within milliseconds; on a machine with far more to do than it can it may take longer."""
LISTEN = 0.05
"""Seconds between two looks at a server that has been asked who it was."""
GROWTH = 4
"""One that took too much memory is not listened to any longer once it has taken this part of its bound in addition."""
OWN_STALL = 1.0
"""A look that comes so much late means that the parent stood still."""


@dataclass(frozen=True)
class Bounds:
    """What one server process may take; None: as much as it likes."""

    max_rss: int | None = None
    max_stall: float | None = None

    def __bool__(self) -> bool:
        return self.max_rss is not None or self.max_stall is not None

    def __str__(self) -> str:
        parts = []
        if self.max_rss is not None:
            parts.append(f"takes more than {size_text(self.max_rss)} (--max-rss)")
        if self.max_stall is not None:
            parts.append(f"blocks for longer than {seconds_text(self.max_stall)} (--max-stall)")
        return " or ".join(parts)

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return LOOK_AT_LOOP if self.max_rss is None else LOOK_AT_MEMORY


def checked(max_rss: int | None, max_stall: float | None) -> Bounds:
    """Return the bounds that somebody has typed.

    Raises:
        ValueError: If a server could not live within them.
    """
    if max_rss is not None and max_rss < LEAST_RSS:
        raise ValueError(
            f"--max-rss {size_text(max_rss)}: a server itself takes up to 60 MiB; "
            f"at least {size_text(LEAST_RSS)}, or leave it out"
        )
    if max_stall is not None and max_stall < LEAST_STALL:
        raise ValueError(
            f"--max-stall {seconds_text(max_stall)}: importing a module takes longer; "
            f"at least {seconds_text(LEAST_STALL)}, or leave it out"
        )
    return Bounds(max_rss, max_stall)


@dataclass(frozen=True)
class Excess:
    """Why a process is to be ended.

    Attributes:
        why: In words.
        most: Resident memory, in bytes, at which no time is left to find out who it was; None: its memory is no matter.
    """

    why: str
    most: int | None = None

    def __str__(self) -> str:
        return self.why

    def urgent(self, waited: float, rss: int) -> bool:
        """Whether to end it now, though it has not said who it was, ``waited`` seconds after it was asked."""
        return waited >= LAST_WORDS or (self.most is not None and rss > self.most)


class Guard:
    """Watches over one server process, from its readiness on."""

    def __init__(self, bounds: Bounds, now: float) -> None:
        self.bounds = bounds
        self._looked = now
        self._asked: float | None = None  # when the loop was asked; None: it has answered
        self._next_beat = now

    def beat_due(self, now: float) -> bool:
        """Whether the loop is to be asked now; then it counts as asked."""
        if self.bounds.max_stall is None or self._asked is not None or now < self._next_beat:
            return False
        self._asked = now
        self._next_beat = now + BEAT_EVERY
        return True

    @property
    def waiting(self) -> bool:
        """Whether the loop has been asked, and has not answered."""
        return self._asked is not None

    def answered(self) -> None:
        """The loop has answered."""
        self._asked = None

    def look(self, now: float, rss: int, *, stopped: bool) -> Excess | None:
        """Return why the process is to be ended, or None. ``rss`` is its resident memory in bytes."""
        late = now - self._looked
        self._looked = now
        if self._asked is not None and stopped:
            self._asked = now
        elif self._asked is not None and late > OWN_STALL:
            self._asked += late
        bounds = self.bounds
        if bounds.max_rss is not None and rss > bounds.max_rss:
            most = size_text(bounds.max_rss)
            text = f"it took {size_text(rss)} of memory, more than --max-rss {most}"
            return Excess(text, rss + bounds.max_rss // GROWTH)
        if bounds.max_stall is None or self._asked is None:
            return None
        stalled = now - self._asked
        if stalled <= bounds.max_stall:
            return None
        most = seconds_text(bounds.max_stall)
        text = f"its loop was blocked for {seconds_text(stalled)}, longer than --max-stall {most}"
        return Excess(text)


_FRAME = re.compile(r'\s*File "(.+)", line (\d+) in (.+)')


def frames(dump: str) -> list[tuple[str, int, str]]:
    """Read (file, line, function), innermost first, out of what :mod:`faulthandler` says of one thread."""
    found = (_FRAME.fullmatch(line) for line in dump.splitlines())
    return [(match[1], int(match[2]), match[3]) for match in found if match]

"""A thread that notices when the event loop is blocked, and names the line of the user's program that blocks it.

It asks the loop to answer, twice a second; an answer that takes over a second means that some coroutine computes, or waits
without yielding. The line comes from the loop thread's current frames: the innermost one that belongs neither to us, nor to the
standard library, nor to an installed package.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from types import FrameType
from typing import Any, Protocol

import discoro
from discoro.shipping.privatenames import plain_file


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> object:
        """Call back on the loop's thread."""


@dataclass(frozen=True)
class Blocked:
    """A loop that does not answer.

    Attributes:
        seconds: For how long.
        file: Source file of the line that blocks it.
        line: Its number.
        function: Name of the function it stands in.
        whose: Coroutine, computation and client whose turn it is, in words; empty where that is not known.
    """

    seconds: float
    file: str
    line: int
    function: str
    whose: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """The same as a dictionary."""
        return asdict(self)

    @property
    def where(self) -> str:
        """Place and owner, in words."""
        whose = f" ({self.whose})" if self.whose else ""
        return f"at {self.file}:{self.line} in {self.function}{whose}"

    def __str__(self) -> str:
        return f"blocked for {self.seconds:.0f} s {self.where}"


@cache
def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    own = [os.path.dirname(os.path.abspath(discoro.__file__))]
    own += [
        os.path.join(path, name) for path in discoro.__path__ for name in ("scheduler", "transport")
    ]
    paths = sysconfig.get_paths()
    library = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if key in paths]
    return tuple(path + os.sep for path in own), tuple(path + os.sep for path in library)


def is_users(file: str) -> bool:
    """Whether a source file belongs neither to us, nor to the standard library, nor to an installed package."""
    own, library = _folders()
    return not file.startswith((*own, *library, "<frozen"))


def user_frame(innermost: FrameType) -> FrameType:
    """Return the innermost frame of the user's own program; without one the best that there is."""
    own, library = _folders()
    somebodys = None
    frame: FrameType | None = innermost
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(own) and not file.startswith("<frozen"):
            if not file.startswith(library):
                # A loop that runs nothing of the user's stands in the program's first frame: that is not it.
                if frame.f_code.co_name != "<module>" or frame is innermost:
                    return frame
            elif somebodys is None:
                somebodys = frame
        frame = frame.f_back
    return somebodys or innermost


class Watchdog:
    """Watch one loop from a thread. Start it on the loop's own thread."""

    def __init__(
        self,
        loop: Loop,
        report: Callable[[Blocked | None], object],
        *,
        limit: float = 1.0,
        every: float = 0.5,
        whose: Callable[[], str] = str,
    ) -> None:
        """Prepare.

        Args:
            loop: Whom to watch.
            report: Called in the watching thread with a :class:`Blocked`, about once a second while it lasts; and with None
                when the loop answers again.
            limit: Seconds without an answer that count as blocked.
            every: Seconds between two looks.
            whose: Says whose turn it is, in the watching thread; see :class:`Blocked`.
        """
        self._loop = loop
        self._report = report
        self._limit = limit
        self._every = every
        self._whose = whose
        self._asked: float | None = None  # when the loop was asked; None: it has answered
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="discoro watchdog", daemon=True)
        self._watched = 0  # id of the loop's thread

    def start(self) -> None:
        """Begin; the calling thread is the watched one."""
        self._watched = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _answer(self) -> None:
        self._asked = None

    def _watch(self) -> None:
        reported = 0.0  # length of the blockage when it was last reported; 0: none
        looked = time.monotonic()
        while not self._stop.wait(self._every):
            now = time.monotonic()
            late = now - looked - self._every
            looked = now
            asked = self._asked
            if asked is not None and late > self._limit:
                # We stood still ourselves (stopped, machine asleep): that time is not held against the loop.
                asked = self._asked = asked + late
            if asked is None:
                if reported:
                    reported = 0.0
                    self._report(None)
                self._asked = now
                try:
                    self._loop.call_soon_threadsafe(self._answer)
                except RuntimeError:  # the loop is closed
                    return
            elif (seconds := now - asked) > self._limit and seconds - reported >= self._limit:
                blocked = self.look(seconds)
                if blocked is not None:
                    reported = seconds
                    self._report(blocked)

    def busy(self, least: float) -> Blocked | None:
        """Say where the watched thread stands, which has not answered for at least so many seconds."""
        asked = self._asked
        return self.look(least if asked is None else max(least, time.monotonic() - asked))

    def look(self, seconds: float) -> Blocked | None:
        """Say where the watched thread stands now; None when it has ended."""
        innermost = sys._current_frames().get(self._watched)
        if innermost is None:
            return None
        frame = user_frame(innermost)
        code = frame.f_code
        file, function = plain_file(code.co_filename), code.co_qualname
        return Blocked(seconds, file, frame.f_lineno, function, self._whose())

"""What servers print reaches the node's terminal, a line at a time, with the name of server and coroutine before it.

Descriptors 1 and 2 of a server are pipes to the node's parent, so what C code and child processes write is carried as well, and
in order. ``sys.stdout`` and ``sys.stderr`` collect each coroutine's text into whole lines, so that two of them never mix in one,
and write a line that names its speaker::

    RS (0x1e)  name of the coroutine, may be empty  US (0x1f)  text  LF

Whatever stands in the pipe without that is C code's. The parent shows ``[server coroutine] text`` or ``[server] text``, and in that
the names that users gave their files, not those that shipped code has in a server.
"""

from __future__ import annotations

import asyncio
import io
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import IO, Any

from discoro.shipping.privatenames import plain_text

speaker: ContextVar[str] = ContextVar("discoro_speaker", default="")
"""Name of the coroutine that runs in this context; threads of ``to_thread`` inherit it."""


def current_speaker() -> str:
    """Return who speaks now: the one set, else the coroutine that is the current task."""
    name = speaker.get()
    if not name:
        try:
            # Only a Coro has a name; what asyncio's own tasks have is no name that users gave.
            name = getattr(asyncio.current_task(), "name", "")
        except RuntimeError:  # no loop runs in this thread
            pass
    return name


LONGEST = 8192
"""Text without a line end is passed on after so many characters."""
MOST_PARTIAL = 256
"""Unfinished lines kept; the oldest is passed on when there are more."""
PATIENCE = 1.0
"""Seconds between two looks at unfinished lines; what both find is passed on: somebody waits to see the dots."""


class SpokenLines(io.TextIOBase):
    """Text stream of a server process: whole lines, each naming its speaker, to one descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._partial: dict[
            tuple[str, int], str
        ] = {}  # (speaker, thread) -> text without its line end
        # When they are looked at next, by a loop that one was left in; and those that the last look has found.
        self._look_at = 0.0
        self._found: set[tuple[str, int]] = set()
        self._lock = threading.RLock()  # reentrant: a finalizer that prints may run inside write
        os.register_at_fork(after_in_child=self._forked)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What cannot be encoded is written as an escape."""
        return "backslashreplace"

    @property
    def buffer(self) -> IO[bytes]:
        """The same stream for bytes."""
        return io.BufferedWriter(_SpokenBytes(self), 1)

    def fileno(self) -> int:
        """Return the descriptor, for programs that are started with it as their output."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Add to the current speaker's line; write what lines that completes."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        name = current_speaker()
        key = (name, threading.get_ident())
        with self._lock:
            whole = self._partial.pop(key, "") + text
            *lines, rest = whole.split("\n")
            while len(rest) > LONGEST:
                lines.append(rest[:LONGEST])
                rest = rest[LONGEST:]
            self._emit(name, lines)
            if rest:
                self._partial[key] = rest
                self._look_later()
                if len(self._partial) > MOST_PARTIAL:
                    (oldest, _), other = next(iter(self._partial.items()))
                    del self._partial[next(iter(self._partial))]
                    self._emit(oldest, [other])
        return len(text)

    def finish(self) -> None:
        """Write the unfinished lines: the process ends."""
        with self._lock:
            for (name, _), rest in self._partial.items():
                self._emit(name, [rest])
            self._partial.clear()

    def _look_later(self) -> None:
        now = time.monotonic()
        if now <= self._look_at + PATIENCE:  # somebody will, unless his loop has ended
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread without one; the next who has one looks after both
            return
        self._look_at = now + PATIENCE
        loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        """Pass on what was unfinished the last time already."""
        with self._lock:
            for key in self._found & self._partial.keys():
                self._emit(key[0], [self._partial.pop(key)])
            self._found = set(self._partial)
            self._look_at = 0.0
            if self._found:
                self._look_later()

    def _emit(self, name: str, lines: Iterable[str]) -> None:
        data = "".join(f"\x1e{name}\x1f{line}\n" for line in lines).encode(
            "utf-8", "backslashreplace"
        )
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BrokenPipeError:  # the parent has ended, and so do we in a moment
                return

    def _forked(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it at the fork
        self._partial.clear()  # the parent of this child writes it
        self._look_at = 0.0


class _SpokenBytes(io.RawIOBase):
    """Raw side of ``sys.stdout.buffer``."""

    def __init__(self, lines: SpokenLines) -> None:
        self._lines = lines

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        held = bytes(data)
        self._lines.write(held.decode("utf-8", "backslashreplace"))
        return len(held)


def speak() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` of this process name their speaker."""
    sys.stdout = SpokenLines(1)
    sys.stderr = SpokenLines(2)


def finish() -> None:
    """Write what has no line end yet; called before a server process ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, SpokenLines):
            stream.finish()


class CarriedLines:
    """The parent's end of one pipe: bytes in, lines to show out."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._rest = b""

    def receive_data(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, with their prefix and line end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > 8 * LONGEST:
            lines.append(self._rest[: 8 * LONGEST])
            self._rest = self._rest[8 * LONGEST :]
        return [self._prefixed(line) for line in lines]

    def receive_eof(self) -> list[str]:
        """Return what was left without a line end."""
        line, self._rest = self._rest, b""
        return [self._prefixed(line)] if line else []

    def _prefixed(self, line: bytes) -> str:
        # C code may have left an unfinished line before the mark: that is a line of its own.
        before, mark, spoken = line.partition(b"\x1e")
        text = ""
        if not mark or before:
            text = f"[{self._server}] {_text(before)}\n"
        if mark:
            name, _, said = spoken.partition(b"\x1f")
            text += f"[{self._server}{' ' if name else ''}{_text(name)}] {_text(said)}\n"
        return text


def _text(data: bytes) -> str:
    return plain_text(data.rstrip(b"\r").decode("utf-8", "backslashreplace"))


class Terminal:
    """The parent's own stdout and stderr, written by a thread: a paused terminal stops the output and nothing else.

    ``full`` says when so much waits that pipes should not be read for now; servers that print then wait, as any program would.
    """

    MOST = 10_000

    def __init__(self, out: IO[str] | None = None, err: IO[str] | None = None) -> None:
        self._streams = {1: out or sys.stdout, 2: err or sys.stderr}
        self._waiting: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="discoro terminal", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Too much waits to be written."""
        return self._waiting.qsize() > self.MOST

    def show(self, text: str, stream: int = 1) -> None:
        """Write ``text``, which ends its line, to stdout (1) or stderr (2), soon."""
        if text:
            self._waiting.put((stream, text))

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits; give up after ``timeout`` seconds."""
        self._waiting.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        broken: set[int] = set()
        while (item := self._waiting.get()) is not None:
            stream, text = item
            if stream in broken:
                continue
            try:
                self._streams[stream].write(text)
                if self._waiting.empty():
                    self._streams[1].flush()
                    self._streams[2].flush()
                elif stream == 2:
                    self._streams[2].flush()
            except (OSError, ValueError):  # nobody reads it any more: the node goes on
                broken.add(stream)

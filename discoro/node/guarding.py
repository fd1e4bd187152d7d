"""Ends a server process that takes too much, and finds out first who it was: the parent's hand for :mod:`discoro.node.guard`.

Before the end two are asked, and neither is waited for longer than a moment. A thread of the server knows the coroutine, but needs
Python's lock. A signal makes the main thread write its stack onto the channel, in C: that works while C code keeps the lock.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from discoro.node.guard import LISTEN, Bounds, Excess, Guard, frames
from discoro.node.serverchild import Child
from discoro.node.watchdog import Blocked, is_users
from discoro.shipping.privatenames import plain_file

DUMP_SIGNAL: int = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""What makes a server write its stack; user code is unlikely to have a use for it."""
_UNPICKLING = os.path.join("discoro", "shipping", "unpickling.py")


class Guarding:
    """Watches over one process from now on.

    Args:
        bounds: What it may take.
        child: The process.
        loop: The parent's loop.
        ending: Called with the reason just before it is ended.
    """

    def __init__(
        self,
        bounds: Bounds,
        child: Child,
        loop: asyncio.AbstractEventLoop,
        ending: Callable[[str], object],
    ) -> None:
        self._child = child
        self._loop = loop
        self._ending = ending
        self._guard = Guard(bounds, loop.time())
        self._excess: Excess | None = None  # it is to be ended
        self._asked = 0.0  # when it was asked who it was
        self._told: Blocked | None = None
        self._dump = ""
        self._timer = loop.call_later(bounds.every, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def answered(self) -> None:
        """The server's loop has answered a beat."""
        self._guard.answered()

    def _look(self) -> None:
        now = self._loop.time()
        guard, child = self._guard, self._child
        rss = 0 if guard.bounds.max_rss is None else child.resident()
        excess = guard.look(now, rss, stopped=guard.waiting and child.stopped())
        if excess is None:
            if self._guard.beat_due(now):
                self._child.order('{"order": "beat"}')
            self._timer = self._loop.call_later(self._guard.bounds.every, self._look)
            return
        self._excess = excess
        self._asked = now
        self._child.order('{"order": "who"}')
        self._child.signal(DUMP_SIGNAL)
        self._timer = self._loop.call_later(LISTEN, self._listen, excess)

    def _listen(self, excess: Excess) -> None:
        """Give it time to say who it was, as long as that does no harm."""
        if excess.urgent(self._loop.time() - self._asked, self._child.resident()):
            self._end()
        else:
            self._timer = self._loop.call_later(LISTEN, self._listen, excess)

    def who(self, facts: Mapping[str, Any]) -> None:
        """Take what the server's thread says of its loop's."""
        if self._excess is not None and self._told is None:
            self._told = Blocked(**facts)
            self._timer.cancel()
            self._end()

    def dumped(self, line: str) -> None:
        """Take a line of the main thread's stack."""
        if self._excess is not None:
            self._dump += line + "\n"

    def _end(self) -> None:
        place = self._place()
        self._ending(f"{self._excess}{f', {place}' if place else ''}")
        self._child.kill_group()

    def _place(self) -> str:
        """Say in whose code it was, as well as that is known."""
        told = self._told
        if told is not None and (told.whose or is_users(told.file)):
            return told.where if is_users(told.file) else told.whose
        stack = frames(self._dump)
        for file, line, function in stack:
            if is_users(file) and function != "<module>":
                return f"at {plain_file(file)}:{line} in {function}"
        if any(file.endswith(_UNPICKLING) for file, _, _ in stack):
            return "unpickling a value that was sent to it"
        return ""

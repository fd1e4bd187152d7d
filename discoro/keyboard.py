"""``quit`` or ``exit`` typed at a node's terminal. Its end of file means nothing: systemd, nohup and CI have none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

AGAIN = 1.0
"""Seconds between two looks at a terminal that is not ours just now."""
LONGEST_LINE = 1000


class Keyboard:
    """Listens on stdin, if that is a terminal and ours."""

    def __init__(self, loop: asyncio.AbstractEventLoop, quit: Callable[[], object]) -> None:
        self._loop = loop
        self._quit = quit
        self._typed = b""

    def start(self) -> None:
        """Listen, if there is a terminal and it is ours."""
        try:
            if not os.isatty(0):
                return
            if not self._ours():
                # Reading in the background would stop us (SIGTTIN); somebody may type `fg` later.
                self._loop.call_later(AGAIN, self.start)
                return
        except OSError:  # it has hung up, or belongs to another session
            return
        self._loop.add_reader(0, self._on_typed)

    @staticmethod
    def _ours() -> bool:
        return os.tcgetpgrp(0) == os.getpgrp()

    def _on_typed(self) -> None:
        try:
            data = os.read(0, 4096) if self._ours() else b""
        except OSError:
            self._loop.remove_reader(0)
            return
        if not data:  # Ctrl-D, in the background now, or the terminal is gone: do not spin
            self._loop.remove_reader(0)
            self._loop.call_later(AGAIN, self.start)
            return
        *lines, self._typed = (self._typed[-LONGEST_LINE:] + data).split(b"\n")
        for line in lines:
            if line.strip().lower() in (b"quit", b"exit"):
                self._quit()

"""``quit`` or ``exit`` typed at a node's terminal. Its end of file means nothing: systemd, nohup and CI have none."""

from __future__ import annotations

import asyncio
import errno
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
        try:
            return os.tcgetpgrp(0) == os.getpgrp()
        except OSError as error:
            # Not our controlling terminal. If it is nobody's, whoever opened it types to us; else we would steal keys.
            if error.errno != errno.ENOTTY or _controls_somebody(os.fstat(0).st_rdev):
                raise
            return True

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


def _controls_somebody(terminal: int) -> bool:
    """Whether a terminal, by its device number, is some session's controlling one; True where that cannot be known."""
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for process in processes:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                # proc(5): after the name in brackets: state, parent, group, session, terminal.
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue  # it has ended
        if len(fields) > 4 and int(fields[4]) == terminal:
            return True
    return False

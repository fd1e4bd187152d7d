"""How a server process ended, in words; and how long to wait before the next one is started.

Pure. The kernel counts the processes it has killed for want of memory: ``oom_kill`` in a control group's ``memory.events``
(v2) or ``memory.oom_control`` (v1), and of the whole machine in ``/proc/vmstat``. A process that ended by SIGKILL while one of
these went up was killed for memory.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

RESTART_MOST = 30.0
"""Longest wait before a restart, in seconds."""


@dataclass(frozen=True)
class Death:
    """How a process ended.

    Attributes:
        signal: Number of the signal that ended it, or None.
        exit_code: Its exit code, or None.
        out_of_memory: The kernel killed it for memory.
        by_node: Why the node itself ended it, in words; empty: it did not.
    """

    signal: int | None = None
    exit_code: int | None = None
    out_of_memory: bool = False
    by_node: str = ""

    @classmethod
    def of(cls, status: int, *, out_of_memory: bool = False, by_node: str = "") -> Death:
        """Make one from an exit code as :mod:`subprocess` gives it: negative is a signal."""
        if -status == signal.SIGKILL:
            return cls(-status, None, out_of_memory and not by_node, by_node)
        if status < 0:
            return cls(signal=-status)
        return cls(exit_code=status)

    @property
    def wire(self) -> str:
        """The words that clients are told, and read signal and exit code from (``discoro.errors``)."""
        if self.signal is not None:
            return f"ended by signal {self.signal}{f': {self.why}' if self.why else ''}"
        return f"ended with exit code {self.exit_code or 0}"

    @property
    def why(self) -> str:
        """What there is to say beyond the signal; empty: nothing."""
        if self.by_node:
            return f"the node ended it because {self.by_node}"
        return "the kernel ended it, out of memory" if self.out_of_memory else ""

    def __str__(self) -> str:
        if self.by_node:
            return f"ended by the node because {self.by_node}"
        if self.out_of_memory:
            return "killed by the kernel: out of memory"
        if self.signal is not None:
            return f"ended by {signal_name(self.signal)} (signal {self.signal})"
        if self.exit_code == 0:
            return "ended by itself (exit code 0)"
        return f"ended with exit code {self.exit_code}"


def signal_name(number: int) -> str:
    """Return the name of a signal, ``SIGSEGV``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def oom_kills(text: str) -> int:
    """Read the counter ``oom_kill`` out of any of the three files; 0 when it is not there."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "oom_kill" and words[1].isdecimal():
            return int(words[1])
    return 0


class Restarts:
    """When the next start of one server may be.

    One that has been ready is started again at once; one that ended before that waits 1, 2, 4 ... 30 s, so that a
    node that cannot work does not eat the machine.
    """

    def __init__(self) -> None:
        self.count = 0  # restarts so far
        self._failed = 0  # starts in a row that never got ready

    def ready(self) -> None:
        """The server has said that it is ready."""
        self._failed = 0

    def delay(self, *, was_ready: bool) -> float:
        """Count one end and return the seconds to wait before the next start."""
        self.count += 1
        if was_ready:
            return 0.0
        self._failed += 1
        return float(min(RESTART_MOST, 2 ** (self._failed - 1)))

"""The parent's side of one server process: start it, its pipes and channel, how it ended, what is left of its group.

The first processes are forked, so that the modules they share are loaded once; that is only safe while the parent has neither
an event loop nor a thread. Later ones are started by exec, with the same descriptors passed. A child gets

* the channel, a socket pair: its settings as the first line of JSON, then orders to it and reports from it;
* the lifeline, a socket pair on which nothing is ever sent: its end of file says that the parent has ended;
* the listening sockets, and pipes as its stdout and stderr.

It leads a session and process group of its own: what its user code starts belongs to it, and ends with it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Program(Protocol):
    """What a server process runs.

    Attributes:
        answers_for_dead: Whether the parent speaks its protocol, and answers its port while no process of it runs.
    """

    answers_for_dead: bool

    def preload(self) -> None:
        """Import what all servers need, in the parent."""

    def run(
        self, channel: socket.socket, lifeline: socket.socket, listeners: list[socket.socket]
    ) -> int:
        """Run in a forked process; return its exit code."""

    def command(self, name: str) -> list[str]:
        """Return the command that runs the same in a new interpreter; the three descriptors lists are appended to it."""


class Child:
    """One server process, seen from the parent."""

    def __init__(self, pid: int, ends: ParentEnds) -> None:
        self.pid = pid
        self.channel = ends.channel
        self.outputs = ends.outputs
        self._lifeline = ends.lifeline

    def order(self, line: str) -> None:
        """Send one line; a child that does not read, or has ended, is no error."""
        try:
            self.channel.sendall(line.encode() + b"\n")
        except OSError:
            pass

    def poll(self) -> int | None:
        """Return the exit code once it has ended, negative for a signal.

        What it left behind in its group is killed before its number is given back to the kernel and may mean another.
        """
        if hasattr(os, "waitid"):
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.kill_group()
            _, status = os.waitpid(self.pid, 0)
        else:  # macOS before Python 3.13
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if not ended:
                return None
            self.kill_group()
        return os.waitstatus_to_exitcode(status)

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to all of its group that is left."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM when only a zombie is left
            pass

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def resident(self) -> int:
        """Return its resident memory in bytes; 0 where nobody tells."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            pass
        if sys.platform == "linux":
            return 0
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def stopped(self) -> bool:
        """Return True while it is stopped (SIGSTOP), not just busy."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
        except OSError:
            return False

    def close(self) -> None:
        """Close our ends."""
        self.channel.close()
        self._lifeline.close()
        for descriptor in self.outputs.values():
            os.close(descriptor)
        self.outputs = {}


class ParentEnds:
    """The parent's ends of what connects it with a child, and the child's until it is started."""

    def __init__(self) -> None:
        self.outputs: dict[int, int] = {}
        self.child_outputs: dict[int, int] = {}
        with (
            ExitStack() as made
        ):  # what is there is closed where there is no descriptor for the rest
            self.channel, self.child_channel = map(made.enter_context, socket.socketpair())
            self.lifeline, self.child_lifeline = map(made.enter_context, socket.socketpair())
            for number in (1, 2):
                ends = os.pipe()
                for descriptor in ends:
                    made.callback(os.close, descriptor)
                self.outputs[number], self.child_outputs[number] = ends
                os.set_blocking(self.outputs[number], False)
            made.pop_all()

    def close_childs(self) -> None:
        """Close the child's ends here."""
        self.child_channel.close()
        self.child_lifeline.close()
        for descriptor in self.child_outputs.values():
            os.close(descriptor)

    def close_parents(self) -> None:
        """Close the parent's ends in the child."""
        self.channel.close()
        self.lifeline.close()
        for descriptor in self.outputs.values():
            os.close(descriptor)


class _Closable(Protocol):
    def close(self) -> None: ...


def fork_server(
    program: Program,
    settings: str,
    listeners: list[socket.socket],
    foreign: Sequence[_Closable],
) -> Child:
    """Fork a server; only while there is no loop and no thread.

    Args:
        program: What it runs.
        settings: Its first line.
        listeners: Its listening sockets.
        foreign: What belongs to its siblings, and is closed in it.
    """
    ends = ParentEnds()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            _become_server(ends, foreign)
            status = program.run(ends.child_channel, ends.child_lifeline, listeners)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
    ends.close_childs()
    return _started(pid, ends, settings)


def execute_server(
    program: Program, name: str, settings: str, listeners: list[socket.socket]
) -> Child:
    """Start a server in a new interpreter, the way that is safe at any time."""
    ends = ParentEnds()
    channel, lifeline = ends.child_channel.fileno(), ends.child_lifeline.fileno()
    passed = [listener.fileno() for listener in listeners]
    command = [*program.command(name), str(channel), str(lifeline), ",".join(map(str, passed))]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=ends.child_outputs[1],
            stderr=ends.child_outputs[2],
            pass_fds=[channel, lifeline, *passed],
            start_new_session=True,
        )
    except OSError:
        ends.close_parents()
        raise
    finally:
        ends.close_childs()
    process.returncode = (
        0  # we wait for it ourselves, by its number; Popen is not to say it still runs
    )
    return _started(process.pid, ends, settings)


def _started(pid: int, ends: ParentEnds, settings: str) -> Child:
    child = Child(pid, ends)
    child.order(settings)
    child.channel.setblocking(False)
    return child


def _become_server(ends: ParentEnds, foreign: Sequence[_Closable]) -> None:
    """Make a forked child what exec would have made of it."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for thing in foreign:
        thing.close()
    ends.close_parents()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing:
        os.close(nothing)
    for output, descriptor in ends.child_outputs.items():
        os.dup2(descriptor, output)
        os.close(descriptor)

"""A server process's side of what ties it to the node's parent: the lifeline and the channel of JSON lines.

Orders to the server::

    {...}                          the first line: its :class:`ServerSettings`
    {"order": "drain"}             take no new work, end when the running is done
    {"order": "terminate"}         end what still runs, then end
    {"order": "snapshot", "most": 20}    tell what runs, and at most so many coroutines (:mod:`discoro.node.snapshot`)
    {"order": "beat"}              let the loop answer
    {"order": "who"}               tell where the loop's thread stands, and for whom: the server is about to be ended

Reports to the parent::

    {"report": "ready", "id": hex}                      it serves
    {"report": "counts", "computations": 1, ...}        whenever they have changed, at most once a second
    {"report": "blocked", "seconds": .., "file": .., "line": .., "function": ..}, {"report": "answering"}
    {"report": "beat"}, {"report": "who", "seconds": .., "file": .., ..}                as ordered
    {"report": "ending"}                                the loop ends
    {"report": "gone", "why": text}                     the peer given with --join is gone for good
    {"report": "snapshot", "computations": [..], ..}    as ordered; with "busy": {"seconds": .., "file": .., ..} when the loop
                                                        has not answered, and another thread had to look

Lines that are not JSON are the stack of the main thread (:mod:`discoro.node.guarding`).
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import fcntl
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from discoro.node.reports import report
from discoro.node.settings import ServerSettings
from discoro.node.watchdog import Blocked

PR_SET_PDEATHSIG = 1
COUNTS_EVERY = 1.0
"""Seconds between two looks at the counts that ``status`` shows."""
LOOP_ANSWERS = 0.25
"""Seconds that the loop has to answer when the parent asks what runs; then the asking thread looks for itself."""
ORPHAN_GRACE = 3.0
"""Seconds that an orphaned server gets to end in order, where the kernel does not end it."""

log = logging.getLogger("discoro.node")


def tie_to_parent(lifeline: socket.socket) -> None:
    """Have the kernel kill this process and its group when the parent ends, even while C code holds the interpreter.

    On Linux the death of the parent closes the other end of ``lifeline``, and the kernel sends the signal asked for with
    F_SETSIG to the whole group: user code's children included. PR_SET_PDEATHSIG only stands in where that is not to be had: it
    kills this process alone, and as the parent has threads it may come first, so that nobody is left to ask for the group.
    Elsewhere the end of file on the channel is all there is (:meth:`Channel.listen`).
    """
    lifeline.set_inheritable(False)
    if sys.platform == "linux":
        try:
            fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
            fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
        except OSError:
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        if lifeline.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
            os._exit(1)  # it ended before we were tied
    except BlockingIOError:
        pass
    close_in_forked_children(lifeline)


def close_in_forked_children(held: socket.socket) -> None:
    """Close our copy in children that user code forks: one that held it would keep a dead server looking alive."""

    def close() -> None:
        # close() would wait for uvloop, which counts itself as a user of the socket.
        descriptor = held.detach()
        if descriptor >= 0:
            os.close(descriptor)

    os.register_at_fork(after_in_child=close)


class Channel:
    """The channel, in the server process. Reports may come from any thread.

    Attributes:
        drain: Set in the loop when the parent has ordered so.
        terminate: The same.
        snapshot: Gives what runs, and at most so many coroutines; None: nothing is told. Also called from another thread.
        busy: Says where the loop's thread stands, which has not answered for at least so many seconds.
        whose: Says whose turn it is, also from another thread.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.set_inheritable(False)
        os.register_at_fork(after_in_child=self._forked)
        self._connection: socket.socket | None = connection
        self._lock = threading.Lock()
        self._rest = b""
        self.drain = asyncio.Event()
        self.terminate = asyncio.Event()
        self.snapshot: Callable[[int], dict[str, Any]] | None = None
        self.busy: Callable[[float], Blocked | None] | None = None
        self.whose: Callable[[], str] = str

    def settings(self) -> ServerSettings:
        """Wait for the first line; called once, before there is a loop."""
        line = self._read_line()
        if line is None:
            raise SystemExit(1)  # the parent has ended
        return ServerSettings.from_json(line)

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take orders from now on: a thread waits for them and sets :attr:`drain` and :attr:`terminate` in the loop."""
        threading.Thread(
            target=self._listen, args=(loop,), name="discoro orders", daemon=True
        ).start()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        while (line := self._read_line()) is not None:
            facts = json.loads(line)
            order = facts.get("order")
            try:
                if order == "snapshot":
                    self._tell_what_runs(loop, int(facts["most"]))
                    continue
                if order == "beat":
                    loop.call_soon_threadsafe(self.report, "beat")
                    continue
                if order == "who":
                    self._tell_who()
                    continue
            except RuntimeError:
                return
            if not self._obey(loop, order):
                return
        if not self._obey(loop, "terminate"):
            return
        time.sleep(ORPHAN_GRACE)
        os.killpg(0, signal.SIGKILL)

    def _obey(self, loop: asyncio.AbstractEventLoop, order: str) -> bool:
        """Set what an order means in the loop; False when that has ended, and so does the process."""
        events = {"drain": [self.drain], "terminate": [self.drain, self.terminate]}
        try:
            for event in events.get(order, []):
                loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            return False
        return True

    def _tell_what_runs(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        """Report a snapshot, taken by the loop or, where that is blocked, by this thread; RuntimeError if it is closed."""
        taken: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        loop.call_soon_threadsafe(lambda: taken.put(self._taken(most)))
        try:
            facts = taken.get(timeout=LOOP_ANSWERS)
        except queue.Empty:
            facts = self._taken(most)
            blocked = self.busy(LOOP_ANSWERS) if self.busy is not None else None
            facts["busy"] = None if blocked is None else blocked.facts
        self.report("snapshot", **facts)

    def _tell_who(self) -> None:
        blocked = self.busy(0.0) if self.busy is not None else None
        if blocked is not None:
            self.report("who", **blocked.facts)

    def say_whose(self) -> str:
        """Say whose turn it is; empty where that cannot be found out."""
        try:
            return self.whose()
        except Exception:  # a table has changed while another thread went through it
            return ""

    def dump_stack_on(self, number: int) -> None:
        """Write the main thread's stack onto the channel whenever this signal comes, even while C code keeps Python's lock."""
        if self._connection is not None:
            faulthandler.register(number, file=self._connection.fileno(), all_threads=False)

    def _taken(self, most: int) -> dict[str, Any]:
        try:
            return {} if self.snapshot is None else self.snapshot(most)
        except Exception:  # status is to say what it can; what we got wrong stands in the log
            log.exception("the parent asked what runs here, and that could not be found out")
            return {}

    def _read_line(self) -> bytes | None:
        """Wait for one line; None when the parent has ended."""
        while b"\n" not in self._rest:
            connection = self._connection
            try:
                data = connection.recv(65_536) if connection is not None else b""
            except OSError:
                data = b""
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def report(self, kind: str, **facts: Any) -> None:
        """Tell the parent something."""
        line = report(kind, facts)
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.sendall(line)
                except OSError:  # the parent has ended; the listening thread learns it too
                    pass

    async def report_counts(self, counts: Callable[[], dict[str, int]]) -> None:
        """Tell the parent the counts whenever they have changed, until cancelled."""
        told: dict[str, int] | None = None
        while True:
            now = counts()
            if now != told:
                told = dict(now)
                self.report("counts", **told)
            await asyncio.sleep(COUNTS_EVERY)

    def blocked(self, blocked: Blocked | None) -> None:
        """Report what the watchdog says."""
        if blocked is None:
            self.report("answering")
        else:
            self.report("blocked", **blocked.facts)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

"""One server of a node, in the node's parent: its sockets, which stay; its process, which comes and goes; what it reports."""

from __future__ import annotations

import asyncio
import enum
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from discoro.node.console import CarriedLines
from discoro.node.deaths import Death, Restarts, oom_kills
from discoro.node.guard import Bounds
from discoro.node.guarding import Guarding
from discoro.node.reports import Reports
from discoro.node.serverchild import Child, Program, execute_server, fork_server
from discoro.node.settings import ServerSettings
from discoro.node.standin import Standin
from discoro.node.watchdog import Blocked

READ = 65_536
SAY_BLOCKED_AFTER = 5.0
"""Seconds of blocking that the terminal hears of; ``status`` shows it from the first second."""
ANSWERS = 1.0
"""Seconds that a server has to say what runs in it; then what is known from before is shown."""
AGAIN = 1.0
"""Seconds until a process is tried again for which the machine had no room."""
PAUSE = 0.05
"""While the terminal is full a server's pipe is looked at this often."""


class State(enum.Enum):
    """What a server does."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    WAITING = "waiting to restart"
    ENDED = "ended"


class Screen(Protocol):
    """Where lines go."""

    @property
    def full(self) -> bool:
        """Too much waits there."""

    def show(self, text: str, stream: int = 1) -> None:
        """Show it, soon."""


class Supervised:
    """One server. All methods run on the parent's loop, save :meth:`fork`, which comes before it."""

    def __init__(
        self,
        settings: ServerSettings,
        program: Program,
        listeners: list[socket.socket],
        screen: Screen,
        changed: Callable[[Supervised], None],
        standin: Standin,
    ) -> None:
        """Prepare; ``changed`` is called when it got ready, reported that it is gone, or has ended for good."""
        self.settings = settings
        self.name = settings.name
        self.listeners = listeners
        self.state = State.STARTING
        self.child: Child | None = None
        self.restarts = Restarts()
        self.counts: dict[str, int] = {}
        self.id = ""
        self.gone: str | None = None  # why the peer given with --join is gone
        self.failed = False  # it never came
        self.death: Death | None = None  # how its last process ended
        self._blocked: Blocked | None = None
        self._blocked_at = 0.0  # loop time of the report
        self._snapshot: dict[str, Any] = {}
        self._snapshot_at = 0.0
        self._asked: asyncio.Future[None] | None = (
            None  # it has been asked what runs, and has not answered
        )
        self._said_blocked: tuple[str, int] | None = None
        self._said_stopped = False
        self._said_unstartable = ""
        self._program = program
        self._screen = screen
        self._changed = changed
        self._standin = standin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reports = Reports()
        self._lines: dict[int, CarriedLines] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._oom_kills = _oom_kills()
        self._bounds = Bounds(settings.max_rss, settings.max_stall)
        self._guarding: Guarding | None = None
        self._by_node = ""  # why we have ended its process

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The (host, port) pairs that it listens on."""
        return [listener.getsockname()[:2] for listener in self.listeners]

    # --- start -----------------------------------------------------------------------------------------------------

    def fork(self, siblings: Sequence[Supervised], *others: socket.socket | None) -> None:
        """Start the first process; what is its siblings', and ``others``, is closed in it."""
        foreign: list[Any] = [thing for thing in others if thing is not None]
        foreign += [s.child for s in siblings if s.child is not None]
        foreign += [listener for s in siblings if s is not self for listener in s.listeners]
        self.child = fork_server(self._program, self.settings.to_json(), self.listeners, foreign)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the process from now on."""
        child = self.child
        assert child is not None
        self._loop = loop
        self._reports = Reports()
        loop.add_reader(child.channel, self._on_report, child)
        for number, descriptor in child.outputs.items():
            self._lines[number] = CarriedLines(self.name)
            loop.add_reader(descriptor, self._on_output, child, number)

    def restart(self) -> None:
        """Start a new process, by exec."""
        self._timer = None
        if self.state is not State.WAITING:
            return
        assert self._loop is not None
        self._oom_kills = _oom_kills()
        settings = replace(self.settings, last_end=self.death.wire if self.death else "")
        try:
            self.child = execute_server(
                self._program, self.name, settings.to_json(), self.listeners
            )
        except OSError as error:  # no process, no memory, no descriptor: later perhaps
            text = f"cannot be started: {error.strerror or error}; tried again every {AGAIN:g} s"
            if text != self._said_unstartable:
                self._said_unstartable = text
                self._say(text)
            self._timer = self._loop.call_later(AGAIN, self.restart)
            return
        self._said_unstartable = ""
        self.state = State.STARTING
        self.attach(self._loop)

    # --- what it says ----------------------------------------------------------------------------------------------

    def _on_report(self, child: Child) -> None:
        assert self._loop is not None
        try:
            data = child.channel.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(child.channel)
            return
        for said in self._reports.feed(data):
            if not isinstance(said, str):
                self._take(*said)
            elif self._guarding is not None:
                self._guarding.dumped(said)

    def _take(self, kind: str, facts: dict[str, Any]) -> None:
        assert self._loop is not None
        if kind == "ready":
            self.restarts.ready()
            self._standin.stop()
            self.id = facts.get("id", "")
            if self.state is State.STARTING:
                self.state = State.RUNNING
            if self._bounds and self.child is not None:
                self._guarding = Guarding(self._bounds, self.child, self._loop, self._on_ending)
            self._changed(self)
        elif kind == "beat" and self._guarding is not None:
            self._guarding.answered()
        elif kind == "who" and self._guarding is not None:
            self._guarding.who(facts)
        elif kind == "ending":
            self._stop_guarding()
        elif kind == "counts":
            self.counts = facts
        elif kind == "blocked":
            self._blocked = Blocked(**facts)
            self._blocked_at = self._loop.time()
            place = (self._blocked.file, self._blocked.line)
            if self._blocked.seconds >= SAY_BLOCKED_AFTER and place != self._said_blocked:
                self._said_blocked = (
                    place  # once for each place, not for each job that computes there
                )
                self._say(
                    f"{self._blocked}; its other coroutines wait (await discoro.to_thread(...) lets them go on)"
                )
        elif kind == "answering":
            self._blocked = None
        elif kind == "snapshot":
            self._take_snapshot(facts)
        elif kind == "gone":
            self.gone = str(facts.get("why", ""))
            self.failed = bool(facts.get("failed"))
            self._changed(self)

    def _on_ending(self, why: str) -> None:
        self._by_node = why

    def _stop_guarding(self) -> None:
        if self._guarding is not None:
            self._guarding.close()
            self._guarding = None

    def _take_snapshot(self, facts: dict[str, Any]) -> None:
        assert self._loop is not None
        self._snapshot, self._snapshot_at = facts, self._loop.time()
        self.counts = facts.get("counts", self.counts)
        busy = facts.get("busy")
        if busy is not None:
            self._blocked, self._blocked_at = Blocked(**busy), self._snapshot_at
        elif self._blocked is not None:  # it is faster than the watchdog's next look
            self._blocked = None
        self._answered()

    def _answered(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(None)

    def _on_output(self, child: Child, number: int) -> None:
        assert self._loop is not None
        descriptor = child.outputs[number]
        if self._screen.full:
            self._loop.remove_reader(descriptor)
            self._loop.call_later(PAUSE, self._read_again, child, number)
            return
        self._read_output(child, number)

    def _read_again(self, child: Child, number: int) -> None:
        if child is self.child and number in child.outputs:
            assert self._loop is not None
            self._loop.add_reader(child.outputs[number], self._on_output, child, number)

    def _read_output(self, child: Child, number: int) -> bool:
        """Carry what stands in a pipe now; False when nothing does."""
        assert self._loop is not None
        try:
            data = os.read(child.outputs[number], READ)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(child.outputs[number])
            return False
        self._screen.show("".join(self._lines[number].receive_data(data)), number)
        return True

    def _say(self, text: str) -> None:
        self._screen.show(f"discoro: server {self.name}: {text}\n", 2)

    # --- its end ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See whether the process has ended, or is stopped; called when the kernel says that some child has changed."""
        child = self.child
        if child is None:
            return
        status = child.poll()
        if status is None:
            stopped = child.stopped()
            if stopped and not self._said_stopped:
                self._say(f"process {child.pid} is stopped (kill -CONT {child.pid} lets it go on)")
            self._said_stopped = stopped
            return
        of_memory = _oom_kills() > self._oom_kills
        self._bury(child, Death.of(status, out_of_memory=of_memory, by_node=self._by_node))

    def _bury(self, child: Child, death: Death) -> None:
        assert self._loop is not None
        was_ready = self.state in (State.RUNNING, State.DRAINING)
        for number in child.outputs:
            for _ in range(
                64
            ):  # what it wrote last; an escaped descendant may go on writing for ever
                if not self._read_output(child, number):
                    break
            self._screen.show("".join(self._lines[number].receive_eof()), number)
            self._loop.remove_reader(child.outputs[number])
        self._loop.remove_reader(child.channel)
        child.close()
        self.child, self.death, self.counts, self.id = None, death, {}, ""
        self._blocked, self._said_stopped, self._by_node = None, False, ""
        self._stop_guarding()
        self._snapshot = {}
        self._answered()
        if self.state is State.DRAINING:
            if death.exit_code != 0:
                self._say(f"process {child.pid} {death}")
            self.state = State.ENDED
            self._changed(self)
            return
        self._wait_to_restart(was_ready=was_ready, before=f"process {child.pid} {death}; ")

    def _wait_to_restart(self, *, was_ready: bool, before: str = "") -> None:
        assert self._loop is not None
        self.state = State.WAITING
        delay = self.restarts.delay(was_ready=was_ready)
        self._say(
            f"{before}{f'it never got ready, next start in {delay:.0f} s' if delay else 'restarting'}"
        )
        if self.death is not None:
            self._standin.start(self.death)
        self._timer = self._loop.call_later(delay, self.restart)

    def drain(self) -> None:
        """Let it end when its work is done; it is not started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state is State.ENDED:
            return
        self._standin.stop()
        if self.child is None:
            self.state = State.ENDED
            self._changed(self)
        else:
            self.state = State.DRAINING
            self.child.order('{"order": "drain"}')

    def terminate(self) -> None:
        """Let it end what still runs, and itself."""
        if self.child is not None:
            self.child.order('{"order": "terminate"}')

    def kill(self, why: str = "its work did not end in time") -> None:
        """End it and all of its group now."""
        if self.child is not None:
            self._by_node = self._by_node or why
            self.child.kill_group()

    # --- status ----------------------------------------------------------------------------------------------------

    async def look(self, most: int) -> None:
        """Ask what runs in it, at most ``most`` coroutines; returns when it has said so, or not in time."""
        if self.child is None or self.child.stopped():
            return
        if self._asked is None:  # one that does not answer is not asked again and again
            self._asked = asyncio.get_running_loop().create_future()
            self.child.order(json.dumps({"order": "snapshot", "most": most}))
        await asyncio.wait([self._asked], timeout=ANSWERS)

    def status(self, now: float) -> dict[str, Any]:
        """Return what ``status`` shows of it; see :meth:`look`."""
        # What was told before the numbers changed is no longer so.
        known = self._snapshot if self._snapshot.get("counts") == self.counts else {}
        facts: dict[str, Any] = {
            "name": self.name,
            "pid": self.child.pid if self.child else None,
            "state": self.state.value,
            "addresses": self.addresses,
            "rss": self.child.resident() if self.child else None,
            "max_rss": self.settings.max_rss,
            "max_stall": self.settings.max_stall,
            "restarts": self.restarts.count,
            "last_end": str(self.death) if self.death else None,
            "blocked": None,
            "busy": None,
            "stopped": self.child.stopped() if self.child else False,
            "counts": self.counts,
            "silent": self._asked is not None and self.state is not State.STARTING,
            "as_of": now - self._snapshot_at if known else None,
            "computations": known.get("computations", []),
            "coroutines": known.get("coroutines", []),
            "more_coroutines": known.get("more_coroutines", 0),
            "peers": known.get("peers", []),
        }
        if self._blocked is not None and not facts["stopped"]:
            seconds = self._blocked.seconds + now - self._blocked_at
            blocked = replace(self._blocked, seconds=seconds)
            facts["blocked"], facts["busy"] = str(blocked), blocked.facts
        return facts


def _oom_kills() -> int:
    """Return how many processes the kernel has killed for memory, as far as it tells."""
    try:
        with open("/proc/vmstat") as file:
            return oom_kills(file.read())
    except OSError:
        return 0

"""Computations at a server: which are set up, whose they are, which runs they have. Pure: no I/O, no clock.

The life of a computation at one server::

    OFFERED --begin--> SETTING_UP --ready--> READY --close--> CLOSING --closed--> (forgotten)
       |                   |                                     ^
       +----- failed ------+          owner lost ----------------+

The shell (:mod:`discoro.server`) asks before it acts and tells after it acted; what must happen next is the
return value. A run that outlives its client (``detach=True``) keeps its computation until it ends.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from discoro.errors import ComputationClosed, RunRefused, SetupRefused


class State(enum.Enum):
    """Where a computation stands at this server."""

    OFFERED = "offered"
    SETTING_UP = "being set up"
    READY = "ready"
    CLOSING = "closing"


@dataclass(slots=True, eq=False)
class Hosted:
    """One computation at this server.

    Attributes:
        computation: Its id, 16 random bytes chosen by the client.
        name: Name of its function, for people.
        owner: Process id of the client that offered it.
        handle: Number that run entries name; 0 until it is ready.
        runs: Numbers of the coroutines that run, with True for the detached ones.
        since: When it was offered, by the clock on the wall, for people; 0 where nobody has said.
        abandoned: Nobody waits for its end: it goes when its last run has ended.
    """

    computation: bytes
    name: str
    owner: bytes
    digest: bytes = b""
    files: tuple[tuple[str, int, bytes, int], ...] = ()
    cleanup: bool = True
    state: State = State.OFFERED
    handle: int = 0
    runs: dict[int, bool] = field(default_factory=dict)
    since: float = 0.0
    abandoned: bool = False


class Hosting:
    """The computations of one server.

    Args:
        max_runs: Runs that may be alive at once, all computations together.
        max_computations: Computations of one client.

    Attributes:
        draining: This server is about to end: what runs goes on, and nothing new begins.
    """

    def __init__(self, *, max_runs: int, max_computations: int) -> None:
        self._max_runs = max_runs
        self._max_computations = max_computations
        self._by_id: dict[bytes, Hosted] = {}
        self._by_handle: dict[int, Hosted] = {}
        self._by_run: dict[int, Hosted] = {}
        self._last_handle = 0
        self.draining = False

    def __iter__(self) -> Iterator[Hosted]:
        return iter(list(self._by_id.values()))

    def find(self, computation: bytes, owner: bytes) -> Hosted:
        """The computation ``owner`` has here under this id.

        Raises:
            ComputationClosed: If there is none.
        """
        hosted = self._by_id.get(computation)
        if hosted is None or hosted.owner != owner or hosted.state is State.CLOSING:
            raise ComputationClosed(
                "the computation is not set up at this server: call setup (again)"
            )
        return hosted

    def offer(
        self,
        computation: bytes,
        owner: bytes,
        name: str,
        digest: bytes = b"",
        files: tuple[tuple[str, int, bytes, int], ...] = (),
        cleanup: bool = True,
    ) -> Hosted:
        """Take note of a computation that wants to be set up; offering again what is here is no error.

        Raises:
            SetupRefused: If the client has too many, the id is somebody else's, or it is just closing.
        """
        hosted = self._by_id.get(computation)
        if hosted is not None:
            if hosted.owner != owner:
                raise SetupRefused(f"the id of computation {name!r} belongs to another client")
            if hosted.state is State.CLOSING and any(hosted.runs.values()):
                # Its client lost the session and is back, while detached runs kept the computation.
                hosted.state = State.READY
                self._by_handle[hosted.handle] = hosted
            elif hosted.state is State.CLOSING:
                raise SetupRefused(
                    f"computation {name!r} is just being closed here: wait for close, then set it up"
                )
            return hosted
        count = sum(1 for other in self._by_id.values() if other.owner == owner)
        if count >= self._max_computations:
            raise SetupRefused(
                f"this client has {count} computations here, as many as one may: close some"
            )
        hosted = Hosted(computation, name, owner, digest, files, cleanup)
        self._by_id[computation] = hosted
        return hosted

    def begin(self, hosted: Hosted) -> None:
        """Its code and files are here; the set-up begins."""
        self._expect(hosted, State.OFFERED)
        hosted.state = State.SETTING_UP

    def ready(self, hosted: Hosted) -> int:
        """It can run. Returns the handle that run entries name."""
        self._expect(hosted, State.SETTING_UP)
        self._last_handle += 1
        hosted.state = State.READY
        hosted.handle = self._last_handle
        self._by_handle[hosted.handle] = hosted
        return hosted.handle

    def for_run(self, handle: int, owner: bytes) -> Hosted:
        """The computation that a run entry names.

        Raises:
            ComputationClosed: If it is not set up (any more).
            RunRefused: If as many run as may, or this server is about to end.
        """
        hosted = self._by_handle.get(handle)
        if hosted is None or hosted.owner != owner or hosted.state is not State.READY:
            raise ComputationClosed(
                "the computation is not set up at this server: call setup (again)"
            )
        if self.draining:
            raise RunRefused("this server is about to end and takes no new runs")
        if not self.room:
            raise self.full()
        return hosted

    @property
    def room(self) -> int:
        """How many more runs may be alive."""
        return max(0, self._max_runs - len(self._by_run))

    def full(self) -> RunRefused:
        """The error for one run more."""
        return RunRefused(f"{self._max_runs} runs are alive here, as many as may")

    def started(self, hosted: Hosted, numbers: list[int], detach: bool) -> None:
        """Runs have begun."""
        assert self._by_run.keys().isdisjoint(numbers), "a run began twice"
        hosted.runs.update(dict.fromkeys(numbers, detach))
        self._by_run.update(dict.fromkeys(numbers, hosted))

    def ended(self, number: int) -> Hosted | None:
        """A run has ended. Returns its computation when that was abandoned, and waited for this run alone."""
        hosted = self._by_run.pop(number, None)
        if hosted is None:
            return None
        del hosted.runs[number]
        return hosted if hosted.abandoned and not hosted.runs else None

    def runs_of(self, number: int) -> Hosted | None:
        """The computation that run ``number`` belongs to."""
        return self._by_run.get(number)

    def close(self, hosted: Hosted) -> list[int]:
        """No further run may begin. Returns the runs to terminate."""
        hosted.state = State.CLOSING
        self._by_handle.pop(hosted.handle, None)
        return list(hosted.runs)

    def abandon(self, hosted: Hosted) -> bool:
        """Nobody waits for its end any more. Returns whether nothing of it runs: then it can be forgotten now."""
        hosted.abandoned = True
        return not hosted.runs

    def owner_lost(self, owner: bytes) -> tuple[list[Hosted], list[int]]:
        """A client is gone. Returns its computations, now closing, and the runs to terminate.

        Those that are being set up or closed are left to whoever does that.
        """
        gone = [
            hosted
            for hosted in self._by_id.values()
            if hosted.owner == owner and hosted.state in (State.OFFERED, State.READY)
        ]
        doomed = []
        for hosted in gone:
            self.close(hosted)
            doomed += [number for number, detached in hosted.runs.items() if not detached]
        return gone, doomed

    def forget(self, hosted: Hosted) -> None:
        """It is closed, or its set-up failed: nothing of it is left here."""
        assert not hosted.runs, f"{hosted.name} still runs"
        self._by_handle.pop(hosted.handle, None)
        self._by_id.pop(hosted.computation, None)

    def counts(self) -> dict[str, int]:
        """How many computations and runs there are."""
        return {"computations": len(self._by_id), "runs": len(self._by_run)}

    def validate(self) -> None:
        """Check every invariant; raises AssertionError with what is wrong."""
        for handle, hosted in self._by_handle.items():
            assert hosted.handle == handle and hosted.state is State.READY, hosted
            assert self._by_id.get(hosted.computation) is hosted, hosted
        for number, hosted in self._by_run.items():
            assert number in hosted.runs, (number, hosted)
        alive = sum(len(hosted.runs) for hosted in self._by_id.values())
        assert alive == len(self._by_run), (alive, len(self._by_run))

    @staticmethod
    def _expect(hosted: Hosted, state: State) -> None:
        if hosted.state is not state:
            raise SetupRefused(
                f"computation {hosted.name!r} is {hosted.state.value}, expected {state.value}"
            )

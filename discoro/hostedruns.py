"""Runs at a server: an entry of starts becomes coroutines, their ends become entries back. What may be, `hosting` says.

This is the hot path of a server, so the unit of work is the entry, not the run: what is the same for all runs of an entry
is looked up once, and they are noted in all tables together. A run that ends in the turn in which it began is
answered by its outcome alone; the others are told "started" at the end of a turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from sys import getrefcount
from time import monotonic
from typing import TYPE_CHECKING, Any

from discoro.errors import ComputationClosed, NotPicklable, RunRefused
from discoro.hosting import Hosted, Hosting
from discoro.localcoro import LocalCoro
from discoro.logs import end_in_words, in_words, run_number
from discoro.outcomes import RETURNED, encode_outcome
from discoro.peers.ownership import is_alone
from discoro.scheduler.outcome import Failed, Outcome, Returned
from discoro.scheduler.waits import READY
from discoro.shipping.codespace import CodeSpace
from discoro.shipping.values import encode_exception, loads, loads_parts, packed, pickled
from discoro.transport.frames import Kind

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.server")

_REFUSED = 3
# A plain number: see the peer's.
_RESULT = int(Kind.RESULT)
# A result up to this length surely fits into a batch.
_SMALL = 256
# Seconds that a turn in which runs begin may take, before word of the next ones is not left to its end; and for how many turns.
_LONG_TURN = 0.01
_CAREFUL_TURNS = 16
_set_result = asyncio.Future.set_result
# References to a returned value, and to its coroutine (the most, where something woke it), that the end of a run itself holds when
# it tells the result: beyond them somebody else may still change the value, or ask the coroutine for it. Tests hold the figures.
_VALUE_HOLDERS = 7
_CORO_COUNT = 9


class HostedCoro(LocalCoro[Any]):
    """The coroutine of a run: it tells the runs of its server how it has ended, before all watchers."""

    __slots__ = ("_peer", "_runs")

    _peer: Peer
    _runs: HostedRuns

    # Made by C alone, as a Future; the rest is set by who makes it.
    __init__ = asyncio.Future.__init__

    def _returned(self, value: Any) -> None:
        self._ended()
        _set_result(self, value)
        self._runs.ended(self, Returned(value))
        if self._watchers:
            self._tell(True, value)

    def _failed(self) -> None:
        outcome = self.outcome
        assert outcome is not None
        self._runs.ended(self, outcome)
        if self._watchers:
            self._tell()


class Place:
    """Where the runs of one computation take place: its code, and the context that each gets a copy of.

    Attributes:
        careful: For so many turns more its runs are told of before their first step, which may take long: then whoever
            starts one after the other would wait for each. At first, and after a turn that took long.
    """

    __slots__ = ("careful", "context", "space")

    def __init__(self, space: CodeSpace, context: Context) -> None:
        self.space = space
        self.context = context
        self.careful = 1


class HostedRuns:
    """The runs of one server.

    Args:
        network: What tells their starters.
        hosting: What may run.
        finished: Called with a computation that waited for its last run, which has ended.

    Attributes:
        places: Where runs take place, by the id of their computation.
    """

    def __init__(
        self, network: Network, hosting: Hosting, finished: Callable[[Hosted], object]
    ) -> None:
        self.places: dict[bytes, Place] = {}
        self._network = network
        self._scheduler = network.scheduler
        self._by_number = network.scheduler.by_number
        self._hosting = hosting
        self._finished = finished
        self._keep_outcome = network.keep_outcome
        # Runs that have begun, and whose starters may have to be told: since the last flush, and before it.
        self._begun: list[tuple[Peer, list[int]]] = []
        self._late: list[tuple[Peer, list[int]]] = []
        self._marked = False
        # Where those of this turn have begun, and when that was.
        self._begun_at: set[Place] = set()
        self._since = 0.0
        self._debug = False

    # --- the start

    def run(
        self,
        peer: Peer,
        handle: int,
        detach: bool,
        first: int,
        payloads: Sequence[bytes | memoryview],
    ) -> None:
        """A run entry came in: start its coroutines, with numbers from ``first``."""
        numbers = range(first, first + len(payloads))
        try:
            hosted = self._hosting.for_run(handle, peer.process)
            place = self.places[hosted.computation]
        except Exception as error:
            self._refuse(peer, numbers, error)
            return
        room = self._hosting.room
        space = place.space
        coros: list[HostedCoro] = []
        for number, data in zip(numbers, payloads, strict=True):
            if len(coros) == room:
                self._refuse(peer, range(number, numbers.stop), self._hosting.full())
                break
            try:
                coros.append(self._made(peer, hosted, place, number, loads(data, space)))
            except Exception as error:
                self._refuse(peer, (number,), error)
        if coros:
            self._begin(peer, hosted, place, detach, coros)

    def run_big(
        self,
        peer: Peer,
        handle: int,
        detach: bool,
        number: int,
        head: bytes,
        buffers: list[Any],
    ) -> None:
        """The same, for arguments that came beside the control connection."""
        try:
            hosted = self._hosting.for_run(handle, peer.process)
            place = self.places[hosted.computation]
            arguments = loads_parts(head, buffers, place.space)
            coro = self._made(peer, hosted, place, number, arguments)
        except Exception as error:
            self._refuse(peer, (number,), error)
        else:
            self._begin(peer, hosted, place, detach, [coro])

    def _made(
        self, peer: Peer, hosted: Hosted, place: Place, number: int, arguments: tuple[Any, ...]
    ) -> HostedCoro:
        """The coroutine of a run, which does not run yet."""
        peer.check_run(number)
        scheduler = self._scheduler
        coro: HostedCoro = HostedCoro(loop=scheduler.loop)
        try:
            args, kwargs = arguments if len(arguments) == 2 else (arguments[0], {})
            coro._prepare(
                scheduler, place.space.entry, args, kwargs, place.context.copy(), hosted.name
            )
        except TypeError as error:
            text = f"{error}"
            raise RunRefused(text if hosted.name in text else f"{hosted.name}: {text}") from None
        coro._number = number
        coro._peer = peer
        coro._runs = self
        return coro

    def _begin(
        self, peer: Peer, hosted: Hosted, place: Place, detach: bool, coros: list[HostedCoro]
    ) -> None:
        numbers = [coro._number for coro in coros]
        self._hosting.started(hosted, numbers, detach)
        self._debug = log.isEnabledFor(logging.DEBUG)
        if self._debug:
            for number in numbers:
                log.debug("run %d of %s: %s begins", run_number(number), peer.name, hosted.name)
        self._scheduler._begin_all(coros)  # this is the loop's thread
        if place.careful:
            _tell_started(peer, numbers)
            peer.flush()
        else:
            self._begun.append((peer, numbers))
        if not self._begun_at:
            self._since = monotonic()
        self._begun_at.add(place)
        self._mark()

    def _refuse(self, peer: Peer, numbers: Iterable[int], error: Exception) -> None:
        if isinstance(error, (RunRefused, ComputationClosed)):
            error.__traceback__ = None  # of our insides alone; the text says all
        for number in numbers:
            log.info("run %d of %s: refused: %s", run_number(number), peer.name, in_words(error))
            peer.post(Kind.OUTCOME, number, _REFUSED, encode_exception(error))

    # --- word of those that go on

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._scheduler.flush_later(self)

    def flush(self) -> None:
        """The turn ends: tell the starters of those that go on. One whose turn has not come is told the next time."""
        self._marked = False
        self._judge_turn()
        begun, self._begun = self._begun, []
        late, self._late = self._late, []
        by_number = self._by_number
        for peer, numbers in late:
            _tell_started(peer, [number for number in numbers if number in by_number])
        for peer, numbers in begun:
            alive = [coro for number in numbers if (coro := by_number.get(number)) is not None]
            _tell_started(peer, [coro._number for coro in alive if coro._wait is not READY])
            waiting = [coro._number for coro in alive if coro._wait is READY]
            if waiting:
                self._late.append((peer, waiting))
        if self._late:
            self._mark()

    def _judge_turn(self) -> None:
        """See how long those took that have begun."""
        if not self._begun_at:
            return
        long = monotonic() - self._since > _LONG_TURN
        for place in self._begun_at:
            place.careful = _CAREFUL_TURNS if long else max(0, place.careful - 1)
        self._begun_at.clear()

    # --- the end

    def ended(self, coro: HostedCoro, outcome: Outcome) -> None:
        """A run has ended: tell whoever started it, and remember it for later questions."""
        number, peer = coro._number, coro._peer
        if self._debug:
            log.debug("run %d of %s: %s", run_number(number), peer.name, end_in_words(outcome))
        finished = self._hosting.ended(number)
        self._keep_outcome(number, outcome)
        if peer.ended is None:
            self._tell(peer, number, outcome, coro)
        if finished is not None:
            self._finished(finished)

    def _tell(self, peer: Peer, number: int, outcome: Outcome, coro: HostedCoro) -> None:
        if isinstance(outcome, Returned):
            try:
                value = outcome.value
                data = packed(value)
                if data is None:
                    if self._network.big.wants(value):
                        lent = getrefcount(coro) <= _CORO_COUNT and is_alone(value, _VALUE_HOLDERS)
                        self._network.big.post_result(peer, number, value, lent=lent)
                        return
                    data = pickled(value)
                if len(data) <= _SMALL:
                    peer.send(_RESULT, number, 0, data)
                else:
                    peer.post(_RESULT, number, 0, data)
                return
            except Exception as error:
                if isinstance(error, NotPicklable):
                    error = error.of(f"the result of {coro._name}()")
                error.add_note(f"{self._scheduler.name}: the result could not be sent")
                outcome = Failed(error)
        code, payload = encode_outcome(outcome)
        assert code != RETURNED
        peer.post(Kind.OUTCOME, number, code, payload)


def _tell_started(peer: Peer, numbers: list[int]) -> None:
    """Tell of runs that go on, in one entry for those with numbers in a row."""
    first, count = 0, 0
    for number in numbers:
        if number != first + count:
            if count:
                peer.post(Kind.STARTED, first, count, b"")
            first, count = number, 0
        count += 1
    if count:
        peer.post(Kind.STARTED, first, count, b"")

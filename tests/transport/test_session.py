"""Sessions: exactly once and in order, whatever the connections do; the table of states; windows; hostile input."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from discoro.transport.delivery import Outbox
from discoro.transport.errors import (
    ProtocolError,
)
from discoro.transport.frames import FrameType
from discoro.transport.session import Session, State
from tests.transport.pairs import Pair

SIDES = st.sampled_from("ab")


def machine(make: Callable[[], Pair] = Pair) -> type[RuleBasedStateMachine]:
    """The test of two sessions; ``make`` may give a pair with a bug in it."""

    class TwoSessions(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.pair = make()
            self.count = 0

        @rule(
            side=SIDES,
            kind=st.sampled_from([1, 1, 1, 2, 3, 4, 15]),
            receiver=st.integers(0, 2),
            size=st.sampled_from([0, 3, 3, 3, 31, 32, 150, 350]),
            times=st.integers(1, 4),
            ends=st.booleans(),
        )
        def send(
            self, side: str, kind: int, receiver: int, size: int, times: int, ends: bool
        ) -> None:
            for offset in range(times):
                self.count += 1
                payload = (b"%d " % self.count).ljust(size, b".")
                if kind == 3:
                    self.pair.send(side, kind, receiver + offset, 0, payload)
                else:
                    self.pair.send(side, kind, receiver, offset if kind == 2 else 5, payload)
            if ends:
                self.pair.turn_ends(side)

        @rule(side=SIDES)
        def turn_ends(self, side: str) -> None:
            self.pair.turn_ends(side)

        @rule(side=SIDES)
        def ack_timer(self, side: str) -> None:
            self.pair.ack_timer(side)

        @rule(side=SIDES)
        def cut(self, side: str) -> None:
            self.pair.cut(side)

        @rule()
        def dial(self) -> None:
            self.pair.dial()

        @rule(side=SIDES, paused=st.booleans())
        def writing(self, side: str, paused: bool) -> None:
            session = self.pair.sessions[side]
            if session.state is State.UP:
                (session.pause_writing if paused else session.resume_writing)()

        @precondition(lambda self: self.pair.wires)
        @rule(index=st.integers(0, 3))
        def resume_arrives(self, index: int) -> None:
            self.pair.resume_arrives(self.pair.wires[-1 - index % len(self.pair.wires)])

        @precondition(lambda self: self.pair.wires)
        @rule(index=st.integers(0, 3))
        def resumed_arrives(self, index: int) -> None:
            self.pair.resumed_arrives(self.pair.wires[-1 - index % len(self.pair.wires)])

        @rule()
        def connects(self) -> None:
            self.pair.dial()
            self.pair.resume_arrives(self.pair.wires[-1])
            self.pair.resumed_arrives(self.pair.wires[-1])

        @precondition(lambda self: self.pair.wires)
        @rule(
            side=SIDES,
            index=st.integers(0, 3),
            size=st.sampled_from([1, 24, 40, 100, 1000, 1 << 20, 1 << 20]),
        )
        def deliver(self, side: str, index: int, size: int) -> None:
            self.pair.deliver(side, self.pair.wires[-1 - index % len(self.pair.wires)], size)

        @invariant()
        def holds(self) -> None:
            self.pair.check()

        def teardown(self) -> None:
            self.pair.heal()

    return TwoSessions


QUICK = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTwoSessions = machine().TestCase
TestTwoSessions.settings = QUICK


@pytest.mark.slow
def test_two_sessions_at_length() -> None:
    run_state_machine_as_test(
        machine(), settings=settings(QUICK, max_examples=800, stateful_step_count=60)
    )


# --- planted bugs: each must be found ------------------------------------------------------------------------------


class SendsEverythingAgain(Outbox):
    __slots__ = ()

    def restart(self, received: int) -> None:
        super().restart(self.first - 1)


class SendsNothingAgain(Outbox):
    __slots__ = ()

    def restart(self, received: int) -> None:
        super().restart(received)
        self._again.clear()
        self.first, self.kept_bytes, self._again_bytes = self.last + 1, 0, 0


class SendsAgainInTheWrongOrder(Outbox):
    __slots__ = ()

    def restart(self, received: int) -> None:
        self._again.extendleft(reversed(self.kept))
        self.kept.clear()
        super().restart(received)
        self._again.rotate(1)


class BelievesAnyAck(Outbox):
    """Frees what the peer says to have only up to what it has written on this link."""

    __slots__ = ()

    def acknowledged(self, number: int) -> None:
        super().acknowledged(min(number + 1, self.written))


def with_outbox(kind: type[Outbox]) -> Callable[[], Pair]:
    def make() -> Pair:
        pair = Pair()
        for session in pair.sessions.values():
            session.outbox = kind()
        return pair

    return make


class FreesWhatItWrites(Session):
    """What was written counts as delivered."""

    __slots__ = ()

    def _put(self, data: bytes) -> None:
        super()._put(data)
        if data[4] in (FrameType.BATCH, FrameType.ONE):
            self.outbox.acknowledged(self.outbox.written)


class OvertakesItsReplay(Session):
    """New batches flow while old ones have still to be written again."""

    __slots__ = ()

    def _pump(self) -> None:
        super()._pump()
        self._flowing = self._write is not None


class TellsAcksItDoesNotWrite(Session):
    """An ack that is left to the next batch counts as told already."""

    __slots__ = ()

    def ack_due(self) -> None:
        self._ack_armed = False
        self.inbox.told()


class ForgetsWhatWaits(Session):
    __slots__ = ()

    def detach(self, now: float, error: Exception | None = None) -> None:
        super().detach(now, error)
        self._waiting.clear()
        self._waiting_bytes = 0


class ForgetsItsHalfBatch(Session):
    __slots__ = ()

    def detach(self, now: float, error: Exception | None = None) -> None:
        super().detach(now, error)
        self._out, self._raw, self._size, self._run_kind = [], [], 0, 0


class NeverStopsAtTheWindow(Session):
    __slots__ = ()

    def _number(self, out: list[Any], raw: list[bytes]) -> None:
        super()._number(out, raw)
        self._flowing, self.congested = True, False


class StaysCongested(Session):
    __slots__ = ()

    def _acknowledged(self, number: int) -> None:
        self.outbox.acknowledged(number)


class MixesRuns(Session):
    """Runs whose numbers do not count on share an entry."""

    __slots__ = ()

    def _count_on(self, kind: int) -> None:
        pass


def flagged(flag: str) -> Callable[[], Pair]:
    def make() -> Pair:
        pair = Pair()
        setattr(pair, flag, True)
        return pair

    return make


def of(kind: type[Session]) -> Callable[[], Pair]:
    return lambda: Pair(kind)


BUGS: dict[str, Callable[[], Pair]] = {
    "everything is sent again": with_outbox(SendsEverythingAgain),
    "nothing is sent again": with_outbox(SendsNothingAgain),
    "sent again in the wrong order": with_outbox(SendsAgainInTheWrongOrder),
    "more is freed than was acknowledged": with_outbox(BelievesAnyAck),
    "freed when written": of(FreesWhatItWrites),
    "new batches overtake old ones": of(OvertakesItsReplay),
    "acks are told and not written": of(TellsAcksItDoesNotWrite),
    "waiting batches are forgotten": of(ForgetsWhatWaits),
    "a half batch is forgotten": of(ForgetsItsHalfBatch),
    "no window": of(NeverStopsAtTheWindow),
    "the window never opens again": of(StaysCongested),
    "runs are mixed": of(MixesRuns),
    "stale connections are read": flagged("reads_stale_wires"),
    "said what it has before it cut the old link": flagged("states_before_it_cuts"),
}


def storm(pair: Pair, seed: int) -> None:
    """Sixty random events, then heal; weighted towards busy connections, which hypothesis reaches less often."""
    rng = random.Random(seed)

    def connect() -> None:
        pair.dial()
        pair.resume_arrives(pair.wires[-1])
        pair.resumed_arrives(pair.wires[-1])

    def send() -> None:
        side, kind = rng.choice("ab"), rng.choice([1, 1, 2, 3, 9])
        for number in range(rng.randint(1, 4)):
            payload = rng.randbytes(4).ljust(rng.choice([4, 4, 4, 31, 32, 150, 350]), b".")
            target = number if kind == 3 else rng.randint(0, 1)
            pair.send(side, kind, target, number if kind == 2 else 0, payload)
        if rng.random() < 0.7:
            pair.turn_ends(side)

    def deliver() -> None:
        wire = rng.choice(pair.wires[-2:])
        pair.deliver(rng.choice("ab"), wire, rng.choice([1, 30, 100, 1 << 20, 1 << 20]))

    def pause() -> None:
        session = pair.sessions[rng.choice("ab")]
        if session.state is State.UP:
            rng.choice([session.pause_writing, session.resume_writing])()

    connect()
    for _ in range(60):
        event = rng.choices(
            [connect, send, deliver, pause, pair.turn_ends, pair.ack_timer, pair.cut, pair.dial],
            [3, 10, 14, 2, 4, 3, 1, 1],
        )[0]
        if event in (pair.turn_ends, pair.ack_timer, pair.cut):
            event(rng.choice("ab"))  # type: ignore[call-arg]
        else:
            event()  # type: ignore[call-arg]
        pair.check()
    pair.heal()


@pytest.mark.parametrize("block", range(4))
def test_two_sessions_in_a_storm(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        storm(Pair(), seed)


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found(bug: str) -> None:
    """The property tests would be worth nothing if they passed with these."""
    with pytest.raises((AssertionError, ProtocolError, IndexError)):
        for seed in range(200):
            storm(BUGS[bug](), seed)

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
from discoro.transport.errors import FrameTooBig, ProtocolError, SessionClosed, SessionLost
from discoro.transport.frames import HEADER, Entry, FrameType, bare
from discoro.transport.session import Judgement, Session, State
from tests.transport.pairs import SMALL, Pair, Shell, feed, make_session

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


@pytest.mark.parametrize(
    ("rounds", "examples", "steps"),
    [
        pytest.param(1, 2_000, 60, marks=pytest.mark.slow),
        pytest.param(10, 500, 200, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
    ],
)
def test_two_sessions_at_length(rounds: int, examples: int, steps: int) -> None:
    """In rounds: hypothesis remembers all that it has tried, which takes gigabytes for 10,000 long examples."""
    for _ in range(rounds):
        run_state_machine_as_test(
            machine(), settings=settings(QUICK, max_examples=examples, stateful_step_count=steps)
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
        self._out, self._raw, self.batch_size, self.run_kind = [], [], 0, 0


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


# --- the table of states -------------------------------------------------------------------------------------------


def up(session: Session, *, epoch: int = 1, last: int = 0, now: float = 0.0) -> list[bytes]:
    """Attach a link that collects what is written to it."""
    frames: list[bytes] = []
    session.attach(frames.append, epoch, last, now)
    return frames


def end(session: Session) -> None:
    session.end(SessionLost("for this test"))


def test_the_states_and_what_leads_from_one_to_another() -> None:
    session = make_session()
    assert session.state is State.NEW
    session.detach(0.0)
    assert session.state is State.NEW, "nothing to lose yet"
    up(session)
    assert session.state is State.UP
    session.detach(1.0)
    assert session.state is State.DOWN
    up(session, epoch=2)
    session.detach(2.0)
    session.end(SessionLost("gone"))
    assert session.state is State.LOST and session.ended
    session.end(SessionClosed(by_peer=True), closed=True)
    assert session.state is State.LOST and str(session.lost) == "session lost: gone", (
        "an end is final"
    )
    session.detach(3.0)
    assert session.state is State.LOST
    session.validate()


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_link_that_is_not_newer_is_refused(epoch: int) -> None:
    session = make_session()
    up(session)
    session.detach(0.0)
    with pytest.raises(ProtocolError):
        up(session, epoch=epoch)
    assert session.state is State.DOWN


def test_no_link_is_attached_over_another_or_after_the_end() -> None:
    session = make_session()
    up(session)
    with pytest.raises(ProtocolError):
        up(session, epoch=2)
    end(session)
    with pytest.raises(ProtocolError):
        up(session, epoch=3)


def test_sending_after_the_end_raises_why_and_queues_nothing() -> None:
    session = make_session()
    up(session)
    session.send(1, 1, 1, b"a")
    end(session)
    for _ in range(2):
        with pytest.raises(SessionLost, match="for this test"):
            session.send(1, 1, 1, b"b")
    session.flush()
    assert session.unacknowledged() == [Entry(1, 1, 1, b"a")]


def test_the_end_lets_everybody_go_who_waits() -> None:
    shell = Shell()
    session = make_session(shell=shell)
    up(session)
    for _ in range(40):
        session.send(1, 1, 1, bytes(90))
    # The futures of this shell cannot be awaited: whoever would wait shows itself.
    for wait in (session.room(), session.settled()):
        with pytest.raises(TypeError):
            wait.send(None)
    waiting = [*session._rooms, *session._settlers]
    assert len(waiting) == 2 and session.congested
    end(session)
    assert all(future.done() for future in waiting) and not session.congested


def test_the_clock() -> None:
    limits = SMALL
    session = make_session()
    up(session, now=100.0)
    assert session.judge(104.9) is Judgement.FINE
    assert session.judge(105.0) is Judgement.PING
    assert session.judge(106.0) is Judgement.FINE, "one ping in five seconds"
    assert session.judge(110.0) is Judgement.PING
    assert session.judge(115.0) is Judgement.SILENT
    session.busy = True
    session.heard = True
    assert session.judge(116.0) is Judgement.BACK
    session.busy = False
    assert session.judge(117.0) is Judgement.FINE
    session.detach(200.0)
    assert session.judge(259.9) is Judgement.FINE
    assert session.judge(260.0) is Judgement.EXPIRED
    assert session.patience == limits.resume_client
    server = make_session(dialled=False)
    up(server, now=0.0)
    server.detach(200.0)
    assert server.judge(274.9) is Judgement.FINE and server.judge(275.0) is Judgement.EXPIRED


def test_what_we_slept_through_is_not_held_against_the_peer() -> None:
    session = make_session()
    up(session, now=100.0)
    session.excuse(1000.0)
    assert session.judge(1104.0) is Judgement.FINE
    session.detach(1104.0)
    session.excuse(500.0)
    assert session.judge(1663.0) is Judgement.FINE and session.judge(1664.0) is Judgement.EXPIRED


def test_a_ping_is_answered_by_the_link_and_carries_the_ack() -> None:
    session = make_session()
    frames = up(session)
    feed(session, bare(FrameType.PING, 77, 0))
    assert frames == [bare(FrameType.PONG, 77, 0)]
    session.ask_for_life()
    assert frames[1] == bare(FrameType.PING, 0, 0)
    feed(session, bare(FrameType.PONG, 0, 0))
    feed(session, bare(FrameType.PONG, 12345, 0))


def test_close_is_told_once_and_says_what_was_delivered() -> None:
    shell = Shell()
    session = make_session(shell=shell)
    frames = up(session)
    session.say_close()
    assert frames == [bare(FrameType.CLOSE, 0, 0)]
    feed(session, bare(FrameType.CLOSE, 0, 0))
    assert shell.closed


def test_acks_go_alone_after_many_bytes_or_by_the_one_timer() -> None:
    shell = Shell()
    session = make_session(shell=shell)
    peer = make_session(dialled=False)
    written = up(peer)
    frames = up(session)

    def arrive(size: int) -> None:
        peer.send(19, 0, 0, bytes(size))
        peer.flush()
        feed(session, written.pop())

    arrive(10)
    arrive(10)
    assert not frames and len(shell.acks) == 1, "one timer, however much arrives"
    session.ack_due()
    assert frames == [bare(FrameType.ACK, 0, 2)]
    arrive(450)
    assert frames[1:] == [bare(FrameType.ACK, 0, 3)], "too many bytes to wait for the timer"
    session.ack_due()
    assert len(frames) == 2, "nothing is owed"
    arrive(10)
    session.send(1, 1, 1, b"x")
    session.flush()
    session.ack_due()
    assert len(frames) == 3 and HEADER.unpack_from(frames[2])[5] == 4, "the ack rode on a batch"


HOSTILE = {
    "too long": b"\xff" * 24,
    "too short": b"\0\0\0\x13" + bytes(20),
    "reserved field": b"\0\0\0\x14\x06\x00\x00\x01" + bytes(16),
    "flags on an ack": b"\0\0\0\x14\x06\x01" + bytes(18),
    "body on an ack": bare(FrameType.ACK, 0, 0, b"x"),
    "number on an ack": bare(FrameType.ACK, 1, 0),
    "body on a ping": bare(FrameType.PING, 0, 0, b"x"),
    "number on a close": bare(FrameType.CLOSE, 1, 0),
    "type 0": b"\0\0\0\x14\x00" + bytes(19),
    "unknown type": b"\0\0\0\x14\x63" + bytes(19),
    "OPEN on a session that is up": bare(FrameType.OPEN, 1, 0),
    "RESUMED on a session that is up": bare(FrameType.RESUMED, 1, 0, bytes(32)),
    "BULK on a session that is up": bare(FrameType.BULK, 1, 0, bytes(48)),
    "ack of what was never sent": bare(FrameType.ACK, 0, 1),
    "ack of nearly everything": bare(FrameType.ACK, 0, 2**64 - 1),
    "a batch ahead": HEADER.pack(27, 5, 0, 0, 2, 0) + b"\x91\x94\x01\x01\x01\xc4\x00",
    "batch number 0": HEADER.pack(27, 5, 0, 0, 0, 0) + b"\x91\x94\x01\x01\x01\xc4\x00",
    "an empty batch": HEADER.pack(20, 5, 0, 0, 1, 0),
    "a message of kind 0": HEADER.pack(36, 7, 0, 0, 1, 0) + bytes(16),
    "a message of kind 21": HEADER.pack(36, 7, 21, 0, 1, 0) + bytes(16),
    "a message of kind 255": HEADER.pack(36, 7, 255, 0, 1, 0) + bytes(16),
    "a message without its source": HEADER.pack(28, 7, 1, 0, 1, 0) + bytes(40),
    "a message number ahead": HEADER.pack(36, 7, 1, 0, 2, 0) + bytes(16),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_frame_that_cannot_be_is_a_protocol_error_and_delivers_nothing(name: str) -> None:
    got: list[Any] = []
    session = make_session(handler=lambda *entry: got.append(entry))
    up(session)
    with pytest.raises(ProtocolError):
        feed(session, HOSTILE[name])
    assert not got and session.inbox.last == 0
    session.validate()


def test_a_length_is_refused_from_the_header_alone() -> None:
    session = make_session()
    up(session)
    with pytest.raises(FrameTooBig) as caught:
        feed(session, HEADER.pack(SMALL.max_frame + 1, 5, 0, 0, 1, 0))
    assert caught.value.size == SMALL.max_frame + 1


def test_what_stands_before_a_bad_frame_is_delivered() -> None:
    got: list[Any] = []
    session, peer = make_session(handler=lambda *entry: got.append(entry)), make_session()
    frames = up(peer)
    up(session)
    peer.send(1, 1, 1, b"good")
    peer.flush()
    with pytest.raises(ProtocolError):
        feed(session, frames[0] + HOSTILE["unknown type"])
    assert len(got) == 1 and session.inbox.last == 1


def test_a_handler_that_finds_the_peer_breaking_rules_breaks_the_link() -> None:
    shell = Shell()

    def refuse(*entry: Any) -> None:
        raise ProtocolError("no grant")

    session, peer = make_session(handler=refuse, shell=shell), make_session()
    frames = up(peer)
    up(session)
    peer.send(1, 1, 1, b"x")
    peer.flush()
    feed(session, frames[0])
    assert [str(error) for error in shell.broken] == ["no grant"] and session.inbox.last == 1


def test_bytes_behind_the_end_of_a_session_are_not_parsed() -> None:
    got: list[Any] = []

    def handler(session: Session, *entry: Any) -> None:
        got.append(entry)
        end(session)

    session, peer = make_session(handler=handler), make_session()
    frames = up(peer)
    up(session)
    for data in (b"last", b"too late"):
        peer.send(19, 1, 1, data)
        peer.flush()
    data = b"".join(frames) + b"not a frame at all, and long enough for a header"
    assert feed(session, data) == len(data)
    assert len(got) == 1


@pytest.mark.parametrize("step", [1, 7, 24, 39])
def test_a_stream_may_arrive_in_any_pieces(step: int) -> None:
    got: list[Any] = []
    session = make_session(handler=lambda _, *entry: got.append((*entry[:3], bytes(entry[3]))))
    peer = make_session()
    frames = up(peer)
    up(session)
    for number in range(20):
        peer.send(1, number % 2, 1, b"%d" % number * (1 + number))
        if number % 3 == 0:
            peer.flush()
    peer.flush()
    stream, tail = b"".join(frames), b""
    for start in range(0, len(stream), step):
        data = tail + stream[start : start + step]
        tail = data[feed(session, data) :]
    assert tail == b"" and [entry[3] for entry in got] == [b"%d" % n * (1 + n) for n in range(20)]


def test_a_script_cut_at_every_byte_delivers_each_entry_once_and_in_order() -> None:
    """Side a talks, side b answers every third; the connection ends after each possible number of bytes, once per run."""

    def run(cut_at: int) -> int:
        pair = Pair()
        pair.dial()
        pair.resume_arrives(pair.wires[-1])
        pair.resumed_arrives(pair.wires[-1])
        passed = 0

        def move() -> None:
            nonlocal passed
            wire = pair.wires[-1]
            for side in "ab":
                size = len(wire.flying[side])
                if passed < cut_at <= passed + size:
                    pair.deliver(side, wire, cut_at - passed)
                    passed = cut_at
                    pair.cut("b" if cut_at % 2 else "a")
                    pair.dial()
                    pair.resume_arrives(pair.wires[-1])
                    pair.resumed_arrives(pair.wires[-1])
                    return
                pair.deliver(side, wire, size)
                passed += size

        for number in range(40):
            pair.send("a", 1, number % 3, 5, b"%d" % number * (1 + number % 5 * 4))
            if number % 3 == 0:
                pair.send("b", 5, 1, number, b"answer")
            pair.turn_ends("a")
            pair.turn_ends("b")
            move()
            if number % 5 == 0:
                pair.ack_timer("a")
                pair.ack_timer("b")
        pair.heal()
        return passed

    total = run(1 << 30)
    assert total > 2000
    for cut_at in range(1, total):
        run(cut_at)

"""Two pure sessions and the connections between them, moved by hand: for property tests."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from discoro.transport.frames import KINDS, BatchCoder, Entry, Hello
from discoro.transport.limits import Limits
from discoro.transport.session import Session, State

SMALL = Limits(
    batch_bytes=200,
    batch_message=8,
    raw_payload=32,
    window=1000,
    resend_ahead=300,
    ack_bytes=400,
    max_payload=600,
    frame_overhead=400,
)


class Future:
    """As much of a future as a session wants."""

    def __init__(self) -> None:
        self.result = False

    def done(self) -> bool:
        return self.result

    def set_result(self, result: None) -> None:
        self.result = True


class Shell:
    """A shell that only takes notes.

    Attributes:
        flushes: Sessions asked to be flushed.
        acks: Sessions that want their ack timer.
        broken: Errors of link_broken.
        closed: Whether CLOSE has arrived.
    """

    def __init__(self) -> None:
        self.flushes: list[Session] = []
        self.acks: list[Session] = []
        self.broken: list[Exception] = []
        self.closed = False
        self.full = 0

    def flush_later(self, session: Session) -> None:
        self.flushes.append(session)

    def ack_later(self, session: Session) -> None:
        self.acks.append(session)

    def batch_full(self) -> None:
        self.full += 1

    def link_broken(self, session: Session, error: Exception) -> None:
        self.broken.append(error)

    def overfull(self, session: Session) -> None:
        self.broken.append(MemoryError("overfull"))

    def closed_by_peer(self, session: Session) -> None:
        self.closed = True

    def new_bulk(self, session: Session) -> Any:
        raise AssertionError("not here")

    def future(self) -> Any:
        return Future()

    async def wait(self, future: Any, timeout: float | None) -> bool:
        return bool(future.done())

    def time(self) -> float:
        return 0.0


def make_session(
    *,
    dialled: bool = True,
    limits: Limits = SMALL,
    shell: Shell | None = None,
    handler: Callable[[Session, int, int, int, Any], None] | None = None,
    kind: type[Session] = Session,
) -> Session:
    """A session without a link; ``handler`` is called per payload with session, kind, target, source, payload."""

    def handle(number: int) -> Callable[[Session, int, int, list[Any]], None]:
        def one(session: Session, target: int, source: int, payloads: list[Any]) -> None:
            for payload in payloads:
                if handler is not None:
                    handler(session, number, target, source, payload)
                source += number == 2
                target += number == 3

        return one

    hello = Hello(process_id=bytes(16))
    return kind(
        bytes(16),
        bytes(32),
        hello,
        hello,
        dialled=dialled,
        address=("nowhere", 1),
        limits=limits,
        coder=BatchCoder(limits),
        handlers=[handle(number) for number in range(KINDS)],
        shell=shell or Shell(),
    )


def feed(session: Session, data: bytes) -> int:
    """Give bytes to a session; return how many it took."""
    buffer = bytearray(data)
    return session.received(buffer, memoryview(buffer), len(buffer))


class Wire:
    """One connection: what has been written and not read, in both directions."""

    def __init__(self, epoch: int, resume: bytes) -> None:
        self.epoch = epoch
        self.flying = {"a": bytearray(), "b": bytearray()}  # towards that side
        self.tail = {"a": b"", "b": b""}
        self.resume: bytes | None = resume  # RESUME on its way to b
        self.resumed: bytes | None = None  # RESUMED on its way to a


class Pair:
    """Sides a (dials) and b, the wires between them, and what was sent and delivered.

    The flags switch the harness wrong: a test plants bugs with them.
    """

    reads_stale_wires = False
    states_before_it_cuts = False

    def __init__(self, kind: type[Session] = Session) -> None:
        self.shells = {"a": Shell(), "b": Shell()}
        self.sent: dict[str, list[Entry]] = {"a": [], "b": []}
        self.got: dict[str, list[Entry]] = {"a": [], "b": []}
        self.sessions = {
            side: make_session(
                dialled=side == "a",
                shell=self.shells[side],
                handler=self._note(side),
                kind=kind,
            )
            for side in "ab"
        }
        self.current: dict[str, Wire | None] = {"a": None, "b": None}
        self.wires: list[Wire] = []
        self.epoch = 0
        self.now = 0.0

    def _note(self, side: str) -> Callable[[Session, int, int, int, Any], None]:
        def note(session: Session, kind: int, target: int, source: int, payload: Any) -> None:
            self.got[side].append(Entry(kind, target, source, bytes(payload)))

        return note

    # --- what may happen -------------------------------------------------------------------------------------------

    def send(self, side: str, kind: int, target: int, source: int, payload: bytes) -> None:
        self.sessions[side].send(kind, target, source, payload)
        self.sent[side].append(Entry(kind, target, source, payload))

    def turn_ends(self, side: str) -> None:
        shell = self.shells[side]
        flushes, shell.flushes = shell.flushes, []
        for session in flushes:
            session.flush()

    def ack_timer(self, side: str) -> None:
        shell = self.shells[side]
        acks, shell.acks = shell.acks, []
        for session in acks:
            session.ack_due()

    def cut(self, side: str) -> None:
        """That side notices that its connection is gone."""
        if self.current[side] is not None:
            self.current[side] = None
            self.sessions[side].detach(self.now)

    def dial(self) -> None:
        """Side a drops what it has and dials; RESUME is on its way."""
        self.cut("a")
        self.epoch += 1
        resume = struct.pack(">QQ", self.epoch, self.sessions["a"].inbox.last)
        self.wires.append(Wire(self.epoch, resume))
        del self.wires[:-4]

    def resume_arrives(self, wire: Wire) -> None:
        if wire.resume is None:
            return
        epoch, last = struct.unpack(">QQ", wire.resume)
        wire.resume = None
        b = self.sessions["b"]
        if epoch <= b.epoch:
            return
        stated = b.inbox.last
        old = self.current["b"]
        if self.states_before_it_cuts and old is not None:
            self.deliver("b", old, 1 << 20)
        self.cut("b")
        if not self.states_before_it_cuts:
            stated = b.inbox.last
        wire.resumed = struct.pack(">Q", stated)
        self.current["b"] = wire
        b.attach(lambda data: wire.flying["a"].extend(data), epoch, last, self.now)

    def resumed_arrives(self, wire: Wire) -> None:
        if wire.resumed is None or wire.epoch != self.epoch or self.current["a"] is not None:
            return
        (last,) = struct.unpack(">Q", wire.resumed)
        wire.resumed = None
        self.current["a"] = wire
        self.sessions["a"].attach(
            lambda data: wire.flying["b"].extend(data), wire.epoch, last, self.now
        )

    def deliver(self, side: str, wire: Wire, size: int) -> None:
        """Some bytes of a connection reach a side, which reads only the current one."""
        flying = wire.flying[side]
        part = bytes(flying[:size])
        del flying[:size]
        if not part or (side == "a" and wire.resumed is not None):
            flying[:0] = part
            return
        session = self.sessions[side]
        if self.current[side] is not wire and not self.reads_stale_wires:
            return
        if session.state is not State.UP:
            return
        data = wire.tail[side] + part
        used = feed(session, data)
        wire.tail[side] = data[used:]

    # --- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        for side, other in (("a", "b"), ("b", "a")):
            assert not self.shells[side].broken
            got, sent = self.got[other], self.sent[side]
            assert got == sent[: len(got)], "what arrived is a prefix of what was sent"
            session, peer = self.sessions[side], self.sessions[other]
            session.validate()
            assert session.outbox.first - 1 <= peer.inbox.last, "acknowledged is what has arrived"
            assert peer.inbox.last <= session.outbox.last, "arrived is what was numbered"
            left = session.unacknowledged()
            assert left == sent[len(sent) - len(left) :], (
                "unacknowledged is the end of what was sent"
            )
            assert len(got) >= len(sent) - len(left), "acknowledged has been delivered"

    def heal(self) -> None:
        """Connect again, let everything through, and see that everything is there."""
        for side in "ab":
            self.sessions[side].resume_writing()
        wire = self.current["a"]
        if wire is None or wire is not self.current["b"]:
            self.dial()
            wire = self.wires[-1]
            self.resume_arrives(wire)
            self.resumed_arrives(wire)
        for _ in range(2000):
            for side in "ab":
                self.turn_ends(side)
                self.ack_timer(side)
                self.deliver(side, wire, 1 << 20)
            idle = all(session.idle for session in self.sessions.values())
            if idle and not wire.flying["a"] and not wire.flying["b"]:
                break
        self.check()
        assert self.got["b"] == self.sent["a"] and self.got["a"] == self.sent["b"]
        for session in self.sessions.values():
            assert session.idle, "nothing is kept once everything is acknowledged"
            assert not session.congested

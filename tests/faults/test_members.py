"""Members who cheat: they know the secret, speak the protocol by hand, and break its rules.

Whoever has the secret may run code here, so none of this is about secrecy. It is about one broken or foolish peer ending its
own session and nothing else: another client has a coroutine at the same server all the time, and it must not notice.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest

from discoro import Computation
from discoro.messages import Ended, Finish, Located, Offer, Ready, Setup, Wanted, decode
from discoro.messages import Locate as LocateMessage
from discoro.shipping.collecting import collect
from discoro.shipping.values import decode_exception, dumps, loads
from discoro.transport.frames import FrameType, Hello, Kind, ResetCode, bare
from discoro.transport.greeting import Open
from discoro.transport.handshake import open_proof
from discoro.transport.limits import KIB, MIB
from tests.faults.byhand import LIMITS, Member
from tests.functional import jobs
from tests.processes import ServerProgram, World, memory

NOBODY = (1 << 39) + 7


@pytest.fixture
def beside(shared: World, server: ServerProgram) -> Iterator[Any]:
    """A good client with a coroutine at the same server; at the end it works as if nothing had been."""
    scheduler = shared.scheduler()
    computation: Computation[Any, Any] = Computation(jobs.wait)

    def within(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, scheduler.loop).result(20)

    with scheduler:
        within(computation.setup(server.location))
        waiting = within(computation.run(server.location))
        yield waiting
        waiting.send("still here")
        assert within(waiting.finish()) == "still here"
        again = within(computation.run(server.location))
        again.send("and again")
        assert within(again.finish()) == "and again"
        within(computation.close(server.location))


@contextmanager
def growth_below(server: ServerProgram, limit: int) -> Iterator[None]:
    """The server's memory grows by less than this."""
    before = memory(server.process.pid)
    yield
    grown = memory(server.process.pid) - before
    assert grown < limit, f"{grown / MIB:.1f} MiB more"


def number_of_server(member: Member) -> int:
    data = LocateMessage("coro", "discoro_server", False).encode()
    reply = decode(member.request(data).payload)
    assert isinstance(reply, Located)
    return reply.number


def computation_of(member: Member, function: Callable[..., Any]) -> int:
    """Set a computation up by hand; return its handle."""
    bundle = collect(function, [])
    data = bundle.encode()
    offer = Offer(bundle.id, "by hand", bundle.python, bundle.digest, len(data), [], True, data)
    assert isinstance(decode(member.request(offer.encode()).payload), Wanted)
    ready = decode(member.request(Setup(bundle.id, None).encode()).payload)
    assert isinstance(ready, Ready)
    return ready.handle


def test_a_session_by_hand_works(shared: World, server: ServerProgram) -> None:
    with Member.opened(server.port, shared.secret) as member:
        handle = computation_of(member, jobs.add)
        assert member.ours is not None
        number = member.ours.run_base + 1
        member.one(Kind.RUN, handle << 1, number, dumps(((1, 2), {})))
        result = member.wait_for(lambda entry: entry.kind == Kind.RESULT)
        assert result.target == number and loads(result.payload) == 3


RULES: dict[str, Callable[[Member], object]] = {
    "a frame longer than any": lambda m: m.say(
        (0xFFFFFFFF).to_bytes(4, "big") + b"\x05" + bytes(40)
    ),
    "a frame shorter than its header": lambda m: m.say((3).to_bytes(4, "big") + bytes(40)),
    "an unknown frame": lambda m: m.say(bare(99, 0, 0)),  # type: ignore[arg-type]
    "a second OPEN": lambda m: m.say(bare(FrameType.OPEN, 2, 0)),
    "a batch out of order": lambda m: m.send([1, 1, 0, b""], number=7),
    "a batch twice": lambda m: (
        m.send([1, NOBODY, 0, b""]) and m.send([1, NOBODY, 0, b""], number=1)
    ),
    "an ack for what was never sent": lambda m: m.bare(FrameType.ACK, ack=1 << 60),
    "an unknown kind": lambda m: m.send([77, 1, 0, b""]),
    "kind zero": lambda m: m.one(0, 1, 0, b""),
    "a negative grant": lambda m: m.send([4, 1, -5, b""]),
    "a negative target": lambda m: m.send([1, -1, 0, b""]),
    "a number of another type": lambda m: m.send([1, b"1", 0, b""]),
    "an entry without a payload": lambda m: m.send([1, 1, 0]),
    "a payload that is a list": lambda m: m.send([1, 1, 0, [b""]]),
    "a map for a table": lambda m: m.say(frame_of(msgpack.packb({"a": 1}))),
    "bytes after the table": lambda m: m.say(frame_of(msgpack.packb([[1, 1, 0, b""]]) + b"\x00")),
    "a list too long": lambda m: m.send(*[[]] * 70_000),
    "a list said to be long": lambda m: m.say(frame_of(b"\xdd\xff\xff\xff\xff")),
    "a text": lambda m: m.send([1, 1, 0, "text"]),
    "nesting": lambda m: m.say(frame_of(b"\x91" * 2000)),
    "a grant without a size that can be": lambda m: [m.send([4, NOBODY, 1, b"", b""])],
    "a DOWN without an outcome": lambda m: m.one(Kind.DOWN, 1, 1, b""),
    "a notice that is no message": lambda m: m.one(Kind.NOTICE, 0, 0, b"\xc1"),
    "an announcement that is none": lambda m: m.one(Kind.BIG, 1, 0, b"\xc1"),
    "a big message of negative size": lambda m: m.one(
        Kind.BIG, NOBODY, 0, msgpack.packb([2, 0, None, [[1, -5]]])
    ),
    "a big message with a head that is none": lambda m: m.one(
        Kind.BIG, number_of_server(m), 0, msgpack.packb([2, 0, b"\xff\xff\xff\xff", [[1, 5]]])
    ),
    "a big message of one transfer twice": lambda m: m.one(
        Kind.BIG, 1, 5, msgpack.packb([2, 0, None, [[1, 5], [1, 5]]])
    ),
}


def frame_of(table: bytes) -> bytes:
    return (
        (len(table) + 20).to_bytes(4, "big")
        + b"\x05\x00\x00\x00"
        + bytes(7)
        + b"\x01"
        + bytes(8)
        + table
    )


@pytest.mark.parametrize("rule", RULES)
def test_who_breaks_a_rule_loses_the_connection_and_nobody_else_does(
    rule: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    said = len(server.err)
    with growth_below(server, 16 * MIB), Member.opened(server.port, shared.secret) as member:
        RULES[rule](member)
        assert member.ended(5.0), rule
    assert "bug in discoro" not in server.err[said:], server.err[said:]
    assert "Traceback" not in server.err[said:], server.err[said:]


def test_who_breaks_rules_again_and_again_loses_the_session(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as member:
        for _ in range(3):
            member.send([77, 1, 0, b""])
            assert member.ended()
            kind, answer = member.resume()
        assert kind == FrameType.RESET and answer.code == ResetCode.UNKNOWN


def test_a_run_number_outside_the_own_range_starts_nothing(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    """Numbers are chosen by who starts: nobody may take that of somebody else's coroutine."""
    with Member.opened(server.port, shared.secret) as member:
        handle = computation_of(member, jobs.add)
        hosting = number_of_server(member)
        assert member.ours is not None
        base = member.ours.run_base
        for number in (beside.number, hosting, 0, base, base + (1 << 40), (1 << 64) - 1):
            member.one(Kind.RUN, handle << 1, number, dumps(((1, 2), {})))
            word = member.word_of(number)
            assert word.kind == Kind.OUTCOME and word.source == 3, (number, word)
            assert "number" in str(decode_exception(word.payload))
        again = LocateMessage("coro", "discoro_server", False).encode()
        reply = decode(member.request(again).payload)
        assert isinstance(reply, Located) and reply.number == hosting


def test_a_run_number_is_used_once(shared: World, server: ServerProgram, beside: Any) -> None:
    with Member.opened(server.port, shared.secret) as member:
        handle = computation_of(member, jobs.wait)
        assert member.ours is not None
        number = member.ours.run_base + 1
        member.one(Kind.RUN, handle << 1, number, dumps(((), {})))
        member.one(Kind.RUN, handle << 1, number, dumps(((), {})))
        word = member.wait_for(lambda entry: entry.kind == Kind.OUTCOME)
        assert word.source == 3
        member.one(Kind.SEND, number, 0, dumps("for the first"))
        result = member.wait_for(lambda entry: entry.kind == Kind.RESULT)
        assert loads(result.payload) == "for the first"


def test_results_and_ends_of_what_nobody_asked_for_change_nothing(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as member:
        member.send(
            [Kind.RESULT, beside.number, 0, dumps("forged")],
            [Kind.OUTCOME, beside.number, 2, b"forged"],
            [Kind.STARTED, beside.number, 1 << 60, b""],
            [Kind.RECEIPT, 1, 0, b""],
            [Kind.GONE, beside.number, 0, b""],
            [Kind.GRANT, beside.number, 1 << 63, b""],
            [Kind.REPLY, 1, 0, b"\x91\x03"],
            [Kind.CANCEL, 5, 0, b""],
            [Kind.DEMONITOR, beside.number, 5, b""],
            [Kind.DOWN, beside.number, 5, b"\x00" + dumps("forged")],
        )
        assert number_of_server(member)  # it is there, and answers


def test_who_wakes_the_hosting_coroutine_does_not_end_it(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as member:
        target = number_of_server(member)
        member.one(Kind.WAKE, target, 0, dumps("up"))
        assert number_of_server(member) == target


@pytest.mark.parametrize(
    "between", ["at once", pytest.param("after hanging up", marks=pytest.mark.slow)]
)
def test_a_sender_without_a_grant_fills_no_memory(
    between: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    """It resumes as often as it is thrown out, and in one case hides its offences behind honest cuts."""
    value = dumps(bytes(900 * KIB))
    with Member.opened(server.port, shared.secret) as member:
        target = number_of_server(member)
        with growth_below(server, 48 * MIB):  # of 216 that are sent; what it takes ends at 40
            for _ in range(60):
                for _ in range(4):
                    member.one(Kind.SEND, target, 0, value)
                if not member.ended():
                    break
                kind, _ = member.resume()
                if kind == FrameType.RESET:
                    break
                if between == "after hanging up":
                    member.hang_up()
                    kind, _ = member.resume()
                    if kind == FrameType.RESET:
                        break


def test_big_messages_need_a_grant_as_well(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    head = bytes(4) + dumps(bytes(900 * KIB))
    payload = msgpack.packb([int(Kind.SEND), 0, head, []])
    with Member.opened(server.port, shared.secret) as member:
        target = number_of_server(member)
        with growth_below(server, 24 * MIB):
            for _ in range(40):
                if not member.one(Kind.BIG, target, 0, payload):
                    break
            assert member.ended()


def test_what_stands_behind_a_big_message_that_never_comes_needs_a_grant(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    value = dumps(bytes(900 * KIB))
    with Member.opened(server.port, shared.secret) as member:
        target = number_of_server(member)
        with growth_below(server, 24 * MIB):
            member.one(Kind.BIG, target, 5, msgpack.packb([int(Kind.SEND), 0, None, [[1, 9]]]))
            for _ in range(60):
                if not member.one(Kind.SEND, target, 5, value):
                    break
            assert member.ended()


def drown(member: Member, frame: bytes, seconds: float) -> int:
    """Write the same bytes for a while, never reading; return how many were taken."""
    member.sock.settimeout(1.0)
    taken, limit = 0, time.monotonic() + seconds
    block = frame * max(1, (64 * KIB) // len(frame))
    try:
        while time.monotonic() < limit:
            member.sock.sendall(block)
            taken += len(block)
    except OSError:
        pass
    return taken


def test_who_asks_for_pongs_and_never_reads_fills_no_memory(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as member, growth_below(server, 24 * MIB):
        drown(member, bare(FrameType.PING, 1, 0), 2.0)


def test_the_cheat_of_an_unbounded_number_of_requests_ends_its_session(
    own: World,
) -> None:
    """Answers to who never reads stand in memory up to a limit, and no further."""
    server = own.server(limits={"session_queue": 8 * MIB, "window": 1 * MIB})
    with Member.opened(server.port, own.secret) as member, growth_below(server, 48 * MIB):
        member.sock.settimeout(2.0)
        flood = [[int(Kind.DELIVER), NOBODY, 0, b"12345678"]] * 300
        while member.send(*flood):
            pass
        with pytest.raises((EOFError, TimeoutError)):
            while True:
                member.frame()
    assert "loses its session" in server.err


def test_requests_that_wait_for_ever_are_counted(own: World) -> None:
    server = own.server(limits={"max_requests": 100})
    with Member.opened(server.port, own.secret) as member:
        target = number_of_server(member)
        ask = LocateMessage("coro", "nobody", True).encode()
        member.send(*[[int(Kind.REQUEST), 0, 100 + n, ask] for n in range(150)])
        word = member.wait_for(lambda entry: entry.kind == Kind.REPLY and entry.target >= 100)
        assert word.source == 1 and "requests" in str(decode_exception(word.payload))
        member.send(*[[int(Kind.CANCEL), 100 + n, 0, b""] for n in range(150)])
        assert number_of_server(member) == target


def test_lists_of_lists_are_refused_before_they_are_memory(own: World) -> None:
    server = own.server()
    bomb = b"\x92\x04\xdc\x00\x10" + (b"\xdc\xff\xff" + b"\x90" * 65_535) * 15
    with Member.opened(server.port, own.secret) as member, growth_below(server, 24 * MIB):
        for _ in range(3):
            member.one(Kind.NOTICE, 0, 0, bomb)
            assert member.ended()
            if member.resume()[0] == FrameType.RESET:
                break


# --- sessions of others


def test_a_stolen_session_needs_its_key(shared: World, server: ServerProgram, beside: Any) -> None:
    with Member.opened(server.port, shared.secret) as victim:
        with Member(server.port, shared.secret) as thief:
            kind, answer = thief.resume(epoch=5, got=0, key=os.urandom(32), session=victim.session)
            assert kind == FrameType.RESET and answer.code == ResetCode.BAD_PROOF
            thief.session, thief.key = victim.session, os.urandom(32)
            assert thief.bulk() == FrameType.RESET
        assert number_of_server(victim)


def test_a_resume_said_again_on_another_connection_is_worth_nothing(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    from discoro.transport.handshake import resume_proof

    with Member.opened(server.port, shared.secret) as victim:
        victim.hang_up()
        victim.prove()
        proof = resume_proof(victim.key, victim.proof.transcript, 2, 0)
        victim.hang_up()
        with Member(server.port, shared.secret) as thief:
            kind, answer = thief.resume(epoch=2, got=0, session=victim.session, proof=proof)
            assert kind == FrameType.RESET and answer.code == ResetCode.BAD_PROOF
        assert victim.resume()[0] == FrameType.RESUMED
        assert number_of_server(victim)


def test_an_epoch_never_goes_back(shared: World, server: ServerProgram, beside: Any) -> None:
    with Member.opened(server.port, shared.secret) as member:
        assert member.resume(epoch=7)[0] == FrameType.RESUMED
        for epoch in (7, 6, 1, 0):
            kind, answer = member.resume(epoch=epoch)
            assert kind == FrameType.RESET and answer.code == ResetCode.OLD_EPOCH
            member.epoch = 7
        assert member.resume(epoch=8)[0] == FrameType.RESUMED
        assert number_of_server(member)


def test_a_claim_to_have_what_was_never_sent_ends_that_session(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as member:
        kind, answer = member.resume(got=1 << 40)
        assert kind == FrameType.RESET and answer.code == ResetCode.RANGE


@pytest.mark.parametrize("link", ["up", "cut", "up, and nothing was said yet"])
def test_nobody_takes_the_place_of_a_process_without_the_key_of_its_session(
    link: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as victim:
        if link != "up, and nothing was said yet":
            assert number_of_server(victim)
        if link == "cut":
            victim.hang_up()
        with Member(server.port, shared.secret, process=victim.process) as thief:
            kind, answer = thief.open()
            assert kind == FrameType.RESET and answer.code == ResetCode.HAVE_ONE
            session = answer.session
            for guess in (None, b"?" * 32, thief.key):
                thief.prove()
                thief.session = os.urandom(16)
                kind, answer = thief.open(instead=session, key=guess)
                assert kind == FrameType.RESET and answer.code == ResetCode.HAVE_ONE
                thief.prove()
                thief.session = session  # as if it were an OPEN whose answer was lost
                kind, answer = thief.open(key=guess)
                assert kind == FrameType.RESET and answer.code == ResetCode.HAVE_ONE
        if link == "cut":
            assert victim.resume()[0] == FrameType.RESUMED
        assert number_of_server(victim)


@pytest.mark.parametrize("link", ["up", "cut"])
def test_a_process_replaces_its_own_session_at_once(
    link: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    """It has lost it; the server could not know."""
    with Member.opened(server.port, shared.secret) as before:
        assert number_of_server(before)
        if link == "cut":
            before.hang_up()
        with Member(server.port, shared.secret, process=before.process) as after:
            kind, _ = after.open(instead=before.session, key=before.key)
            assert kind == FrameType.OPENED
            assert number_of_server(after)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_open_that_is_taken_back_leaves_no_session(
    at_once: bool, shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member(server.port, shared.secret) as hasty:
        who = Hello(process_id=hasty.process, name="hasty", run_base=1 << 40)
        wish, taken_back = Open(hasty.session, who).encode(1, LIMITS), bare(FrameType.CLOSE, 0, 0)
        hasty.say(wish + taken_back if at_once else wish)
        assert hasty.frame()[0] == FrameType.OPENED
        if not at_once:
            hasty.say(taken_back)
        assert hasty.ended()
        with Member(server.port, shared.secret, process=hasty.process) as again:
            assert again.open()[0] == FrameType.OPENED


def test_a_proof_for_one_connection_is_worth_nothing_on_another(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    with Member.opened(server.port, shared.secret) as victim:
        assert number_of_server(victim)
        victim.hang_up()
        with Member(server.port, shared.secret, process=victim.process) as thief:
            proof = open_proof(victim.key, os.urandom(32), victim.session)
            who = Hello(process_id=victim.process, name="thief")
            wish = Open(thief.session, who, b"", victim.session, proofs=(proof,))
            thief.say(wish.encode(1, LIMITS))
            kind, number, *_ = thief.frame()
            assert kind == FrameType.RESET and number == ResetCode.HAVE_ONE
        assert victim.resume()[0] == FrameType.RESUMED


def test_what_came_behind_a_big_message_that_never_did_is_not_lost_with_the_session(
    shared: World, server: ServerProgram, beside: Any
) -> None:
    """It was acknowledged: its sender takes it for delivered."""
    with Member.opened(server.port, shared.secret) as member:
        handle = computation_of(member, jobs.gather_messages)
        assert member.ours is not None
        number = member.ours.run_base + 1
        member.one(Kind.RUN, handle << 1 | 1, number, dumps(((2,), {})))  # detached
        member.wait_for(lambda entry: entry.kind == Kind.STARTED)
        member.one(Kind.BIG, number, 5, msgpack.packb([int(Kind.SEND), 0, None, [[1, 9]]]))
        member.one(Kind.SEND, number, 5, dumps("one"))
        member.one(Kind.SEND, number, 5, dumps("two"))
        member.wait_for_ack()
        member.bare(FrameType.CLOSE)
        assert member.ended()
    with Member.opened(server.port, shared.secret) as other:
        reply = decode(other.request(Finish(number).encode()).payload)
        assert isinstance(reply, Ended) and loads(reply.payload) == ["one", "two"]


# --- values that bite


class Biting:
    """Raises when it is unpickled."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"raise {self.kind}('bitten')",)


BITES = {
    "an error": pickle.dumps(Biting("ValueError")),
    "SystemExit": pickle.dumps(Biting("SystemExit")),
    "KeyboardInterrupt": pickle.dumps(Biting("KeyboardInterrupt")),
    "GeneratorExit": pickle.dumps(Biting("GeneratorExit")),
    "a missing module": b"\x80\x05\x8c\x0bno_such_mod\x8c\x01x\x93.",
    "a missing name": b"\x80\x05\x8c\x02os\x8c\x07no_such\x93.",
    "nothing": b"",
    "half a pickle": dumps(list(range(100)))[:-7],
    "an array that is not there": b"\xdd\x7f\xff\xff\xff",
    "arrays in arrays": b"\x91" * 60_000,
    "a memory that is not there": b"\x80\x05\x8d" + (1 << 62).to_bytes(8, "little") + b"x.",
    "a buffer that is not there": b"\x80\x05\x97.",
    "a persistent id": b"\x80\x05Pid\n.",
}


@pytest.mark.parametrize("bite", BITES)
def test_a_value_that_raises_is_an_error_of_that_call_alone(
    bite: str, shared: World, server: ServerProgram, beside: Any
) -> None:
    data = BITES[bite]
    with Member.opened(server.port, shared.secret) as member:
        handle = computation_of(member, jobs.wait)
        assert member.ours is not None
        number = member.ours.run_base + 1
        member.one(Kind.RUN, handle << 1, number, data)
        refused = member.wait_for(lambda entry: entry.kind == Kind.OUTCOME)
        assert refused.source == 3
        member.one(Kind.RUN, handle << 1, number + 1, dumps(((), {})))
        member.one(Kind.SEND, number + 1, 0, data)
        member.one(Kind.DELIVER, number + 1, 0, (5).to_bytes(8, "big") + data)
        receipt = member.wait_for(lambda entry: entry.kind == Kind.RECEIPT)
        assert receipt.source == 1
        member.one(Kind.WAKE, number + 1, 0, data)
        member.one(Kind.BIG, number + 1, 0, msgpack.packb([int(Kind.SEND), 0, bytes(4) + data, []]))
        member.one(Kind.SEND, number + 1, 0, dumps("good"))
        result = member.wait_for(lambda entry: entry.kind == Kind.RESULT)
        assert loads(result.payload) == "good"
        member.one(Kind.RUN, handle << 1, number + 2, dumps(((), {})))
        member.one(Kind.THROW, number + 2, 0, data)
        thrown = member.wait_for(
            lambda entry: entry.target == number + 2 and entry.kind == Kind.OUTCOME
        )
        assert thrown.source == 1
    assert server.process.poll() is None


# --- anything


def mutated(chance: random.Random, entry: list[Any]) -> list[Any]:
    entry = list(entry)
    at = chance.randrange(len(entry))
    entry[at] = chance.choice(
        [
            0,
            1,
            2**32,
            2**63,
            2**64 - 1,
            NOBODY,
            b"",
            os.urandom(9),
            chance.randrange(30),
            -1,
            "t",
            None,
            [],
            {},
        ]
    )
    return entry


def ends_hosting(table: bytes, number: int) -> bool:
    """Whether a table terminates the coroutine that hosts computations, or throws into it."""
    try:
        entries = msgpack.unpackb(table)
        return any(one[0] in (Kind.TERMINATE, Kind.THROW) and one[1] == number for one in entries)
    except Exception:
        return False


@pytest.mark.parametrize(
    "count", [150, pytest.param(10_000, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)
def test_fuzzed_frames_end_at_most_their_own_session(
    count: int, shared: World, server: ServerProgram, beside: Any
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    member = Member.opened(server.port, shared.secret)
    target = number_of_server(member)
    # A session whose member has hung up is kept for 75 s, in about 10 KiB: it may come back.
    with growth_below(server, (32 if count < 1000 else 128) * MIB):
        for _ in range(count):
            kind = chance.randrange(1, 21)
            entry = [
                kind,
                chance.choice([target, NOBODY, 0]),
                chance.randrange(9),
                dumps(chance.random()),
            ]
            table = bytearray(msgpack.packb([mutated(chance, entry)], use_bin_type=True))
            if chance.random() < 0.3:
                table[chance.randrange(len(table))] ^= 1 << chance.randrange(8)
            head = (len(table) + 20).to_bytes(4, "big") + bytes(
                [chance.choice([5, 5, 5, 7, 6, 8, 99])]
            )
            if ends_hosting(bytes(table), target):
                continue  # everybody may
            member.number += 1
            frame = head + bytes(3) + member.number.to_bytes(8, "big") + bytes(8) + table
            if not member.say(frame) or member.ended(0.002):
                member.hang_up()
                member = Member.opened(server.port, shared.secret)
    member.hang_up()
    assert server.process.poll() is None, f"seed {seed}"

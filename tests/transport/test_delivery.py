"""Numbers, kept frames, acks and replay; how entries become batches."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from discoro.transport.delivery import Inbox, Outbox, Sending
from discoro.transport.errors import FrameTooBig, ProtocolError
from discoro.transport.frames import HEADER, BatchCoder, FrameType, Kind
from discoro.transport.limits import Limits
from tests.transport.pairs import SMALL, Shell, make_session


def box(*frames: bytes) -> Outbox:
    outbox = Outbox()
    for frame in frames:
        outbox.keep(frame)
    outbox.validate()
    return outbox


def test_an_ack_frees_everything_up_to_its_number() -> None:
    outbox = box(b"1", b"22", b"333")
    assert (outbox.first, outbox.last, outbox.kept_bytes) == (1, 3, 6)
    outbox.acknowledged(2)
    outbox.validate()
    assert outbox.frames() == [b"333"] and outbox.first == 3
    outbox.acknowledged(3)
    assert outbox.frames() == [] and outbox.kept_bytes == 0
    outbox.validate()


def test_what_was_not_written_cannot_be_acknowledged() -> None:
    outbox = box(b"1", b"2")
    with pytest.raises(ProtocolError):
        outbox.acknowledged(3)
    outbox.restart(0)
    with pytest.raises(ProtocolError):
        outbox.acknowledged(1)  # kept, but not written on this link yet
    outbox.next_again(1000)
    outbox.acknowledged(2)


def test_a_new_link_begins_where_the_peer_stopped() -> None:
    outbox = box(b"1", b"22", b"333")
    outbox.restart(1)
    outbox.validate()
    assert outbox.behind and outbox.next_again(1000) == [b"22", b"333"]
    assert not outbox.behind and outbox.written == 3


@pytest.mark.parametrize("received", [-1, 0, 4, 2**64 - 1])
def test_a_link_to_a_peer_that_cannot_be_ours_is_refused_and_changes_nothing(received: int) -> None:
    outbox = box(b"1", b"22", b"333")
    outbox.acknowledged(1)
    with pytest.raises(ProtocolError):
        outbox.restart(received)
    outbox.validate()
    assert outbox.frames() == [b"22", b"333"] and not outbox.behind


def test_replay_is_paced_by_the_peers_acks() -> None:
    outbox = box(*[b"x" * 100] * 10)
    outbox.restart(0)
    assert len(outbox.next_again(350)) == 3
    assert outbox.next_again(350) == []
    outbox.acknowledged(2)
    assert len(outbox.next_again(350)) == 2
    outbox.validate()


def test_a_frame_longer_than_the_pace_goes_alone() -> None:
    outbox = box(b"x" * 500, b"y" * 500)
    outbox.restart(0)
    assert outbox.next_again(350) == [b"x" * 500]
    assert outbox.next_again(350) == []


@pytest.mark.parametrize("number", [0, 1, 3, 2**64 - 1])
def test_only_the_next_batch_is_taken(number: int) -> None:
    inbox = Inbox()
    inbox.take(1, 10)
    with pytest.raises(ProtocolError):
        inbox.take(number, 10)
    inbox.take(2, 10)
    assert inbox.told() == 2 and inbox.owed == 0
    inbox.validate()


def test_messages_of_one_turn_are_one_frame_and_runs_share_an_entry() -> None:
    frames: list[bytes] = []
    session = make_session(limits=Limits())
    session.attach(frames.append, 1, 0, 0.0)
    for _ in range(3):
        session.send(1, 7, 9, b"m")
    for number in range(3):
        session.send(2, 4, 100 + number, b"r")
    for _ in range(3):
        session.send(4, 7, 5, b"")
    session.flush()
    assert len(frames) == 1 and frames[0][4] == FrameType.BATCH
    entries = BatchCoder(Limits()).decode(memoryview(frames[0])[HEADER.size :], 0)
    assert [(kind, len(payloads)) for kind, _, _, payloads in entries] == [
        (1, 3),
        (2, 3),
        (4, 1),
        (4, 1),
        (4, 1),
    ]


def test_the_short_way_of_one_message_writes_what_the_coder_writes() -> None:
    """The folded form against its plain twin."""
    limits = Limits()
    coder = BatchCoder(limits)
    for kind, size in [
        (1, 0),
        (1, 30),
        (19, 1023),
        (1, 1024),
        (5, 70_000),
        (1, limits.max_payload),
    ]:
        frames: list[bytes] = []
        session = make_session(limits=limits)
        session.attach(frames.append, 1, 0, 0.0)
        session.send(kind, 7, 2**64 - 1, b"x" * size)
        session.flush()
        assert frames == [coder.encode(1, 0, [[kind, 7, 2**64 - 1, b"x" * size]], [])]
        assert frames[0][4] == FrameType.ONE
        assert session.outbox.frames() == frames


def test_a_batch_is_closed_at_its_size_and_asks_for_the_end_of_the_turn() -> None:
    frames: list[bytes] = []
    shell = Shell()
    session = make_session(limits=Limits(), shell=shell)
    session.attach(frames.append, 1, 0, 0.0)
    for _ in range(200):
        session.send(1, 7, 9, bytes(1000))
    assert shell.full == len(frames) == 3
    assert all(len(frame) < 67_000 for frame in frames)
    for _ in range(1000):
        session.send(1, 7, 9, b"small")
    assert shell.full == len(frames) == 5, "small messages are counted as well as weighed"
    del frames[:2]
    session.send(5, 7, 9, bytes(1 << 20))
    assert len(frames[3]) < 67_000, "a long message does not make the batch before it longer"
    assert len(frames[4]) > 1 << 20
    session.validate()


def test_a_payload_beyond_the_limit_is_refused_and_nothing_is_queued() -> None:
    session = make_session()
    with pytest.raises(FrameTooBig):
        session.send(1, 7, 9, bytes(SMALL.max_payload + 1))
    assert session.idle
    session.send(1, 7, 9, bytes(SMALL.max_payload))


def test_a_longest_batch_stays_within_the_frame_limit() -> None:
    limits = Limits()
    frames: list[bytes] = []
    session = make_session(limits=limits)
    session.attach(frames.append, 1, 0, 0.0)
    for number in range(2700):
        session.send(9, number, 0, b"")
    session.send(1, 7, 9, bytes(limits.max_payload))
    session.flush()
    assert max(map(len, frames)) <= limits.max_frame + 4
    for frame in frames:
        assert BatchCoder(limits).entries_of(frame)


def test_what_waits_for_the_window_goes_when_acks_come() -> None:
    frames: list[bytes] = []
    session = make_session()
    session.attach(frames.append, 1, 0, 0.0)
    for _ in range(40):
        session.send(1, 7, 9, bytes(90))
    session.flush()
    assert session.congested and session.outbox.kept_bytes >= SMALL.window
    assert not session._flowing
    written = len(frames)
    session.outbox.acknowledged(written)
    session._pump()
    assert len(frames) > written
    session.validate()


def test_a_write_that_raises_breaks_the_link_and_loses_nothing() -> None:
    def write(data: bytes) -> None:
        raise RuntimeError("handler is closed")

    shell = Shell()
    session = make_session(shell=shell)
    session.attach(write, 1, 0, 0.0)
    session.send(1, 7, 9, b"x")
    session.flush()
    assert len(shell.broken) == 1 and len(session.unacknowledged()) == 1


@pytest.mark.parametrize("length", [10, 2_000, 70_000])
def test_what_a_finalizer_sends_in_the_midst_of_sending_comes_whole_and_in_its_place(
    length: int, request: pytest.FixtureRequest
) -> None:
    """The garbage collector runs at the k-th allocation, and what it collects sends: in every line that allocates."""
    payload = bytes(length)
    gc.collect()
    gc.freeze()  # so that each of many collections takes no time
    request.addfinalizer(gc.unfreeze)
    for after in range(1, 160):
        frames: list[bytes] = []
        sending = Sending(Limits(), BatchCoder(Limits()), Turns())
        sending._write, sending._flowing = frames.append, True
        expected = {7: [(4, b"%d" % number + payload[:2000]) for number in range(60)], 9: []}

        class Last:
            def __init__(self, sending: Sending, sent: list[Any]) -> None:
                self.sending, self.sent, self.me = sending, sent, self

            def __del__(self) -> None:
                for number in range(3):
                    self.sending.send(Kind.SEND, 9, 5, b"%d" % number + payload)
                    self.sent.append((5, b"%d" % number + payload))

        gc.collect()
        Last(sending, expected[9])
        usual = gc.get_threshold()
        gc.disable()
        gc.set_threshold(gc.get_count()[0] + after, 1000, 1000)
        try:
            gc.enable()
            for source, data in expected[7]:
                sending.send(Kind.SEND, 7, source, data)
            sending.flush()
        finally:
            gc.set_threshold(*usual)
            gc.enable()
        gc.collect()
        sending.flush()
        sending.validate()
        entries = [one for frame in frames for one in BatchCoder(Limits()).entries_of(frame)]
        came = {7: [], 9: []}  # type: ignore[var-annotated]
        for one in entries:
            came[one.target].append((one.source, one.payload))
        assert came == expected, f"a collection at allocation {after}"
        numbers = [int.from_bytes(frame[8:16], "big") for frame in frames]
        assert numbers == list(range(1, len(frames) + 1))


class Turns:
    """An outlet whose turns the test ends itself."""

    def flush_later(self, sending: Any) -> None: ...

    def batch_full(self) -> None: ...

    def link_broken(self, sending: Any, error: Exception) -> None:
        raise error

    def overfull(self, sending: Any) -> None: ...

    def future(self) -> Any: ...

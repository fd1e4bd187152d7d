"""The pump: one buffer for all links of a loop, long frames in a buffer of their own, ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from discoro.transport.errors import ProtocolError
from discoro.transport.frames import FrameType, bare
from discoro.transport.limits import Limits
from discoro.transport.link import Link, ReceiveBuffer
from discoro.transport.session import Session
from tests.transport.pairs import make_session

LIMITS = Limits()


class Owner:
    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.gone: list[Link] = []

    def link_lost(self, link: Link, error: Exception | None) -> None:
        assert link.session is not None
        link.session.detach(0.0, error)
        self.lost.append(error)

    def link_gone(self, link: Link) -> None:
        self.gone.append(link)


class Transport:
    """As much of a transport as a link wants."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")

    def get_extra_info(self, name: str) -> Any:
        return name


class Bench:
    """A link and the peer whose bytes it reads."""

    def __init__(self, buffer: ReceiveBuffer | None = None) -> None:
        self.got: list[bytes] = []
        self.reads = 0
        self.owner, self.transport = Owner(), Transport()
        self.session = make_session(
            limits=LIMITS, handler=lambda *entry: self.got.append(bytes(entry[-1]))
        )
        self.session.attach(self.transport.write, 1, 0, 0.0)
        self.link = Link(
            self.session,
            cast(asyncio.Transport, self.transport),
            buffer or ReceiveBuffer(LIMITS.receive_buffer),
            self.owner,
            self.after_read,
        )
        self.peer: Session = make_session(limits=LIMITS)
        self.frames: list[bytes] = []
        self.peer.attach(self.frames.append, 1, 0, 0.0)

    def after_read(self) -> None:
        self.reads += 1

    def frame(self, *payloads: bytes) -> bytes:
        for payload in payloads:
            self.peer.send(1, 7, 9, payload)
        self.peer.flush()
        data = b"".join(self.frames)
        self.frames.clear()
        return data

    def read(self, data: bytes) -> None:
        """What a loop does: fill the buffer, say how much."""
        while data:
            view = self.link.get_buffer(-1)
            assert len(view), "nothing would ever arrive where there is no room"
            size = min(len(view), len(data))
            view[:size] = data[:size]
            data = data[size:]
            self.link.buffer_updated(size)


def test_links_share_one_buffer_and_keep_their_own_tails() -> None:
    buffer = ReceiveBuffer(LIMITS.receive_buffer)
    one, other = Bench(buffer), Bench(buffer)
    first, second = one.frame(b"for one", b"x" * 2000), other.frame(b"for the other", b"y" * 3000)
    for start in range(0, len(second), 100):
        one.read(first[start : start + 100])
        other.read(second[start : start + 100])
    assert one.got == [b"for one", b"x" * 2000]
    assert other.got == [b"for the other", b"y" * 3000]
    assert one.reads > 5


@pytest.mark.parametrize("size", [100_000, 131_000, 132_000, 262_000, 263_000, LIMITS.max_payload])
@pytest.mark.parametrize("piece", [1000, 65_537, 1 << 30])
def test_a_frame_of_any_length_arrives_in_any_pieces(size: int, piece: int) -> None:
    bench = Bench()
    data = bench.frame(b"before") + bench.frame(b"z" * size) + bench.frame(b"after")
    for start in range(0, len(data), piece):
        bench.read(data[start : start + piece])
    assert [len(one) for one in bench.got] == [6, size, 5]
    assert bench.link._tail == b"" and bench.link._long is None


def test_the_memory_for_a_long_frame_is_taken_after_its_length_was_checked() -> None:
    bench = Bench()
    bench.read(b"\x7f\xff\xff\xff" + bytes(20))
    assert bench.link._long is None
    assert isinstance(bench.owner.lost[0], ProtocolError) and bench.transport.calls == ["abort"]


def test_bytes_after_a_drop_are_not_parsed() -> None:
    bench = Bench()
    data = bench.frame(b"late")
    bench.link.drop(None)
    bench.read(data)
    assert not bench.got and bench.owner.lost == [None] and bench.transport.calls == ["abort"]


def test_a_long_frame_that_is_malformed_drops_the_link() -> None:
    bench = Bench()
    bench.read((300_000).to_bytes(4, "big") + b"\x05" + bytes(11) + bytes(300_000 - 12))
    assert isinstance(bench.owner.lost[0], ProtocolError)


def test_reading_flushes_what_the_handlers_have_answered_in_one_write() -> None:
    bench = Bench()
    bench.read(bare(FrameType.PING, 5, 0))
    assert bench.transport.written == bare(FrameType.PONG, 5, 0)
    bench.session.send(1, 1, 1, b"x")
    bench.read(bare(FrameType.ACK, 0, 0))
    assert len(bench.transport.written) == 24 + 41


def test_the_end_of_a_connection_is_told_once() -> None:
    bench = Bench()
    error = ConnectionResetError()
    bench.link.connection_lost(error)
    assert bench.owner.lost == [error] and bench.owner.gone == [bench.link]
    dropped = Bench()
    dropped.link.drop(None)
    dropped.link.connection_lost(None)
    assert dropped.owner.lost == [None] and dropped.owner.gone == [dropped.link]
    released = Bench()
    released.link.release()
    released.link.connection_lost(None)
    assert released.owner.lost == [] and released.transport.calls == ["close"]


def test_eof_cuts_the_link_at_once() -> None:
    bench = Bench()
    assert not bench.link.eof_received()
    assert bench.owner.lost == [None] and bench.transport.calls == ["abort"]


def test_a_link_that_has_enough_to_write_holds_its_session_back() -> None:
    bench = Bench()
    bench.link.pause_writing()
    bench.session.send(1, 1, 1, b"x")
    bench.session.flush()
    assert bench.transport.written == b"" and bench.session.outbox.last == 0
    bench.link.resume_writing()
    assert len(bench.transport.written) == 41
    bench.link.release()
    bench.link.pause_writing()
    bench.link.resume_writing()


def test_bytes_read_before_there_was_a_session_are_fed_in() -> None:
    bench = Bench()
    bench.link.feed(bench.frame(b"a" * 200_000) + bench.frame(b"b"))
    assert [len(one) for one in bench.got] == [200_000, 1]

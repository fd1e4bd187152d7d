"""First frames, through and back; what a proved peer may send wrong."""

from __future__ import annotations

from typing import Any

import pytest

from discoro.transport import codec
from discoro.transport.errors import ControlError, ProtocolError, SessionClosed
from discoro.transport.frames import HEADER, FrameType, Hello, ResetCode
from discoro.transport.greeting import (
    Open,
    Reset,
    claim,
    opened,
    read_claim,
    read_opened,
    read_proof,
)
from discoro.transport.limits import Limits

LIMITS = Limits()
HELLO = Hello(process_id=bytes(16), name="me")


def test_an_open_comes_back_as_it_went() -> None:
    wish = Open(b"s" * 16, HELLO, b"e" * 16, b"i" * 16, (b"f" * 16,), (b"p" * 32, b"q" * 32))
    frame = wish.encode(3, LIMITS)
    assert HEADER.unpack_from(frame)[1:5] == (FrameType.OPEN, 0, 0, 3)
    assert Open.decode(frame[HEADER.size :], LIMITS) == wish
    assert read_opened(opened(3, 0, HELLO, LIMITS)[HEADER.size :], LIMITS) == HELLO


@pytest.mark.parametrize(
    "change",
    [
        {"session": b"short"},
        {"session": "x" * 16},
        {"expect": b"short"},
        {"instead": b"short"},
        {"fresh": "x"},
        {"fresh": [5]},
        {"proofs": "x"},
        {"proofs": [b"short"]},
        {"proofs": [b"p" * 32] * 17},
        {"hello": None},
        {"hello": []},
    ],
)
def test_an_open_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    body = codec.decode(Open(b"s" * 16, HELLO).encode(1, LIMITS)[HEADER.size :], LIMITS)
    with pytest.raises(ControlError):
        Open.decode(codec.encode({**body, **change}, LIMITS), LIMITS)
    with pytest.raises(ProtocolError):
        Open.decode(b"\xc1", LIMITS)


def test_a_claim_is_an_id_and_a_proof_of_exactly_their_lengths() -> None:
    frame = claim(FrameType.RESUME, 5, 9, b"s" * 16, b"p" * 32)
    assert HEADER.unpack_from(frame)[1:] == (FrameType.RESUME, 0, 0, 5, 9)
    assert read_claim(frame[HEADER.size :]) == (b"s" * 16, b"p" * 32)
    for size in (0, 47, 49):
        with pytest.raises(ProtocolError):
            read_claim(bytes(size))
    for size in (0, 31, 33):
        with pytest.raises(ProtocolError):
            read_proof(bytes(size))


def test_a_reset_comes_back_as_it_went_and_means_a_loss() -> None:
    for reset in (
        Reset(ResetCode.ENDED, text="ended by signal 11"),
        Reset(ResetCode.HAVE_ONE, process=b"p" * 16, session=b"s" * 16),
        Reset(ResetCode.BUSY, retry_in=2.5),
        Reset(ResetCode.CLOSED),
    ):
        frame = reset.encode(LIMITS)
        assert Reset.decode(HEADER.unpack_from(frame)[4], frame[HEADER.size :], LIMITS) == reset
    assert Reset(ResetCode.ENDED, text="ended by signal 11").as_loss().ended == "ended by signal 11"
    assert isinstance(Reset(ResetCode.CLOSED).as_loss(), SessionClosed)
    unknown = Reset(ResetCode.UNKNOWN, process=b"new", text="ended by signal 9")
    assert "restarted" in str(unknown.as_loss(b"old")) and unknown.as_loss(b"old").ended
    assert "given the session up" in str(unknown.as_loss(b"new"))
    assert unknown.as_loss(b"new").ended is None, (
        "the one before it had nothing to do with this session"
    )
    with pytest.raises(ProtocolError):
        Reset.decode(99, b"\x80", LIMITS)
    with pytest.raises(ProtocolError):
        Reset.decode(1, b"\x81\xa4text\x05", LIMITS)


def test_a_peer_cannot_make_us_wait_for_days() -> None:
    frame = Reset(ResetCode.BUSY, retry_in=1e9).encode(LIMITS)
    assert Reset.decode(ResetCode.BUSY, frame[HEADER.size :], LIMITS).retry_in == 60.0

"""Outcomes between processes, and those that are kept."""

from __future__ import annotations

import threading

import pytest

from discoro.errors import NoSuchCoro, NotPicklable, Terminated
from discoro.outcomes import (
    FAILED,
    NO_SUCH,
    RETURNED,
    TERMINATED,
    KeptOutcomes,
    decode_outcome,
    encode_outcome,
)
from discoro.scheduler.outcome import Failed, Returned, Stopped


def test_each_outcome_comes_back() -> None:
    assert decode_outcome(*encode_outcome(Returned([1, "a"]))) == Returned([1, "a"])
    assert decode_outcome(*encode_outcome(Stopped("asked to"))) == Stopped("asked to")
    code, payload = encode_outcome(Failed(ValueError("no"), ""))
    assert code == FAILED
    with pytest.raises(ValueError, match="no"):
        decode_outcome(code, payload).result()


def test_a_value_that_cannot_be_sent_becomes_the_failure_to_send_it() -> None:
    code, payload = encode_outcome(Returned(threading.Lock()))
    assert code == FAILED
    with pytest.raises(NotPicklable, match="lock"):
        decode_outcome(code, payload).result()


def test_bytes_that_are_none_become_a_failure() -> None:
    for code in (RETURNED, FAILED, TERMINATED, NO_SUCH, 77):
        for data in (b"", b"\xff\xfe", b"\x80\x05."):
            outcome = decode_outcome(code, data)
            if code == TERMINATED:
                with pytest.raises(Terminated):
                    outcome.result()
            else:
                with pytest.raises(Exception):  # noqa: B017  # which one depends on the bytes
                    outcome.result()
    with pytest.raises(NoSuchCoro):
        decode_outcome(NO_SUCH, b"").result()


def test_the_newest_outcomes_are_kept_and_only_for_a_while() -> None:
    kept = KeptOutcomes(most=3, seconds=10.0)
    for number in range(5):
        kept.keep(number, Returned(number), now=float(number))
    assert [kept.find(number, 4.0) for number in range(5)] == [
        None,
        None,
        Returned(2),
        Returned(3),
        Returned(4),
    ]
    assert kept.find(2, 12.5) is None
    assert len(kept) == 2
    assert kept.find(4, 13.9) == Returned(4)

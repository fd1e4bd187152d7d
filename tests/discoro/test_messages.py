"""Control messages: what is encoded comes back, and nothing else is taken."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro import messages
from discoro.transport import codec
from discoro.transport.errors import ControlError
from discoro.transport.limits import Limits

KINDS = [
    value
    for value in vars(messages).values()
    if isinstance(value, type)
    and issubclass(value, messages.Message)
    and dataclasses.is_dataclass(value)
]
VALUES: dict[type, Any] = {
    int: st.integers(0, 2**63 - 1),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    list: st.lists(st.integers(0, 9), max_size=3),
    type(None): st.none(),
}


@st.composite
def any_message(draw: Any) -> messages.Message:
    kind = draw(st.sampled_from(KINDS))
    accepted = messages._FIELDS[kind]
    fields = [draw(st.one_of([VALUES[one] for one in types])) for types in accepted.values()]
    made: messages.Message = kind(*fields)
    return made


@given(any_message())
@settings(deadline=None)
def test_a_message_comes_back_as_it_was(message: messages.Message) -> None:
    assert messages.decode(message.encode()) == message
    assert messages.decode(memoryview(message.encode())) == message


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_other_bytes_are_a_control_error_or_a_message(data: bytes) -> None:
    try:
        assert isinstance(messages.decode(data), messages.Message)
    except ControlError:
        pass


def test_wrong_tags_counts_and_types_are_told() -> None:
    for parts, words in (
        ([], "begins with its tag"),
        ([0], "unknown tag 0"),
        (["x"], "begins with its tag"),
        ([True], "begins with its tag"),
        ([10], "Finish has 1 fields, 0 came"),
        ([10, 1, 2], "Finish has 1 fields, 2 came"),
        ([10, "x"], "Finish.number is a str"),
        ([10, True], "Finish.number is a bool"),
        ([10, None], "Finish.number is a NoneType"),
        ({"a": 1}, "array"),
    ):
        with pytest.raises(ControlError, match=words):
            messages.decode(codec.encode(parts, Limits()))


def test_a_message_may_be_longer_than_a_batch() -> None:
    message = messages.Ended(0, bytes(3 << 20))
    assert messages.decode(message.encode()) == message

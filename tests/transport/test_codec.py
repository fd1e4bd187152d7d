"""Control data: a closed vocabulary with limits, in both directions."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.codec import decode, encode, field
from discoro.transport.errors import ControlError
from discoro.transport.limits import Limits

LIMITS = Limits()
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_control_data_comes_back_as_it_went(value: Any) -> None:
    assert decode(encode(value, LIMITS), LIMITS) == value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {b"key": 2},
        {1, 2},
        object(),
        2**64,
        -(2**63) - 1,
        "\ud800",
        bytearray(b"x"),
        msgpack.ExtType(1, b"x"),
        nested(LIMITS.control_depth + 1),
        [0] * (LIMITS.control_items + 1),
        bytes(LIMITS.max_payload),
    ],
)
def test_what_is_outside_the_vocabulary_does_not_go_out(value: Any) -> None:
    with pytest.raises(ControlError):
        encode(value, LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0\xc0",
        b"\x81\x01\x02",
        b"\x81\xc4\x01k\x02",
        b"\xd4\x01x",
        b"\xd6\xff\0\0\0\0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xa1\xff",
        b"\x91" * 100 + b"\xc0",
        b"\x91" * 5000 + b"\xc0",
        b"\xdd\x00\x01\x00\x01" + b"\xc0" * 65537,
        b"\xc0" * (LIMITS.max_payload + 1),
    ],
)
def test_what_is_outside_the_vocabulary_does_not_come_in(data: bytes) -> None:
    with pytest.raises(ControlError):
        decode(data, LIMITS)


def test_at_the_limits_it_still_works() -> None:
    for value in (nested(LIMITS.control_depth), [0] * LIMITS.control_items):
        assert decode(encode(value, LIMITS), LIMITS) == value


def test_a_field_has_its_type_or_its_default() -> None:
    data = {"a": 1, "b": "x", "c": True}
    assert field(data, "a", int) == 1
    assert field(data, "z", str, "there") == "there"
    for wrong in (
        lambda: field(data, "b", int),
        lambda: field(data, "c", int),
        lambda: field(data, "z", int),
    ):
        with pytest.raises(ControlError):
            wrong()
    with pytest.raises(ControlError):
        field([], "a", int)

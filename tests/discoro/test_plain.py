"""Flat values as msgpack: what arrives is what was sent, or it is pickled."""

from __future__ import annotations

import enum
import gc
import pickle
from collections import OrderedDict
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoro.shipping import plain
from discoro.shipping.errors import UndecodableValue
from discoro.shipping.plain import FEW, PICKLED, SHORT, packed, packed_arguments
from discoro.shipping.values import dumps, loads, loads_each


class Word(str):
    pass


class Number(int):
    pass


class Colour(enum.IntEnum):
    RED = 1


def same(one: Any, other: Any) -> bool:
    """Equal, in their types too, down to the sign of a zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return repr(one) == repr(other) and (one == other or one != one)


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.characters(categories=["Cs"]),  # half of a surrogate pair: no text that UTF-8 could hold
    st.binary(),
    st.binary().map(bytearray),
    st.sampled_from([Word("a"), Number(1), Colour.RED, numpy.float64(1.5), numpy.int64(3)]),
)
keys = st.one_of(atoms, st.tuples(atoms), st.frozensets(st.integers())).filter(
    lambda key: (
        not isinstance(key, bytearray)
        and not (isinstance(key, tuple) and bytearray in map(type, key))
    )
)
values = st.one_of(
    atoms,
    st.tuples(atoms, atoms),
    st.lists(atoms, max_size=12),
    st.lists(atoms, max_size=12).map(tuple),
    st.dictionaries(keys, atoms, max_size=12),
    st.dictionaries(st.text(), st.lists(atoms), max_size=3),
    st.dictionaries(st.text(), atoms, max_size=3).map(OrderedDict),
)


@given(values)
def test_what_arrives_is_what_was_sent(value: Any) -> None:
    data = dumps(value)
    assert same(loads(data), value)
    assert loads_each([data], None, pytest.fail)[0].__class__ is value.__class__


@given(st.lists(values, max_size=6))
def test_many_messages_arrive_as_each_would_alone(sent: list[Any]) -> None:
    payloads = [dumps(value) for value in sent]
    came = loads_each(payloads, None, pytest.fail)
    assert len(came) == len(sent)
    assert all(same(one, loads(payload)) for one, payload in zip(came, payloads, strict=True))


@given(st.lists(st.one_of(values.map(dumps), st.binary(max_size=6)), min_size=1, max_size=6))
def test_a_damaged_message_among_many_is_left_out_alone(payloads: list[bytes]) -> None:
    """Save where pieces of several are whole values together, as many as there are messages: the sender's fault alone."""
    failures: list[Exception] = []
    came = loads_each(payloads, None, failures.append)
    assert len(came) + len(failures) == len(payloads)
    assert all(type(error) is UndecodableValue for error in failures)
    if failures:
        good = [payload for payload in payloads if decodable(payload)]
        assert len(good) == len(came)
        assert all(same(one, loads(payload)) for one, payload in zip(came, good, strict=True))


def decodable(payload: bytes) -> bool:
    try:
        loads(payload)
    except UndecodableValue:
        return False
    return True


@given(st.lists(atoms, max_size=10).map(tuple), st.dictionaries(st.text(), atoms, max_size=10))
def test_arguments_too(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    data = packed_arguments(args, kwargs)
    if data is not None:
        assert same(loads(data), (args, kwargs) if kwargs else (args,))


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63,
        None,
        True,
        1.5,
        "",
        "é" * SHORT,
        (1, "a"),
        {"a": 1},
        {1: 2},
    ],
)
def test_flat_and_small_values_are_packed(value: Any) -> None:
    data = packed(value)
    assert data is not None and data[0] != PICKLED
    assert same(loads(data), value)
    assert len(data) < len(pickle.dumps(value, 5))


@pytest.mark.parametrize(
    "value",
    [
        *({}, (), [], [1], {"a": [1]}, {"a": (1,)}, (("a",),), {"a": b"b"}, b"b"),
        *({(1, 2): 3}, {Word("a"): 1}, {Colour.RED: 1}, {"a": Colour.RED}, OrderedDict(a=1)),
        *(2**64, -(2**63) - 1, (1, 2**70), {"a": 2**70}, {2**70: 1}),
        *("a" * (SHORT + 1), ("a" * (SHORT + 1),), {"a": "a" * (SHORT + 1)}),
        *("\ud800", ("\ud800",), {"a": "\ud800"}, {"\ud800": 1}),
        *(tuple(range(FEW + 1)), dict.fromkeys(range(FEW + 1))),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_all_others_are_pickled(value: Any) -> None:
    assert packed(value) is None
    data = dumps(value)
    assert data[0] == PICKLED
    assert same(loads(data), value)
    assert packed({"a": 1}) == b"\x81\xa1a\x01"  # nothing of it is left in the packer


@pytest.mark.parametrize("args", [([1],), ((1,),), (b"b",), tuple(range(FEW + 1)), (2**70,)])
def test_arguments_that_are_not_flat_are_pickled(args: tuple[Any, ...]) -> None:
    assert packed_arguments(args, {}) is None
    assert packed_arguments((1,), {"a": args}) is None
    assert packed_arguments((1,), {"a": args[-1]}) is None or args == tuple(range(FEW + 1))


@pytest.mark.parametrize(
    "failing", [{"a": 1, "b": 2**70}, {"a": 1, "b": "\ud800"}, {"a": 1, (): 2}]
)
def test_what_is_packed_while_something_cannot_be_packed_is_whole(failing: Any) -> None:
    """The error is an object; making it can start the garbage collector (3.11), and that a finalizer which sends."""
    found: list[bytes | None] = []

    class Sends:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            found.append(packed({"b": 2}))

    before = gc.get_threshold()
    try:
        for first in range(1, 30):  # so that a collection falls into the middle of packing
            Sends()
            gc.set_threshold(first, 1, 1)
            assert packed(failing) is None
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(found) == 29
    assert set(found) <= {b"\x81\xa1b\x02", None}


@given(st.binary(max_size=40))
def test_bytes_of_somebody_elses_are_a_value_or_an_error_of_one_kind(data: bytes) -> None:
    if data[:1] == bytes([PICKLED]):
        return  # a pickle may do anything
    try:
        loads(data)
    except UndecodableValue:
        pass


def test_what_is_read_is_bounded_by_its_own_length() -> None:
    """A length that is announced and not there costs nothing: neither of an array nor of a string."""
    for head in (
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
        b"\x91" * 5000,
    ):
        with pytest.raises(UndecodableValue):
            loads(head)
    assert plain.unpacked(b"\x91" * 3 + b"\xc0") == (((None,),),)


def test_a_message_that_would_end_the_process_ends_itself_alone_also_among_others() -> None:
    exits = b"\x80\x04csys\nexit\n)R."
    failures: list[Exception] = []
    assert loads_each([dumps(1), exits, dumps([2])], None, failures.append) == [1, [2]]
    assert [type(error) for error in failures] == [UndecodableValue]

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import pickle
import socket
import threading
import timeit
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.shipping import loading
from discoro.shipping.errors import NotPicklable, PythonMismatch, UndecodableValue
from discoro.shipping.values import (
    dumps,
    dumps_parts,
    loads,
    loads_parts,
    packed,
    part_kinds,
    size_hint,
)

ROOT = Path(__file__).resolve().parent.parent.parent
BIG = 1 << 20

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)


class Holder:
    def __init__(self, value: Any = None) -> None:
        self.value = value


class Evil:
    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return blow_up, (self.what,)


def default_lock() -> Any:
    lock = threading.Lock()

    def function(lock: Any = lock) -> Any:
        return lock

    return function


def blow_up(what: str) -> None:
    raise {"exit": SystemExit(3), "deep": RecursionError("deep"), "key": KeyError("k")}[what]


@given(plain)
@settings(max_examples=200)
def test_plain_values_come_back_equal_and_of_the_same_type(value: Any) -> None:
    back = loads(dumps(value))

    assert back == value and type(back) is type(value)


@given(plain)
@settings(max_examples=100)
def test_the_bytes_of_plain_values_are_those_of_pickle_unless_packed(value: Any) -> None:
    data = packed(value)
    assert dumps(value) == (pickle.dumps(value, 5) if data is None else data)


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2024, 1, 2),
        decimal.Decimal("1.5"),
        collections.OrderedDict(a=1),
        collections.namedtuple,
        len,
        np.float64(3.5),
        b"\x93" * 20,
        "__main__",
        {"\x93": "__main__"},
    ],
)
def test_types_of_libraries_and_bytes_that_look_special_come_back(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(memoryview(dumps(value))) == value


def test_a_lambda_and_a_closure_travel_by_value() -> None:
    count = 3

    def add(n: int) -> int:
        return n + count

    assert loads(dumps(add))(4) == 7
    assert loads(dumps(lambda n: [add(n), count]))(1) == [4, 3]


def test_two_closures_keep_sharing_their_variable() -> None:
    def make() -> Any:
        n = 0

        def add() -> int:
            nonlocal n
            n += 1
            return n

        def see() -> int:
            return n

        return add, see

    add, see = loads(dumps(make()))
    add()
    assert (add(), see()) == (2, 2)


def test_a_function_that_calls_itself_in_a_closure_travels() -> None:
    def make() -> Any:
        def fall(n: int) -> int:
            return n and fall(n - 1)

        return fall

    assert loads(dumps(make()))(50) == 0


def test_a_local_class_that_comes_home_is_the_same_class() -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

    made = loads(dumps(Local(3)))

    assert type(made) is Local and made.n == 3


def test_what_arrives_leaves_the_attributes_of_a_class_as_they_are() -> None:
    """cloudpickle sets the attributes of a class again each time an instance arrives."""

    class Local:
        kind = 1

    data = dumps(Local())
    Local.kind = 2
    loads(data)

    assert Local.kind == 2


def test_the_way_to_what_cannot_be_pickled_is_named() -> None:
    holder = Holder()
    with socket.socket() as sock:
        holder.value = {"conn": sock}
        with pytest.raises(NotPicklable) as caught:
            dumps((1, [holder]), "message to 'db'")

    assert str(caught.value).startswith(
        "message to 'db' cannot be sent: [1] -> [0] -> .value -> ['conn'] is a socket.socket ("
    )
    assert caught.value.path == "[1] -> [0] -> .value -> ['conn']"
    assert caught.value.culprit == "socket.socket"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (threading.Lock(), "the value cannot be sent: it is a _thread.lock"),
        ((n for n in ()), "the value cannot be sent: it is a generator"),
        ({"a": {1: [threading.Lock()]}}, "['a'] -> [1] -> [0] is a _thread.lock"),
        (default_lock(), "default of 'lock' is a _thread.lock"),
        (open, None),
    ],
)
def test_errors_about_values_name_type_and_place(value: Any, text: str | None) -> None:
    if text is None:
        assert loads(dumps(value)) is value
        return
    with pytest.raises(NotPicklable) as caught:
        dumps(value)
    assert text in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), NotPicklable)


def test_an_open_file_is_not_read_and_sent(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("content")
    with open(path) as file, pytest.raises(NotPicklable, match="TextIOWrapper"):
        dumps(lambda: file)


@pytest.mark.parametrize("what", ["exit", "deep", "key"])
def test_a_pickle_that_raises_is_one_typed_error(what: str) -> None:
    with pytest.raises(UndecodableValue) as caught:
        loads(dumps(Evil(what)))
    assert caught.value.__cause__ is not None


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_garbage_raises_undecodable_and_nothing_else(data: bytes) -> None:
    try:
        loads(b"\x80\x05" + data)
    except UndecodableValue:
        pass


def test_names_that_are_not_here_are_errors_that_say_what_to_type() -> None:
    with pytest.raises(UndecodableValue, match=r"no_such_module_x.*depends"):
        loads(b"\x80\x05\x8c\x10no_such_module_x\x8c\x01f\x93.")
    with pytest.raises(UndecodableValue, match=r"no_such_name.*depends"):
        loads(b"\x80\x05\x8c\x04json\x8c\x0cno_such_name\x93.")


def test_code_of_another_python_is_refused_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading it crashes the interpreter: measured in all six directions."""
    data = dumps(lambda: 1)
    monkeypatch.setattr(loading, "PYTHON", "cpython-3.99")
    with pytest.raises(PythonMismatch) as caught:
        loads(data)
    assert caught.value.ours == "cpython-3.99" and caught.value.theirs.startswith("cpython-3.1")


def test_small_values_cost_little_more_than_pickle() -> None:
    """A guard against a slow path on the common case, not a benchmark: that is in benchmarks/."""
    value = {"a": 1, "b": "text", "c": 2.5}
    ours = min(timeit.repeat(lambda: dumps(value), number=5000, repeat=5))
    pickles = min(timeit.repeat(lambda: pickle.dumps(value, 5), number=5000, repeat=5))

    assert ours < 3 * pickles


# --- out of band


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda big: big,
        lambda big: (1, big),
        lambda big: [big, "x", big],
        lambda big: {"k": big},
        lambda big: ((big,), {"key": big}),
        lambda big: ([big],),
    ],
)
def test_big_bytes_at_the_top_go_beside_and_come_back_of_their_type(kind: Any, wrap: Any) -> None:
    big = kind(b"ab" * BIG)
    value = wrap(big)
    head, buffers = dumps_parts(value)
    assert len(head) < 300 and all(buffer.nbytes == 2 * BIG for buffer in buffers)

    received = [
        bytes(b) if how == "bytes" else bytearray(b)
        for how, b in zip(part_kinds(head), buffers, strict=True)
    ]
    back = loads_parts(head, received)

    assert back == value
    assert part_kinds(head) == [kind.__name__] * len(buffers)
    assert loads_parts(head, [memoryview(bytes(buffer)) for buffer in buffers]) == value


def test_what_is_received_into_the_right_kind_is_not_copied() -> None:
    head, _ = dumps_parts((b"x" * 2 * BIG, bytearray(2 * BIG)))
    received = [b"x" * 2 * BIG, bytearray(2 * BIG)]
    back = loads_parts(head, received)

    assert back[0] is received[0] and back[1] is received[1]
    back = loads_parts(head, [memoryview(one) for one in received])
    assert back[0] is received[0] and back[1] is received[1]


def test_arrays_go_beside_wherever_they_are_and_stay_as_writable_as_they_were() -> None:
    fixed = np.arange(BIG)
    fixed.flags.writeable = False
    value = {"deep": [[(np.zeros((2, BIG)), fixed, np.arange(3))]]}
    head, buffers = dumps_parts(value)
    assert [buffer.nbytes for buffer in buffers] == [16 * BIG, 8 * BIG] and len(head) < 1000

    for received in ([bytes(b) for b in buffers], [bytearray(b) for b in buffers]):
        zeros, back, small = loads_parts(head, received)["deep"][0][0]
        assert zeros.flags.writeable and zeros.shape == (2, BIG) and small.flags.writeable
        zeros[0] = 1
        assert not back.flags.writeable and (back == fixed).all()


def test_small_buffers_stay_in_the_head() -> None:
    value = (b"x" * 100, np.arange(5), bytearray(7))
    head, buffers = dumps_parts(value)
    back = loads_parts(head, buffers)

    assert not buffers and back[0] == value[0] and (back[1] == value[1]).all()
    back[1][0] = 5


def test_what_plain_pickle_cannot_do_goes_beside_too() -> None:
    factor = 2
    head, buffers = dumps_parts((lambda n: n * factor, np.ones(BIG)))
    assert len(buffers) == 1

    function, ones = loads_parts(head, buffers)
    assert function(4) == 8 and ones.sum() == BIG


def test_views_borrow_the_memory_of_the_value() -> None:
    big = bytearray(2 * BIG)
    _, (view,) = dumps_parts(big)

    assert view.obj is big
    view.release()


@pytest.mark.parametrize("head", [b"", b"\x01\x00\x00\x00", b"\xff\xff\xff\xff\x00"])
def test_a_damaged_head_is_undecodable(head: bytes) -> None:
    with pytest.raises(UndecodableValue):
        loads_parts(head, [])


def test_missing_buffers_are_undecodable() -> None:
    head, _ = dumps_parts(b"x" * 2 * BIG)
    with pytest.raises(UndecodableValue, match="announced"):
        loads_parts(head, [])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (1, 0, 100),
        (None, 0, 100),
        (b"x" * 5000, 5000, 5100),
        ("x" * 5000, 5000, 5100),
        ((b"x" * 5000, [b"y" * 5000]), 10000, 10100),
        ({"a": bytearray(5000)}, 5000, 5100),
        (np.zeros(1000), 8000, 8100),
        ([1] * 1_000_000, 0, 1000),
        (([1] * 100, {"k": "v" * 900}), 900, 2000),
        (object(), 0, 0),
    ],
)
def test_the_hint_sees_what_lies_at_the_top(value: Any, least: int, most: int) -> None:
    assert least <= size_hint(value) <= most


# --- the one place


def test_nothing_else_in_the_program_unpickles() -> None:
    """Bytes of a peer reach pickle in one module; this is what makes that easy to judge."""
    modules = {"pickle", "cloudpickle", "cloud", "marshal", "dill"}
    loaders = {"loads", "load", "Unpickler", "_loads", "_Unpickler"}
    found = set()
    for top in ("discoro", "scheduler", "transport"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in loaders:
                    if isinstance(node.value, ast.Name) and node.value.id in modules:
                        found.add(path.name)
                elif isinstance(node, ast.ImportFrom) and node.module in modules:
                    assert not {alias.name for alias in node.names} & loaders, path

    assert found == {"unpickling.py"}

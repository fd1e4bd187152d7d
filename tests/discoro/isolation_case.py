"""What two clients with equal names do at one server at the same time; see test_codespace.

Each runs this file as its own ``main.py``, beside modules whose values differ: ``python main.py SOCKET``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import inspect
import pickle
import queue
import sys
import threading
import typing

import helper
import pkg
import ring
from helper import Thing
from pkg.sub import deep

MARK = helper.MARK
total = 0


@dataclasses.dataclass
class Point:
    x: int
    y: Point | None = None
    kind: typing.ClassVar[int] = 41

    def sum(self) -> int:
        return self.x + (self.y.sum() if self.y else 0) + self.kind


class Base:
    registry: typing.ClassVar[list] = []

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)

    def name(self) -> str:
        return f"base {MARK}"


class Derived(Base):
    def name(self) -> str:
        return "derived " + super().name()

    class Inner:
        value = 3

    @staticmethod
    def static() -> int:
        return MARK

    @classmethod
    def made(cls) -> Derived:
        return cls()

    @property
    def mark(self) -> int:
        return MARK


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: int) -> None:
        self.a = a


class Pair(typing.NamedTuple):
    first: int
    second: Point | None = None


class Color(enum.Enum):
    RED = 1
    BLUE = 2

    def other(self) -> Color:
        return Color.BLUE if self is Color.RED else Color.RED


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Broken(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@traced
def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def counter():
    count = 0

    def add():
        nonlocal count
        count += 1
        return count

    def seen():
        return count

    return add, seen


add, seen = counter()


def bump() -> int:
    global total
    total += MARK
    return total


def numbers(n):
    for i in range(n):
        yield i * MARK


async def later(n: int) -> int:
    import helper as inside

    await asyncio.sleep(0)
    return n + inside.MARK


def in_thread() -> int:
    found = []

    def body() -> None:
        from pkg.sub import late

        found.append(late.MARK)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return found[0]


def here(what, *args):
    """The entry: each case is one name."""
    return CASES[what](*args)


CASES = {
    "global": lambda: MARK,
    "helper": lambda: (helper.MARK, helper.read(), Thing(1).mark()),
    "package": lambda: (pkg.MARK, pkg.sub.deep.MARK, deep.up()),
    "ring": lambda: ring.go(),
    "own queue": lambda: (queue.MARK, hasattr(queue, "Queue")),
    "lazy": lambda: helper.lazy(),
    "lazy package": lambda: pkg.lazy(),
    "thread": lambda: in_thread(),
    "module thread": lambda: helper.threaded(),
    "exec": lambda: helper.executed(),
    "importlib": lambda: helper.by_importlib(),
    "relative importlib": lambda: pkg.sub.deep.by_importlib(),
    "bump": lambda: (bump(), bump()),
    "module counter": lambda: helper.bump(),
    "closure": lambda: (add(), add(), seen()),
    "recursion": lambda: factorial(6),
    "super": lambda: (Derived().name(), Derived.static(), Derived.made().mark, Derived.Inner.value),
    "slots": lambda: Slotted(4),
    "generator": lambda: list(numbers(3)),
    "later": lambda: later(2),
    "hints": lambda: typing.get_type_hints(Point)["y"] == (Point | None),
    "module hints": lambda: helper.hints(),
    "pickle": lambda: pickle.loads(pickle.dumps([Point(1), Thing(2), Color.RED, Pair(1)])) and True,
    "source": lambda: (inspect.getsource(factorial.__wrapped__), inspect.getsource(helper.read)),
    "class source": lambda: (inspect.getsource(Color), inspect.getsource(Thing)),
    "module": lambda: (sys.modules[__name__].MARK, sys.modules[Thing.__module__].MARK),
    "main": lambda: __import__("__main__").MARK,
    "point": lambda *args: Point(*args),
    "pair": lambda: Pair(1, Point(2)),
    "thing": lambda: Thing(5),
    "inner": lambda: Derived.Inner(),
    "colors": lambda: [Color.RED, Color.BLUE.other(), Flags.A | Flags.B, helper.Size.BIG],
    "classes": lambda: [Point, Thing, Color, Pair, Derived.Inner, helper.Nested.Deep],
    "functions": lambda: [here, bump, helper.read, factorial, Derived.name],
    "echo": lambda value: value,
    "are": lambda *args: [isinstance(a, (Point, Thing, Slotted, Pair, Color)) for a in args],
    "is the class": lambda cls: cls is Point,
    "sum": lambda point: point.sum(),
    "set kind": lambda n: setattr(Point, "kind", n),
    "local": lambda: local_instance(),
    "lambda": lambda: lambda n: n + MARK,
    "broken": lambda: broken(),
    "helper error": lambda: helper.fail(),
    "typed": lambda: helper.Box[int](3),
}


def local_instance():
    class Local:
        def mark(self):
            return MARK

    return Local()


def broken():
    raise Broken(7, "no luck")


def check_values(remote) -> None:
    mark = MARK
    assert remote("global") == mark
    assert remote("helper") == (mark, mark, mark + 1)
    assert remote("package") == (mark, mark, mark)
    assert remote("ring") == mark
    assert remote("own queue") == (mark, False)
    assert remote("lazy") == mark
    assert remote("lazy package") == (mark, mark)
    assert remote("thread") == mark
    assert remote("module thread") == mark
    assert remote("exec") == mark
    assert remote("importlib") == (mark, mark)
    assert remote("relative importlib") == mark
    assert remote("recursion") == 720
    assert remote("super") == (f"derived base {mark}", mark, mark, 3)
    assert remote("generator") == [0, mark, 2 * mark]
    assert remote("later") == 2 + mark
    assert remote("hints") is True
    assert remote("module hints") is True
    assert remote("pickle") is True
    assert remote("module") == (mark, mark)
    assert remote("main") == mark
    assert remote("typed").value == 3
    for one, other in (
        (
            remote("source"),
            (inspect.getsource(factorial.__wrapped__), inspect.getsource(helper.read)),
        ),
        (remote("class source"), (inspect.getsource(Color), inspect.getsource(Thing))),
    ):
        assert one == other, (one, other)


def check_state(remote, round_number: int) -> None:
    """State at the server is that of this computation, and stays from call to call."""
    before = 2 * MARK * round_number
    assert remote("bump") == (before + MARK, before + 2 * MARK)
    assert remote("module counter") == (round_number + 1) * MARK
    assert remote("closure") == (2 * round_number + 1, 2 * round_number + 2, 2 * round_number + 2)
    assert total == 0 and helper.count == 0


def check_references(remote) -> None:
    """What comes home is ours; what goes there is theirs; nothing is redefined."""
    assert type(remote("point", 1)) is Point and remote("point", 1, Point(2)) == Point(1, Point(2))
    assert type(remote("thing")) is Thing and type(remote("slots")) is Slotted
    assert remote("pair") == Pair(1, Point(2)) and type(remote("pair")) is Pair
    assert type(remote("inner")) is Derived.Inner
    assert remote("colors")[0] is Color.RED and remote("colors")[1] is Color.RED
    assert remote("colors")[2:] == [Flags.A | Flags.B, helper.Size.BIG]
    assert all(
        one is other
        for one, other in zip(
            remote("classes"),
            [Point, Thing, Color, Pair, Derived.Inner, helper.Nested.Deep],
            strict=True,
        )
    )
    assert all(
        one is other
        for one, other in zip(
            remote("functions"), [here, bump, helper.read, factorial, Derived.name], strict=True
        )
    )
    assert remote("are", Point(1), Thing(2), Slotted(3), Pair(4), Color.RED) == [True] * 5
    assert remote("is the class", Point) is True and remote("echo", Point) is Point
    assert remote("sum", Point(1, Point(2))) == 3 + 2 * remote_kind(remote)
    remote("set kind", 100)
    assert remote("sum", Point(1)) == 101 and Point.kind == 41 and Point(1).sum() == 42
    remote("set kind", 41)
    assert remote("lambda")(1) == 1 + MARK
    assert remote("local").mark() == MARK
    local = remote("local")
    assert type(remote("echo", local)) is type(local)


def remote_kind(remote) -> int:
    return remote("sum", Point(0))


def check_errors(remote) -> None:
    import traceback

    with raises(Broken, "no luck (7)") as caught:
        remote("broken")
    assert caught[0].code == 7
    shown = "".join(traceback.format_exception(caught[0]))
    assert 'raise Broken(7, "no luck")' in shown and "discoro_c_" not in shown, shown
    assert f'File "{__file__}"' in shown, shown
    with raises(ValueError) as caught:
        remote("helper error")
    shown = "".join(traceback.format_exception(caught[0]))
    assert f"raise ValueError({MARK})" in shown and "discoro_c_" not in shown, shown


def check_unshipped(remote) -> None:
    """Functions and classes that are not in the bundle go by value, and use what is there."""

    class Extra:
        def __init__(self, n):
            self.n = n

        def twice(self):
            return self.n * 2 + MARK

    assert remote.apply(lambda n: (n + MARK, Point(n).x, helper.MARK), 1) == (1 + MARK, 1, MARK)
    assert remote.apply(lambda extra: extra.twice(), Extra(3)) == 6 + MARK
    assert type(remote("echo", Extra(3))) is Extra
    assert remote.apply(lambda: bump.__globals__["total"]) == remote.apply(lambda: total)


if __name__ == "__main__":
    from codeclient import Remote, raises

    with Remote(here) as remote:
        for round_number in range(5):
            check_values(remote)
            check_state(remote, round_number)
            check_references(remote)
            check_errors(remote)
            check_unshipped(remote)
    print("all as it should be", MARK)

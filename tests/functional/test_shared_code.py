"""Functions and classes that several computations of one program use, some of which a server has never heard of."""

from __future__ import annotations

from tests.processes import ServerProgram, World

CLIENT = """
import sys

from discoro import Computation, Coro, Location, run


class Point:
    def __init__(self, x):
        self.x = x


def helper(number=0):
    return number + 1


def make(coro=None):
    yield coro.sleep(0)
    return Point(helper(1))


def take(point, coro=None):
    message = yield coro.receive()
    delivered = yield coro.receive()
    return point.x, message.x, delivered.x, type(point) is type(message) is type(delivered), message


def main(coro=None):
    server = yield Coro.locate("discoro_server", Location("127.0.0.1", int(sys.argv[1])), timeout=20)
    one, other = Computation(make), Computation(take)
    yield one.setup(server)
    point = yield (yield one.run(server)).finish()
    yield one.close(server)
    # `take` names neither Point nor helper: its bundle has none of them, that of `make` has both.
    yield other.setup(server, func=helper, args=(3,))
    there = yield other.run(server, Point(5))
    there.send(Point(6))
    yield there.deliver(Point(7))
    *numbers, same, home = yield there.finish()
    print(type(point) is Point, numbers, same, type(home) is Point)
    yield other.close(server, func=helper)


run(main)
"""


def test_what_only_another_computation_has_shipped_goes_along_by_value_and_comes_home(
    shared: World, server: ServerProgram
) -> None:
    client = shared.program(CLIENT, server.port)
    assert client.ends() == "True [5, 6, 7] True True\n"

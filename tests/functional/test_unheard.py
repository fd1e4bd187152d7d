"""A coroutine elsewhere that fails does not do so in silence, and is not told of twice."""

from __future__ import annotations

from tests.processes import ServerProgram, World

CLIENT = """
import sys

from discoro import Computation, Coro, Location, run


def broken(number, coro=None):
    yield coro.sleep(0.05)
    raise KeyError(f"broken {number}")


def main(coro=None):
    server = yield Coro.locate("discoro_server", Location("127.0.0.1", int(sys.argv[1])), timeout=20)
    computation = Computation(broken)
    yield computation.setup(server)
    yield computation.run(server, 1)
    finished = yield computation.run(server, 2)
    try:
        yield finished.finish()
    except KeyError:
        pass
    monitored = yield computation.run(server, 3)
    yield coro.monitor(monitored)
    yield coro.receive(20)


run(main)
"""


def test_only_the_failure_that_nobody_asked_about_is_logged_with_its_remote_traceback(
    shared: World, server: ServerProgram
) -> None:
    client = shared.program(CLIENT, server.port)
    client.ends()
    assert "coroutine broken at " in client.err
    assert 'raise KeyError(f"broken {number}")' in client.err
    assert "broken 1" in client.err
    assert "broken 2" not in client.err and "broken 3" not in client.err

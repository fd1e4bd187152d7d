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


FORGETFUL = """
import sys

from discoro import Computation, Coro, Location, run
from discoro.errors import NoSuchCoro


async def add(a, b):
    return a + b


async def main(coro=None):
    server = await Coro.locate("discoro_server", Location("127.0.0.1", int(sys.argv[1])), timeout=20)
    computation = Computation(add)
    await computation.setup(server)
    forgotten = computation.run(server, 1, 2)
    print(forgotten)
    for act in (lambda: forgotten.finish(), lambda: forgotten.send("hello")):
        try:
            act()
        except (AttributeError, TypeError) as error:
            print(error)
    computation.run(server, 1, 2, 3)
    remote = await computation.run(server, 3, 4)
    print(await remote)
    try:
        await remote.deliver("late")
    except NoSuchCoro as error:
        print(error, error.__cause__)
    await coro.sleep(1.5)
    try:
        await computation.setup(None)
    except TypeError as error:
        print(error)


run(main)
"""


def test_who_forgets_to_await_a_start_reads_so(shared: World, server: ServerProgram) -> None:
    client = shared.program(FORGETFUL, server.port)
    client.ends()
    start, finish, send, result, gone, nobody = client.out.splitlines()
    assert start.startswith("<the start of add at ") and start.endswith(": await or yield it>")
    assert "is awaited first" in finish and finish.endswith("it has no 'finish'")
    assert "is awaited first" in send and send.endswith("it takes no messages")
    assert result == "7"
    assert gone.startswith("there is no coroutine 'add at ") and gone.endswith("(any more) None")
    assert "`locate` gives None where nobody was found" in nobody
    (refused,) = client.err.splitlines()
    assert "coroutine add was not started at " in refused
    assert refused.endswith("add() takes 2 positional arguments but 3 were given")


ALONE = """
from discoro import Coro, Scheduler, run


def main(coro=None):
    Scheduler.instance().peer_status(coro)
    print((yield coro.receive(4, "nobody")))


run(main, cluster="nobody else is in this one")
"""


def test_a_program_that_waits_for_peers_and_meets_none_is_not_silent(shared: World) -> None:
    client = shared.program(ALONE)
    client.ends()
    assert client.out.strip() == "nobody"
    assert (
        "still looking for peers: nobody answers in cluster 'nobody else is in this one'"
        in client.err
    )
    assert "python -m discoro" in client.err

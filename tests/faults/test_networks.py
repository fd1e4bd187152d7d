"""Networks that fall silent, in one direction or both, cables that are pulled, machines that sleep: between two hosts.

The hosts are network namespaces of this test's own making; skipped where those, or a firewall in them, are not to be had.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import psutil
import pytest

from discoro.transport.limits import MIB
from tests.hosts import deaf, ip, two_machines, unplugged, why_no_firewall
from tests.processes import Program, ServerProgram, World, memory, until

#: What takes 60 s takes 2.
QUICK = {
    "tick": 0.1,
    "ping_idle": 0.3,
    "silence": 0.6,
    "own_stall": 0.3,
    "resume_client": 2.0,
    "resume_server": 2.5,
    "probe_idle": 1,
    "probe_interval": 1,
}

#: Talks all the time; at the end says what it was told, with the time.
CLIENT = """
import asyncio, json, os, sys, time
from discoro import Computation, Location, MonitorException, Scheduler
from discoro.errors import DiscoroError, PeerLost
from discoro.transport.limits import Limits
from tests.faults import faultjobs

told = []

async def main(coro=None):
    where = Location("10.77.0.1", int(sys.argv[1]))
    coro.scheduler.peer_status(lambda name, at, status: told.append([time.monotonic(), status]), busy=True)
    echoing = Computation(faultjobs.echo_to_the_end)
    await echoing.setup(where)
    echo = await echoing.run(where, coro, sys.argv[3])
    await coro.monitor(echo)
    print("talking", flush=True)
    sent = got = ends = 0
    stop = sys.argv[4]
    while not os.path.exists(stop):
        if not ends:
            echo.send(sent)
            sent += 1
        message = await coro.receive(0.02)
        if isinstance(message, MonitorException):
            ends += 1
            told.append([time.monotonic(), message.args[1][0].__name__])
            print("told", flush=True)
        elif message is not None:
            assert message == got, (message, got)
            got += 1
    if not ends:
        while got < sent:
            message = await coro.receive()
            assert message == got, (message, got)
            got += 1
    assert await coro.receive(0.2) is None
    again = time.monotonic()
    computation = Computation(faultjobs.sleepy)
    while True:
        try:
            await computation.setup(where, timeout=10)
            assert await (await computation.run(where, 0, 7)) == 7
            break
        except (DiscoroError, TimeoutError):
            await asyncio.sleep(0.05)
    again = time.monotonic() - again
    print(json.dumps({"sent": sent, "got": got, "ends": ends, "told": told, "again": again}), flush=True)

limits = Limits(**json.loads(sys.argv[2]))
Scheduler(node="10.77.0.2", udp_port=int(os.environ["DISCORO_TEST_UDP_PORT"]), limits=limits).run(main)
"""


class Two:
    """A server on one host, a client on the other, which talk."""

    def __init__(self, world: World, hosts: tuple[str, str], limits: dict[str, Any]) -> None:
        self.world = world
        self.hosts = hosts
        self.limits = limits
        self.ended = world.folder / "ended"  # written when the coroutine at the server has
        self.stop = world.folder / "stop"
        self.server: ServerProgram = world.server(inside=hosts[0], node="10.77.0.1", limits=limits)
        self.client = self.another()

    def another(self) -> Program:
        client = self.world.program(
            CLIENT,
            *(self.server.port, json.dumps(self.limits), self.ended, self.stop),
            inside=self.hosts[1],
            XDG_STATE_HOME=str(self.world.folder / "elsewhere"),
        )
        client.says("talking")
        return client

    def end(self) -> dict[str, Any]:
        """Let the client end; return what it says."""
        self.stop.touch()
        found: dict[str, Any] = json.loads(self.client.ends(guard=60).splitlines()[-1])
        return found

    def broken(self, how: str) -> AbstractContextManager[object]:
        """Nothing passes between the two, in one direction or both."""
        stack = ExitStack()
        if how == "unplugged":
            stack.enter_context(unplugged(self.hosts[1]))
        else:
            both = {"both": self.hosts, "to the server": self.hosts[:1], "home": self.hosts[1:]}
            stack.enter_context(deaf(*both[how]))
        return stack


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    if why := why_no_firewall():
        pytest.skip(why)
    with two_machines() as names:
        yield names


def pause(seconds: float) -> None:
    """The fault lasts so long: what is tested."""
    time.sleep(seconds)


@pytest.mark.parametrize(
    ("how", "seconds", "limits"),
    [
        pytest.param("to the server", 1.5, QUICK, marks=pytest.mark.slow),
        pytest.param("home", 1.5, QUICK, marks=pytest.mark.slow),
        *[
            pytest.param(how, seconds, {}, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])
            for how in ("both", "to the server", "home", "unplugged")
            for seconds in (5, 40)
        ],
    ],
)
def test_a_network_that_is_silent_for_a_while_loses_nothing(
    how: str, seconds: float, limits: dict[str, Any], own: World, hosts: tuple[str, str]
) -> None:
    two = Two(own, hosts, limits)
    with two.broken(how):
        pause(seconds)
    found = two.end()
    assert found["got"] == found["sent"] and found["ends"] == 0
    assert 0 not in [status for _, status in found["told"]]


@pytest.mark.parametrize(
    ("how", "limits"),
    [
        pytest.param("both", QUICK, marks=pytest.mark.slow),
        *[
            pytest.param(how, {}, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])
            for how in ("both", "to the server", "home", "unplugged")
        ],
    ],
)
def test_a_network_that_stays_silent_is_told_once_to_both_and_a_new_session_works(
    how: str, limits: dict[str, Any], own: World, hosts: tuple[str, str]
) -> None:
    two = Two(own, hosts, limits)
    guard = 30 if limits else 120
    begin = time.monotonic()
    with two.broken(how):
        two.client.says("told", guard)
        until(two.ended.exists, "the coroutine at the server to end", guard)
        server = time.monotonic() - begin
    found = two.end()
    client = next(at for at, status in found["told"] if status == "PeerLost") - begin
    print(
        f"{how}: told to the client after {client:.1f} s, to the server after {server:.1f} s; "
        f"a new session {found['again']:.2f} s after it could"
    )
    assert found["ends"] == 1
    assert [status for _, status in found["told"]].count(0) == 1


@pytest.mark.parametrize(
    ("end", "limits"),
    [
        pytest.param("client", QUICK, marks=pytest.mark.slow),
        pytest.param("server", QUICK, marks=pytest.mark.slow),
        pytest.param("client", {}, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
        pytest.param("server", {}, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
def test_a_connection_whose_other_end_is_gone_without_a_word_is_noticed(
    end: str, limits: dict[str, Any], own: World, hosts: tuple[str, str]
) -> None:
    """Half-open: a machine that lost its power says no goodbye."""
    two = Two(own, hosts, limits)
    begin = time.monotonic()
    with two.broken("both"):
        (two.client if end == "client" else two.server).kill()
        pause(0.5)
    if end == "client":
        until(two.ended.exists, "the coroutine at the server to end", 30 if limits else 120)
        print(f"the server has ended its coroutine after {time.monotonic() - begin:.1f} s")
        two.client = two.another()
        found = two.end()
        assert found["got"] == found["sent"] and found["ends"] == 0
    else:
        two.client.says("told", 30 if limits else 120)
        print(f"the client was told after {time.monotonic() - begin:.1f} s")
        server = own.server(
            inside=two.hosts[0], node="10.77.0.1", limits=limits, tcp_port=two.server.port
        )
        assert server.port == two.server.port
        found = two.end()
        assert found["ends"] == 1


@pytest.mark.parametrize(
    ("seconds", "limits"),
    [
        pytest.param(5.0, QUICK, marks=pytest.mark.slow),
        pytest.param(40, {}, marks=[pytest.mark.nightly, pytest.mark.timeout(600)]),
        pytest.param(120, {}, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
def test_a_machine_that_slept_goes_on_or_is_told_at_once(
    seconds: float, limits: dict[str, Any], own: World, hosts: tuple[str, str]
) -> None:
    """A laptop that is closed: its process stands still, its clock jumps, and its kernel answers nobody."""
    two = Two(own, hosts, limits)
    two.client.signal(signal.SIGSTOP)
    with two.broken("both"):
        pause(seconds)
        long = seconds > (limits or {"resume_server": 75}).get("resume_server", 75)
        if long:
            until(two.ended.exists, "the coroutine at the server to end", 30 if limits else 60)
    two.client.signal(signal.SIGCONT)
    begin = time.monotonic()
    if long:
        two.client.says("told", 30)
        print(f"told {time.monotonic() - begin:.1f} s after it woke")
    found = two.end()
    assert found["ends"] == long
    assert long or found["got"] == found["sent"]
    assert [status for _, status in found["told"]].count(0) == long


GUESSERS = """
import json, sys, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from tests.faults.byhand import shake, tls_to

port, count, sources = map(int, sys.argv[1:])

def guess(number):
    try:
        with tls_to(port, f"10.77.0.{number % sources + 20}", host="10.77.0.1") as sock:
            sock.settimeout(6)
            return type(shake(sock, "discoro-wrong-wrong").failed).__name__
    except OSError:
        return "hung up"

guess(0)
print("guessing", flush=True)
start = time.monotonic()
with ThreadPoolExecutor(16) as threads:
    ends = Counter(threads.map(guess, range(count)))
print(json.dumps([time.monotonic() - start, ends]), flush=True)
"""

#: As many guesses as are answered, and no more.
PATIENT = GUESSERS.replace("threads.map(guess, range(count))", "map(paced, range(count))").replace(
    'print("guessing',
    """
def paced(number):
    time.sleep(0.05)
    return guess(number)

print(\"guessing""",
)

GOOD = """
import json, os, sys, time
from discoro import Location, Scheduler

async def main(coro=None):
    start = time.monotonic()
    await coro.scheduler.peer(Location("10.77.0.1", int(sys.argv[1])), timeout=30)
    print(json.dumps(time.monotonic() - start), flush=True)

Scheduler(node="10.77.0.2", udp_port=int(os.environ["DISCORO_TEST_UDP_PORT"])).run(main)
"""


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200, marks=pytest.mark.slow),
        pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
def test_guesses_from_many_machines_are_answered_at_a_rate_and_a_good_client_gets_in(
    count: int, own: World, hosts: tuple[str, str]
) -> None:
    """From 100 addresses; the good clients come from another one, the first of them before anybody guesses."""
    for number in range(100):
        ip("-n", hosts[1], "addr", "add", f"10.77.0.{number + 20}/24", "dev", "cable")
    server = own.server(inside=hosts[0], node="10.77.0.1")

    def good() -> float:
        client = own.program(
            GOOD,
            server.port,
            inside=hosts[1],
            XDG_STATE_HOME=str(own.folder / "elsewhere"),
        )
        return float(client.ends(guard=60))

    process = psutil.Process(server.process.pid)
    first = good()
    for text, guesses, meanwhile in ((GUESSERS, count, True), (PATIENT, count // 4, False)):
        before = process.cpu_times()
        guessers = own.program(text, server.port, guesses, 100, inside=hosts[1])
        guessers.says("guessing")
        times = []
        while meanwhile and guessers.process.poll() is None:
            times.append(good())
        seconds, ends = json.loads(guessers.ends(guard=100).splitlines()[-1])
        after = process.cpu_times()
        share = (after.user + after.system - before.user - before.system) / seconds
        print(
            f"{ends} in {seconds:.1f} s, {share:.1%} of a CPU; a good client alone {first:.2f} s, "
            f"meanwhile {', '.join(f'{one:.2f}' for one in times)} s"
        )
        assert ends["AuthenticationFailed"] <= 20 + 20 * seconds + 16
        assert server.process.poll() is None
        assert not times or max(times) < 1.0


IDLERS = """
import resource, socket, sys, time

port, count = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if hard < count + 100:
    print("only", hard, "descriptors", flush=True)
    sys.exit(3)
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, hard))
kept = []
for number in range(count):
    source = (f"10.77.0.{number % 100 + 20}", 0)
    kept.append(socket.create_connection(("10.77.0.1", port), 60, source_address=source))
    if number == count // 2:
        print("half of them", flush=True)
print("all of them", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(500, marks=pytest.mark.slow),
        pytest.param(10_000, marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
def test_idle_connections_from_many_machines_take_64_places_for_5_s(
    count: int, own: World, hosts: tuple[str, str]
) -> None:
    for number in range(100):
        ip("-n", hosts[1], "addr", "add", f"10.77.0.{number + 20}/24", "dev", "cable")
    server = own.server(inside=hosts[0], node="10.77.0.1")

    def good() -> float:
        elsewhere = str(own.folder / "elsewhere")
        client = own.program(GOOD, server.port, inside=hosts[1], XDG_STATE_HOME=elsewhere)
        return float(client.ends(guard=60))

    process = psutil.Process(server.process.pid)
    good()
    quiet, before = process.num_fds(), memory(process.pid)
    idlers = own.program(IDLERS, server.port, count, inside=hosts[1])
    most = 0
    start = time.monotonic()
    came = 0.0
    while not came or time.monotonic() < came + 1.0:
        if not came and "all of them" in idlers.out:
            came = time.monotonic()
        if idlers.process.poll() == 3:
            pytest.skip(idlers.out)
        assert idlers.process.poll() is None and time.monotonic() < start + 200, idlers.err
        most = max(most, process.num_fds() - quiet)
        time.sleep(0.005)
    meanwhile = good()
    until(lambda: process.num_fds() <= quiet + 1, "the places to be given back", 10.0)
    took = time.monotonic() - start
    grown = memory(process.pid) - before
    print(
        f"{count} connections: at most {most} held, all gone after {took:.1f} s, "
        f"{grown / MIB:.1f} MiB more; a good client meanwhile {meanwhile:.2f} s"
    )
    assert 60 <= most <= 66  # the accept under way, and one that is closing
    assert grown < 8 * MIB
    assert meanwhile < 6.0
    idlers.kill()

"""Real nodes and real programs: what the node's parent adds to what servers do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.functional.nodes import REAL, NodeProcess, ended_at_last, environment_of, until
from tests.processes import free_port

Start = Callable[..., NodeProcess]
SECRET = {"DISCORO_SECRET": "long enough for everybody"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start real nodes, on a discovery port of their own."""
    port = free_port(socket.SOCK_DGRAM)
    with ExitStack() as stack:

        def start(*options: str, folder: Path = tmp_path, **more: object) -> NodeProcess:
            folder.mkdir(exist_ok=True)
            arguments = ("-u", str(port), *options)
            node = NodeProcess(folder, *arguments, command=REAL, **more)  # type: ignore[arg-type]
            node.udp_port = port
            stack.enter_context(ended_at_last(node))
            return node

        yield start


PROGRAM = """
import os, signal, sys, time
import discoro

def die(how, coro=None):
    yield coro.sleep(0.05)
    os.kill(os.getpid(), -how) if how < 0 else os._exit(how)

def work(seconds, coro=None):
    print("works")
    yield coro.sleep(seconds)
    print("is done")
    return os.getpid()

def busy(seconds, coro=None):
    time.sleep(seconds)
    yield

def where(coro=None):
    yield
    return os.getcwd()

def client(coro=None):
{body}

print(discoro.run(client, udp_port={port}), flush=True)
"""


def program(
    node: NodeProcess | SimpleNamespace, body: str, folder: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start a program with this body of its coroutine, in the node's state folder or another."""
    text = PROGRAM.format(body="    " + body.strip().replace("\n", "\n    "), port=node.udp_port)
    home = folder or node.folder
    home.mkdir(exist_ok=True)
    file = home / f"program{time.monotonic_ns()}.py"
    file.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(file)],
        env=environment_of(home, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def says(node: NodeProcess, body: str, folder: Path | None = None, **environment: str) -> str:
    """Run such a program to its end and return its last line."""
    started = program(node, body, folder, **environment)
    try:
        out, err = started.communicate(timeout=90)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == 0, err
    return out.splitlines()[-1]


FIND = """
scheduler = discoro.Scheduler.instance()
peer = yield scheduler.locate({name!r}, timeout=60)
assert peer, "not found"
"""


def test_a_program_without_options_runs_on_this_users_node(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(work, depends=[where])
yield computation.setup(peer)
coroutine = yield computation.run(peer, 0.0)
return (yield coroutine.finish(10))
"""
    )
    assert says(node, body) == str(node.server()["pid"])
    node.says("[bob-1 work] works\n[bob-1 work] is done\n")
    node.process.terminate()
    assert node.ends() == 0


@pytest.mark.parametrize(
    ("how", "said"), [(-11, "signal=11 exit_code=None"), (7, "signal=None exit_code=7")]
)
def test_monitors_of_a_dead_server_hear_how_it_ended_within_a_second(
    start: Start, how: int, said: str
) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + f"""
computation = discoro.Computation(die)
yield computation.setup(peer)
coroutine = yield computation.run(peer, {how})
began = time.monotonic()
yield coro.monitor(coroutine)
message = yield coro.receive(timeout=10)
error = message.args[1][1]
assert time.monotonic() - began < 1.0
return f"{{type(error).__name__}} signal={{error.signal}} exit_code={{error.exit_code}}"
"""
    )
    assert says(node, body) == f"ServerKilled {said}"
    node.process.terminate()
    assert node.ends() == 0
    assert "cannot take connections" not in node.text


def test_sigterm_lets_a_computation_end(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(work)
yield computation.setup(peer)
coroutine = yield computation.run(peer, 1.0)
return (yield coroutine.finish(10))
"""
    )
    pid = node.server()["pid"]
    running = program(node, body)
    node.says("works")
    node.process.terminate()
    assert node.ends() == 0
    out, err = running.communicate(timeout=90)
    assert out.strip() == str(pid), err
    assert "is done" in node.text


def test_status_names_the_users_line_that_blocks_a_server(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(busy)
yield computation.setup(peer)
yield computation.run(peer, 1000)
yield coro.sleep(1000)
"""
    )
    running = program(node, body)
    try:
        blocked = until(lambda: node.server()["blocked"], "blocked")
        assert " in busy" in blocked and ".py:" in blocked
    finally:
        running.kill()
        running.communicate()
    for _ in range(2):
        node.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert node.ends() == 130


def test_servers_of_one_node_introduce_each_other(start: Start, tmp_path: Path) -> None:
    """The program knows one address, and no state folder: the first server tells of the second."""
    node = start("-c", "2", "--force", "-n", "bob", environment=SECRET).ready()
    port = node.server()["addresses"][0][1]
    body = f"""
scheduler = discoro.Scheduler.instance()
yield scheduler.peer("127.0.0.1", tcp_port={port})
while len(scheduler.peers()) < 2:
    yield coro.sleep(0.02)
return sorted(peer.name for peer in scheduler.peers())
"""
    assert says(node, body, tmp_path / "elsewhere", **SECRET) == "['bob-1', 'bob-2']"
    node.process.terminate()
    assert node.ends() == 0


def test_a_node_is_found_by_asking_its_machine(start: Start, tmp_path: Path) -> None:
    """UDP alone: the program has another state folder. The one asked answers for both nodes."""
    bob = start("-c", "1", "-n", "bob", environment=SECRET).ready()
    eve = start("-c", "1", "-n", "eve", environment=SECRET).ready()
    body = f"""
scheduler = discoro.Scheduler.instance()
yield scheduler.peer("127.0.0.1", udp_port={bob.udp_port})
while len(scheduler.peers()) < 2:
    yield scheduler.network.meeting.ask_host("127.0.0.1", {bob.udp_port})
    yield coro.sleep(0.1)
return sorted(peer.name for peer in scheduler.peers())
"""
    assert says(bob, body, tmp_path / "elsewhere", **SECRET) == "['bob-1', 'eve-1']"
    for node in (bob, eve):
        node.process.terminate()
        assert node.ends() == 0


SERVE = """
scheduler = discoro.Scheduler.instance()
names = []
scheduler.peer_status(lambda name, location, status: names.append((name, status)))
yield scheduler.network.publish()
print(scheduler.location.port, flush=True)
while not names:
    yield coro.sleep(0.02)
print(*names[0], flush=True)
"""


def test_a_joined_node_listens_nowhere_serves_and_ends_with_its_peer(
    start: Start, tmp_path: Path
) -> None:
    # Another port: the program must hear of the node by its dial alone.
    elsewhere = SimpleNamespace(folder=tmp_path / "client", udp_port=free_port(socket.SOCK_DGRAM))
    body = (
        SERVE
        + """
computation = discoro.Computation(work)
peer = scheduler.peers()[0]
yield computation.setup(peer)
coroutine = yield computation.run(peer, 0.0)
yield coroutine.finish(10)
return "done"
"""
    )
    running = program(elsewhere, body, None, **SECRET)
    assert running.stdout is not None
    port = int(running.stdout.readline())
    joined = start(
        *("-c", "1", "-n", "eve", "--join", f"127.0.0.1:{port}"),
        environment=SECRET,
        folder=tmp_path / "joined",
    )
    out, err = running.communicate(timeout=90)
    assert out.splitlines() == ["eve-1 1", "done"], err
    joined.says("listens nowhere")
    joined.says("is gone for good")
    assert joined.ends() == 0


def test_a_join_with_another_secret_ends_with_status_1_and_says_why(
    start: Start, tmp_path: Path
) -> None:
    bob = start("-c", "1", "-n", "bob", environment=SECRET).ready()
    port = bob.server()["addresses"][0][1]
    other = {"DISCORO_SECRET": "a quite different one"}
    joined = start("-c", "1", "--join", f"127.0.0.1:{port}", environment=other)
    joined.says("could not be joined")
    assert joined.ends() == 1, joined.text
    assert "has another secret than this program" in joined.text
    bob.process.terminate()
    assert bob.ends() == 0


def test_a_peer_given_by_hand_is_dialled_until_it_answers(start: Start, tmp_path: Path) -> None:
    bob = start("-c", "1", "-n", "bob", environment=SECRET).ready()
    port = bob.server()["addresses"][0][1]
    eve = start(
        *("-c", "1", "-n", "eve", "--peer", f"127.0.0.1:{port}"),
        environment=SECRET,
        folder=tmp_path / "eve",
    ).ready()
    until(lambda: bob.server()["counts"].get("peers"), "a peer")
    until(lambda: eve.server()["counts"].get("peers"), "a peer")
    for node in (bob, eve):
        node.process.terminate()
        assert node.ends() == 0


def test_a_killed_servers_folder_and_port_are_its_successors(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(where)
yield computation.setup(peer)
coroutine = yield computation.run(peer)
return (yield coroutine.finish(10))
"""
    )
    before = says(node, body)
    pid = node.server()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: node.server()["state"] == "running" and node.server()["pid"] != pid)
    assert says(node, body) == before == str(node.folder / "discoro/files/bob-1")
    node.process.terminate()
    assert node.ends() == 0


def test_who_goes_on_calling_a_server_that_was_started_again_is_told_what_to_do(
    start: Start,
) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(die)
yield computation.setup(peer)
coroutine = yield computation.run(peer, -9)
errors = []
for call in (coroutine.finish, *[lambda: computation.run(peer, -9)] * 20):
    try:
        yield call()
    except discoro.errors.ServerKilled as error:
        errors.append(error)
frames = errors[-1].__traceback__
depth = 0
while frames is not None:
    depth, frames = depth + 1, frames.tb_next
assert depth < 15, depth  # it is another error each time, and does not grow
again = yield scheduler.locate("bob-1", timeout=20)
yield computation.setup(again)
return "|".join(map(str, errors[:2]))
"""
    )
    first, second = says(node, body).split("|")
    assert first.endswith("its process was ended by SIGKILL (9)")
    assert second.endswith(
        "SIGKILL (9): where its node has started it again, that is another process: locate it, and set up there"
    )
    node.process.terminate()
    assert node.ends() == 0


def test_who_waits_for_a_coroutine_whose_node_is_stopped_is_told_so(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
computation = discoro.Computation(work)
yield computation.setup(peer)
coroutine = yield computation.run(peer, 60.0)
try:
    yield coroutine.finish()
except discoro.errors.Terminated as error:
    return str(error)
"""
    )
    running = program(node, body)
    node.says("works")
    node.process.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=90)
    assert "server bob-1 was stopped, or its node was" in out, err
    node.ends()


def test_nodes_of_one_name_work_in_folders_of_their_own(start: Start) -> None:
    nodes = [start("-c", "1", "-n", "bob").ready() for _ in range(2)]
    folders = {os.readlink(f"/proc/{node.server()['pid']}/cwd") for node in nodes}
    assert len(folders) == 2
    assert all(
        folder.startswith(str(nodes[0].folder / "discoro/files/bob-1")) for folder in folders
    )
    for node in nodes:
        node.process.terminate()
        assert node.ends() == 0


def test_a_server_whose_discoro_server_was_ended_starts_anew(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    pid = node.server()["pid"]
    body = (
        FIND.format(name="bob-1")
        + """
server = yield discoro.Coro.locate("discoro_server", peer, timeout=10)
server.terminate()
return "asked"
"""
    )
    assert says(node, body) == "asked"
    node.says("discoro_server has ended in bob-1")
    until(lambda: node.server()["state"] == "running" and node.server()["pid"] != pid)
    assert "ended with exit code 1; restarting" in node.text
    node.process.terminate()
    assert node.ends() == 0


def shown(node: NodeProcess, *options: str) -> str:
    """Run ``status`` for real and return its text."""
    done = subprocess.run(
        [*REAL, "status", *options], env=node.environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done
    if not options:  # what is said below a server's row is to be copied, and stays whole
        rows = [line for line in done.stdout.splitlines() if not line.startswith(" " * 6)]
        assert max(map(len, rows)) <= 80, done.stdout
    return done.stdout


def test_status_tells_of_computations_coroutines_and_clients_while_a_server_computes(
    start: Start,
) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
waiting, computing = discoro.Computation(work), discoro.Computation(busy)
yield waiting.setup(peer)
yield computing.setup(peer)
first = yield waiting.run(peer, 1000.0)
first.send("a message")
yield first.deliver("another one")
print(scheduler.name, flush=True)
yield computing.run(peer, 1000)
"""
    )
    running = program(node, body)
    assert running.stdout is not None
    try:
        name = running.stdout.readline().strip()
        until(lambda: node.server()["busy"], "busy")
        rows = [line.split() for line in shown(node).splitlines()]
        tables = [row[:3] + row[-2:] for row in rows]
        assert ["work", name, "1", "1", "ready"] in tables
        assert ["busy", name, "1", "1", "ready"] in tables
        assert any(row[:2] == [name, "program"] and row[-2:] == ["connected:", "1"] for row in rows)
        (facts,) = json.loads(shown(node, "--json"))
        (server,) = facts["servers"]
        assert server["as_of"] < 5.0 and server["busy"]["function"] == "busy"
        found = {one["name"]: one for one in server["coroutines"]}
        assert found["busy"]["waits_in"] == "running"
        one = found["work"]
        assert (one["waits_in"], one["mailbox"], one["function"]) == ("sleep", 2, "work")
        assert one["file"].endswith(".py") and one["line"] > 1
        assert one["client"] == name and one["computation"] == "work"
    finally:
        running.kill()
        running.communicate()
        for _ in range(2):
            node.process.send_signal(signal.SIGINT)
            time.sleep(0.1)
    assert node.ends() == 130


def test_who_looks_for_a_stopped_server_is_told_that_it_does_not_answer_yet(start: Start) -> None:
    """And not that no node runs here: then its user would start another one."""
    node = start("-c", "1", "-n", "bob").ready()
    pid = node.server()["pid"]
    os.kill(pid, signal.SIGSTOP)
    node.says("is stopped (kill -CONT")
    body = """
found = yield discoro.Coro.locate("discoro_server", timeout=60)
return found.location.name
"""
    looking = program(node, body)
    try:
        assert looking.stderr is not None
        said = looking.stderr.readline()
        assert "still looking for" in said and "does not answer yet" in said, said
        assert "kill -CONT" in shown(node)
        os.kill(pid, signal.SIGCONT)
        out, err = looking.communicate(timeout=60)
        assert out.split() == ["bob-1"], err
    finally:
        looking.kill()
        looking.communicate()
    node.process.terminate()
    assert node.ends() == 0


def test_a_ping_of_a_busy_server_gives_minus_one_and_the_log_says_why(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    body = (
        FIND.format(name="bob-1")
        + """
first, second = discoro.Computation(work), discoro.Computation(busy)
yield first.setup(peer)
yield second.setup(peer)
starting = second.run(peer, 3.0)
answers = [(yield first.ping(peer, timeout=0.2))]
while answers[-1] != 0 or -1 not in answers:
    answers.append((yield first.ping(peer, timeout=0.2)))
yield starting
return sorted(set(answers))
"""
    )
    running = program(node, body, DISCORO_LOG="info")
    out, err = running.communicate(timeout=60)
    assert out.strip() == "[-1, 0]", err
    assert "ping of work at" in err and "no answer within 0.2 s" in err
    node.process.terminate()
    assert node.ends() == 0

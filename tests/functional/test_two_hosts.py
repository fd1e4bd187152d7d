"""Two hosts and a cable: a node on one, a client on the other, nothing in common but the secret.

The hosts are network namespaces of this test's own making; skipped where those are not to be had.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.nodes import HOME, until
from tests.hosts import two_machines, why_no_namespaces

CLIENT = textwrap.dedent(
    """
    from discoro import Computation, Coro, Scheduler, run


    def work(client, coro=None):
        client.send(f"hello from {coro.location.addr}")
        word = yield coro.receive()
        return word


    def main(coro=None):
        server = yield Coro.locate("discoro_server", timeout=20)
        computation = Computation(work)
        yield computation.setup(server)
        there = yield computation.run(server, coro)
        print((yield coro.receive(20)))
        there.send("and back")
        print((yield there.finish()))
        for name in ("bob-1", "bob-2"):
            location = yield Scheduler.instance().locate(name, timeout=20)
            print(location.name, location.addr)
        yield computation.close(server)


    run(main)
    """
)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    if why := why_no_namespaces():
        pytest.skip(why)
    with two_machines() as names:
        yield names


def environment(folder: Path) -> dict[str, str]:
    """An own state folder: only the network can bring the two together."""
    folder.mkdir()
    return {
        **os.environ,
        "XDG_STATE_HOME": str(folder),
        "PYTHONPATH": str(HOME),
        "DISCORO_SECRET": "the secret of two hosts",
    }


def test_a_client_finds_the_servers_of_another_host_by_asking_and_needs_no_address(
    hosts: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "client.py").write_text(CLIENT)
    output = tmp_path / "node.txt"
    with output.open("wb") as out:
        node = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                hosts[0],
                sys.executable,
                "-m",
                "discoro",
                "-c",
                "2",
                "--force",
                "-n",
                "bob",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(tmp_path / "one"),
        )
    try:
        until(lambda: "connect with" in output.read_text(), output.read_text)
        client = subprocess.run(
            ["ip", "netns", "exec", hosts[1], sys.executable, str(tmp_path / "client.py")],
            env=environment(tmp_path / "other"),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        node.terminate()
        assert node.wait(30) == 0

    assert client.returncode == 0, client.stderr + output.read_text()
    assert client.stdout.splitlines() == [
        "hello from 10.77.0.1",
        "and back",
        "bob-1 10.77.0.1",
        "bob-2 10.77.0.1",
    ]

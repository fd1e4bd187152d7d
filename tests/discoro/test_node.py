from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from discoro.node.handle import Node, NodeFailed
from discoro.statefolder import StateFolder
from discoro.transport.secret import is_generated
from tests.functional.nodes import HOME, SMALL, Talk, alive, until
from tests.kit import run_async

LONG = "long enough for everybody"


class SmallNode(Node):
    """The same command with small servers."""

    command: Sequence[str] = SMALL


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    monkeypatch.delenv("DISCORO_SECRET", raising=False)


def servers_pid(node: Node, index: int = 0) -> int:
    location = node.servers[index]
    with Talk(location.addr, location.port) as talk:
        return int(talk.ask("pid"))


def test_servers_run_for_the_length_of_a_with(tmp_path: Path) -> None:
    with SmallNode(2, name="bob", secret=LONG, force=True) as node:
        assert node.name == "bob" and node.secret == LONG
        assert [location.name for location in node.servers] == ["bob-1", "bob-2"]
        assert all(location.id == bytes(16) for location in node.servers)
        pids = [servers_pid(node, 0), servers_pid(node, 1)]
        assert node.pid is not None and alive(node.pid)
        for pid in (node.pid, *pids):
            for name in ("cmdline", "environ"):
                assert LONG.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
        assert "2 servers" in repr(node)
    assert not any(alive(pid) for pid in (node.pid, *pids))
    node.close()


def test_without_a_secret_it_is_this_users_own(tmp_path: Path) -> None:
    with SmallNode(1) as node:
        assert is_generated(node.secret)
        assert node.secret == StateFolder().read_secret()
        assert node.servers[0].addr == "127.0.0.1"


def test_the_environments_secret_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORO_SECRET", LONG)
    with SmallNode(1) as node:
        assert node.secret == LONG
        assert StateFolder().read_secret() is None


def test_async_with_leaves_the_loop_free_and_nothing_behind() -> None:
    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        counting = asyncio.create_task(count())
        async with SmallNode(1) as node:
            assert turns > 5
            pid = servers_pid(node)
        counting.cancel()
        assert not alive(pid)
        assert turns > 10
        return node.pid or 0

    assert not alive(run_async(main))


def test_a_cancelled_start_leaves_nothing_behind(tmp_path: Path) -> None:
    node = SmallNode(1)

    async def main() -> None:
        starting = asyncio.create_task(node.__aenter__())
        while node._process is None:
            await asyncio.sleep(0.001)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    run_async(main)
    assert node._process is not None and node._process.poll() is not None
    until(lambda: os.listdir(tmp_path / "discoro/nodes") == [])


def test_a_node_that_cannot_start_says_so_with_its_exit_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    node = SmallNode(9999)
    with pytest.raises(NodeFailed, match="exit code 2") as caught:
        node.start()
    assert caught.value.exit_code == 2
    assert "usable here" in capfd.readouterr().err


def test_a_node_that_does_not_get_ready_in_time_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never").touch()
    monkeypatch.setenv("SMALLNODE_NEVER_READY", str(tmp_path / "never"))
    node = SmallNode(1, timeout=0.5)
    with pytest.raises(NodeFailed, match=r"not ready in 0\.5 s"):
        node.start()
    assert node._process is not None and node._process.poll() == 0


def test_it_starts_once() -> None:
    with SmallNode(1) as node, pytest.raises(NodeFailed, match="already"):
        node.start()


def test_an_exception_ends_running_work_at_once() -> None:
    pids = []
    with pytest.raises(ZeroDivisionError), SmallNode(1) as node:
        pids.append(servers_pid(node))
        location = node.servers[0]
        with Talk(location.addr, location.port) as talk:
            talk.ask("job 1000")
        raise ZeroDivisionError
    assert not alive(pids[0])


def test_the_node_ends_with_the_program_even_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from tests.discoro.test_node import SmallNode\n"
        "node = SmallNode(1).start()\n"
        "print(node.pid, node.servers[0].port, flush=True); time.sleep(1000)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    pid, port = map(int, program.stdout.readline().split())
    with Talk("127.0.0.1", port) as talk:
        server = talk.ask("pid")
    program.send_signal(signal.SIGKILL)
    program.wait()
    program.stdout.close()
    until(lambda: not alive(pid) and not alive(server), guard=5.0)

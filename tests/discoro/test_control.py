from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from discoro.control import ControlServer, NodeSilent, ask, duration, status_text
from discoro.statefolder import NodeRecord, StateFolder
from tests.kit import run_async

SERVER = {
    "name": "bob-1",
    "pid": 811,
    "state": "running",
    "addresses": [["0.0.0.0", 9700], ["::", 9700]],
    "restarts": 0,
    "last_end": None,
    "blocked": None,
    "stopped": False,
    "counts": {"computations": 2, "coroutines": 14, "peers": 1},
}
NODE = {
    "name": "bob",
    "state": "running",
    "pid": 810,
    "cluster": "default",
    "version": "0.1.0",
    "python": "3.11.7",
    "seconds": 3700.0,
    "servers": [
        SERVER,
        {
            **SERVER,
            "name": "bob-2",
            "pid": None,
            "state": "waiting to restart",
            "restarts": 2,
            "last_end": "ended by SIGSEGV (signal 11)",
            "counts": {},
        },
        {**SERVER, "name": "bob-3", "blocked": "blocked for 12 s at primes.py:12 in work"},
        {**SERVER, "name": "bob-4", "stopped": True, "addresses": []},
    ],
}


def test_status_is_a_table() -> None:
    lines = status_text([NODE]).splitlines()
    assert lines[0].startswith("node bob: running, pid 810, cluster default, discoro 0.1.0")
    assert lines[0].endswith("up 1 h 1 min")
    assert lines[2].split() == ["bob-1", "811", "9700", "2", "14", "1", "running"]
    assert lines[3].split()[:6] == ["bob-2", "-", "9700", "-", "-", "-"]
    assert lines[3].endswith("2 restarts, the last: ended by SIGSEGV (signal 11)")
    assert lines[4].endswith("blocked for 12 s at primes.py:12 in work")
    assert lines[5].split()[2] == "-" and lines[5].endswith("stopped (SIGSTOP)")
    assert lines[1].index("state") == lines[2].index("running") == lines[5].index("stopped")
    assert status_text([]) == ""
    assert status_text([NODE, NODE]).count("node bob") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "discoro")).make()


def record(pid: int = 2**22 + 1) -> NodeRecord:
    return NodeRecord("a1", "bob", "default", 51350, pid)


def test_status_and_stop_are_answered(folder: StateFolder) -> None:
    async def main() -> dict[str, Any]:
        stopped = []
        ended = asyncio.Event()
        control = ControlServer(folder, "a1")
        await control.start(lambda: {"fact": 1}, lambda: stopped.append(1), ended)
        answer = await asyncio.to_thread(ask, folder, record(), "status")
        stopping = asyncio.create_task(asyncio.to_thread(ask, folder, record(), "stop"))
        while not stopped:
            await asyncio.sleep(0.001)
        assert not stopping.done()
        ended.set()
        assert await stopping == {"stopping": True}
        control.close()
        return answer

    assert run_async(main) == {"fact": 1}


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"no json\n", b"[]\n", b'{"ask": "other"}\n', b"x" * 9000]
)
def test_strange_questions_are_not_answered_and_do_no_harm(
    folder: StateFolder, data: bytes
) -> None:
    async def main() -> None:
        control = ControlServer(folder, "a1")
        await control.start(lambda: {"fact": 1}, lambda: None, asyncio.Event())
        reader, writer = await asyncio.open_unix_connection(
            os.path.join(folder.nodes_path, "a1.sock")
        )
        writer.write(data)
        writer.write_eof()
        try:
            assert await reader.read() == b""
        except ConnectionError:
            pass
        writer.close()
        answer = await asyncio.to_thread(ask, folder, record(), "status")
        assert answer == {"fact": 1}
        control.close()

    run_async(main)


def test_a_node_that_does_not_answer_is_named(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NodeSilent, match="node bob"):
        ask(folder, record(), "status")
    monkeypatch.setattr("discoro.control.ANSWER_TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        with folder.socket_address("a1") as address:
            listener.bind(address)
        listener.listen()
        with pytest.raises(NodeSilent) as caught:
            ask(folder, record(), "status")
    assert caught.value.record == record()

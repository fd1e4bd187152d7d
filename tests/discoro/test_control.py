from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from discoro.node.control import ControlServer, NodeSilent, ask
from discoro.statefolder import NodeRecord, StateFolder
from tests.kit import run_async


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "discoro")).make()


def record(pid: int = 2**22 + 1) -> NodeRecord:
    return NodeRecord("a1", "bob", "default", 51350, pid)


async def told(most: int) -> dict[str, Any]:
    """What a node would tell."""
    return {"most": most}


def test_status_and_stop_are_answered(folder: StateFolder) -> None:
    async def main() -> dict[str, Any]:
        stopped = []
        ended = asyncio.Event()
        control = ControlServer(folder, "a1")
        await control.start(told, lambda: stopped.append(1), ended)
        answer = await asyncio.to_thread(ask, folder, record(), "status")
        assert await asyncio.to_thread(ask, folder, record(), "status", 7) == {"most": 7}
        stopping = asyncio.create_task(asyncio.to_thread(ask, folder, record(), "stop"))
        while not stopped:
            await asyncio.sleep(0.001)
        assert not stopping.done()
        ended.set()
        assert await stopping == {"stopping": True}
        control.close()
        return answer

    assert run_async(main) == {"most": 20}


def test_an_answer_that_the_end_of_the_loop_cuts_short_is_not_logged_as_an_error(
    folder: StateFolder,
) -> None:
    problems: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: problems.append(what))
        stopped, ended = asyncio.Event(), asyncio.Event()
        control = ControlServer(folder, "a1")
        await control.start(told, stopped.set, ended)
        path = os.path.join(folder.nodes_path, "a1.sock")
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"ask": "stop"}\n')
        await stopped.wait()
        ended.set()
        control.close()
        await asyncio.sleep(0)  # it closes the connection now, and the loop ends meanwhile
        writer.transport.abort()

    asyncio.run(main())
    assert not problems


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no json\n",
        b"[]\n",
        b'{"ask": "other"}\n',
        b'{"ask": "status", "most": []}\n',
        b"x" * 9000,
    ],
)
def test_strange_questions_are_not_answered_and_do_no_harm(
    folder: StateFolder, data: bytes
) -> None:
    async def main() -> None:
        control = ControlServer(folder, "a1")
        await control.start(told, lambda: None, asyncio.Event())
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
        assert answer == {"most": 20}
        control.close()

    run_async(main)


def test_a_node_that_does_not_answer_is_named(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NodeSilent, match="node bob"):
        ask(folder, record(), "status")
    monkeypatch.setattr("discoro.node.control.ANSWER_TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        with folder.socket_address("a1") as address:
            listener.bind(address)
        listener.listen()
        with pytest.raises(NodeSilent) as caught:
            ask(folder, record(), "status")
    assert caught.value.record == record()

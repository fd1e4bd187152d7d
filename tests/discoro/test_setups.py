"""Setups at the servers of a node: each has its files, and the bytes go to one of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from discoro import Computation, Node, Scheduler
from discoro.peers import files as peerfiles
from discoro.peers.files import Files
from tests.functional.nodes import HOME
from tests.kit import run_async
from tests.processes import free_port

SIZE = 3_000_000
SERVERS = 3


async def length(name: str) -> int:
    """Runs at a server."""
    return os.stat(name).st_size


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of contents went with each offer of one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    monkeypatch.delenv("DISCORO_SECRET", raising=False)
    found: list[int] = []
    send = Files._send_blob

    async def noted(self: Files, *args: Any) -> int:
        found.append(await send(self, *args))
        return found[-1]

    monkeypatch.setattr(Files, "_send_blob", noted)
    return found


def set_up_everywhere(path: Path) -> None:
    """Set up a computation with a file at all servers at once, and see that each has it; twice."""

    async def main() -> None:
        port = free_port()
        async with Node(SERVERS, udp_port=port, force=True) as node, Scheduler(udp_port=port):
            for _ in range(2):
                computation = Computation(length, depends=[str(path)])
                await asyncio.gather(*(computation.setup(server) for server in node.servers))
                for server in node.servers:
                    assert await (await computation.run(server, path.name)) == SIZE
                    await computation.close(server)

    run_async(main, guard=60)


def test_servers_with_one_cache_are_sent_a_content_once(sent: list[int], tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    set_up_everywhere(path)
    # The others refuse it, or, asked later, do not want it at all.
    assert [size for size in sent if size] == [SIZE]


def test_a_server_that_keeps_the_bytes_to_itself_holds_up_nobody(
    sent: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peerfiles, "_PATIENCE", 0.0)
    monkeypatch.setattr(peerfiles, "_SLOW", 1e15)
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    set_up_everywhere(path)
    assert SIZE in sent

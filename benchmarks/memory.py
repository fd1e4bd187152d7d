"""Resident memory of one idle server process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import psutil

from benchmarks.contest import Contestant, Question
from benchmarks.ours import World

QUESTIONS = [
    Question(
        name="memory",
        title="resident memory of one idle server process",
        unit="MiB",
        lower_is_better=True,
        size=1,
        quick_size=1,
        floor="benchmarks.memory:Imports",
        others=["benchmarks.memory:Server", "benchmarks.peers.dask:Worker"],
        goals={"discoro": 1.3},
        beats={"Dask worker": 1},
        rounds=3,
    )
]

_IMPORTS = """
import asyncio, ssl, uvloop, msgpack, cryptography.hazmat.primitives.asymmetric.ec, cloudpickle, cpace, tblib, psutil
print(flush=True)
input()
"""


def resident(pid: int) -> float:
    """Resident memory in MiB."""
    rss: int = psutil.Process(pid).memory_info().rss
    return rss / (1 << 20)


class Imports(Contestant):
    """Python with the packages that discoro depends on."""

    label = "python and the base packages"

    async def round(self) -> float:
        with subprocess.Popen(
            [sys.executable, "-c", _IMPORTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            return resident(process.pid)


class Server(Contestant):
    """A server of a node with one."""

    label = "discoro"

    async def start(self) -> None:
        self._world: Any = await World().__aenter__()

    async def round(self) -> float:
        await asyncio.sleep(0.2)
        assert self._world.node.pid is not None
        servers = psutil.Process(self._world.node.pid).children()
        return max(resident(server.pid) for server in servers)

    async def stop(self) -> None:
        await self._world.__aexit__()

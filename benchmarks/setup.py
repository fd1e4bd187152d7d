"""Setting up a computation with 10 MB of dependencies at 16 servers."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant, Question
from benchmarks.floor.bulk import Bulk
from benchmarks.lean import nothing
from benchmarks.ours import World
from discoro import Computation

SERVERS = 16

QUESTIONS = [
    Question(
        name="setup",
        title="set up a computation with 10 MB of dependencies at 16 servers, first time",
        unit="ms",
        lower_is_better=True,
        size=10,
        quick_size=1,
        floor="benchmarks.setup:Bytes",
        others=["benchmarks.setup:First", "benchmarks.peers.dask:Upload"],
        goals={"discoro": 1.5},
        beats={"Dask upload_file": 1},
        rounds=5,
    ),
    Question(
        name="setup-again",
        title="the same content once more, per server (to be under 5 ms)",
        unit="ms",
        lower_is_better=True,
        size=10,
        quick_size=1,
        floor="benchmarks.setup:Bytes",
        others=["benchmarks.setup:Again"],
        at_most={"discoro": 5},
        rounds=5,
    ),
]


class Bytes(Bulk):
    """The bytes alone, 16 times."""

    label = "the bytes alone over the bulk floor"

    async def round(self) -> float:
        return (
            sum([self.size * 1.048576 / await super(Bytes, self).round() for _ in range(SERVERS)])
            * 1e3
        )


class First(Contestant):
    """Files that no server has seen."""

    label = "discoro"
    again = False

    async def start(self) -> None:
        self._world = await World(SERVERS).__aenter__()
        self._folder = tempfile.TemporaryDirectory(prefix="discoro-benchmark-")

    async def round(self) -> float:
        path = Path(self._folder.name) / "data"
        path.write_bytes(os.urandom(self.size * 1_000_000))
        taken = await self._set_up(path)
        if self.again:
            taken = await self._set_up(path) / SERVERS
        return taken * 1e3

    async def _set_up(self, path: Path) -> float:
        computation: Computation[[], Any] = Computation(nothing, depends=[str(path)])
        servers = self._world.servers
        begun = perf_counter()
        await asyncio.gather(*(computation.setup(server) for server in servers))
        taken = perf_counter() - begun
        for server in servers:
            await computation.close(server)
        return taken

    async def stop(self) -> None:
        await self._world.__aexit__()
        self._folder.cleanup()


class Again(First):
    """Another computation with the same files."""

    again = True

"""A file of 256 MiB, hashed and renamed at its place."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant, Missing, Question
from benchmarks.floor.bulk import MIB
from benchmarks.ours import Ours

QUESTIONS = [
    Question(
        name="files",
        title="a file of 256 MiB: send_file",
        unit="MB/s",
        size=256,
        quick_size=4,
        floor="benchmarks.floor.bulk:FileBulk",
        others=["benchmarks.files:SendFile", "benchmarks.files:Scp"],
        goals={"discoro": 0.5},
        beats={"scp": 1},
    )
]


async def _nothing() -> None:
    pass


class NewFile:
    """A file whose content is new each time: one that is there already would not be sent."""

    def __init__(self, size: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="discoro-benchmark-")
        self.path = Path(self._folder.name) / "data"
        self._block = os.urandom(MIB)
        self._size = size

    def renew(self) -> None:
        """Write other content; to the disk, so that writing it back is not part of what is measured then."""
        with self.path.open("wb") as file:
            file.write(os.urandom(MIB))
            for _ in range(self._size - 1):
                file.write(self._block)
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Remove it."""
        self._folder.cleanup()


class SendFile(Ours):
    """To a server of a node."""

    function = staticmethod(_nothing)

    async def start(self) -> None:
        await super().start()
        self._file = NewFile(self.size)

    async def measure(self, coro: Any) -> float:
        self._file.renew()
        scheduler = self.world.scheduler
        begun = perf_counter()
        await scheduler.send_file(self.server, self._file.path, overwrite=True)
        taken = perf_counter() - begun
        await scheduler.del_file(self.server, self._file.path.name)
        return self.size * 1.048576 / taken

    async def stop(self) -> None:
        await super().stop()
        self._file.close()


class Scp(Contestant):
    """OpenSSH to this machine."""

    label = "scp"

    async def start(self) -> None:
        if shutil.which("scp") is None:
            raise Missing("scp is not installed")
        login = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "localhost", "true"]
        if subprocess.run(login, capture_output=True, check=False).returncode:
            raise Missing("ssh localhost does not let us in")
        self._file = NewFile(self.size)

    async def round(self) -> float:
        self._file.renew()
        target = f"localhost:{self._file.path}.copy"
        begun = perf_counter()
        scp = await asyncio.create_subprocess_exec("scp", "-q", str(self._file.path), target)
        await scp.wait()
        return self.size * 1.048576 / (perf_counter() - begun)

    async def stop(self) -> None:
        self._file.close()

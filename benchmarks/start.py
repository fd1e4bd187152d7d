"""From ``python client.py``, nothing running, to the first remote result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import ClassVar

from benchmarks.contest import Contestant, Question
from benchmarks.ours import free_udp_port

QUESTIONS = [
    Question(
        name="start",
        title="from `python client.py`, nothing running, to the first remote result",
        unit="s",
        lower_is_better=True,
        size=1,
        quick_size=1,
        floor="benchmarks.start:TwoPythons",
        others=[
            "benchmarks.start:Client",
            "benchmarks.peers.rpyc:Client",
            "benchmarks.peers.dask:Client",
            "benchmarks.peers.ray:Client",
        ],
        most_more={"discoro": 0.5},
        beats={"Dask": 1, "Ray": 1},
    )
]


class Script(Contestant):
    """Runs a program until it says ``done``, and waits for its end outside of the measured time.

    Attributes:
        text: The program.
    """

    text: ClassVar[str] = ""

    async def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="discoro-benchmark-")
        self._path = Path(self._folder.name) / "client.py"
        self._path.write_text(self.text.replace("UDP_PORT", str(free_udp_port())))
        self._environment = {**os.environ, "XDG_STATE_HOME": self._folder.name}
        # As for an installed program: compiled once.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._environment["PYTHONPYCACHEPREFIX"] = self._folder.name
        home = str(Path(__file__).resolve().parent.parent)
        known = os.environ.get("PYTHONPATH")
        self._environment["PYTHONPATH"] = home + (os.pathsep + known if known else "")

    async def round(self) -> float:
        begun = perf_counter()
        with subprocess.Popen(
            [sys.executable, str(self._path)], stdout=subprocess.PIPE, env=self._environment
        ) as program:
            assert program.stdout is not None
            for line in program.stdout:
                if line.strip() == b"done":
                    return perf_counter() - begun
        raise RuntimeError("it never had a result")

    async def stop(self) -> None:
        self._folder.cleanup()


class TwoPythons(Contestant):
    """Two interpreters, one after the other."""

    label = "python -c pass, twice"

    async def round(self) -> float:
        begun = perf_counter()
        for _ in range(2):
            subprocess.run([sys.executable, "-c", "pass"], check=True)
        return perf_counter() - begun


class Client(Script):
    """A node with one server for the length of the program."""

    label = "discoro"
    text = """
from discoro import Computation, Node, Scheduler, run

def add(a, b):
    return a + b
    yield

async def main():
    computation = Computation(add)
    await computation.setup(node.servers[0])
    assert await (await computation.run(node.servers[0], 1, 2)) == 3
    print("done", flush=True)

if __name__ == "__main__":
    with Node(1, udp_port=UDP_PORT) as node:
        Scheduler(udp_port=UDP_PORT).run(main)
"""

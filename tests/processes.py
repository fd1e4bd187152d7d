"""Real processes for the acceptance tests: servers, client programs, and the folder and ports they share.

A :class:`World` is one test's, or one module's, private place: an own state folder, an own discovery port and an own
secret, so that tests do not meet each other. What it starts it ends, by process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import discoro
from discoro import Location, Scheduler
from discoro.transport.limits import Limits
from discoro.transport.secret import generate

HOME = Path(discoro.__file__).resolve().parent.parent

#: A server in thirty lines, as a user would write one: options and limits as JSON on the command line.
SERVER = """
import faulthandler, json, signal, sys
from discoro import Coro, Scheduler, discoro_server
from discoro.transport.limits import Limits

faulthandler.register(signal.SIGUSR1)  # says where it hangs
options, limits = json.loads(sys.argv[1]), json.loads(sys.argv[2])

async def main(coro=None):
    server = Coro(discoro_server)
    await coro.scheduler.network.publish()
    print(json.dumps([coro.scheduler.location.port, coro.scheduler.location.id.hex()]), flush=True)
    await server

Scheduler(**options, limits=Limits(**limits)).run(main)
"""


def free_port(kind: int = socket.SOCK_STREAM, count: int = 1) -> int:
    """The first of ``count`` ports in a row that nobody uses on this machine.

    Below those that a system gives to sockets which ask for none (32,768 on Linux): another program's client would
    take one of them before the test does. By chance, since several test runs may look at the same time.
    """
    for _ in range(1000):
        first = 10_000 + secrets.randbelow(22_000)
        with contextlib.ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probe = probes.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return first
    raise AssertionError(f"no {count} free ports in a row")


def until(fact: Callable[[], Any], what: str = "", guard: float = 15.0) -> Any:
    """Poll until ``fact()`` is true and return it."""
    limit = time.monotonic() + guard
    while not (found := fact()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {guard} s: {what or fact}")
        time.sleep(0.005)
    return found


class Program:
    """One running Python program with its output in files."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        environment: dict[str, str],
        name: str,
        inside: str = "",
    ) -> None:
        self.name = name
        if inside:  # a network namespace, see tests/hosts.py
            command = ["ip", "netns", "exec", inside, *command]
        self._out = folder / f"{name}.out"
        self._err = folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def says(self, text: str, guard: float = 20.0) -> str:
        """Wait until it has printed ``text``."""
        until(
            lambda: text in self.out or self.process.poll() is not None,
            f"{self.name} to say {text!r}; it said {self.out!r} {self.err!r}",
            guard,
        )
        assert text in self.out, f"{self.name} ended: {self.out}\n{self.err}"
        return self.out

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait(10)

    def ends(self, status: int | None = 0, guard: float = 30.0) -> str:
        """Wait for its end; return what it printed. ``status`` None: any."""
        try:
            found = self.process.wait(guard)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} runs on: {self.out}\n{self.err}") from None
        assert status is None or found == status, (
            f"{self.name} ended with {found}:\n{self.out}\n{self.err}"
        )
        return self.out


class ServerProgram(Program):
    """A process that hosts computations."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        options: dict[str, Any],
        limits: Any,
        inside: str = "",
    ) -> None:
        name = options["name"]
        command = [sys.executable, "-c", SERVER, json.dumps(options), json.dumps(limits)]
        super().__init__(folder, command, environment, name, inside)
        self._address = options["node"]
        self._where: tuple[int, str] | None = None

    @property
    def where(self) -> tuple[int, str]:
        """Its port and its process id, once it serves."""
        if self._where is None:
            port, process = json.loads(self.says("]\n").splitlines()[0])
            self._where = port, process
        return self._where

    @property
    def port(self) -> int:
        return self.where[0]

    @property
    def location(self) -> Location:
        """As a user would type it: address and port."""
        return Location(self._address, self.port)


class World:
    """The folder, ports, secret and processes of one test or module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.secret = generate()
        self.programs: list[Program] = []
        self._count = 0

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISCORO", "SLURM"))}
        return {
            **kept,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "DISCORO_SECRET": self.secret,
            "DISCORO_TEST_UDP_PORT": str(self.udp_port),
            "PYTHONPATH": str(HOME),
            "PYTHONWARNINGS": "error",
        }

    def server(
        self, *, limits: dict[str, Any] | None = None, inside: str = "", **options: Any
    ) -> ServerProgram:
        """Start a server, also inside a network namespace; it is ready once its ``port`` was asked for."""
        self._count += 1
        known = {
            "name": f"server-{self._count}",
            "node": "127.0.0.1",
            "tcp_port": 0,
            "udp_port": self.udp_port,
        }
        server = ServerProgram(
            self.folder, self.environment, {**known, **options}, limits or {}, inside
        )
        self.programs.append(server)
        return server

    def program(
        self, text: str, *arguments: object, inside: str = "", **environment: str
    ) -> Program:
        """Write a program to a file and run it as ``__main__``."""
        self._count += 1
        path = self.folder / f"program_{self._count}.py"
        path.write_text(textwrap.dedent(text))
        command = [sys.executable, str(path), *map(str, arguments)]
        program = Program(
            self.folder, command, {**self.environment, **environment}, path.stem, inside
        )
        self.programs.append(program)
        return program

    def module(self, module: str, name: str, *arguments: str, **environment: str) -> Program:
        """Run a module of the tests as ``python -m`` does."""
        command = [sys.executable, "-m", module, *arguments]
        program = Program(self.folder, command, {**self.environment, **environment}, name)
        self.programs.append(program)
        return program

    def scheduler(self, *, limits: dict[str, Any] | None = None, **options: Any) -> Scheduler:
        """A client in this process."""
        known: dict[str, Any] = {
            "node": "127.0.0.1",
            "udp_port": self.udp_port,
            "secret": self.secret,
        }
        return Scheduler(**{**known, **options}, limits=Limits(**(limits or {})))

    def run(self, main: Callable[..., Any], guard: float = 30.0, **options: Any) -> Any:
        """Run ``main(coro)`` in a client in this process; fail, rather than hang, after ``guard`` seconds."""

        async def guarded(coro: Any = None) -> Any:
            async with asyncio.timeout(guard):
                return await main(coro)

        return self.scheduler(**options).run(guarded)

    def close(self) -> None:
        """End what still runs."""
        for program in self.programs:
            if program.process.poll() is None:
                program.signal(signal.SIGTERM)
        for program in self.programs:
            try:
                program.process.wait(3)
            except subprocess.TimeoutExpired:
                program.kill()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world that is ended at last, with this process's state folder in it."""
    folder.mkdir(exist_ok=True)
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    here = World(folder)
    try:
        yield here
    finally:
        here.close()
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)

"""Start the command for real, talk to its small servers, and see that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import discoro
from discoro.node.control import ask
from discoro.statefolder import StateFolder

HOME = Path(discoro.__file__).resolve().parent.parent
SMALL_NODE = Path(__file__).with_name("smallnode.py")
SMALL = (sys.executable, str(SMALL_NODE))
REAL = (sys.executable, "-m", "discoro")


def until(
    fact: Callable[[], Any], what: str | Callable[[], object] = "", guard: float = 60.0
) -> Any:
    """Poll until ``fact()`` is true and return it."""
    limit = time.monotonic() + guard
    while not (found := fact()):
        if time.monotonic() > limit:
            shown = what() if callable(what) else what
            raise AssertionError(f"not within {guard} s: {shown or fact}")
        time.sleep(0.005)
    return found


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class NodeProcess:
    """One running command, with its own state folder and its output in a file."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        command: tuple[str, ...] = SMALL,
        environment: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        terminal: int | None = None,
    ) -> None:
        self.folder = folder
        self.output = folder / f"output-{time.monotonic_ns()}"
        self.environment = environment_of(folder, environment)
        self.pids: set[int] = set()
        self.udp_port = 0
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *options],
                stdin=stdin if terminal is None else terminal,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=None if terminal is None else own_terminal,
            )
        self.pids.add(self.process.pid)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def says(self, text: str, guard: float = 60.0) -> str:
        """Wait for a text on its terminal."""

        def said() -> bool:
            return text in self.text or self.process.poll() is not None

        until(said, f"{text!r} in {self.text!r}", guard)
        assert text in self.text, self.text
        return self.text

    def ready(self) -> NodeProcess:
        self.says("connect with")
        self.status()
        return self

    def status(self) -> dict[str, Any]:
        """Ask the parent, as the command ``status`` does."""
        state = StateFolder(str(self.folder / "discoro"))
        for record in state.nodes():
            if record.pid == self.process.pid:
                node = ask(state, record, "status")
                self.pids.update(s["pid"] for s in node["servers"] if s["pid"])
                return node
        raise AssertionError(f"no such node; it said {self.text!r}")

    def server(self, index: int = 0) -> dict[str, Any]:
        return dict(self.status()["servers"][index])

    def connect(self, index: int = 0) -> Talk:
        host, port = self.server(index)["addresses"][0]
        return Talk("127.0.0.1" if host == "0.0.0.0" else host, port)

    def ask(self, text: str, index: int = 0) -> Any:
        with self.connect(index) as talk:
            return talk.ask(text)

    def tell(self, text: str, index: int = 0) -> None:
        """Say something that may not be answered."""
        with self.connect(index) as talk:
            talk.say(text)
            time.sleep(0.02)

    def ends(self, guard: float = 30.0) -> int:
        """Wait for its end; return the exit status; nothing of it may be left."""
        status = self.process.wait(guard)
        until(lambda: not any(alive(pid) for pid in self.pids), f"{self.pids} to end", 5.0)
        return status


class Talk:
    """A connection to a small server."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()
        self.socket.close()

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def ask(self, text: str) -> Any:
        self.say(text)
        return json.loads(self.file.readline())


def environment_of(folder: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISCORO", "SLURM"))}
    return {**kept, "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(HOME), **(more or {})}


def own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def ended_at_last(*nodes: NodeProcess) -> Iterator[None]:
    """Kill what a failed test would leave."""
    try:
        yield
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
                node.process.wait(10)
            for pid in node.pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    return subprocess.run(
        [*REAL, *arguments],
        env=environment_of(folder, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )

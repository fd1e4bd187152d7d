"""Run programs of 2014 to 2022 with their import lines changed, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import ServerProgram, World, until

PROGRAMS = Path(__file__).with_name("programs")
GUIDE = Path(__file__).parents[2] / "docs" / "migration.md"


def changed(text: str) -> str:
    """The text with its import lines changed, by the commands that docs/migration.md gives."""
    rules = re.findall(r"^\$ sed -E -i '(.*)' \*\.py$", GUIDE.read_text(), re.MULTILINE)
    assert len(rules) == 3
    commands = [part for rule in rules for part in ("-e", rule)]
    return subprocess.run(
        ["sed", "-E", *commands], input=text, capture_output=True, text=True, check=True
    ).stdout


def serve(here: World, count: int, udp_port: int | None = None) -> None:
    """Start servers, whose warnings are no errors: old code warns that it is old."""
    servers = []
    for number in range(count):
        options = {
            "name": f"server-{number}",
            "node": "127.0.0.1",
            "tcp_port": 0,
            "udp_port": here.udp_port if udp_port is None else udp_port,
        }
        environment = {**here.environment, "PYTHONWARNINGS": "ignore"}
        servers.append(ServerProgram(here.folder, environment, options, {}))
    here.programs.extend(servers)
    assert all(server.port for server in servers)


class Old:
    """One old program, running: its lines of input are given when the test wants."""

    def __init__(self, here: World, name: str, *arguments: object) -> None:
        self.name = name
        folder = here.folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir()
        script = folder / f"{name}.py"
        script.write_text(changed((PROGRAMS / f"{name}.txt").read_text()))
        self._out = folder / "out"
        self._err = folder / "err"
        environment = {**here.environment, "PYTHONWARNINGS": "ignore"}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self.script = script
        here.programs.append(self)  # type: ignore[arg-type]  # ends what a failed test leaves

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def says(self, text: str, times: int = 1) -> None:
        until(
            lambda: self.out.count(text) >= times or self.process.poll() is not None,
            f"{self.name} to say {text!r}; it said {self.out!r} {self.err!r}",
        )
        assert self.out.count(text) >= times, f"{self.name} ended: {self.out}\n{self.err}"

    def feed(self, *lines: str) -> None:
        assert self.process.stdin is not None
        for line in lines:
            self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ends(self, *lines: str) -> list[str]:
        """Give it its last lines, wait for its end, and return what it printed."""
        assert self.process.stdin is not None
        self.feed(*lines)
        self.process.stdin.close()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} runs on: {self.out}\n{self.err}") from None
        assert status == 0, f"{self.name} ended with {status}: {self.out}\n{self.err}"
        return self.out.splitlines()

"""Documents that are executed: what a reader would type, typed; what a document claims to see, compared.

How a document is written so that it runs, top to bottom, in one folder of its own:

* a ``python`` block whose first line is ``# name.py`` is a file of that name;
* a ``python`` block whose first line is ``# In [1]:`` is a notebook cell; cells that follow each other belong to one
  notebook, and a ``text`` block right behind them is what it prints;
* a ``console`` block is a terminal. ``$ command`` is run to its end, and the lines below are all that it prints.
  ``word$ command`` is another terminal, named ``word``, where the command goes on; the lines below must appear there
  (``other$`` is one of another machine: it has a state folder of its own).
  A block that begins with ``word$`` alone looks at that terminal again; ``^C`` and ``quit`` are typed into it.
* a ``py`` block is a program of another system, shown and not executed; a ``mermaid`` block is a picture.

A comment behind a command stands behind two spaces. ``...`` stands for anything in a line, and alone for any lines.
The port 9700 of the documents becomes a free one.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

import discoro
from tests.processes import free_port

CHECKOUT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(CHECKOUT.glob("*.md")),
    *(path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if "_build" not in path.parts),
    CHECKOUT / "examples/README.md",
]


def title(document: Path) -> str:
    """What a document is called in the names and texts of tests."""
    inside = document.is_relative_to(CHECKOUT)
    return str(document.relative_to(CHECKOUT)) if inside else document.name


_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.\w+)\n")
_CELL = re.compile(r"# In \[\d+\]:\n")
_PROMPT = re.compile(r"(\w*)\$(?: (.*))?$")
_TYPED = {"^C": b"\x03", "quit": b"quit\n"}
# Long enough for a loaded machine; a document that is right needs a second or two.
_GUARD = 40.0

# Runs the cells of a notebook in one loop, each to its end, as Jupyter does.
_NOTEBOOK = """
import ast, asyncio, inspect, pathlib, sys
async def notebook(names):
    for name in names:
        code = compile(pathlib.Path(name).read_text(), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, vars(sys.modules["__main__"]))
        if inspect.iscoroutine(result):
            await result
asyncio.run(notebook(sys.argv[1:]))
"""
# Gives every program the test's own discovery port, so that it meets nobody else's nodes.
_OWN_PORT = """
import discoro.node.settings, discoro.peers.options
discoro.node.settings.UDP_PORT = discoro.peers.options.UDP_PORT = {port}
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{title(self.document)}:{self.line}"

    @property
    def file(self) -> str | None:
        """Name of the file that it is."""
        found = _FILE.match(self.text) if self.language == "python" else None
        return found[1] if found else None

    @property
    def is_cell(self) -> bool:
        """Whether it is a notebook cell."""
        return self.language == "python" and bool(_CELL.match(self.text))

    def steps(self) -> list[tuple[str, str | None, list[str]]]:
        """(terminal, command or None, lines that are claimed) of a console block."""
        steps: list[tuple[str, str | None, list[str]]] = []
        for line in self.text.splitlines():
            found = _PROMPT.match(line)
            if found:
                command = found[2] and found[2].partition("  #")[0].rstrip()
                steps.append((found[1], command, []))
            else:
                assert steps, f"{self.where}: a console block begins with a prompt"
                steps[-1][2].append(line)
        return steps


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(document, text.count("\n", 0, found.start()) + 2, found[1], found[2])
        for found in _FENCE.finditer(text)
    ]


def pattern(claimed: str) -> str:
    """A regular expression for what a document claims of one line."""
    return ".*".join(re.escape(part) for part in claimed.rstrip().split("..."))


def agrees(claimed: list[str], printed: str) -> bool:
    """Whether ``printed`` is what the lines ``claimed`` say."""
    expression = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else pattern(line) + r"[ \t]*\n" for line in claimed
    )
    return (
        re.fullmatch(expression, printed if not printed or printed[-1] == "\n" else printed + "\n")
        is not None
    )


class Terminal:
    """A terminal in which a program runs on, with all that its screen has shown."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self.command = command
        self._screen = b""
        self._from = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x40\x00\x00\x01" + bytes(4))  # 64 lines of 256
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec env {command}"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux says EIO when the last writer is gone
                return
            if not data:
                return
            self._screen += data

    @property
    def screen(self) -> str:
        return self._screen.decode(errors="replace").replace("\r\n", "\n")

    def shows(self, claimed: list[str], where: str) -> None:
        """Type what is to be typed, and wait until all other lines have appeared since then."""
        for line in claimed:
            if line in _TYPED:
                self._from = len(self.screen)
                os.write(self._master, _TYPED[line])
            elif line.strip() != "...":
                self._wait_for(line, where)
        if any(line in _TYPED for line in claimed):
            self.ends(where)

    def _wait_for(self, line: str, where: str) -> None:
        expression = re.compile("^" + pattern(line) + r"[ \t]*$", re.MULTILINE)
        limit = time.monotonic() + _GUARD
        while not expression.search(self.screen[self._from :]):
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if ended or time.monotonic() > limit:
                found = expression.search(self.screen[self._from :])
                assert found, (
                    f"{where}: {line!r} is not on the screen:\n{self.screen[self._from :]}"
                )
            time.sleep(0.01)

    def ends(self, where: str) -> None:
        try:
            self.process.wait(_GUARD)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{where}: {self.command} runs on:\n{self.screen}") from None
        self._reader.join(5)

    def close(self) -> None:
        """End it as a closed window does, and then for sure."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        os.close(self._master)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Scenario:
    """One document, executed in a folder of its own."""

    def __init__(self, folder: Path, not_run: dict[str, str]) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.terminals: dict[str, Terminal] = {}
        self._not_run = not_run
        self._top = folder
        self._cells: list[str] = []
        self._port = free_port(count=os.cpu_count() or 1)
        tools = folder / "tools"
        tools.mkdir()
        (tools / "sitecustomize.py").write_text(_OWN_PORT.format(port=free_port(socket.SOCK_DGRAM)))
        (tools / "notebook").write_text(_NOTEBOOK)
        python = tools / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        self._tools = tools

    def environment(self, terminal: str) -> dict[str, str]:
        """What a program in a terminal finds; the terminal ``other`` is another machine."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISCORO", "SLURM"))}
        home = Path(discoro.__file__).resolve().parent.parent
        machine = "-other" if terminal == "other" else ""
        return {
            **kept,
            "PATH": f"{self._tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": f"{self._tools}{os.pathsep}{home}",
            "XDG_STATE_HOME": str(self._top / f"state{machine}"),
        }

    def run(self, document_blocks: list[Block]) -> None:
        """Do what the document says, from top to bottom."""
        document_blocks = [
            replace(block, text=block.text.replace("9700", str(self._port)))
            for block in document_blocks
        ]
        for index, block in enumerate(document_blocks):
            after = document_blocks[index + 1] if index + 1 < len(document_blocks) else None
            if block.file is not None:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.is_cell:
                name = f"cell_{index}.py"
                (self.folder / name).write_text(block.text)
                self._cells.append(name)
                if after is None or not after.is_cell:
                    self._run_notebook(after)
            elif block.language == "console":
                for terminal, command, claimed in block.steps():
                    self._type(block, terminal, command, claimed)

    def _run_notebook(self, after: Block | None) -> None:
        assert after is not None and after.language == "text", (
            "a notebook's output stands behind it"
        )
        cells, self._cells = self._cells, []
        printed = self._run(["python", str(self._tools / "notebook"), *cells], after.where)
        assert agrees(after.text.splitlines(), printed), f"{after.where}: it printed\n{printed}"

    def _type(self, block: Block, terminal: str, command: str | None, claimed: list[str]) -> None:
        if command in self._not_run:
            return
        if not terminal:
            assert command is not None
            printed = self._run(["sh", "-c", command], block.where, fails=_fails(claimed))
            assert agrees(claimed, printed), f"{block.where}: {command} printed\n{printed}"
            return
        if command is not None:
            old = self.terminals.pop(terminal, None)
            if old is not None:
                old.ends(block.where)
                old.close()
            environment = self.environment(terminal)
            self.terminals[terminal] = Terminal(command, self.folder, environment)
        self.terminals[terminal].shows(claimed, block.where)

    def _run(self, command: list[str], where: str, *, fails: bool = False) -> str:
        running = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(""),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = running.communicate(timeout=_GUARD)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)  # what the shell has started, too
            printed, _ = running.communicate()
            raise AssertionError(f"{where}: {command[-1]} runs on:\n{printed}") from None
        assert not running.returncode or fails, f"{where}: status {running.returncode}\n{printed}"
        return printed

    def close(self) -> list[str]:
        """End every terminal; return what is left behind."""
        for terminal in self.terminals.values():
            terminal.close()
        limit = time.monotonic() + 5
        while (left := self._left()) and time.monotonic() < limit:
            time.sleep(0.02)
        return left

    def _left(self) -> list[str]:
        """Processes that this scenario has started: they have its folder in their environment."""
        mark = f"{self._top}/state"
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("XDG_STATE_HOME", "").startswith(mark):
                    left.append(f"{process.pid} {process.cmdline()}")
            except psutil.Error:
                continue
        return left


def _fails(claimed: list[str]) -> bool:
    """Whether a claimed output is that of a command that may fail: there is an error in it."""
    return any(re.match(r"discoro: |discoro\.[\w.]+: |[\w.]+Error: ", line) for line in claimed)

"""Each example as a user runs it: real processes, a real node, its output compared."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.nodes import HOME, REAL, NodeProcess, ended_at_last, run
from tests.processes import Program

EXAMPLES = HOME / "examples"

# What a program prints that is run without arguments beside a node with two servers.
PRINTED = {
    "broadcast.py": """
        first: 2 have it
        second: 2 have it
        heard ['FIRST', 'SECOND']
        heard ['FIRST', 'SECOND']
        """,
    "hot_swap.py": """
        every message once and in order: True
        swapped once: True ended by: second
        """,
    "remote_output.py": """
        line 1
        line 2
        line 3
        exit status 7
        """,
    "analytics.py": """
        25 alarms, the highest 0.998
        """,
    "fetch.py": """
        a 200 1000
        bb 200 2000
        ccc 200 3000
        """,
    "agents.py": """
        alice was told: hello, I am bob
        bob was told: hello, I am alice
        """,
}
ELSEWHERE = {"service.py", "chat.py", "notebook.ipynb"}


class Place:
    """A folder with a state folder in it, a node, and the programs that were started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = NodeProcess(folder, "-c", "2", "-n", "node", command=REAL)
        self.started: list[Any] = []

    def start(self, example: str, *arguments: str, cls: type[Program] = Program) -> Any:
        command = [sys.executable, str(EXAMPLES / example), *arguments]
        name = f"{Path(example).stem}-{len(self.started)}"
        environment = {**self.node.environment, "PYTHONWARNINGS": "error"}
        program = cls(self.folder, command, environment, name)
        self.started.append(program)
        return program


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    here = Place(tmp_path_factory.mktemp("examples"))
    with ended_at_last(here.node):
        try:
            yield here
        finally:
            for program in here.started:
                if program.process.poll() is None:
                    program.kill()
            run(here.folder, "stop")


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def test_every_example_is_tested_and_listed() -> None:
    examples = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert examples == PRINTED.keys() | ELSEWHERE
    readme = (EXAMPLES / "README.md").read_text()
    assert not [name for name in examples if f"`{name}`" not in readme]


@pytest.mark.parametrize("example", PRINTED)
def test_an_example_prints_what_it_should(place: Place, example: str) -> None:
    if example == "fetch.py":
        pytest.importorskip("aiohttp")
    place.node.ready()
    assert lines(place.start(example).ends()) == lines(PRINTED[example])


def test_a_command_given_to_an_example_runs_on_the_server(place: Place) -> None:
    place.node.ready()
    told = lines(place.start("remote_output.py", "echo", "hello").ends())
    assert told == ["hello", "exit status 0"]


def test_a_service_is_called_from_another_terminal(place: Place) -> None:
    server = place.start("service.py", "serve")
    server.says("registered")
    told = lines(place.start("service.py").ends())
    assert told == [
        "returned 12 / 4: 3",
        "failed with integer division or modulo by zero",
    ]
    server.signal(signal.SIGINT)
    assert lines(server.ends(None))[-1] == "ended"


class Terminal(Program):
    """A program whose input the test types."""

    def __init__(
        self, folder: Path, command: list[str], environment: dict[str, str], name: str
    ) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, cwd=folder
            )

    def types(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def leaves(self) -> list[str]:
        assert self.process.stdin is not None
        self.types("")
        self.process.stdin.close()
        return lines(self.ends())


def test_a_chat_between_terminals(place: Place) -> None:
    room = place.start("chat.py", "room")
    room.says("open")
    ann = place.start("chat.py", "ann", cls=Terminal)
    ann.says("ann: is here")
    bob = place.start("chat.py", "bob", cls=Terminal)
    ann.says("bob: is here")
    ann.types("hello")
    bob.says("ann: hello")
    bob.types("SHOUTED")
    bob.types("bye")
    ann.says("bob: bye")
    assert bob.leaves() == ["bob: is here", "ann: hello", "bob: bye"]
    ann.says("bob: has left")
    heard = ann.leaves()
    assert heard == [
        "ann: is here",
        "bob: is here",
        "ann: hello",
        "bob: bye",
        "bob: has left",
    ]
    room.signal(signal.SIGINT)
    assert lines(room.ends(None))[-1] == "closed"


def test_the_notebook_gives_the_same_from_top_to_bottom(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    place.node.ready()
    for name, value in place.node.environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    execute(nbclient, notebook, place.folder)
    results = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert results == ["0", "[101, 102, 103]", "2"]


def execute(nbclient: Any, notebook: Any, folder: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the notebook's client
        client = nbclient.NotebookClient(
            notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()

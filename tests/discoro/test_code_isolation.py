"""Many computations with equal names in one server process: real processes at both ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.discoro.codeprojects import FILES, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "PYTHONWARNINGS": "error"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "s")
    process = subprocess.Popen(
        [sys.executable, str(HERE / "codeserver.py"), path],
        cwd="/",
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path
        process.terminate()


def start(folder: Path, server: str, main: str = "main.py") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, main, server],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, server: str, script: str) -> str:
    """Run a script in a project; return what it prints."""
    write(folder, {"main.py": script})
    with start(folder, server) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def test_two_clients_with_equal_names_never_see_each_other(tmp_path: Path, server: str) -> None:
    clients = []
    for mark in (11, 2200):
        folder = write(tmp_path / f"client{mark}", FILES, mark)
        shutil.copy(HERE / "isolation_case.py", folder / "main.py")
        clients.append((mark, start(folder, server)))
    for mark, process in clients:
        with process:
            output, _ = process.communicate(timeout=60)
        assert output == f"all as it should be {mark}\n"

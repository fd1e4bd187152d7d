"""What a person reads with ``-d`` and ``DISCORO_LOG``: one line for each event, with who and why, and no secret."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.nodes import NodeProcess, environment_of
from tests.functional.test_node import FIND, SECRET, program, start

__all__ = ["start"]

Start = Callable[..., NodeProcess]
LINE = re.compile(r"(\[bob-1.*?\] )?\d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) discoro\.\w+: .+")

BODY = (
    FIND.format(name="bob-1")
    + """
computation = discoro.Computation(work)
yield computation.setup(peer)
good = yield computation.run(peer, 0.0)
yield good.finish(10)
bad = yield computation.run(peer, "no number at all")
try:
    yield bad.finish(10)
except Exception:
    pass
yield computation.close(peer)
return scheduler.name
"""
)


def logged(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if re.search(r"\d\d:\d\d:\d\d [A-Z]+ discoro", line):
            assert LINE.fullmatch(line), line
            yield re.sub(r"^.*?discoro\.\w+: ", "", line)


def test_a_node_with_d_tells_who_came_what_ran_and_how_it_ended(start: Start) -> None:
    node = start("-c", "1", "-n", "bob", "-d", environment=SECRET).ready()
    running = program(node, BODY, None, **SECRET, DISCORO_LOG="info")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    name = out.split()[-1]
    node.says("session over: closed by the peer")
    there = "\n".join(logged(node.text))
    for event in (
        rf"{name} at 127\.0\.0\.1:\d+: session open, they dialled",
        rf"work of {name}: set up in \d\.\d\d s",
        rf"run 1 of {name}: work begins\nrun 1 of {name}: returned",
        rf"run 2 of {name}: failed: TypeError: .*",
        rf"work of {name}: closed",
        rf"{name} at 127\.0\.0\.1:\d+: session over: closed by the peer",
    ):
        assert re.search(rf"^{event}$", there, re.M), (event, there)
    here = "\n".join(logged(err))
    assert re.search(r"^bob-1 at 127\.0\.0\.1:\d+: session open, we dialled$", here, re.M), err
    assert re.search(r"^work: set up at bob-1, \d+ bytes of code and files sent$", here, re.M), err
    assert SECRET["DISCORO_SECRET"] not in node.text + err
    node.process.terminate()
    assert node.ends() == 0


def test_without_them_a_good_day_is_silent(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    before = node.text
    running = program(node, BODY)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0 and not err
    node.says("is done")
    assert not list(logged(node.text.removeprefix(before)))
    node.process.terminate()
    assert node.ends() == 0


def test_a_client_that_is_killed_is_told_as_cut(start: Start) -> None:
    node = start("-c", "1", "-n", "bob", environment={"DISCORO_LOG": "info"}).ready()
    body = FIND.format(name="bob-1") + "\nprint('met', flush=True)\nyield coro.sleep(1000)"
    running = program(node, body)
    assert running.stdout is not None and running.stdout.readline() == "met\n"
    running.kill()
    running.communicate()
    node.says("connection cut (")
    cut = next(line for line in logged(node.text) if "connection cut" in line)
    assert cut.endswith("they may dial again, for 75 s")
    node.process.terminate()
    assert node.ends() == 0


@pytest.mark.parametrize("level", ["loud", "debug"])
def test_a_programs_own_logging_is_left_alone(level: str, tmp_path: Path) -> None:
    code = (
        "import logging, discoro\n"
        "s = discoro.Scheduler()\n"
        "logging.getLogger('discoro.x').warning('before')\n"
        "logging.basicConfig(format='mine %(message)s')\n"
        "discoro.Scheduler.instance()\n"
        "logging.getLogger('discoro.x').warning('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_of(tmp_path, {"DISCORO_LOG": level}),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert ("'loud' is no level" in done.stderr) == (level == "loud")
    assert done.stderr.count("before") == 1 and done.stderr.splitlines()[-1] == "mine after"

"""Servers that take too much: ``--max-rss`` and ``--max-stall`` of a real node end that one process, and say why."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discoro import Computation, Node
from discoro.errors import NodeFailed, ServerKilled
from discoro.scheduler import MonitorException
from tests.faults import faultjobs
from tests.faults.test_kills import place, set_up
from tests.functional.nodes import REAL, NodeProcess, ended_at_last
from tests.processes import World, until

GIB = 1 << 30


@pytest.fixture(scope="module")
def node(shared: World) -> Iterator[NodeProcess]:
    """A node of two servers that may take 256 MiB, and block for 1.5 s."""
    folder = shared.folder / "state"
    folder.mkdir()
    options = ("-u", str(shared.udp_port), "-i", "127.0.0.1", "-c", "2", "--force", "-n", "node")
    bounds = ("--max-rss", "256M", "--max-stall", "1.5")
    secret = {"DISCORO_SECRET": shared.secret}
    made = NodeProcess(folder, *options, *bounds, command=REAL, environment=secret)
    with ended_at_last(made):
        made.ready()
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.ends() == 0


MEMORY = r"it took .* of memory, more than --max-rss 256 MiB"
STALL = r"its loop was blocked for .* s, longer than --max-stall 1.5 s"
CASES: dict[str, tuple[Any, tuple[Any, ...], Any, str]] = {
    # what runs, its arguments, what is sent to it, and the reason that its owner reads
    "a run that takes more and more": (
        *(faultjobs.grow, (8 << 20,), None),
        MEMORY + r", .*\bgrow\b.*",
    ),
    "a run that takes a gigabyte at once": (
        *(faultjobs.take, (GIB,), None),
        MEMORY + r", at \S*faultjobs\.py:\d+ in take",
    ),
    "a run that sleeps as a thread does": (
        *(faultjobs.block, (600,), None),
        STALL
        + r", at \S*faultjobs\.py:\d+ in block \(coroutine block \d+ of computation block of client .*\)",
    ),
    "a run that keeps Python's lock": (
        *(faultjobs.seize, (10**14,), None),
        STALL + r", at \S*faultjobs\.py:\d+ in seize",
    ),
    "a message whose unpickling hangs": (
        *(faultjobs.receive_one, (), faultjobs.Hangs()),
        STALL
        + r", at \S*faultjobs\.py:\d+ in spin \(with 1 run of .*computation receive_one of client .*\)",
    ),
    "a message that unpickles to gigabytes": (
        *(faultjobs.receive_one, (), faultjobs.Swells(GIB)),
        MEMORY + r", unpickling a value that was sent to it",
    ),
}


ALWAYS = {
    "a run that sleeps as a thread does",
    "a message that unpickles to gigabytes",
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case in ALWAYS else pytest.mark.slow) for case in CASES],
)
def test_who_takes_too_much_costs_its_server_process_and_nothing_else(
    case: str, shared: World, node: NodeProcess
) -> None:
    func, arguments, message, reason = CASES[case]
    before = [server["pid"] for server in node.status()["servers"]]

    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(func)
        hanging: Computation[Any, Any] = Computation(faultjobs.hang)
        echoing: Computation[Any, Any] = Computation(faultjobs.echo)
        first, second = place(node, 0), place(node, 1)
        await echoing.setup(second)
        echo = await echoing.run(second, coro)
        for one in (computation, hanging):
            await one.setup(first)
        beside = await hanging.run(first)  # of the same server: its owner is told the same
        await coro.monitor(beside)
        with pytest.raises(ServerKilled) as caught:
            run = await computation.run(first, *arguments)
            if message is not None:
                run.send(message)
            await run.finish()
        assert caught.value.signal == signal.SIGKILL
        assert re.search(f"the node ended it because {reason}$", caught.value.why or ""), str(
            caught.value
        )
        told = await coro.receive(timeout=10)
        assert isinstance(told, MonitorException)
        kind, error = told.args[1]
        assert kind is ServerKilled and error.why == caught.value.why
        echo.send("undisturbed")
        assert await coro.receive(timeout=10) == "undisturbed"
        await set_up(hanging, first)  # it has been started again
        assert await hanging.ping(first) == 0

    shared.scheduler().run(main)
    said = until(
        lambda: re.search(
            rf"node-1: process {before[0]} ended by the node because {reason}; restarting",
            node.text,
        ),
        node.text,
    )
    assert said
    after = [server["pid"] for server in node.status()["servers"]]
    assert after[0] != before[0] and after[1] == before[1]


@pytest.mark.slow
def test_who_stays_within_the_bounds_is_left_alone_also_when_stopped(
    shared: World, node: NodeProcess
) -> None:
    pid = node.server(1)["pid"]

    async def main(coro: Any = None) -> None:
        second = place(node, 1)
        blocking: Computation[Any, Any] = Computation(faultjobs.block)
        await blocking.setup(second)
        assert await (await blocking.run(second, 0.7)) == "blocked"
        run = await blocking.run(second, 0.01)
        signal_process(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(2.5)
        finally:
            signal_process(pid, signal.SIGCONT)
        assert await run == "blocked"

    shared.scheduler().run(main)
    server = node.server(1)
    assert server["pid"] == pid and 20 << 20 < server["rss"] < server["max_rss"] == 256 << 20
    assert "or blocks for longer than 1.5 s (--max-stall)" in node.text  # the banner


def signal_process(pid: int, number: int) -> None:
    import os

    os.kill(pid, number)


def test_a_node_of_a_program_takes_the_bounds_and_says_what_is_wrong_with_them(
    own: World, tmp_path: Path
) -> None:
    with pytest.raises(NodeFailed, match="at least 128 MiB"):
        Node(1, max_rss="1M", max_stall=30).start()

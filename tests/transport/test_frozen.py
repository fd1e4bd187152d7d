"""A process that is stopped is busy and not lost: its kernel answers. What it slept through is not held against us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from discoro.transport.limits import Limits
from discoro.transport.session import State
from tests.kit import eventually, run_async
from tests.transport.ends import SECRET, End

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs TCP_INFO"),
]

QUICK = {
    "tick": 0.05,
    "ping_idle": 0.1,
    "silence": 0.4,
    "own_stall": 0.2,
    "resume_client": 0.6,
    "resume_server": 0.8,
    "dial_first": 0.01,
    "dial_most": 0.02,
}

CHILD = """
import asyncio, sys
from discoro.transport.limits import Limits
from tests.kit import run_async
from tests.transport.ends import End

async def main():
    end = End(limits=Limits(**eval(sys.argv[1])), secret=sys.argv[2])
    end.on_entry = lambda session, kind, target, source, data: session.send(kind, target, source, data)
    print(await end.listen(), flush=True)
    while True:
        await asyncio.sleep(0.02)
        for event, *_ in end.events:
            print(event, flush=True)
        end.events.clear()

run_async(main, guard=60)
"""


@contextmanager
def echoing_process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, repr(QUICK), SECRET],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("cut", [False, True])
def test_a_stopped_server_is_busy_and_goes_on_where_it_was(cut: bool) -> None:
    """With a cut meanwhile the dial connects and hears nothing: the window does not run."""

    async def main() -> None:
        with echoing_process() as (process, port):
            one = End(limits=Limits(**QUICK))  # type: ignore[arg-type]
            session = await one.endpoint.connect("127.0.0.1", port, timeout=10)
            process.send_signal(signal.SIGSTOP)
            if cut:
                one.endpoint.cut(session, None)
            session.send(5, 1, 1, b"are you there?")
            await eventually(lambda: session.busy)
            await asyncio.sleep(1.5)
            assert session.busy and not one.told("lost"), "longer than every window"
            process.send_signal(signal.SIGCONT)
            await eventually(lambda: one.got and not session.busy and session.state is State.UP)
            assert [data for *_, data in one.got] == [b"are you there?"]
            assert not one.told("lost") and bool(one.told("down")) == cut
            await one.endpoint.close()

    run_async(main)


def test_a_first_dial_to_a_stopped_server_waits_for_it() -> None:
    async def main() -> None:
        with echoing_process() as (process, port):
            one = End(limits=Limits(**QUICK))  # type: ignore[arg-type]
            process.send_signal(signal.SIGSTOP)
            dial = asyncio.ensure_future(one.endpoint.connect("127.0.0.1", port, timeout=None))
            await asyncio.sleep(1.0)
            assert not dial.done()
            process.send_signal(signal.SIGCONT)
            await dial
            await one.endpoint.close()

    run_async(main)


def test_a_killed_server_is_known_at_once() -> None:
    async def main() -> None:
        with echoing_process() as (process, port):
            one = End(limits=Limits(**QUICK, refused_timeout=0.1))  # type: ignore[arg-type]
            await one.endpoint.connect("127.0.0.1", port, timeout=10)
            process.kill()
            await eventually(lambda: one.told("down"))
            await eventually(lambda: one.told("lost"))
            await one.endpoint.close()

    run_async(main)

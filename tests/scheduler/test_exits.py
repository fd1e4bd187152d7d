"""Scripts and how they end, as real processes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

ROOT = pathlib.Path(__file__).parents[2]

HEAD = """
import asyncio, os, sys, time
from discoro.scheduler import Coro, Scheduler, to_thread
try:
    import uvloop
except ImportError:
    pass
else:
    if os.environ.get("LOOP") != "asyncio":
        Scheduler.new_loop = staticmethod(uvloop.new_event_loop)
def say(*text):  # in one piece: two threads may say something
    sys.stdout.write(" ".join(map(str, text)) + "\\n"); sys.stdout.flush()
"""

INTERRUPTED = (130, -signal.SIGINT)

LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


class Script:
    """A running script; killed at the end of the block if it still runs."""

    def __init__(self, text: str, loop: str = "uvloop") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOOP": loop}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(text)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def at_rest(self) -> None:
        """Wait until it uses no time: it has come to where it waits."""
        process, used, quiet = psutil.Process(self.process.pid), -1.0, 0
        while quiet < 6:
            time.sleep(0.05)
            now = sum(process.cpu_times()[:2])
            quiet, used = (quiet + 1 if now == used else 0), now

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == word, self.end()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, list[str], str]:
        """Status, lines of stdout, stderr."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out.split(), err


def ran(text: str, loop: str = "uvloop") -> tuple[int, list[str], str]:
    with Script(text, loop) as script:
        return script.end()


@LOOPS
def test_a_script_ends_when_its_coroutines_have(loop: str) -> None:
    assert ran(
        """
        def f(n, coro=None):
            yield coro.sleep(0.01 * n)
            say("done", n)
            if n < 3:
                Coro(f, n + 1)
        def daemon(coro=None):
            coro.set_daemon()
            yield coro.receive()
        Coro(daemon)
        Coro(f, 1)
        say("end")
        """,
        loop,
    ) == (0, ["end", "done", "1", "done", "2", "done", "3"], "")


def test_a_script_that_fails_cancels_them() -> None:
    status, out, err = ran(
        """
        def f(coro=None):
            try:
                yield coro.receive()
            finally:
                say("cancelled")
        Coro(f)
        time.sleep(0.05)
        raise ValueError("x")
        """
    )

    assert (status, out) == (1, ["cancelled"]) and "ValueError: x" in err


@LOOPS
def test_blocking_calls_and_look_ups_work_at_the_end_of_a_script(loop: str) -> None:
    """Python refuses new threads by then, on 3.12.1 without exception."""
    assert ran(
        """
        def f(coro=None):
            yield coro.sleep(0.05)
            say((yield to_thread(str, 5)))
            yield asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            for value in (yield asyncio.gather(*[to_thread(str, n) for n in range(6)])):
                say(value)
        Coro(f)
        """,
        loop,
    ) == (0, ["5", "0", "1", "2", "3", "4", "5"], "")


@LOOPS
def test_ctrl_c_ends_run_within_a_second_with_status_130(loop: str) -> None:
    with Script(
        """
        def left(coro=None):
            try:
                yield coro.receive()
            finally:
                yield coro.sleep(0.01)
                say("cleaned")
        def main(coro=None):
            Coro(left)
            yield coro.sleep(0.01)
            say("ready")
            yield coro.receive()
        Scheduler().run(main)
        """,
        loop,
    ) as script:
        script.wait_for("ready")
        script.interrupt()
        started = time.monotonic()
        status, out, err = script.end()

    assert status in INTERRUPTED and out == ["cleaned"] and "KeyboardInterrupt" in err
    assert time.monotonic() - started < 5  # one second of it is ours; the rest the machine's


def test_ctrl_c_ends_run_although_a_coroutine_and_a_thread_do_not_end() -> None:
    with Script(
        """
        def stays(coro=None):
            for _ in range(10):
                try:
                    yield coro.receive()
                except GeneratorExit:
                    pass
        def blocks():
            yield to_thread(time.sleep, 60)
        def main(coro=None):
            Coro(stays)
            Coro(blocks)
            yield coro.sleep(0.01)
            say("ready")
            yield coro.receive()
        Scheduler().run(main)
        """
    ) as script:
        script.wait_for("ready")
        script.interrupt()
        status, _, _ = script.end()

    assert status in INTERRUPTED


def test_a_second_ctrl_c_ends_a_busy_program_at_once() -> None:
    with Script(
        """
        def main():
            yield
            say("ready")
            while True:
                pass
        Scheduler().run(main)
        """
    ) as script:
        script.wait_for("ready")
        script.interrupt()
        time.sleep(0.2)
        assert script.process.poll() is None
        script.interrupt()
        status, _, _ = script.end()

    assert status in INTERRUPTED


CLEANS_UP = """
def f(coro=None):
    try:
        yield coro.receive()
    finally:
        say("cleaned")
"""


@pytest.mark.parametrize(
    "body",
    [
        "with Scheduler():\n    Coro(f)\n    say('ready')\n    time.sleep(60)",
        "with Scheduler():\n    Coro(f)\n    say('ready')",
        "with Scheduler():\n    say('ready')\n    Coro(f).value()",
        "Coro(f)\nsay('ready')",
        "Coro(f)\nsay('ready')\ntime.sleep(60)",
        "say('ready')\nCoro(f).value()",
    ],
    ids=["in with", "leaving with", "value in with", "end of script", "in script", "value"],
)
def test_ctrl_c_ends_scripts_with_status_130_and_lets_coroutines_clean_up(body: str) -> None:
    with Script(CLEANS_UP + body) as script:
        script.wait_for("ready")
        script.at_rest()
        script.interrupt()
        status, out, _ = script.end()

    assert status in INTERRUPTED and out == ["cleaned"]


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="3.12 starts no thread when the main thread has ended"
)
@LOOPS
def test_a_thread_may_start_coroutines_when_the_main_thread_has_ended(loop: str) -> None:
    status, out, err = ran(
        """
        import threading
        def late(coro=None):
            yield coro.sleep(0.01)
            say("late")
        def run():
            threading.main_thread().join()
            Coro(late)
        threading.Thread(target=run).start()
        """,
        loop,
    )
    assert (status, out, err) == (0, ["late"], "")


def test_waiting_at_the_end_says_for_whom() -> None:
    with Script(
        """
        from discoro.scheduler import exits
        exits.STILL = 0.1
        def waits(coro=None):
            yield coro.receive()
        Coro(waits)
        """
    ) as script:
        assert script.process.stderr is not None
        lines = [script.process.stderr.readline() for _ in range(2)]
        script.interrupt()
        status, _, _ = script.end()

    assert "waiting for 1 coroutine" in lines[0]
    assert "waits: in receive, at <string>:" in lines[1]
    assert status in INTERRUPTED


def test_atexit_functions_and_sys_exit_keep_their_meaning() -> None:
    assert ran(
        """
        import atexit
        atexit.register(say, "atexit")
        def f(coro=None):
            yield coro.sleep(0.05)
            say("f")
        Coro(f)
        sys.exit(7)
        """
    ) == (7, ["f", "atexit"], "")


def test_a_forked_child_starts_afresh() -> None:
    status, out, _ = ran(
        """
        import warnings
        warnings.simplefilter("ignore")  # 3.12 warns of forking a process with threads
        def f(n, coro=None):
            yield coro.sleep(0.01)
            return n
        assert Coro(f, 1).value() == 1
        pid = os.fork()
        if not pid:
            say(Coro(f, 2).value())
            Scheduler.instance().close()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        say(Coro(f, 3).value())
        """
    )

    assert (status, out) == (0, ["2", "3"])


def test_a_multiprocessing_child_of_a_program_with_a_scheduler_ends() -> None:
    status, out, _ = ran(
        """
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        def f(coro=None):
            yield coro.sleep(0.05)
            say("parent")
        Coro(f)
        child = multiprocessing.get_context("fork").Process(target=say, args=("child",))
        child.start()
        child.join(10)
        say(child.exitcode)
        """
    )

    assert status == 0 and sorted(out) == ["0", "child", "parent"]

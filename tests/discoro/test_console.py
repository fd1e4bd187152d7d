from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import discoro
from discoro.node import console
from discoro.node.console import LONGEST, MOST_PARTIAL, CarriedLines, SpokenLines, Terminal, speaker
from discoro.shipping.privatenames import private_file
from tests.kit import run_async


@pytest.fixture
def pipe() -> Iterator[tuple[int, SpokenLines]]:
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    stream = SpokenLines(writable)
    yield readable, stream
    stream.close()
    os.close(readable)
    os.close(writable)


def carried(readable: int) -> str:
    try:
        return "".join(CarriedLines("s").receive_data(os.read(readable, 1 << 20)))
    except BlockingIOError:
        return ""


def say(stream: SpokenLines, name: str, *words: str, end: str = "\n") -> None:
    def talk() -> None:
        speaker.set(name)
        print(*words, end=end, file=stream)

    copy_context().run(talk)


def test_each_line_names_server_and_coroutine(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    say(stream, "worker-7", "one\ntwo")
    say(stream, "", "nobody's")
    assert carried(readable) == "[s worker-7] one\n[s worker-7] two\n[s] nobody's\n"


def test_parts_of_lines_of_two_coroutines_do_not_mix(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    say(stream, "a", "1 ", end="")
    say(stream, "b", "2 ", end="")
    assert carried(readable) == ""
    say(stream, "a", "one")
    say(stream, "b", "two")
    assert carried(readable) == "[s a] 1 one\n[s b] 2 two\n"


def test_parts_of_lines_of_two_threads_do_not_mix(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    say(stream, "a", "main ", end="")
    thread = threading.Thread(target=say, args=(stream, "a", "other"))
    thread.start()
    thread.join()
    say(stream, "a", "goes on")
    assert carried(readable) == "[s a] other\n[s a] main goes on\n"


def test_what_has_no_line_end_is_written_at_the_end(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    say(stream, "a", "rest", end="")
    stream.finish()
    stream.finish()
    assert carried(readable) == "[s a] rest\n"


def test_dots_are_seen_while_they_are_printed(
    pipe: tuple[int, SpokenLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nobody prints after them; and lines that are finished soon stay whole."""
    monkeypatch.setattr(console, "PATIENCE", 0.05)
    readable, stream = pipe

    async def main() -> None:
        for _ in range(2):
            say(stream, "a", "...", end="")
            assert carried(readable) == ""
            seen = ""
            while not seen:
                await asyncio.sleep(0.01)
                seen = carried(readable)
            assert seen == "[s a] ...\n"
        say(stream, "a", "half", end=" ")
        say(stream, "a", "and half")
        assert carried(readable) == "[s a] half and half\n"

    run_async(main)


def test_text_without_line_ends_does_not_pile_up(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    stream.write("x" * (2 * LONGEST + 1))
    assert carried(readable) == f"[s] {'x' * LONGEST}\n" * 2
    for number in range(2 * MOST_PARTIAL):
        say(stream, str(number), "part", end="")
    assert carried(readable).count("\n") == MOST_PARTIAL + 1
    stream.finish()


def test_bytes_and_strange_characters_are_carried(pipe: tuple[int, SpokenLines]) -> None:
    readable, stream = pipe
    stream.buffer.write(b"raw \xff\n")
    stream.buffer.flush()
    print("lone \ud800 surrogate", file=stream)
    assert carried(readable) == "[s] raw \\xff\n[s] lone \\ud800 surrogate\n"
    with pytest.raises(TypeError):
        stream.write(b"bytes")  # type: ignore[arg-type]


def test_it_looks_like_any_stdout(pipe: tuple[int, SpokenLines]) -> None:
    _, stream = pipe
    assert stream.writable() and not stream.readable() and not stream.isatty()
    assert (stream.encoding, stream.errors) == ("utf-8", "backslashreplace")
    assert stream.fileno() > 0
    stream.flush()


def test_c_code_that_leaves_a_line_open_does_not_swallow_the_next() -> None:
    lines = CarriedLines("s")
    got = lines.receive_data(b"C says \x1ea\x1fhello\nplain\n")
    assert got == ["[s] C says \n[s a] hello\n", "[s] plain\n"]


def test_files_of_shipped_code_have_the_names_that_users_gave_them() -> None:
    lines = CarriedLines("s")
    private = private_file("0" * 32, "/home/me/work.py").encode()
    said = b'\x1ef\x1f  File "' + private + b'", line 5, in f\n' + private + b":5: UserWarning\n"
    assert lines.receive_data(said) == [
        '[s f]   File "/home/me/work.py", line 5, in f\n',
        "[s] /home/me/work.py:5: UserWarning\n",
    ]


def test_an_endless_line_is_cut() -> None:
    lines = CarriedLines("s")
    got = "".join(lines.receive_data(b"x" * 200_000))
    assert got.count("\n") >= 2 and len(lines.receive_eof()[0]) < 9 * LONGEST


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
@settings(max_examples=200)
def test_how_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = CarriedLines("s")
    expected = "".join(whole.receive_data(data) + whole.receive_eof())
    lines = CarriedLines("s")
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    got = ""
    for start, end in pairwise(bounds):
        got += "".join(lines.receive_data(data[start:end]))
    assert got + "".join(lines.receive_eof()) == expected


def test_a_forked_child_can_print_while_another_thread_held_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading; from discoro.node import console; console.speak()\n"
        "print('unfinished ', end='')\n"
        "held, done = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with sys.stdout._lock: held.set(); done.wait(10)\n"
        "thread = threading.Thread(target=hold); thread.start(); held.wait(10)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print('child'); os._exit(0)\n"
        "status = os.waitpid(pid, 0)[1]; done.set(); thread.join()\n"
        "print('line'); console.finish(); os._exit(status)\n"
    )
    home = Path(discoro.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done
    assert (
        "".join(CarriedLines("s").receive_data(done.stdout)) == "[s] child\n[s] unfinished line\n"
    )


class Paused(io.StringIO):
    """A terminal on which somebody has pressed Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(10)
        return super().write(text)


def test_a_paused_terminal_holds_up_nobody_but_says_that_it_is_full() -> None:
    paused = Paused()
    terminal = Terminal(paused, io.StringIO())
    for number in range(Terminal.MOST + 10):
        terminal.show(f"{number}\n")
    assert terminal.full
    terminal.close(0.01)
    paused.go_on.set()
    terminal.close(10)
    assert paused.getvalue().endswith(f"{Terminal.MOST + 9}\n")
    assert not terminal.full


def test_a_terminal_that_is_gone_is_no_error() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    out, err = Gone(), io.StringIO()
    terminal = Terminal(out, err)
    terminal.show("to nobody\n")
    terminal.show("to nobody\n")
    terminal.show("said\n", 2)
    terminal.show("")
    limit = time.monotonic() + 10
    while err.getvalue() != "said\n" and time.monotonic() < limit:
        time.sleep(0.001)
    terminal.close(10)
    assert err.getvalue() == "said\n"

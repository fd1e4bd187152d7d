from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import AsyncFile, AsyncPipe, Coro, Scheduler

Yields = Generator[Any, Any, Any]
PIPE = subprocess.PIPE

CAT = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
UPPER = "import sys; sys.stdout.write(sys.stdin.read().upper())"
ERRORS = "import sys; sys.stderr.write('problem\\n'); sys.stdout.write('fine\\n')"


def program(text: str, stdin: Any = PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", text], stdin=stdin, stdout=PIPE, stderr=PIPE)


def test_a_plain_file_is_read_by_size_line_and_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"first\nsecond\nthird")

    def main() -> Yields:
        with open(path, "rb") as file:
            data = AsyncFile(file)
            parts = [(yield data.read(3)), (yield data.readline()), (yield data.readline(3))]
            parts.append((yield data.read(100, full=True)))
            parts.append((yield data.read(5)))
        with open(path, "rb") as file:
            return parts, (yield AsyncFile(file).readlines())

    assert Scheduler().run(main) == (
        [b"fir", b"st\n", b"sec", b"ond\nthird", b""],
        [b"first\n", b"second\n", b"third"],
    )


def test_a_plain_file_is_written_and_iterated(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data"

    async def main() -> Any:
        async with AsyncFile(open(path, "wb")) as file:
            assert await file.write(b"a\nb\n") == 4
        async with AsyncFile(os.open(path, os.O_RDONLY)) as file:
            return [line async for line in file]

    assert Scheduler().run(main) == [b"a\n", b"b\n"]


def test_pipes_wait_without_stopping_the_others() -> None:
    def reads(fd: int) -> Yields:
        file = AsyncFile(fd)
        total = 0
        while data := (yield file.read(100_000)):
            total += len(data)
        file.close()
        return total

    async def main() -> Any:
        source, target = os.pipe()
        reader = Coro(reads, source)
        async with AsyncFile(target) as file:
            await asyncio.sleep(0.001)
            written = await file.write(bytes(1_000_000))
        return written, await reader

    assert Scheduler().run(main) == (1_000_000, 1_000_000)


def test_a_timeout_keeps_what_had_come() -> None:
    async def main() -> Any:
        ours, theirs = socket.socketpair()
        file = AsyncFile(ours)
        theirs.send(b"half")
        with pytest.raises(TimeoutError):
            await file.read(8, full=True, timeout=0.01)
        with pytest.raises(TimeoutError):
            await file.readline(timeout=0.01)
        theirs.send(b"half\n")
        line = await file.readline()
        theirs.close()
        end = await file.read(1)
        file.close()
        file.close()
        return line, end

    assert Scheduler().run(main) == (b"halfhalf\n", b"")


def test_communicate_feeds_a_chain_and_gives_what_comes_out() -> None:
    def main() -> Yields:
        first = program(CAT)
        last = program(UPPER, stdin=first.stdout)
        pipe = AsyncPipe(first, last)
        out, err = yield pipe.communicate(b"text " * 50_000)
        status = yield pipe.wait()
        pipe.close()
        first.wait()
        first.stderr.close()
        return out == b"TEXT " * 50_000, err, status

    assert Scheduler().run(main) == (True, b"", 0)


def test_communicate_copies_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"content" * 20_000)

    async def main() -> Any:
        with open(path, "rb") as file:
            async with AsyncPipe(program(CAT)) as pipe:
                out, _ = await pipe.communicate(AsyncFile(file), timeout=20)
        return out == path.read_bytes()

    assert Scheduler().run(main) is True


def test_the_ends_of_a_program_are_read_and_written_apart() -> None:
    async def main() -> Any:
        async with AsyncPipe(program(ERRORS)) as pipe:
            lines = await pipe.readline(), await pipe.readline_stderr()
            rest = await pipe.read(), await pipe.read_stderr()
            status = await pipe.wait(10)
        async with AsyncPipe(program(UPPER)) as pipe:
            await pipe.write(b"in")
            pipe.close_stdin()
            out = await pipe.read()
            await pipe.wait()
            return lines, rest, status, out, pipe.poll()

    assert Scheduler().run(main) == ((b"fine\n", b"problem\n"), (b"", b""), 0, b"IN", 0)


def test_a_program_that_reads_nothing_breaks_no_pipe_and_can_be_terminated() -> None:
    async def main() -> Any:
        async with AsyncPipe(program("pass")) as pipe:
            out = await pipe.communicate(bytes(1_000_000))
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=PIPE)
        async with AsyncPipe(process) as pipe:
            with pytest.raises(ValueError, match="no pipe"):
                await pipe.read()
            pipe.terminate()
            return out, await pipe.wait(10)

    assert Scheduler().run(main) == ((b"", b""), -15)


def test_a_terminal_stays_as_it_was_and_is_read_by_lines() -> None:
    async def main() -> Any:
        ours, theirs = os.openpty()
        file = AsyncFile(theirs)
        asyncio.get_running_loop().call_later(0.01, os.write, ours, b"typed\n")
        line = await file.readline()
        blocking = os.get_blocking(theirs)
        file.close()
        os.close(ours)
        return line, blocking

    assert Scheduler().run(main) == (b"typed\n", True)


def test_waiting_for_a_program_ends_at_its_timeout_and_leaves_it_alone() -> None:
    async def main() -> Any:
        async with AsyncPipe(program(CAT)) as pipe:
            with pytest.raises(TimeoutError, match="still runs"):
                await pipe.wait(timeout=0.01)
            alive = pipe.poll() is None
            pipe.close_stdin()
            return alive, await pipe.wait(timeout=20)

    assert Scheduler().run(main) == (True, 0)

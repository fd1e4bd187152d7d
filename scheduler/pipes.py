"""Pipes to and from programs: one, or several chained by the caller."""

from __future__ import annotations

import asyncio
import subprocess
from types import TracebackType
from typing import Any, Self

from .files import CHUNK, AsyncFile


class AsyncPipe:
    """The ends of a chain of programs, as ``subprocess.Popen`` objects, read and written without stopping the other coroutines.

    ``first`` has the stdin that is written, ``last`` the stdout and stderr that are
    read, as far as they were opened as pipes; the programs between are joined by the caller::

        grep = subprocess.Popen(["grep", "x"], stdin=PIPE, stdout=PIPE)
        wc = subprocess.Popen(["wc", "-l"], stdin=grep.stdout, stdout=PIPE)
        pipe = AsyncPipe(grep, wc)

    Closing the caller's copy of the ends between is done here, so that the chain sees its end. ``async with`` closes our ends. Reading
    or writing what is no pipe raises ValueError, which says what to pass to Popen.

    Args:
        first: The first program.
        last: The last one; None: the same.
        stdin: What is written to, instead of the stdin of ``first``.
    """

    __module__ = "discoro"

    def __init__(self, first: Any, last: Any = None, stdin: Any = None) -> None:
        self.first: subprocess.Popen[bytes] = first
        self.last: subprocess.Popen[bytes] = first if last is None else last
        if self.first is not self.last and self.first.stdout is not None:
            self.first.stdout.close()
        source = self.first.stdin if stdin is None else stdin
        self.stdin = None if source is None else AsyncFile(source)
        self.stdout = None if self.last.stdout is None else AsyncFile(self.last.stdout)
        self.stderr = None if self.last.stderr is None else AsyncFile(self.last.stderr)

    async def communicate(
        self, input: Any = None, timeout: float | None = None
    ) -> tuple[bytes, bytes]:  # subprocess calls it so
        """Await: write ``input``, close stdin, read to the end, wait for the end of the last program; gives (stdout, stderr).

        Args:
            input: Bytes, or an :class:`AsyncFile` to copy; None: nothing.
            timeout: Seconds to wait for the end of its output; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; the programs run on, what was read is lost, as when cancelled.
        """
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            group.create_task(self._feed(input))
            out = group.create_task(_everything(self.stdout))
            err = group.create_task(_everything(self.stderr))
        await asyncio.to_thread(self.last.wait)
        return out.result(), err.result()

    async def _feed(self, source: Any) -> None:
        if self.stdin is None:
            return
        try:
            if isinstance(source, AsyncFile):
                while data := await source.read(CHUNK):
                    await self.stdin.write(data)
            elif source is not None:
                await self.stdin.write(source)
        except BrokenPipeError:  # the program has read as much as it wanted
            pass
        self.close_stdin()

    async def write(self, data: Any, full: bool = True, timeout: float | None = None) -> int:
        """Await: write to stdin; gives how many bytes were written. Arguments and errors are those of :meth:`AsyncFile.write`."""
        return await _open(self.stdin, "stdin").write(data, full, timeout)

    async def read(self, size: int = 0, timeout: float | None = None) -> bytes:
        """Await: up to ``size`` bytes of stdout, b"" at its end; 0: all to its end. Otherwise as :meth:`AsyncFile.read`."""
        return await _open(self.stdout, "stdout").read(size, timeout=timeout)

    async def readline(self, timeout: float | None = None) -> bytes:
        """Await: a line of stdout, b"" at its end. Otherwise as :meth:`AsyncFile.readline`."""
        return await _open(self.stdout, "stdout").readline(timeout=timeout)

    async def read_stderr(self, size: int = 0, timeout: float | None = None) -> bytes:
        """Await: up to ``size`` bytes of stderr, b"" at its end; 0: all to its end. Otherwise as :meth:`AsyncFile.read`."""
        return await _open(self.stderr, "stderr").read(size, timeout=timeout)

    async def readline_stderr(self, timeout: float | None = None) -> bytes:
        """Await: a line of stderr, b"" at its end. Otherwise as :meth:`AsyncFile.readline`."""
        return await _open(self.stderr, "stderr").readline(timeout=timeout)

    def close_stdin(self) -> None:
        """Tell the program that nothing more comes."""
        if self.stdin is not None:
            try:
                self.stdin.close()
            except BrokenPipeError:
                pass

    def poll(self) -> int | None:
        """Give the exit status of the last program, None while it runs."""
        return self.last.poll()

    async def wait(self, timeout: float | None = None) -> int:
        """Await: the exit status of the last program; minus the signal's number if one has ended it.

        Args:
            timeout: Seconds to wait; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; the program runs on, as when cancelled.
        """
        try:
            return await asyncio.to_thread(self.last.wait, timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.last.args!r} still runs after {timeout} s") from None

    def terminate(self) -> None:
        """Ask the first and the last program to end (SIGTERM)."""
        self.first.terminate()
        self.last.terminate()

    def close(self) -> None:
        """Close our ends; the programs are left alone."""
        self.close_stdin()
        for end in (self.stdout, self.stderr):
            if end is not None:
                end.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open(end: AsyncFile | None, name: str) -> AsyncFile:
    if end is None:
        raise ValueError(f"{name} of the program is no pipe: pass {name}=subprocess.PIPE to Popen")
    return end


async def _everything(end: AsyncFile | None) -> bytes:
    return b"" if end is None else await end.read()

"""AsyncFile and AsyncPipe, with the defaults and return values they had."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any, Self

from discoro.scheduler import files

CHUNK = 16 * 1024


class AsyncFile:
    """A file, pipe end or socket, by object with ``fileno()`` or by file descriptor; bytes in, bytes out."""

    def __init__(self, fd: Any) -> None:
        self._file = files.AsyncFile(fd)
        self._fd = fd

    def __getattr__(self, name: str) -> Any:
        if name in ("_file", "_fd"):
            raise AttributeError(name)
        return getattr(self._fd, name)

    def fileno(self) -> int:
        """The file descriptor."""
        return self._file.fileno()

    async def read(self, size: int = 0, full: bool = False, timeout: float | None = None) -> bytes:
        """Read up to ``size`` bytes, with ``full`` exactly that many; 0: everything up to the end."""
        return await self._file.read(size, full, timeout)

    async def write(self, buf: Any, full: bool = False, timeout: float | None = None) -> int:
        """Write, with ``full`` all of it; how many bytes went."""
        return await self._file.write(buf, full, timeout)

    async def readline(
        self, size: int = 0, sizehint: int = 100, timeout: float | None = None
    ) -> bytes:
        """Read a line, of ``size`` bytes at most where that is given. ``sizehint`` means nothing."""
        return await self._file.readline(size, timeout)

    async def readlines(self, sizehint: int = 0, timeout: float | None = None) -> list[bytes]:
        """Read the lines to the end, or about ``sizehint`` bytes of them."""
        return await self._file.readlines(sizehint, timeout)

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncPipe:
    """The ends of one ``subprocess.Popen``, or of a chain: written at ``first``, read at ``last``.

    Raises:
        ValueError: If it is something else.
    """

    def __init__(self, first: Any, last: Any = None) -> None:
        last = last or first
        if not isinstance(first, subprocess.Popen) or not isinstance(last, subprocess.Popen):
            raise ValueError("AsyncPipe takes subprocess.Popen objects")
        self.first = first
        self.last = last
        if first is not last and first.stdout is not None:
            first.stdout.close()
        self.stdin, self.stdout, self.stderr = (
            None if end is None else AsyncFile(end)
            for end in (first.stdin, last.stdout, last.stderr)
        )

    def __getattr__(self, name: str) -> Any:
        if name in ("first", "last"):
            raise AttributeError(name)
        return getattr(self.last, name)

    async def write(self, buf: Any, full: bool = False, timeout: float | None = None) -> int:
        """Write to stdin; how many bytes went."""
        return await _opened(self.stdin, "stdin").write(buf, full, timeout)

    async def read(self, size: int = 0, timeout: float | None = None) -> bytes:
        """Read from stdout; 0: everything up to its end."""
        return await _opened(self.stdout, "stdout").read(size, timeout=timeout)

    async def readline(
        self, size: int = 0, sizehint: int = 100, timeout: float | None = None
    ) -> bytes:
        """Read a line from stdout."""
        return await _opened(self.stdout, "stdout").readline(size, sizehint, timeout)

    async def read_stderr(self, size: int = 0, timeout: float | None = None) -> bytes:
        """Read from stderr; 0: everything up to its end."""
        return await _opened(self.stderr, "stderr").read(size, timeout=timeout)

    async def readline_stderr(
        self, size: int = 0, sizehint: int = 100, timeout: float | None = None
    ) -> bytes:
        """Read a line from stderr."""
        return await _opened(self.stderr, "stderr").readline(size, sizehint, timeout)

    async def communicate(self, input: Any = None) -> tuple[bytes | None, bytes | None]:
        """Write ``input`` (text, bytes, or something to read from) to stdin, and give (stdout, stderr) to their ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(input))
            out = group.create_task(_everything(self.stdout))
            err = group.create_task(_everything(self.stderr))
        await asyncio.to_thread(self.last.wait)
        return out.result(), err.result()

    async def _feed(self, source: Any) -> None:
        if self.stdin is None or not source:
            return
        try:
            if isinstance(source, str | bytes | bytearray | memoryview):
                data = source.encode() if isinstance(source, str) else source
                await self.stdin.write(data, full=True)
            else:
                while data := await _some(source):
                    data = data.encode() if isinstance(data, str) else data
                    await self.stdin.write(data, full=True)
                source.close()
        except BrokenPipeError:  # the program has read as much as it wanted
            pass
        self.stdin.close()

    def poll(self) -> int | None:
        """The status of the last program, None while it runs."""
        status: int | None = self.last.poll()
        return status

    def close(self) -> None:
        """Close our ends."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _some(source: Any) -> Any:
    """The next bytes of what ``communicate`` was given to read from."""
    if isinstance(source, AsyncFile):
        return await source.read(CHUNK)
    if hasattr(source, "seek") and hasattr(source, "fileno"):
        return await asyncio.to_thread(os.read, source.fileno(), CHUNK)
    data = source.read(CHUNK)
    return await data if hasattr(data, "__await__") else data


async def _everything(end: AsyncFile | None) -> bytes | None:
    if end is None:
        return None
    data = await end.read()
    end.close()
    return data


def _opened(end: AsyncFile | None, name: str) -> AsyncFile:
    if end is None:
        raise ValueError(f"{name} of the program is no pipe: pass {name}=subprocess.PIPE to Popen")
    return end

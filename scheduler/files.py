"""Files, read and written without stopping the other coroutines.

What can be waited for (pipes, sockets, terminals) is waited for in the loop; plain files, which always
count as ready, are read and written in threads. One reader and one writer at a time.
"""

from __future__ import annotations

import asyncio
import os
import stat
from types import TracebackType
from typing import Any, Self

CHUNK = 64 * 1024
"""Bytes asked for at once."""


class AsyncFile:
    """A file, pipe end or socket that is read and written without stopping the other coroutines.

    Reads and writes are bytes and go past the buffers of a file object: do not mix them with its own.
    What can be waited for (pipes, sockets) is made non-blocking; plain files are read in threads. One reader and
    one writer at a time. ``async with`` closes it, ``async for`` gives its lines.

    Args:
        file: A file descriptor, or an object with ``fileno()``; :meth:`close` closes it.
    """

    __module__ = "discoro"

    def __init__(self, file: Any) -> None:
        self._file = None if isinstance(file, int) else file
        self._fd: int = file if isinstance(file, int) else file.fileno()
        mode = os.fstat(self._fd).st_mode
        self._plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode)
        if self._file is not None and hasattr(self._file, "flush") and _writes(self._file):
            self._file.flush()
        # A terminal is shared with whoever started us: non-blocking would break their reads too.
        self._terminal = os.isatty(self._fd)
        if not self._plain and not self._terminal:
            os.set_blocking(self._fd, False)
        self._buffer = bytearray()
        self._ended = False
        self.closed = False

    def fileno(self) -> int:
        """Give the file descriptor."""
        return self._fd

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, size: int = 0, full: bool = False, timeout: float | None = None) -> bytes:
        """Await: up to ``size`` bytes as soon as there are some; b"" at the end.

        Args:
            size: Bytes to read at most; 0 or less: everything up to the end.
            full: Wait for exactly ``size`` bytes, unless it ends before.
            timeout: Seconds to wait; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; what had come by then is kept for the next read, as when cancelled.
        """
        async with asyncio.timeout(timeout):
            if size <= 0:
                while await self._fill(CHUNK):
                    pass
                return self._take(len(self._buffer))
            if full:
                while len(self._buffer) < size and await self._fill(size - len(self._buffer)):
                    pass
            elif not self._buffer:
                await self._fill(size)
            return self._take(min(size, len(self._buffer)))

    async def readline(self, sizehint: int = 0, timeout: float | None = None) -> bytes:
        """Await: a line with its end; b"" at the end of the file.

        Args:
            sizehint: Bytes that are given at most; 0: no limit.
            timeout: Seconds to wait; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; what had come by then is kept for the next read, as when cancelled.
        """
        async with asyncio.timeout(timeout):
            start = 0
            while True:
                end = self._buffer.find(b"\n", start) + 1
                if end:
                    break
                start = len(self._buffer)
                if (0 < sizehint <= start) or not await self._fill(CHUNK):
                    end = start
                    break
            return self._take(min(end, sizehint) if sizehint > 0 else end)

    async def readlines(self, sizehint: int = 0, timeout: float | None = None) -> list[bytes]:
        """Await: a list of the lines to the end; with ``sizehint`` whole lines of about so many bytes.

        Raises:
            TimeoutError: After ``timeout`` seconds; lines that were read by then are lost, as when cancelled.
        """
        lines: list[bytes] = []
        total = 0
        async with asyncio.timeout(timeout):
            while line := await self.readline():
                lines.append(line)
                total += len(line)
                if 0 < sizehint <= total:
                    break
        return lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _fill(self, size: int) -> bool:
        """Get up to ``size`` bytes into the buffer; False at the end."""
        if self._ended:
            return False
        if self._plain:
            # Shielded: a thread cannot be cancelled, and what it reads must not be lost.
            await asyncio.shield(asyncio.to_thread(self._read_plain, size))
        else:
            data = await self._read_ready(size)
            self._buffer += data
            self._ended = not data
        return not self._ended

    def _read_plain(self, size: int) -> None:
        data = os.read(self._fd, size)
        self._buffer += data
        self._ended = not data

    async def _read_ready(self, size: int) -> bytes:
        if self._terminal:
            await _ready(self._fd, writing=False)
        while True:
            try:
                return os.read(self._fd, size)
            except BlockingIOError:
                await _ready(self._fd, writing=False)

    # -- writing ----------------------------------------------------------------------------------

    async def write(self, data: Any, full: bool = True, timeout: float | None = None) -> int:
        """Await: write bytes; gives how many were written.

        Args:
            data: Bytes, or what has a buffer of them.
            full: Write all; else only what goes at once.
            timeout: Seconds to wait; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; how much was written by then is not known, as when cancelled.
            BrokenPipeError: If nobody reads at the other end of a pipe.
        """
        view = memoryview(data).cast("B")
        written = 0
        async with asyncio.timeout(timeout):
            while written < len(view):
                if self._plain:
                    written += await asyncio.to_thread(os.write, self._fd, view[written:])
                else:
                    written += await self._write_ready(view[written:])
                if not full:
                    break
        return written

    async def _write_ready(self, view: memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, view)
            except BlockingIOError:
                await _ready(self._fd, writing=True)

    def close(self) -> None:
        """Close it."""
        if self.closed:
            return
        self.closed = True
        if self._file is not None:
            self._file.close()
        else:
            os.close(self._fd)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _writes(file: Any) -> bool:
    writable = getattr(file, "writable", None)
    return bool(writable is not None and writable())


async def _ready(fd: int, *, writing: bool) -> None:
    """Wait until the loop says that ``fd`` can be read, or written."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    )
    add(fd, _settle, future)
    try:
        await future
    finally:
        remove(fd)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

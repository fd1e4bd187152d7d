"""The two ends of a transfer: where its bytes come from and where they go. Shell: files are read and written in threads.

A *source* hands out views of its bytes, a *target* hands out views to receive into. Memory does so at once. A file reads
ahead, or writes behind, by at most ``file_parts_in_flight`` parts of ``file_part`` bytes (4 MiB in all), so that the loop never
waits for a disk and a slow disk holds up its own transfer only.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from threading import Lock
from typing import IO, Any, Protocol

from .errors import FileRefused
from .limits import Limits
from .pages import Pages

Call = Callable[[Callable[[], None]], object]
"""Runs a function in the loop's thread soon: ``loop.call_soon_threadsafe``."""


class Writer(Protocol):
    """Something slow that takes the bytes of one transfer in order; its methods run in a worker thread, one at a time."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes; the view is valid during the call only."""

    def finish(self) -> Any:
        """All bytes were written: check, make them visible; what it returns is the result of the transfer."""

    def abort(self) -> None:
        """Leave nothing behind. Called once, instead of :meth:`finish`, or after it raised."""


class Reader(Protocol):
    """Something slow that gives the bytes of one transfer; :meth:`read_at` runs in a worker thread, one call at a time."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes: the next ones, or after a cut some of those before once more."""

    def close(self) -> None:
        """Let go of what was opened, at once; no call of :meth:`read_at` is under way or follows."""


class Source(Protocol):
    """Bytes of an outgoing transfer."""

    def ready(self, offset: int) -> int:
        """Return how many bytes from ``offset`` are at hand; a source without any gets them and calls back."""

    def views(self, offset: int, length: int) -> list[memoryview]:
        """Return exactly these bytes, which :meth:`ready` has promised."""

    def close(self) -> None:
        """Let go of the bytes."""


class MemorySource:
    """Buffers of the caller, borrowed until the transfer has ended."""

    def __init__(self, parts: Sequence[Any]) -> None:
        """Borrow ``parts``: anything with a C-contiguous buffer."""
        self._parts = [view for view in (memoryview(part).cast("B") for part in parts) if len(view)]
        self._starts: list[int] = []
        self.size = 0
        for part in self._parts:
            self._starts.append(self.size)
            self.size += len(part)

    def ready(self, offset: int) -> int:
        """Return how many bytes follow ``offset``: all of them."""
        return self.size - offset

    def views(self, offset: int, length: int) -> list[memoryview]:
        """Return views of the caller's buffers."""
        views = []
        index = bisect_right(self._starts, offset) - 1
        while length:
            part, start = self._parts[index], offset - self._starts[index]
            view = part[start : start + length]
            views.append(view)
            offset += len(view)
            length -= len(view)
            index += 1
        return views

    def close(self) -> None:
        """Release the caller's buffers."""
        self._parts = []


class FileReader:
    """The bytes of a file.

    Args:
        file: A path, opened by the first read and closed at the end; or an open binary file, which stays the caller's.
        size: Its length; a file that turns out shorter fails, a longer one is cut there.
    """

    def __init__(self, file: str | os.PathLike[str] | IO[bytes], size: int) -> None:
        self._length = size
        self._path = file if isinstance(file, (str, os.PathLike)) else None
        self._fd = -1 if isinstance(file, (str, os.PathLike)) else os.dup(file.fileno())

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes.

        Raises:
            EOFError: If the file is shorter.
            OSError: From the disk.
        """
        if self._fd < 0:
            assert self._path is not None
            # O_NONBLOCK: a fifo that has come to lie there must not hold the thread for ever.
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        pieces = []
        while length:
            data = os.pread(self._fd, length, offset)
            if not data:
                raise EOFError(f"the file is shorter than the {self._length} bytes announced")
            pieces.append(data)
            offset += len(data)
            length -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close what was opened here."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class HashedFile(FileReader):
    """The bytes of a file and behind them their SHA-256, which is made of what is read to be sent.

    So the file is read once, and hashed while its first bytes are on their way already. What changes meanwhile is not sent as
    if it were whole: before the hash is given, size and time of the file are compared with those that were announced.

    Args:
        path: Where it is.
        size: Its length.
        modified_ns: When it was last written to, as ``stat`` says.
    """

    def __init__(self, path: str | os.PathLike[str], size: int, modified_ns: int) -> None:
        super().__init__(path, size)
        self._name = os.fspath(path)
        self._modified_ns = modified_ns
        # What was hashed: the file from its begin to here.
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.size = size + self._hash.digest_size
        """Bytes to send: those of the file, and the hash."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes, of the file or of the hash behind it.

        Raises:
            FileRefused: If the file cannot be read, or is not what was announced any more.
        """
        count = max(0, min(length, self._length - offset))
        try:
            data = super().read_at(offset, count)
        except EOFError:
            raise self._changed() from None
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise FileRefused(self._name, reason) from error
        if offset <= self._hashed < offset + count:
            self._hash.update(memoryview(data)[self._hashed - offset :])
            self._hashed = offset + count
        if count == length:
            return data
        begin = offset + count - self._length
        return data + self._behind()[begin : begin + length - count]

    def _behind(self) -> bytes:
        found = os.fstat(self._fd)
        if (found.st_size, found.st_mtime_ns) != (self._length, self._modified_ns):
            raise self._changed()
        if self._hashed < self._length:
            raise FileRefused(self._name, "was not read from its begin: its receiver cheats")
        return self._hash.digest()

    def _changed(self) -> FileRefused:
        return FileRefused(
            self._name, "changed while it was sent, nothing of it was taken: send it again"
        )


class FileSource:
    """A file, read ahead in a worker thread.

    Args:
        reader: Gives the bytes; closed at the end.
        size: Bytes to send.
        changed: Called in the loop when bytes are at hand.
        failed: Called in the loop, once, when the file cannot be read.
    """

    def __init__(
        self,
        reader: Reader,
        size: int,
        *,
        limits: Limits,
        executor: Executor,
        call: Call,
        changed: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.size = size
        self._reader = reader
        self._part = limits.file_part
        self._ahead = limits.file_part * limits.file_parts_in_flight
        self._executor = executor
        self._call = call
        self._changed = changed
        self._failed = failed
        # Consecutive blocks read: (offset, bytes). `_next` is where the one after them starts.
        self._blocks: deque[tuple[int, bytes]] = deque()
        self._next = 0
        self._reading = False
        self._closed = False

    def ready(self, offset: int) -> int:
        """Return what is at hand from ``offset``; see that more is read."""
        blocks = self._blocks
        while blocks and blocks[0][0] + len(blocks[0][1]) <= offset:
            blocks.popleft()
        if (blocks and blocks[0][0] > offset) or (not blocks and self._next != offset):
            blocks.clear()  # the receiver went back, after a cut
            self._next = offset
        self._read_ahead(offset)
        return blocks[0][0] + len(blocks[0][1]) - offset if blocks else 0

    def views(self, offset: int, length: int) -> list[memoryview]:
        """Return a view of the first block."""
        start, data = self._blocks[0]
        return [memoryview(data)[offset - start : offset - start + length]]

    def close(self) -> None:
        """Close what was opened here, once no read is under way."""
        self._closed = True
        self._blocks.clear()
        if not self._reading:
            self._reader.close()

    def _read_ahead(self, offset: int) -> None:
        if self._reading or self._closed or self._next >= self.size:
            return
        if self._next - offset >= self._ahead:
            return
        self._reading = True
        at, length = self._next, min(self._part, self.size - self._next)
        job = self._executor.submit(self._reader.read_at, at, length)
        job.add_done_callback(partial(self._read_done, at))

    def _read_done(self, at: int, done: Future[bytes]) -> None:
        try:
            self._call(partial(self._came, at, done))
        except RuntimeError:
            self._reader.close()  # the loop is closed

    def _came(self, at: int, done: Future[bytes]) -> None:
        self._reading = False
        if self._closed:
            self._reader.close()
            return
        error = done.exception()
        if error is not None:
            self._failed(error if isinstance(error, Exception) else OSError(str(error)))
        elif at == self._next:
            data = done.result()
            self._blocks.append((at, data))
            self._next = at + len(data)
            self._changed()
        else:
            self._changed()  # the receiver went back meanwhile: read again from there


class Target(Protocol):
    """Where the bytes of an incoming transfer go."""

    window: int | None
    """Bytes that may be under way beyond those stored; None: all."""

    def view(self, length: int) -> memoryview:
        """Return where the next bytes go: 1 to ``length`` of them. Asking twice gives the same place."""

    def came(self, count: int) -> None:
        """``count`` bytes are in the view handed out last."""

    def close(self) -> None:
        """The transfer ended without all bytes: leave nothing behind."""


class MemoryTarget:
    """The final buffer itself.

    Args:
        into: A writable C-contiguous buffer of exactly the size of the transfer.
        complete: Called, with None, when all bytes are there.
    """

    window: int | None = None

    def __init__(self, into: Any, size: int, complete: Callable[[Any], None]) -> None:
        view = memoryview(into).cast("B")
        if view.readonly or len(view) != size:
            raise ValueError(f"a writable buffer of {size} bytes is needed, not {into!r}")
        self._view = view
        self._got = 0
        self._size = size
        self._complete = complete
        self._pages = Pages(view)
        if not size:
            complete(None)

    def view(self, length: int) -> memoryview:
        """Return the rest of the buffer, at most ``length`` bytes."""
        if self._got >= self._pages.there < self._size:
            self._pages.ask()
        return self._view[self._got : self._got + length]

    def came(self, count: int) -> None:
        """Count; at the end let go of the buffer."""
        self._got += count
        if self._got == self._size:
            self.close()
            self._complete(None)

    def close(self) -> None:
        """Let go of the buffer."""
        self._view = memoryview(b"")
        self._pages.close()


class WriterTarget:
    """A :class:`Writer`, fed in a worker thread, parts in order, one call at a time.

    Args:
        writer: Takes the bytes.
        size: Of the transfer.
        stored: Called in the loop with the offset up to which the writer has taken them.
        complete: Called in the loop with the result of ``writer.finish()``.
        failed: Called in the loop, once, after the writer raised and was aborted.
    """

    def __init__(
        self,
        writer: Writer,
        size: int,
        *,
        limits: Limits,
        executor: Executor,
        call: Call,
        stored: Callable[[int], None],
        complete: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.window: int | None = limits.file_part * limits.file_parts_in_flight
        self._writer = writer
        self._size = size
        self._part = limits.file_part
        self._executor = executor
        self._call = call
        self._stored = stored
        self._complete = complete
        self._failed = failed
        # The part that is being filled, None between two; those that are full; memory of parts that were written, to be used
        # again: fresh memory would be paid for with each part, in the loop.
        self._block: bytearray | None = None
        self._filled = 0
        self._got = 0
        self._full: list[memoryview] = []
        self._spare: list[bytearray] = []
        # In the loop: a job was submitted and its answer has not come back.
        self._working = False
        # Shared with the worker thread: who aborts must be decided once. `_busy`: a job is submitted and not through.
        self._lock = Lock()
        self._busy = False
        self._over = False
        if not size:
            self._work()

    def view(self, length: int) -> memoryview:
        """Return the rest of the present part, at most ``length`` bytes."""
        if self._block is None:
            self._block = (
                self._spare.pop() if self._spare else bytearray(min(self._part, self._size))
            )
            self._filled = 0
        return memoryview(self._block)[self._filled : self._filled + length]

    def came(self, count: int) -> None:
        """Hand a part that is full to the writer's thread."""
        self._filled += count
        self._got += count
        if self._filled == self._part or self._got == self._size:
            assert self._block is not None
            self._full.append(memoryview(self._block)[: self._filled])
            self._block = None
            if not self._working:
                self._work()

    def close(self) -> None:
        """Abort the writer, in its thread, after the call that runs."""
        with self._lock:
            told, self._over = self._over or self._busy, True
        if told:
            return  # the running job sees `_over` and aborts
        try:
            self._executor.submit(self._abort)
        except RuntimeError:
            self._abort()  # the threads have been shut down: better the loop waits than that a file stays

    def _work(self) -> None:
        with self._lock:
            if self._over:
                return
            self._busy = True
        self._working = True
        blocks, self._full = self._full, []
        self._executor.submit(self._job, blocks, self._got, self._got == self._size)

    # --- in the worker thread --------------------------------------------------------------------------------------

    def _job(self, blocks: list[memoryview], upto: int, last: bool) -> None:
        """Write, and finish after the last part; a writer that raises is aborted here, in its own thread."""
        answer: Callable[[], None]
        result, finished = None, False
        try:
            for block in blocks:
                if not self._over:
                    self._writer.write(block)
            if last and not self._over:
                result, finished = self._writer.finish(), True
            answer = partial(self._worked, blocks, upto, last, result)
        except Exception as exc:
            with self._lock:
                self._over, self._busy = True, False
            self._abort()
            answer = partial(self._failed, exc)
        else:
            with self._lock:
                abort, self._busy = self._over and not finished, False
                self._over = self._over or last
            if abort:
                self._abort()
        try:
            self._call(answer)
        except RuntimeError:
            pass  # the loop is closed; what this writer holds was decided above, or is decided by close()

    def _abort(self) -> None:
        try:
            self._writer.abort()
        except OSError:
            pass  # the folder is gone, or the disk: nothing of ours is left to take away

    # --- back in the loop ------------------------------------------------------------------------------------------

    def _worked(self, blocks: list[memoryview], upto: int, last: bool, result: Any) -> None:
        self._working = False
        if last:
            self._complete(result)
            return
        self._spare += [block.obj for block in blocks]  # type: ignore[misc]
        self._stored(upto - upto % self._part)
        if self._full:
            self._work()

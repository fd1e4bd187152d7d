"""Bulk: big messages and files of one session, beside its control connection. Shell.

A session has at most one bulk connection, dialled by the side that dialled the session, on first need, and closed when it was
idle for a minute. It may be cut and dialled again any number of times: each transfer goes on where it stopped. The life of a
transfer is bound to the session, which calls :meth:`Bulk.close` when it ends.

The sender calls :meth:`Bulk.send`, which numbers the transfer at once, and tells the receiver number and size by a message on
the control connection; the receiver calls :meth:`Bulk.expect` when it has memory, or a file, for it. Either side may cancel.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, TypeAlias, cast

from .bulkends import (
    FileReader,
    FileSource,
    MemorySource,
    MemoryTarget,
    Reader,
    Source,
    Target,
    Writer,
    WriterTarget,
)
from .bulklink import BulkLink
from .errors import Busy, FileError, ProtocolError, TransferFailed, TransportError
from .limits import Limits
from .transfer import Ended, EndKind, Part, Transfers

log = logging.getLogger("discoro.bulk")

Dial: TypeAlias = Callable[[], Awaitable[tuple[asyncio.Transport, bytes]]]
"""Dials a bulk connection and proves the session on it; returns its transport and what was read beyond the proof."""
Place: TypeAlias = memoryview | bytearray | Writer
Into: TypeAlias = Place | Callable[[], Place]
"""Where bytes go. A function is called when the transfer's turn has come, so that what waits takes no memory."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that this process sends; ``done`` ends when the receiver has stored and checked all of it."""

    number: int
    size: int
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Expected:
    size: int
    into: Into
    done: asyncio.Future[Any]
    target: Target | None = None


class Bulk:
    """The transfers of one session, both directions. All methods are for the loop's thread.

    Args:
        dial: Opens the connection; None on the side that is dialled, which gets it by :meth:`attach`.
        limits: Sizes and times.
        executor: Threads that read and write files; None: two of its own, made on first need.
        name: For the log.
    """

    def __init__(
        self,
        dial: Dial | None,
        limits: Limits,
        *,
        executor: Executor | None = None,
        name: str = "",
    ) -> None:
        self._dial = dial
        self._limits = limits
        self._executor = executor
        self._own_executor: ThreadPoolExecutor | None = None
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transfers = Transfers(limits)
        self._sources: dict[int, tuple[Source, asyncio.Future[None]]] = {}
        self._expected: dict[int, _Expected] = {}
        self._link: BulkLink | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended_tasks: set[asyncio.Task[None]] = set()
        # On the loop's clock: since when there is something to do, or nothing, and when the timer should fire.
        self._was_busy = False
        self._since = 0.0
        self._tick_due = 0.0
        # Connections in a row that ended by a broken rule before a transfer came to its end, and the wait they cause.
        self._broken = 0
        self._wait = limits.dial_first
        self._closed: TransportError | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._link else "no connection"
        return f"<Bulk {self._name} {state}, {len(self._sources)} out, {len(self._expected)} in>"

    @property
    def connected(self) -> bool:
        """Whether a bulk connection stands."""
        return self._link is not None

    # --- sending ---------------------------------------------------------------------------------------------------

    def send(
        self,
        source: Sequence[Any] | str | os.PathLike[str] | IO[bytes] | Reader,
        size: int | None = None,
    ) -> Transfer:
        """Number a new transfer; nothing is sent before the receiver expects it.

        Args:
            source: Buffers, borrowed until the transfer has ended; or a path; or an open binary file (its position is not
                used); or a :class:`~.bulkends.Reader`, closed at the end.
            size: In bytes; needed for all but buffers.

        Raises:
            TransportError: What the session ended with, if it has.
        """
        if self._closed is not None:
            raise self._closed
        made: Source
        if isinstance(source, (str, os.PathLike)) or hasattr(source, "fileno"):
            source = FileReader(cast("str | IO[bytes]", source), _needed(size))
        if hasattr(source, "read_at"):
            size = _needed(size)
            number = self._transfers.offer(size)
            made = FileSource(
                cast(Reader, source),
                size,
                limits=self._limits,
                executor=self._threads(),
                call=self._loop.call_soon_threadsafe,
                changed=self._wake,
                failed=partial(self._source_failed, number),
            )
        else:
            made = MemorySource(cast("Sequence[Any]", source))
            if size is not None and size != made.size:
                raise ValueError(f"{made.size} bytes, not {size}")
            size = made.size
            number = self._transfers.offer(size)
        done = self._future(partial(self._sender_gone, number))
        self._sources[number] = (made, done)
        self._need()
        return Transfer(number, size, done)

    def _source_failed(self, number: int, error: Exception) -> None:
        # What says by itself which file it is about goes to the caller as it is.
        ours = error if isinstance(error, FileError) else TransferFailed(number, f"{error}")
        self._end_source(number, ours, f"cannot be read: {error}")

    def _sender_gone(self, number: int, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            self._end_source(number, None, "cancelled by the sender")

    def _end_source(self, number: int, error: Exception | None, reason: str | None) -> None:
        """End an outgoing transfer: ``error`` None means well; ``reason`` is told to the peer unless it is None."""
        entry = self._sources.pop(number, None)
        if entry is None:
            return
        source, done = entry
        if reason is not None and self._transfers.withdraw(number, reason):
            self._wake()
        source.close()
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    # --- receiving -------------------------------------------------------------------------------------------------

    def expect(self, number: int, size: int, into: Into) -> asyncio.Future[Any]:
        """Consent to transfer ``number`` of the peer.

        Args:
            number: As the sender told it.
            size: In bytes, as the sender told it.
            into: A writable buffer of that size, a :class:`~.bulkends.Writer`, or a function that returns one of them. A
                writer is ours from this call on: it is finished or aborted, also when this raises.

        Returns:
            A future: None for a buffer, for a writer what its ``finish()`` returned, once all bytes are there; or the error.
            Cancelling it refuses the transfer.

        Raises:
            ValueError: If this number was expected before.
            TransportError: What the session ended with, if it has.
        """
        try:
            if self._closed is not None:
                raise self._closed
            ended = self._transfers.expect(number, size)
        except Exception:
            self._abort(into)
            raise
        done = self._future(partial(self._receiver_gone, number))
        self._expected[number] = _Expected(size, into, done)
        if ended is not None:
            self.ended(ended)
        self._start()
        self._need()
        return done

    def _start(self) -> None:
        """Begin what may begin: make its target, ask for its bytes."""
        while self._closed is None and (number := self._transfers.start_next()) is not None:
            expected = self._expected[number]
            try:
                into = expected.into
                place = into() if callable(into) and not hasattr(into, "finish") else into
                target = self._target_for(number, expected.size, place)
            except Exception as exc:
                self._end_expected(number, exc, refuse=f"{exc or type(exc).__name__}", start=False)
                continue
            expected.target = target
            expected.into = b""  # type: ignore[assignment]  # the target holds it from here on
            self._transfers.want(number, target.window)
        self._wake()

    def _target_for(self, number: int, size: int, place: Any) -> Target:
        if not hasattr(place, "finish"):
            return MemoryTarget(place, size, partial(self._complete_soon, number))
        return WriterTarget(
            place,
            size,
            limits=self._limits,
            executor=self._threads(),
            call=self._loop.call_soon_threadsafe,
            stored=partial(self._stored, number),
            complete=partial(self._complete, number),
            failed=partial(self._target_failed, number),
        )

    def _stored(self, number: int, upto: int) -> None:
        self._transfers.stored(number, upto)
        self._wake()

    def _complete_soon(self, number: int, result: Any) -> None:
        self._loop.call_soon(self._complete, number, result)

    def _complete(self, number: int, result: Any) -> None:
        if number not in self._expected:
            return  # cancelled in the turn in which the last byte came
        self._transfers.complete(number)
        done = self._expected.pop(number).done
        if not done.done():
            done.set_result(result)
        self._progress()

    def _target_failed(self, number: int, error: Exception) -> None:
        self._end_expected(number, error, refuse=f"could not be stored: {error}")

    def _receiver_gone(self, number: int, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            self._end_expected(number, None, refuse="cancelled by the receiver")

    def _end_expected(
        self, number: int, error: Exception | None, *, refuse: str | None, start: bool = True
    ) -> None:
        """End an incoming transfer early; ``refuse`` is told to the peer unless it is None."""
        expected = self._expected.pop(number, None)
        if expected is None:
            return
        if refuse is not None:
            self._transfers.refuse(number, refuse)
        if self._link is not None:
            self._link.forget(number)
        if expected.target is not None:
            expected.target.close()
        else:
            self._abort(expected.into)
        if error is not None and not expected.done.done():
            expected.done.set_exception(error)
        if start:
            self._start()

    def _abort(self, into: Into) -> None:
        """Abort a writer that no target was made for."""
        if hasattr(into, "finish"):
            try:
                self._threads().submit(cast(Writer, into).abort)
            except RuntimeError:
                cast(
                    Writer, into
                ).abort()  # shut down: better the loop waits than that a file stays

    # --- both ------------------------------------------------------------------------------------------------------

    def cancel(self, number: int, reason: str = "cancelled", *, incoming: bool = False) -> None:
        """End a transfer early, on both sides; nothing happens if it has ended.

        Args:
            number: As given by its sender.
            reason: Told to the peer.
            incoming: False: one that we send. True: one that we expect.
        """
        error = TransferFailed(number, reason)
        if incoming:
            self._end_expected(number, error, refuse=reason)
        else:
            self._end_source(number, error, reason)

    def close(self, error: TransportError) -> None:
        """The session has ended: every transfer fails with ``error``, the connection is dropped."""
        if self._closed is not None:
            return
        self._closed = error
        link, self._link = self._link, None
        if link is not None:
            link.close(error)
        if self._dialling is not None:
            self._dialling.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for number in list(self._sources):
            self._end_source(number, error, None)
        for number in list(self._expected):
            self._end_expected(number, error, refuse="the session has ended")
        if self._own_executor is not None:
            self._own_executor.shutdown(wait=False)

    async def wait_closed(self) -> None:
        """Wait, after :meth:`close`, until its tasks and threads are through."""
        tasks = [task for task in [self._dialling, *self._ended_tasks] if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._own_executor is not None:
            await self._loop.run_in_executor(None, self._own_executor.shutdown)

    def _future(self, callback: Callable[[asyncio.Future[Any]], None]) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self._loop.create_future()
        done.add_done_callback(callback)
        done.add_done_callback(_retrieve)
        return done

    def _threads(self) -> Executor:
        if self._executor is None:
            if self._closed is not None:
                raise RuntimeError("closed")
            self._own_executor = ThreadPoolExecutor(2, thread_name_prefix="discoro-bulk")
            self._executor = self._own_executor
        return self._executor

    def _progress(self) -> None:
        self._broken = 0
        self._wait = self._limits.dial_first
        self._start()
        self._need()

    # --- the connection --------------------------------------------------------------------------------------------

    def attach(self, transport: asyncio.Transport, leftover: bytes = b"") -> None:
        """Take over an authenticated connection of this session; an older one is dropped first.

        Args:
            transport: Its protocol is replaced here.
            leftover: What was read beyond the proof.
        """
        if self._closed is not None:
            transport.abort()
            return
        link = BulkLink(self, self._transfers, self._limits)
        old, self._link = self._link, link
        if old is not None:
            old.close()
        transport.set_protocol(link)
        link.connection_made(transport)
        link.feed(leftover)
        self._arm_timer()

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _need(self) -> None:
        """See that there is a connection, if one is needed and it is ours to dial."""
        self._wake()
        if self._link is not None or self._dial is None or self._closed is not None:
            return
        if self._dialling is None and self._transfers.busy:
            self._dialling = self._loop.create_task(self._connect(), name="discoro-bulk-dial")

    async def _connect(self) -> None:
        assert self._dial is not None
        try:
            while self._transfers.busy and self._link is None:
                if self._broken:
                    await asyncio.sleep(self._next_wait())
                try:
                    transport, leftover = await self._dial()
                except (TransportError, OSError) as exc:
                    log.debug("bulk connection %s: %s", self._name, exc)
                    wait = exc.retry_in if isinstance(exc, Busy) else self._next_wait()
                    await asyncio.sleep(wait)
                except Exception:
                    log.exception("dialling the bulk connection %s failed", self._name)
                    await asyncio.sleep(self._next_wait())
                else:
                    self.attach(transport, leftover)
        finally:
            self._dialling = None

    def _next_wait(self) -> float:
        wait, self._wait = self._wait, min(self._wait * 2, self._limits.dial_most)
        jitter = self._limits.dial_jitter
        return wait * random.uniform(1 - jitter, 1 + jitter)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._since = self._loop.time()
        self._tick_due = self._since + self._limits.tick
        self._timer = self._loop.call_at(self._tick_due, self._tick)

    def _tick(self) -> None:
        """Close what is idle; ping, then drop, what should say something and does not."""
        self._timer = None
        link, now, limits = self._link, self._loop.time(), self._limits
        if link is None:
            return
        stalled = now - self._tick_due
        if stalled > limits.own_stall:
            self._since += stalled  # we stood still ourselves: that is not the peer's silence
            link.heard += stalled
        self._tick_due = now + limits.tick
        self._timer = self._loop.call_at(self._tick_due, self._tick)
        if self._transfers.busy != self._was_busy:
            self._was_busy, self._since = self._transfers.busy, now
        quiet = now - max(link.heard, self._since)
        if not self._was_busy:
            if quiet > limits.bulk_idle and self._dial is not None:
                link.close()
        elif quiet > limits.silence:
            link.close(TimeoutError(f"nothing heard for {limits.silence:g} s"))
        elif quiet > limits.ping_idle:
            self._transfers.ping(0)
            link.wake()

    # --- what a link reports (bulklink.Owner) ----------------------------------------------------------------------

    def target(self, number: int) -> Target:
        """Return the target of a transfer that has begun."""
        target = self._expected[number].target
        assert target is not None
        return target

    def ready(self, number: int, offset: int) -> int:
        """Return how many bytes of an outgoing transfer are at hand from ``offset``."""
        return self._sources[number][0].ready(offset)

    def views(self, part: Part) -> list[memoryview]:
        """Return the bytes of a part."""
        return self._sources[part.number][0].views(part.offset, part.length)

    def ended(self, ended: Ended) -> None:
        """The peer has ended a transfer."""
        number = ended.number
        if ended.kind is EndKind.SENT:
            self._end_source(number, None, None)
        elif ended.kind is EndKind.REFUSED:
            self._end_source(number, TransferFailed(number, f"refused: {ended.reason}"), None)
        else:
            error = TransferFailed(number, f"given up by its sender: {ended.reason}")
            self._end_expected(number, error, refuse=None)
        self._progress()

    def link_lost(self, link: BulkLink, error: Exception | None) -> None:
        """A connection is gone: go on over the next one."""
        pump = link.pump
        if pump is not None and not pump.done():
            self._ended_tasks.add(pump)
            pump.add_done_callback(self._ended_tasks.discard)
        if link is not self._link:
            return  # replaced, or closed by us
        self._link = None
        self._transfers.detached()
        if isinstance(error, ProtocolError):
            log.warning("bulk connection %s dropped: %s", self._name, error)
            self._count_broken(f"{error}")
        elif error is None or isinstance(error, (OSError, TransportError)):
            log.debug("bulk connection %s ended: %s", self._name, error or "closed")
        else:
            log.error(
                "bulk connection %s dropped; this is a bug in discoro", self._name, exc_info=error
            )
            self._count_broken(f"{type(error).__name__}: {error}")
        self._need()

    def _count_broken(self, reason: str) -> None:
        """A connection ended by a fault that the next one may have as well; after some in a row the transfers end."""
        self._broken += 1
        if self._broken < self._limits.protocol_errors:
            return
        self._broken = 0
        for number in list(self._sources):
            self._end_source(number, TransferFailed(number, reason), reason)
        for number in list(self._expected):
            self._end_expected(number, TransferFailed(number, reason), refuse=reason)


def _needed(size: int | None) -> int:
    if size is None:
        raise TypeError("size is needed for a file")
    return size


def _retrieve(done: asyncio.Future[Any]) -> None:
    """Take note of an error nobody may ask for, so that asyncio does not log it as forgotten."""
    if not done.cancelled():
        done.exception()

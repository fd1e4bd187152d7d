"""One bulk connection: the pump between :class:`~.transfer.Transfers` and asyncio. Shell.

Bytes are received straight into their target: while a DATA frame is under way its target's own memory is what the socket,
that is TLS, is told to fill. Headers and small frames go through a scratch buffer of 4 KiB.

Nobody waits behind a transfer for longer than 64 KiB take. What is sent goes out in writes of that size, each followed by a turn of
the loop: a loop of writes without a turn would hold up every coroutine of the process until the whole transfer is out, because a
fast reader lets the kernel take everything and nothing ever asks us to pause. Of what is received the transport takes as much a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol, cast

from .bulkends import Target
from .bulkframes import HEADER_BYTES, Frame, FrameType, decode_header
from .limits import Limits
from .transfer import Ended, Part, Transfers

_SCRATCH_BYTES = 4096
Chunk = bytes | memoryview


class Owner(Protocol):
    """Who keeps the ends of the transfers, and takes what a link reports."""

    def target(self, number: int) -> Target:
        """Return the target of a transfer that has begun."""

    def ready(self, number: int, offset: int) -> int:
        """Return how many bytes of an outgoing transfer are at hand from ``offset``."""

    def views(self, part: Part) -> list[memoryview]:
        """Return the bytes of a part."""

    def ended(self, ended: Ended) -> None:
        """The peer has ended a transfer."""

    def link_lost(self, link: BulkLink, error: Exception | None) -> None:
        """The connection is gone."""


def chunks(header: bytes, views: list[memoryview], most: int) -> Iterator[Chunk]:
    """Yield a header and what follows it in pieces of ``most`` bytes; what is small is joined, the rest is not copied."""
    pending: list[Chunk] = [header]
    room = most - len(header)
    for view in views:
        at = 0
        while at < len(view):
            piece = view[at : at + room]
            pending.append(piece)
            at += len(piece)
            room -= len(piece)
            if not room:
                yield pending[0] if len(pending) == 1 else b"".join(pending)
                pending, room = [], most
    if pending:
        yield pending[0] if len(pending) == 1 else b"".join(pending)


class BulkLink(asyncio.BufferedProtocol):
    """One connection that carries transfers; its end is reported to ``owner`` once."""

    def __init__(self, owner: Owner, transfers: Transfers, limits: Limits) -> None:
        self._owner = owner
        self._transfers = transfers
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._scratch_view = memoryview(self._scratch)
        self._filled = 0
        # The DATA frame under way: its transfer, bytes still to come, and where they go (None: nowhere).
        self._number = 0
        self._left = 0
        self._target: Target | None = None
        self._waste = memoryview(bytearray(0))
        self._wake = asyncio.Event()
        self._paused: asyncio.Future[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self.lost = False
        # On the loop's clock: when a byte came last.
        self.heard = self._loop.time()

    # --- called by the owner ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def forget(self, number: int) -> None:
        """The transfer has ended: what still comes of it goes nowhere."""
        if number == self._number:
            self._target = None

    def feed(self, data: bytes) -> None:
        """Take bytes that were read before this protocol was set."""
        at = 0
        while at < len(data) and not self.lost:
            view = self.get_buffer(-1)
            count = min(len(view), len(data) - at)
            view[:count] = data[at : at + count]
            at += count
            self.buffer_updated(count)

    def close(self, error: Exception | None = None) -> None:
        """Drop the connection; the owner is told at once, and not again."""
        if self.lost:
            return
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(error)

    @property
    def pump(self) -> asyncio.Task[None] | None:
        """The task that sends, to wait for."""
        return self._pump

    # --- called by the transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.bulk_buffer)
        self._transfers.attached()
        self._pump = self._loop.create_task(self._send(self._transport), name="discoro-bulk-send")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop, and tell the owner."""
        if self.lost:
            return
        self.lost = True
        self._target = None
        if self._pump is not None:
            self._pump.cancel()
        self._owner.link_lost(self, self._error or exc)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self._paused is None:
            self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        """The socket takes more."""
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go; never an empty view, in which nothing would ever arrive."""
        if self._left:
            if self._target is not None:
                return self._target.view(self._left)
            if not self._waste:
                self._waste = memoryview(bytearray(self._limits.tls_receive))
            return self._waste[: self._left]
        return self._scratch_view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Account for bytes that came; whatever is wrong with them ends the connection, and the owner is told."""
        self.heard = self._loop.time()
        if self.lost:
            return
        try:
            if self._left:
                self._data_came(nbytes)
            else:
                self._filled += nbytes
                self._parse()
                self._wake.set()
        except Exception as exc:
            self._error = exc
            self.close(exc)

    # --- receiving -------------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        at, end = 0, self._filled
        while end - at >= HEADER_BYTES:
            frame = decode_header(self._scratch, at)
            if frame.type is FrameType.DATA:
                self._begin(frame)
                at = self._copy(at + HEADER_BYTES, end)
                continue
            after = at + HEADER_BYTES + frame.length
            if after > end:
                break
            payload = bytes(self._scratch_view[at + HEADER_BYTES : after])
            at = after
            ended = self._transfers.control_came(frame, payload)
            if ended is not None:
                self._owner.ended(ended)
        if at:
            self._scratch_view[: end - at] = bytes(self._scratch_view[at:end])
            self._filled = end - at

    def _begin(self, frame: Frame) -> None:
        wanted = self._transfers.data_begins(frame)
        self._number = frame.number
        self._left = frame.length
        self._target = self._owner.target(frame.number) if wanted else None

    def _copy(self, at: int, end: int) -> int:
        """Move what came behind a DATA header to its target; return where the next frame starts."""
        while self._left and at < end:
            view = self.get_buffer(-1)
            count = min(len(view), end - at)
            view[:count] = self._scratch_view[at : at + count]
            at += count
            self._data_came(count)
        return at

    def _data_came(self, count: int) -> None:
        self._left -= count
        if self._target is not None:
            self._transfers.data_came(self._number, count)
            self._target.came(count)

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, transport: asyncio.Transport) -> None:
        try:
            await self._send_all(transport)
        except Exception as exc:
            # Whatever it was: a connection that nobody sends on any more must not look alive.
            self.close(exc)

    async def _send_all(self, transport: asyncio.Transport) -> None:
        transfers, ready = self._transfers, self._owner.ready
        while True:
            if self._paused is not None:
                await self._paused
            self._wake.clear()
            data = transfers.data_to_send()
            if data:
                transport.write(data)
            part = transfers.next_part(ready)
            if part is not None:
                await self._send_part(transport, part)
            elif not self._wake.is_set():
                await self._wake.wait()

    async def _send_part(self, transport: asyncio.Transport, part: Part) -> None:
        for chunk in chunks(part.header, self._owner.views(part), self._limits.bulk_write):
            transport.write(chunk)
            if self._paused is not None:
                await self._paused
            else:
                await asyncio.sleep(0)

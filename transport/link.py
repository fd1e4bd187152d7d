"""A link: the pump between one TLS connection and its session. Shell; decides nothing.

All links of a loop read into one buffer of 256 KiB (a buffer each would cost that much memory per idle session); a frame
that is not complete yet is kept per link, in a buffer of its own length once it is long. The loop reads into the
buffer and calls :meth:`Link.buffer_updated` in one go, so nobody else can use it in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ProtocolError
from .frames import HEADER

if TYPE_CHECKING:
    from .session import Session


class ReceiveBuffer:
    """The one receive buffer of a loop."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.view = memoryview(self.data)


class LinkOwner(Protocol):
    """Who hears of a link's end."""

    def link_lost(self, link: Link, error: Exception | None) -> None:
        """The connection is gone, or must go; called once, while the link has its session."""

    def link_gone(self, link: Link) -> None:
        """The transport has let go of the connection; called once, last."""


class Link(asyncio.BufferedProtocol):
    """Asyncio protocol of one connection whose session is UP.

    Attributes:
        session: The session; None once the link is no longer its current one.
        transport: The connection.
    """

    def __init__(
        self,
        session: Session,
        transport: asyncio.Transport,
        buffer: ReceiveBuffer,
        owner: LinkOwner,
        after_read: Callable[[], None],
    ) -> None:
        self.session: Session | None = session
        self.transport = transport
        self._data = buffer.data
        self._view = buffer.view
        self._owner = owner
        self._after_read = after_read
        # The beginning of a frame that is not complete.
        self._tail = b""
        # A long frame that is arriving: its own buffer, and how much of it is there.
        self._long: bytearray | None = None
        self._long_filled = 0

    @property
    def socket(self) -> Any:
        """The connection's socket, or what the loop gives for it."""
        return self.transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to; never an empty view, in which nothing would ever arrive."""
        tail = self._tail
        if not tail:
            return self._view
        if self._long is not None:
            return memoryview(self._long)[self._long_filled :]
        self._data[: len(tail)] = tail
        return self._view[len(tail) :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived."""
        session = self.session
        if session is None:
            return  # bytes of a link that is not current are not even parsed
        session.heard = True
        try:
            if self._long is not None:
                self._long_came(session, nbytes)
            else:
                end = nbytes + len(self._tail)
                used = session.received(self._data, self._view, end)
                if used != end:
                    self._keep(used, end)
                elif self._tail:
                    self._tail = b""
        except ProtocolError as exc:
            self.drop(exc)
        self._after_read()
        session.flush()

    def _keep(self, used: int, end: int) -> None:
        """Keep the beginning of an incomplete frame."""
        rest = end - used
        self._tail = bytes(self._view[used:end])
        if rest >= HEADER.size:
            size = 4 + int.from_bytes(self._tail[:4], "big")  # the session has checked it
            # Half of the buffer: a frame that arrived in many pieces would be copied with each of them.
            if size > len(self._data) // 2:
                self._long = bytearray(size)
                self._long[:rest] = self._tail
                self._long_filled = rest

    def _long_came(self, session: Session, nbytes: int) -> None:
        assert self._long is not None
        self._long_filled += nbytes
        if self._long_filled == len(self._long):
            data, self._long = self._long, None
            self._tail = b""
            session.received(data, memoryview(data), len(data))

    def feed(self, data: bytes) -> None:
        """Take bytes that were read before the link had its session."""
        while data and self.session is not None:
            view = self.get_buffer(-1)
            part = data[: len(view)]
            view[: len(part)] = part
            data = data[len(part) :]
            self.buffer_updated(len(part))

    def drop(self, error: Exception | None) -> None:
        """Cut the connection now; what it had not written is kept by the session."""
        if self.session is not None:
            self._owner.link_lost(self, error)
            self.session = None
        self.transport.abort()

    def release(self) -> None:
        """Belong to no session any more, and close once everything is written."""
        self.session = None
        self.transport.close()

    def pause_writing(self) -> None:
        """The transport has enough to write."""
        if self.session is not None:
            self.session.pause_writing()

    def resume_writing(self) -> None:
        """The transport takes more."""
        if self.session is not None:
            self.session.resume_writing()

    def eof_received(self) -> bool:
        """The peer has closed; so do we, and do not wait for its goodbye in TLS: it may have closed one half only."""
        if self.session is not None:
            self.drop(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self.session is not None:
            self._owner.link_lost(self, exc)
            self.session = None
        self._owner.link_gone(self)

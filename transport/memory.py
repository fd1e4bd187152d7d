"""A network in memory, for tests and simulations: the same endpoints, no sockets, no TLS, seeded disorder. Shell.

The handshake is the real one, over connections that hand bytes from one event loop callback to the next, in pieces of
random length where a seed is given. A connection can be cut after any number of bytes, and the whole network can
fall silent, as one whose cable was pulled.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from typing import Any, cast

from .errors import PeerUnreachable
from .network import Listener

_FINGERPRINT = bytes(32)
_PIECE = 16 * 1024


class MemoryNetwork:
    """All connections between the endpoints that were given this network.

    Attributes:
        silent: While True no byte arrives anywhere and no kernel answers.
        connections: Ends of all connections that are open; two each.
        made: How many connections have been dialled.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.silent = False
        self.connections: list[MemoryTransport] = []
        self.made = 0
        #: Bytes after which the next connections are cut, both directions together; None: not at all.
        self.cuts: list[int | None] = []
        self._random = random.Random(seed) if seed is not None else None
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._ports = itertools.count(1)

    @property
    def fingerprint(self) -> bytes:
        """Of the certificate that there is not."""
        return _FINGERPRINT

    def cut(self) -> None:
        """Cut all connections."""
        for end in list(self.connections):
            end.abort()

    def be_silent(self, silent: bool) -> None:
        """Pull the cable, or plug it in again."""
        self.silent = silent
        for end in list(self.connections):
            end.deliver_soon()

    def piece(self, size: int) -> int:
        """Return how many of ``size`` bytes arrive at once."""
        if self._random is None:
            return min(size, _PIECE)
        return self._random.randint(1, min(size, _PIECE))

    # --- network.Network -------------------------------------------------------------------------------------------

    async def dial(self, host: str, port: int) -> MemoryTransport:
        """Return our end of a new connection."""
        await asyncio.sleep(0)
        listener = self._listeners.get((host, port))
        if listener is None:
            cause = ConnectionRefusedError("nobody listens there")
            raise PeerUnreachable(host, port, "connection refused") from cause
        self.made += 1
        budget = [self.cuts.pop(0) if self.cuts else None]
        here, there = MemoryTransport(self, budget), MemoryTransport(self, budget)
        here.other, there.other = there, here
        self.connections += [here, there]
        listener.queue.put_nowait((there, (host, 0)))
        return here

    async def secure(
        self, raw: MemoryTransport, protocol: asyncio.BaseProtocol, host: str, port: int
    ) -> tuple[asyncio.Transport, bytes]:
        """Connect the protocol."""
        raw.start(protocol)
        return raw, _FINGERPRINT

    async def secure_accepted(
        self, raw: MemoryTransport, protocol: asyncio.BaseProtocol
    ) -> asyncio.Transport:
        """Connect the protocol."""
        raw.start(protocol)
        return raw

    def drop(self, raw: MemoryTransport) -> None:
        """Cut it."""
        raw.abort()

    def answers(self, raw: Any) -> bool:
        """Whether the cable is in."""
        return not self.silent

    def heard(self, raw: MemoryTransport) -> int | None:
        """Return how many bytes have arrived."""
        return raw.heard

    async def listen(self, host: str, port: int) -> Listener:
        """Take connections at an address."""
        address = (host, port or next(self._ports))
        if address in self._listeners:
            raise OSError(98, "address already in use")
        listener = self._listeners[address] = MemoryListener(self._listeners, address)
        return listener

    def adopt(self, sock: socket.socket) -> Listener:
        """There are no sockets here."""
        raise NotImplementedError("a network in memory has no sockets to adopt")


class MemoryListener:
    """Somebody who takes connections in memory."""

    def __init__(
        self, listeners: dict[tuple[str, int], MemoryListener], address: tuple[str, int]
    ) -> None:
        self.address = address
        self.queue: asyncio.Queue[tuple[MemoryTransport, tuple[str, int]]] = asyncio.Queue()
        self._listeners = listeners

    async def accept(self) -> tuple[MemoryTransport, tuple[str, int]]:
        """Return the next connection."""
        return await self.queue.get()

    def close(self) -> None:
        """Take no more."""
        self._listeners.pop(self.address, None)

    def fileno(self) -> int:
        """Return -1: there is none."""
        return -1


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory.

    Attributes:
        heard: Bytes that have arrived at this end.
    """

    other: MemoryTransport

    def __init__(self, network: MemoryNetwork, budget: list[int | None]) -> None:
        super().__init__()
        self.heard = 0
        self._network = network
        self._loop = asyncio.get_running_loop()
        # Bytes until the connection is cut, shared by both ends.
        self._budget = budget
        self._protocol: asyncio.BaseProtocol | None = None
        self._arriving = bytearray()
        self._armed = False
        self._paused = False
        self._closing = False
        self._ended = False
        self._eof = False

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect a protocol; what has arrived already follows."""
        self._protocol = protocol
        protocol.connection_made(self)
        self.deliver_soon()

    # --- asyncio.Transport -----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        if self._closing or self._ended:
            return
        left = self._budget[0]
        if left is not None:
            data = data[:left]
            self._budget[0] = left - len(data)
        self.other._arriving += data
        self.other.deliver_soon()
        if self._budget[0] == 0:
            self._loop.call_soon(self.abort)

    def close(self) -> None:
        """Close; what was written still arrives."""
        if not self._closing:
            self._closing = True
            self.other._eof = True
            self.other.deliver_soon()
            self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        """Cut the connection: what has not arrived never will."""
        self._closing = True
        self.other._arriving.clear()
        self.other._eof = True
        self.other.deliver_soon()
        self._loop.call_soon(self._end, None)

    def is_closing(self) -> bool:
        """Whether it is closed, or closing."""
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return this end where a socket is asked for."""
        return self if name == "socket" else default

    def fileno(self) -> int:
        """Return -1: there is no descriptor."""
        return -1

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who has the connection."""
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered here."""

    def get_write_buffer_size(self) -> int:
        """Nothing is buffered here."""
        return 0

    def pause_reading(self) -> None:
        """Let bytes wait."""
        self._paused = True

    def resume_reading(self) -> None:
        """Go on."""
        self._paused = False
        self.deliver_soon()

    def is_reading(self) -> bool:
        """Whether bytes are handed over."""
        return not self._paused

    # --- how bytes arrive ------------------------------------------------------------------------------------------

    def deliver_soon(self) -> None:
        """Hand over what has arrived, in the loop's next turn."""
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._armed = False
        protocol = self._protocol
        if protocol is None or self._ended or self._paused or self._network.silent:
            return
        if self._arriving:
            protocol = cast(asyncio.BufferedProtocol, protocol)
            view = memoryview(protocol.get_buffer(-1))
            size = self._network.piece(min(len(view), len(self._arriving)))
            view[:size] = self._arriving[:size]
            del self._arriving[:size]
            self.heard += size
            protocol.buffer_updated(size)
            self.deliver_soon()
        elif self._eof:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        if self in self._network.connections:
            self._network.connections.remove(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        self.other._eof = True
        self.other.deliver_soon()

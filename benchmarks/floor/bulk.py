"""Floors of ``bulk``, ``arrays`` and ``files``: big values over TLS, into fresh memory of their type.

Two ways: uvloop with ``BufferedProtocol`` at the receiver, and blocking sockets; the floor is the better one of each round.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, ClassVar

from benchmarks.contest import Contestant
from benchmarks.floor import tls
from benchmarks.floor.coalesced import connect, serve
from benchmarks.serving import ServerProcess

MIB = 1 << 20
_HEAD = struct.Struct(">BQ")
_KINDS = ("bytearray", "array", "bytes", "file", "both ways")
_CHUNK = 256 << 10

_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype = ctypes.py_object
_new_bytes.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]


_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_bytearray.restype = ctypes.py_object
_new_bytearray.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]


def fresh(kind: str, size: int) -> tuple[Any, memoryview]:
    """Return a new value of a kind, and a view to fill it."""
    if kind == "bytearray":  # not filled with zeros first
        array = _new_bytearray(None, size)
        return array, memoryview(array)
    if kind == "bytes":  # filled in place before anybody else has seen it
        data = _new_bytes(None, size)
        place = id(data) + bytes.__basicsize__ - 1
        return data, memoryview((ctypes.c_char * size).from_address(place)).cast("B")
    import numpy

    # numpy.empty asks for huge pages, which can take several times as long until they are there.
    memory = _new_bytearray(None, size)
    return numpy.frombuffer(memory, numpy.uint8), memoryview(memory)


class Buffered(asyncio.BufferedProtocol):
    """Receives values one after the other; ``came`` gets each."""

    def __init__(self, came: Callable[[Buffered, str, Any], None]) -> None:
        self._came = came
        self._head = bytearray(_HEAD.size)
        self._resumed: asyncio.Future[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._value: Any = None
        self._kind = ""
        self._view = memoryview(self._head)
        self._got = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=512 << 10)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._got :]

    def buffer_updated(self, nbytes: int) -> None:
        self._got += nbytes
        if self._got < len(self._view):
            return
        if self._kind:
            value, kind = self._value, self._kind
            self._begin()
            self._came(self, kind, value)
            return
        number, size = _HEAD.unpack(self._head)
        self._kind = _KINDS[number]
        self._value, self._view = fresh(self._kind, size) if size else (None, self._view)
        self._got = 0
        if not size:
            kind = self._kind
            self._begin()
            self._came(self, kind, None)

    async def send(self, kind: str, value: Any) -> None:
        """Write a value."""
        view = memoryview(value).cast("B")
        self.transport.write(_HEAD.pack(_KINDS.index(kind), len(view)))
        for offset in range(0, len(view), _CHUNK):
            self.transport.write(view[offset : offset + _CHUNK])
            if self._resumed is not None:
                await self._resumed

    def pause_writing(self) -> None:
        self._resumed = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None:
            self._resumed.set_result(None)
            self._resumed = None


async def buffered() -> int:
    """Serve with ``BufferedProtocol``."""
    tasks = []

    def came(link: Buffered, kind: str, value: Any) -> None:
        if kind == "both ways":
            tasks.append(asyncio.ensure_future(link.send(kind, value)))
        else:
            link.transport.write(_HEAD.pack(0, 0))

    return await serve(lambda: Buffered(came))


def _receive_into(connection: Any, view: memoryview) -> None:
    got = 0
    while got < len(view):
        count = connection.recv_into(view[got : got + _CHUNK])
        if not count:
            raise EOFError
        got += count


def _receive(connection: Any) -> tuple[str, Any]:
    head = bytearray(_HEAD.size)
    _receive_into(connection, memoryview(head))
    number, size = _HEAD.unpack(head)
    kind = _KINDS[number]
    if kind == "file":
        _receive_file(connection, size)
        return kind, None
    if not size:
        return kind, None
    value, view = fresh(kind, size)
    _receive_into(connection, view)
    return kind, value


def _receive_file(connection: Any, size: int) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    with tempfile.NamedTemporaryFile() as file:
        while size:
            count = connection.recv_into(buffer[: min(size, _CHUNK)])
            file.write(buffer[:count])
            size -= count
        file.flush()


def _send(connection: Any, kind: str, value: Any) -> None:
    view = memoryview(value).cast("B") if value is not None else memoryview(b"")
    connection.sendall(_HEAD.pack(_KINDS.index(kind), len(view)))
    for offset in range(0, len(view), _CHUNK):
        connection.sendall(view[offset : offset + _CHUNK])


async def blocking() -> int:
    """Serve with a thread and a blocking socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = tls.server_context()

    def receive() -> None:
        connection = context.wrap_socket(listener.accept()[0], server_side=True)
        try:
            while True:
                kind, value = _receive(connection)
                if kind == "both ways":
                    _send(connection, kind, value)
                else:
                    _send(connection, "bytearray", None)
        except (EOFError, OSError):
            pass

    threading.Thread(target=receive, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def payload(kind: str, size: int) -> Any:
    """Return a value of ``size`` MiB to send."""
    data = os.urandom(MIB) * size
    if kind == "bytearray":
        return bytearray(data)
    if kind in ("array", "both ways"):
        import numpy

        return numpy.frombuffer(data, numpy.uint8)
    return data


class Bulk(Contestant):
    """One value from here to there, and a word that it is there; ``both ways``: the value itself comes back."""

    kind: ClassVar[str] = "bytearray"
    label = "best of two TLS bulk floors"

    async def start(self) -> None:
        self._servers = [
            ServerProcess("benchmarks.floor.bulk:buffered"),
            ServerProcess("benchmarks.floor.bulk:blocking"),
        ]
        self._answered: asyncio.Future[None] | None = None
        self._link = await connect(lambda: Buffered(self._came), self._servers[0].port)
        plain = socket.create_connection(("127.0.0.1", self._servers[1].port))
        self._connection = tls.client_context().wrap_socket(plain)
        self._value = payload(self.kind, self.size)

    def _came(self, link: Buffered, kind: str, value: Any) -> None:
        if self._answered is not None:
            self._answered.set_result(None)

    async def round(self) -> float:
        moved = self.size * (2 if self.kind == "both ways" else 1)
        begun = perf_counter()
        _send(self._connection, self.kind, self._value)
        _receive(self._connection)
        best = perf_counter() - begun
        if self.kind != "file":
            self._answered = asyncio.get_running_loop().create_future()
            begun = perf_counter()
            await self._link.send(self.kind, self._value)
            await self._answered
            best = min(best, perf_counter() - begun)
        return moved * 1.048576 / best

    async def stop(self) -> None:
        self._connection.close()
        self._link.transport.close()
        for server in self._servers:
            server.close()


class ArrayBulk(Bulk):
    """An array of numpy."""

    kind = "array"


class BytesBulk(Bulk):
    """Bytes."""

    kind = "bytes"


class FileBulk(Bulk):
    """Bytes, written to a file there; blocking sockets only."""

    kind = "file"
    label = "blocking TLS sockets, to a file"


class BothWays(Bulk):
    """An array there and back."""

    kind = "both ways"

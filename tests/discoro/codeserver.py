"""A process that hosts code spaces, for the tests: ``python codeserver.py SOCKET``.

Each connection is one computation: first the id and the bundle, then calls. Code of several
connections lives here at the same time, each in a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import struct
import sys
import threading
import traceback
from typing import Any

from discoro.shipping.bundle import Bundle
from discoro.shipping.codespace import CodeSpace
from discoro.shipping.excs import encode_exception
from discoro.shipping.values import dumps, loads


def send(sock: socket.socket, *parts: bytes) -> None:
    sock.sendall(struct.pack("<I", len(parts)))
    for part in parts:
        sock.sendall(struct.pack("<I", len(part)) + part)


def receive(sock: socket.socket) -> list[bytes]:
    (count,) = struct.unpack("<I", exactly(sock, 4))
    return [exactly(sock, struct.unpack("<I", exactly(sock, 4))[0]) for _ in range(count)]


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return list(result) if inspect.isgenerator(result) else result


def host(sock: socket.socket) -> None:
    space: CodeSpace | None = None
    with sock:
        while True:
            try:
                kind, *parts = receive(sock)
            except EOFError:
                break
            try:
                if kind == b"open":
                    space = CodeSpace(Bundle.decode(parts[1], parts[0]), server="server t-1")
                    space.load()
                    send(sock, b"ok", dumps(None))
                    continue
                assert space is not None
                if kind == b"call":
                    args, kwargs = loads(parts[0], space)
                    value = run(space.entry, args, kwargs)
                elif kind == b"apply":
                    function, args = loads(parts[0], space)
                    value = run(function, args, {})
                else:
                    space.close()
                    value = None
                send(sock, b"ok", dumps(value))
            except BaseException as error:
                try:
                    send(sock, b"error", encode_exception(error))
                except OSError:
                    traceback.print_exc()
    if space is not None:
        space.close()


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=host, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])

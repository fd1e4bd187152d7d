"""The client's end of ``codeserver``, for scripts that the tests start as processes of their own."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

import codeserver

from discoro.shipping.collecting import collect
from discoro.shipping.excs import decode_exception
from discoro.shipping.values import dumps, loads


class Remote:
    """A computation, set up at the server of the test."""

    def __init__(self, entry: Any, depends: Any = ()) -> None:
        self.bundle = collect(entry, depends)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
        try:
            self._ask(b"open", self.bundle.id, self.bundle.encode())
        except BaseException:
            self.sock.close()
            raise

    def _ask(self, *parts: bytes) -> Any:
        codeserver.send(self.sock, *parts)
        kind, data = codeserver.receive(self.sock)
        if kind == b"error":
            raise decode_exception(data)
        return loads(data)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask(b"call", dumps((args, kwargs)))

    def apply(self, function: Any, *args: Any) -> Any:
        """Send a function that is not part of the bundle, and call it there."""
        return self._ask(b"apply", dumps((function, args)))

    def finish(self) -> None:
        """Close the computation at the server."""
        self._ask(b"close")

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()


@contextlib.contextmanager
def raises(kind: type[BaseException], *texts: str) -> Iterator[list[BaseException]]:
    """As pytest's, for a process without pytest."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        for text in texts:
            assert text in str(error), (text, str(error))
        caught.append(error)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")

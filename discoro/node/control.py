"""The Unix socket of a node's parent: what ``status`` and ``stop`` ask.

One line of JSON each way: ``{"ask": "status", "most": 20}`` or ``{"ask": "stop"}``. After ``stop`` the connection stays open until the
node has ended. Whoever can open the socket is the user who started the node: the folder is closed to everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from discoro.scheduler.errors import DiscoroError
from discoro.statefolder import NodeRecord, StateFolder

ANSWER_TIMEOUT = 5.0
LONGEST_STOP = 30.0
MOST_BYTES = 4096
MOST_COROUTINES = 20
"""Coroutines of each server that are told of when nobody says how many."""
MOST_ASKED = 10_000


class NodeSilent(DiscoroError):
    """A node's parent does not answer on its socket.

    Attributes:
        record: What is known of it.
    """

    __module__ = "discoro.errors"

    def __init__(self, record: NodeRecord, *, stopped: bool = False) -> None:
        said = "is stopped (SIGSTOP, or Ctrl-Z)" if stopped else "does not answer"
        super().__init__(
            f"node {record.name} (pid {record.pid}) {said}; kill -CONT {record.pid} lets a stopped one go on"
        )
        self.record = record


class ControlServer:
    """The parent's end."""

    def __init__(self, folder: StateFolder, id: str) -> None:
        self._folder = folder
        self._id = id
        self._server: asyncio.Server | None = None

    async def start(
        self,
        status: Callable[[int], Awaitable[dict[str, Any]]],
        stop: Callable[[], object],
        ended: asyncio.Event,
    ) -> None:
        """Answer from now on.

        Args:
            status: Gives what ``status`` shows, and at most so many coroutines of each server.
            stop: Ends the node.
            ended: Set when all of its servers have ended.
        """

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT)
                question = json.loads(line) if line else {}
                ask = question.get("ask")
                if ask == "status":
                    most = min(int(question.get("most", MOST_COROUTINES)), MOST_ASKED)
                    writer.write(json.dumps(await status(most)).encode() + b"\n")
                elif ask == "stop":
                    writer.write(b'{"stopping": true}\n')
                    stop()
                    await ended.wait()
                await writer.drain()
            except (OSError, ValueError, TypeError, AttributeError, TimeoutError):
                pass
            finally:
                writer.close()
                # Who asked has not waited for the answer; or the loop ends, which 3.11's streams would report as an error.
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await writer.wait_closed()

        with self._folder.socket_address(self._id) as address:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
        self._server = await asyncio.start_unix_server(answer, sock=listener, limit=MOST_BYTES)

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.close()


def ask(
    folder: StateFolder, record: NodeRecord, what: str, most: int = MOST_COROUTINES
) -> dict[str, Any]:
    """Ask a node's parent; for ``stop`` wait until the node has ended.

    Args:
        folder: The user's.
        record: The node.
        what: ``status`` or ``stop``.
        most: Coroutines of each server that ``status`` gives at most.

    Raises:
        NodeSilent: If it does not answer.
    """
    if _state(record.pid) == "T":  # a question would be answered whenever it goes on
        raise NodeSilent(record, stopped=True)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT)
        try:
            with folder.socket_address(record.id) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"ask": what, "most": most}).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                data = connection.recv(65_536)
                if not data:
                    raise NodeSilent(record)
                received += data
            if what == "stop":
                connection.settimeout(LONGEST_STOP)
                while connection.recv(MOST_BYTES):
                    pass
                _wait_for_end(record.pid)
        except OSError as error:
            raise NodeSilent(record) from error
    answer: dict[str, Any] = json.loads(received)
    return answer


def _wait_for_end(pid: int) -> None:
    """Wait until the parent itself is gone, or a zombie that somebody else has to reap."""
    limit = time.monotonic() + ANSWER_TIMEOUT
    while time.monotonic() < limit:
        try:
            os.kill(pid, 0)
        except OSError:
            return
        if _state(pid) == "Z":
            return
        time.sleep(0.01)


def _state(pid: int) -> str:
    """Return the kernel's letter for the state of a process; empty where it does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""

"""The Unix socket of a node's parent: what ``status`` and ``stop`` ask, and how they show it.

One line of JSON each way: ``{"ask": "status"}`` or ``{"ask": "stop"}``. After ``stop`` the connection stays open until the
node has ended. Whoever can open the socket is the user who started the node: the folder is closed to everybody else.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from discoro.scheduler.errors import DiscoroError
from discoro.statefolder import NodeRecord, StateFolder
from discoro.transport.addresses import format_address

ANSWER_TIMEOUT = 5.0
LONGEST_STOP = 30.0
MOST_BYTES = 4096


class NodeSilent(DiscoroError):
    """A node's parent does not answer on its socket.

    Attributes:
        record: What is known of it.
    """

    def __init__(self, record: NodeRecord) -> None:
        super().__init__(
            f"node {record.name} (pid {record.pid}) does not answer; it may be stopped (kill -CONT {record.pid})."
        )
        self.record = record


class ControlServer:
    """The parent's end."""

    def __init__(self, folder: StateFolder, id: str) -> None:
        self._folder = folder
        self._id = id
        self._server: asyncio.Server | None = None

    async def start(
        self, status: Callable[[], dict[str, Any]], stop: Callable[[], object], ended: asyncio.Event
    ) -> None:
        """Answer from now on.

        Args:
            status: Gives what ``status`` shows.
            stop: Ends the node.
            ended: Set when all of its servers have ended.
        """

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT)
                ask = json.loads(line).get("ask") if line else None
                if ask == "status":
                    writer.write(json.dumps(status()).encode() + b"\n")
                elif ask == "stop":
                    writer.write(b'{"stopping": true}\n')
                    stop()
                    await ended.wait()
                await writer.drain()
            except (OSError, ValueError, AttributeError, TimeoutError):
                pass
            finally:
                writer.close()

        with self._folder.socket_address(self._id) as address:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
        self._server = await asyncio.start_unix_server(answer, sock=listener, limit=MOST_BYTES)

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.close()


def ask(folder: StateFolder, record: NodeRecord, what: str) -> dict[str, Any]:
    """Ask a node's parent; for ``stop`` wait until the node has ended.

    Raises:
        NodeSilent: If it does not answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT)
        try:
            with folder.socket_address(record.id) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"ask": what}).encode() + b"\n")
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
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b") ")[2][:1] == b"Z":
                    return
        except OSError:
            return
        time.sleep(0.01)


def status_text(nodes: list[dict[str, Any]]) -> str:
    """Show the nodes of this machine as plain text."""
    blocks = []
    for node in nodes:
        lines = [
            f"node {node['name']}: {node['state']}, pid {node['pid']}, cluster {node['cluster']}, "
            f"discoro {node['version']} on Python {node['python']}, up {duration(node['seconds'])}"
        ]
        rows: list[tuple[str, ...]] = [
            ("server", "pid", "port", "computations", "coroutines", "clients", "state")
        ]
        rows += [_row(server) for server in node["servers"]]
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  " + "  ".join([*cells, row[6]]).rstrip())
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _row(server: dict[str, Any]) -> tuple[str, ...]:
    counts = server["counts"]
    ports = sorted({port for _, port in server["addresses"]})
    state = server["state"]
    if server["stopped"]:
        state = "stopped (SIGSTOP)"
    elif server["blocked"]:
        state = server["blocked"]
    if server["restarts"]:
        state += f"; {server['restarts']} restarts, the last: {server['last_end']}"
    return (
        server["name"],
        str(server["pid"] or "-"),
        ",".join(map(str, ports)) or "-",
        *(str(counts.get(key, "-")) for key in ("computations", "coroutines", "peers")),
        state,
    )


def duration(seconds: float) -> str:
    """Return a length of time as people write it."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def addresses_text(addresses: list[tuple[str, int]]) -> str:
    """Show addresses, one after the other."""
    return ", ".join(format_address(host, port) for host, port in addresses)

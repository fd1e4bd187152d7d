"""``Node``: the command ``python -m discoro`` as a subprocess of a program, for as long as a ``with`` lasts.

It is the same command, never a fork of the program. They hold a pair of sockets between them: the node says there that it is
ready, and ends by itself when the program does, however that happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import discoro
from discoro.node.settings import UDP_PORT
from discoro.scheduler.errors import DiscoroError
from discoro.statefolder import StateFolder
from discoro.transport import secret as secrets
from discoro.transport.addresses import Location

ENDED_BY = 12.0
"""Seconds after which a node that was asked to end is killed; it promises 10."""
READY_BY = 30.0


class NodeFailed(DiscoroError):
    """A node did not start.

    Nothing of it runs any more.

    Attributes:
        exit_code: Its exit code, or None when it was just too slow.
        said: The last lines that it wrote on stderr, as far as they are known.
    """

    __module__ = "discoro.errors"

    def __init__(self, reason: str, exit_code: int | None = None, said: str = "") -> None:
        super().__init__(f"{reason}; it said:\n{said}" if said else reason)
        self.exit_code = exit_code
        self.said = said


class Node:
    """Servers on this machine, for the length of a ``with`` or ``async with``: the command as a part of a program.

    On a normal end their running work gets 5 s; after an exception none. They end, too, when the program does, however that happens.

    Args:
        cpus: As ``-c``: 0 all usable CPUs, N exactly N, -N all but N.
        secret: The shared secret; None is this user's own, and the node then listens on loopback only.
        name: Name of the node; its servers are ``name-1`` ... Default: that of the machine.
        timeout: Seconds that it has to get ready.
        max_rss: Bytes, or as in ``"2G"``: a server that takes more is ended, and started anew.
        max_stall: Seconds, or as in ``"5min"``: the same for one that is blocked for longer.

    The other options are those of the command, whose reference describes them.

    Attributes:
        name: Name of the node.
        secret: The secret in use.
        servers: Locations of its servers, once it has started; what ``Computation.setup`` takes.
        pid: Process id of the node's parent, once it has started.
    """

    __module__ = "discoro"

    command: Sequence[str] = (sys.executable, "-P", "-m", "discoro")

    def __init__(
        self,
        cpus: int = 0,
        *,
        secret: str | None = None,
        name: str | None = None,
        cluster: str = "default",
        ip_addr: str | Sequence[str] = (),
        ext_ip_addr: str | None = None,
        udp_port: int = UDP_PORT,
        tcp_port: int | None = None,
        dest_path: str | os.PathLike[str] | None = None,
        max_file_size: int | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        max_rss: int | str | None = None,
        max_stall: float | str | None = None,
        peer: str | Sequence[str] = (),
        join: str | None = None,
        debug: bool = False,
        force: bool = False,
        timeout: float = READY_BY,
    ) -> None:
        self.name = name or ""
        self.servers: list[Location] = []
        self.pid: int | None = None
        self._given = secret
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        options: dict[str, Any] = {
            "--cpus": cpus,
            "--name": name,
            "--cluster": cluster,
            "--ip_addr": [ip_addr] if isinstance(ip_addr, str) else list(ip_addr),
            "--ext_ip_addr": ext_ip_addr,
            "--udp_port": udp_port,
            "--tcp_port": tcp_port,
            "--dest_path": dest_path,
            "--max_file_size": max_file_size,
            "--certfile": certfile,
            "--keyfile": keyfile,
            "--max_rss": max_rss,
            "--max_stall": max_stall,
            "--peer": [peer] if isinstance(peer, str) else list(peer),
            "--join": join,
            "--debug": debug,
            "--force": force,
        }
        self._arguments = list(_arguments(options))
        self.secret = secret if secret is not None else os.environ.get("DISCORO_SECRET", "")

    def __repr__(self) -> str:
        if self._process is None:
            return f"<Node {self.name or 'not started'}>"
        return f"<Node {self.name}, {len(self.servers)} servers, pid {self.pid}>"

    # --- start and end ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it and wait, blocking, until its servers are ready; gives the node.

        Raises:
            NodeFailed: If they do not get ready, or it was started before; what went wrong stands in the text, or on stderr.
                Nothing of it runs then.
        """
        if self._process is not None:
            raise NodeFailed("this node has been started already; make another one")
        if not self.secret:
            self.secret, _ = StateFolder().secret(secrets.generate)
        self._launch()
        try:
            facts = self._wait_until_ready()
        except BaseException:
            self.close(at_once=True)
            raise
        self.name = facts["name"]
        self.pid = facts["pid"]
        self.servers = [_location(server) for server in facts["servers"] if server["addresses"]]
        return self

    def _launch(self) -> None:
        self._lifeline, theirs = socket.socketpair()
        readable, writable = -1, -1
        passed = [theirs.fileno()]
        arguments = [*self.command, *self._arguments, "--lifeline", str(theirs.fileno())]
        environment = {**os.environ, **_import_path()}
        try:
            if (
                self._given is not None
            ):  # by a pipe: arguments and environments can be read by others
                readable, writable = os.pipe()
                os.write(writable, self._given.encode())
                os.close(writable)
                passed.append(readable)
                arguments += ["--secret-file", f"/dev/fd/{readable}"]
                environment.pop("DISCORO_SECRET", None)
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the program, which then ends us in order
            )
        finally:
            theirs.close()
            if readable >= 0:
                os.close(readable)

    def _wait_until_ready(self) -> dict[str, Any]:
        lifeline, process = self._lifeline, self._process
        assert lifeline is not None and process is not None
        limit = time.monotonic() + self._timeout
        received = b""
        while not received.endswith(b"\n"):
            lifeline.settimeout(max(0.001, limit - time.monotonic()))
            try:
                data = lifeline.recv(65_536)
            except TimeoutError:
                text = f"the node's servers were not ready in {self._timeout:g} s"
                raise NodeFailed(text) from None
            except OSError:  # closed by a cancelled start
                data = b""
            if not data:
                code = process.wait(ENDED_BY)
                text = f"the node ended with exit code {code} before it was ready; stderr says why"
                raise NodeFailed(text, code)
            received += data
        lifeline.settimeout(None)
        facts: dict[str, Any] = json.loads(received)
        if "failed" in facts:
            code = process.wait(ENDED_BY)
            text = f"the node ended with exit code {code} before it was ready"
            raise NodeFailed(text, code, facts["failed"])
        return facts

    def close(self, *, at_once: bool = False) -> None:
        """End it and wait, blocking, for that: running work gets 5 s, or none ``at_once``. A second call does nothing."""
        process, lifeline = self._process, self._lifeline
        if process is None or lifeline is None:
            return
        self._lifeline = None
        if not at_once and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            self._wait_for_end(process)
        lifeline.close()
        self._wait_for_end(process)

    @staticmethod
    def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(ENDED_BY)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(at_once=error is not None)

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if self._lifeline is not None:
                self._lifeline.shutdown(
                    socket.SHUT_RDWR
                )  # the thread and the node both see the end
            await asyncio.wait([starting])
            starting.exception()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close, at_once=error is not None))


def _arguments(options: dict[str, Any]) -> list[str]:
    """Return options as the command line has them; what is None, False or empty is left out."""
    arguments: list[str] = []
    for option, value in options.items():
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            arguments += [
                f"{option}={os.fspath(v) if hasattr(v, '__fspath__') else v}" for v in values
            ]
    return arguments


def _location(server: dict[str, Any]) -> Location:
    """Return where this machine reaches a server."""
    host, port = server["addresses"][0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    id = bytes.fromhex(server["id"]) or None
    return Location(host, port, server["name"], id)


def _import_path() -> dict[str, str]:
    """Return what lets the subprocess import this very discoro, also from a checkout that is not installed."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(discoro.__file__)))
    if "site-packages" in home.split(os.sep) or "dist-packages" in home.split(os.sep):
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": home + (os.pathsep + known if known else "")}

"""A node's parent process: starts servers, watches and restarts them, answers ``status`` and ``stop``, leaves nothing behind.

It is no peer. It holds the listening sockets, so a server's port outlives the server. How a node ends:

* ``quit`` or ``exit`` typed at it: when the running work is done, however long that takes;
* SIGTERM, SIGHUP, ``stop``, the first Ctrl-C: 5 s for the running work, then it is terminated, and after 8.5 s killed;
* a second Ctrl-C: killed at once;
* killed itself (-9): the kernel ends its servers and their groups.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import platform
import secrets
import signal
import socket
import sys
import tempfile
import time
from typing import Any

from discoro.node.announcer import Announced, Announcer
from discoro.node.banner import banner
from discoro.node.console import Terminal
from discoro.node.control import ControlServer
from discoro.node.keyboard import Keyboard
from discoro.node.listeners import open_listeners
from discoro.node.serverchild import Program
from discoro.node.settings import NodeSettings, ServerSettings
from discoro.node.standin import AnswerForDead, NobodyAnswers, ParentEndpoint, Standin
from discoro.node.supervised import State, Supervised
from discoro.scheduler.errors import DiscoroError
from discoro.statefolder import NodeRecord, ServerRecord, StateFolder, machine_id
from discoro.transport.discovery import DiscoveryUnavailable
from discoro.transport.secret import Secret
from discoro.version import __version__

DRAIN = 5.0
"""Seconds that running work gets after SIGTERM or Ctrl-C."""
KILL = 8.5
"""Seconds after which what is left is killed; the node has ended by 10 s."""
ORPHANED_KILL = 3.0
"""The same when the program that started the node has ended: nobody wants its results."""
SAY_SLOW = 10.0
"""Seconds of starting after which the terminal says who is not ready."""
SAY_FULL_EVERY = 60.0
"""Seconds between two lines that there are no descriptors left."""
FAILED, INTERRUPTED = 1, 130


class DestPathUnusable(DiscoroError):
    """The folder in which servers are to keep files cannot be used.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"servers cannot keep their files in {path}: {reason}.\n"
            "    Choose a folder that you may write to: --dest_path DIR"
        )
        self.path = path


def check_dest_path(path: str) -> None:
    """See that servers will be able to make their folders below ``path``.

    Raises:
        DestPathUnusable: If not: said once, before any of them has started.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".discoro-", dir=path):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise DestPathUnusable(path, "it is no folder") from error
    except OSError as error:
        raise DestPathUnusable(path, error.strerror or str(error)) from error


class Parent:
    """One node."""

    def __init__(self, settings: NodeSettings, program: Program, folder: StateFolder) -> None:
        self.settings = settings
        self.id = secrets.token_hex(8)
        self.servers: list[Supervised] = []
        self._program = program
        self._folder = folder
        self._terminal: Terminal | None = None
        self._endpoint: ParentEndpoint | None = None
        self._announcer: Announcer | None = None
        self._dest_path = settings.dest_path or folder.default_dest_path()
        self._lifeline = (
            socket.socket(fileno=settings.lifeline) if settings.lifeline is not None else None
        )
        self._ready = False
        self._stopping = False
        self._timers: list[asyncio.TimerHandle] = []
        self._status = 0
        self._interrupts = 0
        self._said_full = -SAY_FULL_EVERY
        self._started = time.monotonic()
        self._ended = asyncio.Event()  # all servers have ended

    def run(self) -> int:
        """Be the node; return the exit status.

        Raises:
            PortTaken, AddressUnusable: Before anything runs.
        """
        _open_standard_descriptors()
        signal.signal(signal.SIGTERM, _end_early)
        if self._lifeline is not None:
            self._lifeline.set_inheritable(False)
        self._folder.make()
        check_dest_path(self._dest_path)
        sockets = [self._listeners(number) for number in range(self.settings.servers)]
        key = Secret(self.settings.secret).prs.hex()
        ports = tuple(group[0].getsockname()[1] for group in sockets if group)
        self._program.preload()
        for number, listeners in enumerate(sockets, 1):
            settings = self._server_settings(number, key, ports)
            self._endpoint = self._endpoint or ParentEndpoint(settings)
            standin: Standin = NobodyAnswers()
            if self._program.answers_for_dead:
                standin = AnswerForDead(self._endpoint, listeners)
            self.servers.append(
                Supervised(settings, self._program, listeners, self, self._changed, standin)
            )
        for server in self.servers:
            server.fork(self.servers, self._lifeline)
        # From here on there are threads and a loop, and no more forks.
        self._terminal = Terminal()
        try:
            asyncio.run(self._main())
        finally:
            for server in self.servers:
                server.kill()
            self._terminal.close()
        return self._status

    def _listeners(self, index: int) -> list[socket.socket]:
        s = self.settings
        if s.join is not None:
            return []
        port = s.tcp_port + index if s.tcp_port else 0
        return open_listeners(s.addresses, port, has_secret=not s.local)

    def _server_settings(self, number: int, key: str, ports: tuple[int, ...]) -> ServerSettings:
        s = self.settings
        return ServerSettings(
            name=s.server_name(number),
            node=s.name,
            number=number,
            key=key,
            dest_path=self._dest_path,
            **s.shared,
            siblings=ports,
        )

    # --- the screen ------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Too much waits for the terminal."""
        return self._terminal is not None and self._terminal.full

    def show(self, text: str, stream: int = 1) -> None:
        """Show lines on the terminal, soon."""
        if self._terminal is not None:
            self._terminal.show(text, stream)

    # --- the loop --------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_report)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self._on_terminate)
        control = ControlServer(self._folder, self.id)
        for server in self.servers:
            server.attach(loop)
        loop.call_later(SAY_SLOW, self._say_slow)
        try:
            await control.start(self.status, self._on_terminate, self._ended)
            self._folder.announce(self._record())
            await self._start_announcing()
            self._listen_to_owner(loop)
            Keyboard(loop, self._on_quit).start()
            self._on_child()  # one may have ended before we listened
            await self._ended.wait()
        finally:
            self._folder.withdraw(self.id)
            control.close()
            if self._announcer is not None:
                self._announcer.close()
            if self._endpoint is not None:
                await self._endpoint.close()
            for server in self.servers:
                for listener in server.listeners:
                    listener.close()

    async def _start_announcing(self) -> None:
        s = self.settings
        if s.join is not None or not self._program.answers_for_dead:
            return
        self._announcer = Announcer(s, self._folder, self.id, self._announced)
        try:
            await self._announcer.start()
        except DiscoveryUnavailable as error:
            self.show(f"discoro: {error}\n", 2)

    def _announced(self) -> list[Announced]:
        return [
            Announced(server.name, bytes.fromhex(server.id), server.addresses[0][1])
            for server in self.servers
            if server.id
        ]

    def _record(self) -> NodeRecord:
        s = self.settings
        records = [ServerRecord(s.name, s.addresses, s.id) for s in self.servers]
        return NodeRecord(
            id=self.id,
            name=s.name,
            cluster=s.cluster,
            udp_port=s.udp_port,
            pid=os.getpid(),
            servers=records,
            machine=machine_id(),
        )

    def _changed(self, server: Supervised) -> None:
        """Take note that a server got ready, lost whom it joined, or has ended."""
        if server.gone is not None and not self._stopping:
            self._status = FAILED if server.failed else 0
            joined = self.settings.join
            what = "could not be joined" if server.failed else "is gone for good"
            self.show(f"discoro: {joined} {what}: {server.gone}. Ending.\n", 2)
            self.end()
        if server.id and not self._stopping:
            self._folder.announce(self._record())  # with its process id
            if self._announcer is not None and server is self.servers[0]:
                self._announcer.announce()
        if all(s.state is State.ENDED for s in self.servers):
            self._ended.set()
        elif not self._ready and all(s.state is State.RUNNING for s in self.servers):
            self._ready = True
            self._say_ready()

    def _say_ready(self) -> None:
        if self._lifeline is None:
            addresses = [server.addresses for server in self.servers]
            text = banner(
                self.settings,
                [host for host, _ in addresses[0]],
                [of_one[0][1] for of_one in addresses if of_one],
                pid=os.getpid(),
                python=platform.python_version(),
                terminal=os.isatty(0),
            )
            self.show(text)
            return
        servers = [{"name": s.name, "id": s.id, "addresses": s.addresses} for s in self.servers]
        line = json.dumps({"name": self.settings.name, "pid": os.getpid(), "servers": servers})
        try:
            self._lifeline.sendall(line.encode() + b"\n")
        except OSError:  # its end of file says the rest
            pass

    def _say_slow(self) -> None:
        late = [s.name for s in self.servers if s.state is State.STARTING]
        if late and not self._ready and not self._stopping:
            self.show(f"discoro: not ready after {SAY_SLOW:.0f} s: {', '.join(late)}\n", 2)

    def _on_loop_report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say in one line, once a minute, what the loop says in a dozen every second: that it cannot accept."""
        error, now = context.get("exception"), loop.time()
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif now - self._said_full >= SAY_FULL_EVERY:
            self._said_full = now
            self.show(f"discoro: status and stop are not answered for now: {error.strerror}\n", 2)

    # --- ways to end -----------------------------------------------------------------------------------------------

    def _on_child(self) -> None:
        for server in self.servers:
            server.check()

    def _on_quit(self) -> None:
        if not self._stopping:
            self.show("discoro: waiting for the running work; Ctrl-C ends it\n", 2)
            self._drain()

    def _on_terminate(self) -> None:
        self.end()

    def _on_interrupt(self) -> None:
        self._interrupts += 1
        self._status = INTERRUPTED
        if self._interrupts > 1:
            for server in self.servers:
                server.kill("Ctrl-C was typed again")
        else:
            self.show(
                f"discoro: ending, at most {DRAIN:.0f} s for the running work; Ctrl-C again: now\n",
                2,
            )
            self.end()

    def end(self, drain: float = DRAIN, kill: float = KILL) -> None:
        """End: ``drain`` seconds for the running work, terminated then, killed after ``kill`` seconds."""
        loop = asyncio.get_running_loop()
        self._drain()
        self._timers.append(loop.call_later(drain, self._each, Supervised.terminate))
        self._timers.append(loop.call_later(kill, self._each, Supervised.kill))

    def _drain(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._each(Supervised.drain)

    def _each(self, what: Any) -> None:
        for server in self.servers:
            what(server)

    def _listen_to_owner(self, loop: asyncio.AbstractEventLoop) -> None:
        """End when the program that has started us as its :class:`discoro.Node` is gone."""
        lifeline = self._lifeline
        if lifeline is None:
            return

        def heard() -> None:
            try:
                data = lifeline.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(lifeline)
                self.end(0.0, ORPHANED_KILL)

        loop.add_reader(lifeline, heard)

    # --- status ----------------------------------------------------------------------------------------------------

    async def status(self, most: int) -> dict[str, Any]:
        """Return what ``status`` shows, and at most ``most`` coroutines of each server.

        Servers that compute are asked too: a thread of theirs answers. Of one that cannot, what is known is shown.
        """
        await asyncio.gather(*(server.look(most) for server in self.servers))
        now = asyncio.get_running_loop().time()
        return {
            "id": self.id,
            "name": self.settings.name,
            "pid": os.getpid(),
            "state": "ending" if self._stopping else "running" if self._ready else "starting",
            "cluster": self.settings.cluster,
            "version": __version__,
            "python": platform.python_version(),
            "udp_port": self.settings.udp_port,
            "seconds": time.monotonic() - self._started,
            "servers": [server.status(now) for server in self.servers],
        }


def _end_early(number: int, frame: object) -> None:
    raise SystemExit(0)


def _open_standard_descriptors() -> None:
    """Open the null device where stdin, stdout or stderr are closed: pipes must not get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115

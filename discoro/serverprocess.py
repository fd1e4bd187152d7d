"""What runs in one server process of a node: a scheduler with the listening sockets it is given, and ``discoro_server``.

The parent forks the first ones and starts later ones with :meth:`ServerProgram.command`; both come to :func:`run_server`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from discoro import console, logs
from discoro.childchannel import Channel, close_in_forked_children, tie_to_parent
from discoro.nodesettings import ServerSettings
from discoro.statefolder import claim_folder
from discoro.watchdog import Watchdog

Serve = Callable[[ServerSettings, list[socket.socket], Channel], Coroutine[Any, Any, None]]

COUNTS_EVERY = 1.0
"""Seconds between two looks at the counts that ``status`` shows."""

_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from discoro.serverprocess import started; started(sys.argv[3:])"
)


class ServerProgram:
    """The program of a real server."""

    def preload(self) -> None:
        """Import the base once, for all servers that are forked."""
        import cloudpickle
        import cryptography.hazmat.primitives.asymmetric.x25519
        import msgpack
        import uvloop

        import discoro.scheduler

        del cloudpickle, cryptography, msgpack, uvloop
        getattr(discoro, "Scheduler")  # noqa: B009 - resolved lazily, and that is what loads it

    def run(
        self, channel: socket.socket, lifeline: socket.socket, listeners: list[socket.socket]
    ) -> int:
        """Run in a forked process."""
        return run_server(channel, lifeline, listeners)

    def command(self, name: str) -> list[str]:
        """Return the command for a new interpreter, with this one's import path: a forked one has that too."""
        return [sys.executable, "-c", _COMMAND, json.dumps(sys.path), f"discoro server {name}"]


def started(arguments: list[str]) -> None:
    """Run in an interpreter of its own: the descriptors are the arguments."""
    channel, lifeline = (socket.socket(fileno=int(text)) for text in arguments[:2])
    listeners = [socket.socket(fileno=int(text)) for text in arguments[2].split(",") if text]
    sys.argv = ["discoro"]  # what a forked server would see
    sys.exit(run_server(channel, lifeline, listeners))


def run_server(
    connection: socket.socket,
    lifeline: socket.socket,
    listeners: list[socket.socket],
    serve: Serve | None = None,
) -> int:
    """Be a server until the parent says otherwise; return the exit code. ``serve`` is what it does, for tests."""
    tie_to_parent(lifeline)
    for listener in listeners:
        listener.set_inheritable(False)
        close_in_forked_children(listener)
    channel = Channel(connection)
    settings = channel.settings()
    console.speak()
    faulthandler.enable(file=2)
    logs.set_up(settings.log, debug=settings.debug)
    lock = enter_folder(settings)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_main(serve or serve_computations, settings, listeners, channel))
    finally:
        console.finish()
        if lock is not None:
            os.close(lock)
    return 0


def enter_folder(settings: ServerSettings) -> int | None:
    """Make the server's own folder its current directory for life; return the descriptor of its lock."""
    path, lock = claim_folder(settings.dest_path, settings.name)
    os.chdir(path)
    return lock


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:  # Windows has none, and a node needs fork anyway
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _main(
    serve: Serve, settings: ServerSettings, listeners: list[socket.socket], channel: Channel
) -> None:
    loop = asyncio.get_running_loop()
    channel.listen(loop)
    watchdog = Watchdog(loop, channel.blocked)
    watchdog.start()
    try:
        await serve(settings, listeners, channel)
    finally:
        watchdog.stop()


async def serve_computations(settings: ServerSettings, listeners: list[socket.socket], channel: Channel) -> None:
    """Serve computations until ordered to drain or to terminate."""
    import discoro
    from discoro.transport.secret import Secret

    async with discoro.Scheduler(
        name=settings.name,
        secret=Secret.from_prs(bytes.fromhex(settings.key)),
        cluster=settings.cluster,
        dest_path=os.getcwd(),
        max_file_size=settings.max_file_size,
        ext_ip_addr=settings.ext_ip_addr,
        udp_port=settings.udp_port,
        certfile=settings.certfile,
        keyfile=settings.keyfile,
        sockets=listeners,
        role="server",
    ) as scheduler:
        server = discoro.Coro(discoro.discoro_server)
        channel.report("ready")
        counting = asyncio.create_task(report_counts(scheduler.counts, channel))
        try:
            await drained(server, scheduler.counts, channel)
        finally:
            counting.cancel()


async def drained(server: Any, counts: Callable[[], dict[str, int]], channel: Channel) -> None:
    """Return when the server may end: drained, or told to terminate."""
    await channel.drain.wait()
    while counts().get("coroutines", 0) and not channel.terminate.is_set():
        await asyncio.sleep(0.05)


async def report_counts(counts: Callable[[], dict[str, int]], channel: Channel) -> None:
    """Tell the parent the counts whenever they have changed."""
    told: dict[str, int] | None = None
    while True:
        now = counts()
        if now != told:
            told = dict(now)
            channel.report("counts", **told)
        await asyncio.sleep(COUNTS_EVERY)

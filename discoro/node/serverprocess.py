"""What runs in one server process of a node: a scheduler with the listening sockets it is given, and ``discoro_server``.

The parent forks the first ones and starts later ones with :meth:`ServerProgram.command`; both come to :func:`run_server`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from discoro import logs
from discoro.node import console
from discoro.node.childchannel import Channel, close_in_forked_children, tie_to_parent
from discoro.node.guarding import DUMP_SIGNAL
from discoro.node.settings import ServerSettings
from discoro.node.watchdog import Watchdog

Serve = Callable[[ServerSettings, list[socket.socket], Channel], Coroutine[Any, Any, None]]

_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from discoro.node.serverprocess import started; started(sys.argv[3:])"
)


class ServerProgram:
    """The program of a real server."""

    answers_for_dead = True

    def preload(self) -> None:
        """Import the base once, for all servers that are forked."""
        import cloudpickle
        import cryptography.hazmat.primitives.asymmetric.x25519
        import msgpack
        import uvloop

        from discoro.node import serving

        del cloudpickle, cryptography, msgpack, serving, uvloop

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
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_main(serve or _serve_computations, settings, listeners, channel))
    finally:
        console.finish()
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:  # Windows has none, and a node needs fork anyway
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve_computations(
    settings: ServerSettings, listeners: list[socket.socket], channel: Channel
) -> None:
    from discoro.node.serving import (
        serve_computations,
    )  # the only part that knows coroutines and sessions

    await serve_computations(settings, listeners, channel)


async def _main(
    serve: Serve, settings: ServerSettings, listeners: list[socket.socket], channel: Channel
) -> None:
    loop = asyncio.get_running_loop()
    channel.listen(loop)
    watchdog = Watchdog(loop, channel.blocked, whose=channel.say_whose)
    watchdog.start()
    channel.busy = watchdog.busy
    if settings.max_rss is not None or settings.max_stall is not None:
        channel.dump_stack_on(DUMP_SIGNAL)
    try:
        await serve(settings, listeners, channel)
    finally:
        channel.report("ending")
        watchdog.stop()

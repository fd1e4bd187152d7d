"""What a real server process does: a scheduler on the given sockets, ``discoro_server`` in it, and the node's other wishes.

``--peer`` adds peers by hand and goes on until they answer; ``--join`` dials out and ends with that peer; programs that find one
server of a node are told of the others.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from functools import partial

import discoro
from discoro.errors import AuthenticationFailed, DiscoroError, VersionMismatch
from discoro.messages import Neighbours
from discoro.node.childchannel import Channel
from discoro.node.settings import ServerSettings
from discoro.node.snapshot import snapshot, whose_turn
from discoro.transport.addresses import Location, parse_address
from discoro.transport.errors import TransportError
from discoro.transport.frames import Kind
from discoro.transport.limits import Limits
from discoro.transport.secret import Secret
from discoro.transport.workdir import Workdir

log = logging.getLogger("discoro.node")

LOOK = 0.05
"""Seconds between two looks at whether the running work is done."""
COLLECT_AFTER = 50_000
"""New objects after which the garbage collector looks at them."""
AGAIN = 5.0
"""Seconds between two dials of a peer given by hand."""
JOIN_TIMEOUT = 60.0
"""Seconds that the peer given with ``--join`` may take to answer for the first time."""


async def serve_computations(
    settings: ServerSettings, listeners: list[socket.socket], channel: Channel
) -> None:
    """Serve until ordered to drain or to terminate."""
    _collect_less()
    limits = Limits(max_file_size=settings.max_file_size)
    # The server's own folder is its current directory for its whole life; it is locked, and emptied at the end.
    try:
        workdir = Workdir.locked(settings.dest_path, settings.name, limits)
        os.chdir(workdir.path)
    except (OSError, TransportError) as error:
        log.error("cannot keep files in %s: %s", settings.dest_path, error)
        raise SystemExit(1) from error
    async with discoro.Scheduler(
        name=settings.name,
        secret=Secret.from_prs(bytes.fromhex(settings.key)),
        cluster=settings.cluster,
        workdir=workdir,
        limits=limits,
        ext_ip_addr=settings.ext_ip_addr,
        udp_port=settings.udp_port,
        certfile=settings.certfile,
        keyfile=settings.keyfile,
        sockets=listeners,
        role="server",
        outbound_only=settings.join is not None,
        predecessor=settings.last_end,
    ) as scheduler:
        scheduler.end_reason = f"server {settings.name} was stopped, or its node was"
        hosting: discoro.Coro[None] = discoro.Coro(discoro.discoro_server)
        while scheduler.network.server is None and hosting.is_alive():
            await asyncio.sleep(0)
        if not hosting.is_alive():
            raise SystemExit(1)  # the scheduler has logged why; the node's parent tries again later
        tasks = [asyncio.create_task(channel.report_counts(scheduler.counts))]
        tasks += [asyncio.create_task(_know(scheduler, peer)) for peer in settings.peers]
        if settings.join is not None:
            tasks.append(asyncio.create_task(_join(scheduler, settings.join, channel)))
        if len(settings.siblings) > 1:
            _introduce(scheduler, settings)
        channel.snapshot = partial(snapshot, scheduler)
        channel.whose = partial(whose_turn, scheduler)
        channel.report("ready", id=scheduler.location.id.hex() if scheduler.location.id else "")
        try:
            await _until_drained(scheduler, hosting, channel)
        finally:
            channel.snapshot, channel.whose = None, str
            for task in tasks:
                task.cancel()


def _collect_less() -> None:
    """Look for garbage in cycles less often, and not in what was imported.

    Each coroutine is a handful of objects without cycles; with Python's 700 a server that starts and ends thousands of them
    spends a fifth of its time on looking.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


async def _until_drained(
    scheduler: discoro.Scheduler, hosting: discoro.Coro[None], channel: Channel
) -> None:
    """Return when the server may end: its work is done after ``drain``, or it was told to terminate."""
    asked = asyncio.create_task(channel.drain.wait())
    ended = asyncio.create_task(_ended(hosting))
    await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    ended.cancel()
    if not channel.drain.is_set():
        log.error("discoro_server has ended in %s; the process starts anew", scheduler.name)
        raise SystemExit(1)
    server = scheduler.network.server
    if server is not None:
        server.drain()
    while not channel.terminate.is_set():
        idle = server is None or server.idle
        if idle and not scheduler.waited_for():
            return
        await asyncio.sleep(LOOK)


async def _ended(hosting: discoro.Coro[None]) -> None:
    try:
        await hosting
    except Exception:  # the scheduler has logged it
        pass


def _introduce(scheduler: discoro.Scheduler, settings: ServerSettings) -> None:
    """Tell each program that comes of the other servers of this node."""
    network = scheduler.network
    others = [port for port in settings.siblings if port != settings.siblings[settings.number - 1]]

    def came(name: str, location: Location, status: int | str) -> None:
        peer = network.peers.get(location.id or b"")
        if status != 1 or peer is None or peer.session is None:
            return
        if peer.session.peer.role == "program":
            message = Neighbours(others)
            peer.post(Kind.NOTICE, 0, 0, message.encode())

    network.status.add(came, busy=False)


async def _know(scheduler: discoro.Scheduler, peer: str) -> None:
    """Add a peer by hand, however long it takes to appear."""
    host, port = parse_address(peer, 1)
    given = peer.rstrip().endswith(f":{port}")
    said = ""
    while True:
        try:
            await scheduler.peer(host, tcp_port=port if given else None, timeout=AGAIN)
            return
        except (DiscoroError, OSError, TimeoutError) as error:
            text = str(error) or f"no answer within {AGAIN:g} s"
            if text != said:
                said = text
                log.warning("--peer %s: %s", peer, text)
        await asyncio.sleep(AGAIN)


async def _join(scheduler: discoro.Scheduler, where: str, channel: Channel) -> None:
    """Dial the peer that this node lives for; report when it is gone for good."""
    host, port = parse_address(where)
    try:
        async with asyncio.timeout(JOIN_TIMEOUT):
            location = await _dialled(scheduler, host, port)
    except TimeoutError:
        channel.report("gone", why=f"no answer within {JOIN_TIMEOUT:g} s", failed=True)
        return
    except DiscoroError as error:
        channel.report("gone", why=str(error), failed=True)
        return
    gone = asyncio.Event()

    def heard(name: str, other: Location, status: int | str) -> None:
        if status == 0 and other.id == location:
            gone.set()

    scheduler.network.status.add(heard, busy=False)
    if location not in {peer.process for peer in scheduler.network.live_peers()}:
        gone.set()  # it went in between
    await gone.wait()
    channel.report("gone", why="its session is over", failed=False)


async def _dialled(scheduler: discoro.Scheduler, host: str, port: int) -> bytes:
    """Dial until somebody answers; return the id of its process. What another dial would not change is raised."""
    said = False
    while True:
        try:
            peer = await scheduler.network.dial(host, port, None, given=True)
            return peer.process
        except (AuthenticationFailed, VersionMismatch):
            raise
        except DiscoroError as error:
            if not said:
                said = True
                log.warning("--join: %s; trying again for %g s", error, JOIN_TIMEOUT)
            await asyncio.sleep(0.5)

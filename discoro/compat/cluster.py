"""The servers that a computation of 2015 uses: found as they come, set up, and handed to one job after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from discoro.compat.nodes import (
    DiscoroNodeAllocate,
    DiscoroNodeAvailInfo,
    DiscoroNodeInfo,
    DiscoroStatus,
)
from discoro.compat.places import host_address
from discoro.computation import Computation
from discoro.errors import DiscoroError
from discoro.schedulers import Scheduler
from discoro.transport.addresses import Location

log = logging.getLogger("discoro.compat")

NODE_DISCOVERED, NODE_INITIALIZED, NODE_CLOSED, NODE_IGNORE, NODE_DISCONNECTED = range(1, 6)
SERVER_DISCOVERED, SERVER_INITIALIZED, SERVER_CLOSED, SERVER_IGNORE, SERVER_DISCONNECTED = range(
    11, 16
)

FIND_TIMEOUT = 10.0
"""Seconds in which a peer tells whether it is a server."""

PATIENCE = 5.0
"""Seconds without a server after which the program's user is told."""

Key = tuple[str, int]


class Server:
    """One server: whether it is set up, and what runs there."""

    def __init__(self, location: Location, coro: Any) -> None:
        self.location = location
        self.coro = coro
        self.status = 0
        self.enabled = asyncio.Event()
        self.setup_args: tuple[Any, ...] = ()
        self.busy = False
        self.suspended = False
        self.runs = 0


class Node:
    """The servers at one address."""

    def __init__(self, name: str, addr: str) -> None:
        self.name = name
        self.addr = addr
        self.servers: list[Server] = []
        self.status = NODE_DISCOVERED
        self.enabled = False
        self.setup_args: tuple[Any, ...] = ()

    def info(self) -> DiscoroNodeInfo:
        """What programs are told of it."""
        where = self.servers[0].location if self.servers else Location(self.addr, 0)
        return DiscoroNodeInfo(
            self.name, self.addr, len(self.servers), "linux", DiscoroNodeAvailInfo(where)
        )


class Cluster:
    """All servers of one computation.

    Args:
        scheduler: Whose peers they are.
        native: The computation; its function takes (function, args, kwargs) and runs it.
        tell: Gets each DiscoroStatus.
        allocations: Which nodes are used, and how many servers of each.
        node_setup: Generator function that runs in each server before it is used; None and 0 mean success.
        server_setup: The same, with the arguments of its server.
        nodes_wait: Whether a node is used only when it is enabled.
        servers_wait: The same of servers.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        native: Computation[..., Any],
        tell: Callable[[DiscoroStatus], None],
        allocations: Sequence[DiscoroNodeAllocate],
        node_setup: Any,
        server_setup: Any,
        nodes_wait: bool,
        servers_wait: bool,
    ) -> None:
        self._scheduler = scheduler
        self._native = native
        self._tell = tell
        self._allocations = allocations
        self._setups = (node_setup, server_setup)
        self._nodes_wait = nodes_wait
        self._servers_wait = servers_wait
        self._servers: dict[Key, Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.nodes: dict[str, Node] = {}
        self.closed = False

    def open(self) -> None:
        """Look for servers from now on."""
        self._scheduler.peer_status(self._peer)
        self.task(self._warn())

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside everything else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ready(self) -> list[Server]:
        """The servers that take jobs."""
        return [server for server in self._servers.values() if server.status == SERVER_INITIALIZED]

    # --- servers come and go

    def _peer(self, name: str, location: Location, status: int) -> None:
        if status == 1:
            self.task(self._come(name, location))
            return
        server = self._servers.pop((location.addr, location.port), None)
        if server is None:
            return
        node = self.nodes[location.addr]
        node.servers.remove(server)
        server.status = SERVER_DISCONNECTED
        self._tell(DiscoroStatus(SERVER_DISCONNECTED, location))
        if not node.servers:
            self._tell(DiscoroStatus(NODE_DISCONNECTED, node.info()))
            del self.nodes[location.addr]
        self._change()

    async def _come(self, name: str, location: Location) -> None:
        try:
            coro = await self._scheduler.find("coro", "discoro_server", location, FIND_TIMEOUT)
        except DiscoroError as error:
            log.warning("%s: %s", location, error)
            return
        key = (location.addr, location.port)
        if coro is None or self.closed or key in self._servers:  # a program, such as this one
            return
        server = self._servers[key] = Server(location, coro)
        node = self.nodes.get(location.addr)
        new = node is None
        if node is None:
            node = self.nodes[location.addr] = Node(name, location.addr)
        node.servers.append(server)
        if new:
            self._tell(DiscoroStatus(NODE_DISCOVERED, node.info()))
        self._allot(node)

    def _allot(self, node: Node) -> None:
        """Set those of its servers up that may be used, and are not yet."""
        if self._nodes_wait and not node.enabled:
            return
        count = len(node.servers)
        for allocation in self._allocations:
            allowed = allocation.allocate(node.addr, node.name, "linux", count, None, None)
            if allowed >= 0:
                count = min(allowed, count)
                break
        for server in node.servers[:count]:
            if not server.status:
                server.status = SERVER_DISCOVERED
                self.task(self._prepare(node, server))

    async def _prepare(self, node: Node, server: Server) -> None:
        node_setup, server_setup = self._setups
        try:
            await self._native.setup(server.coro)
            await self._call(server, node_setup, node.setup_args)
            if node.status == NODE_DISCOVERED:
                node.status = NODE_INITIALIZED
                self._tell(DiscoroStatus(NODE_INITIALIZED, node.info()))
            self._tell(DiscoroStatus(SERVER_DISCOVERED, server.location))
            if self._servers_wait:
                await server.enabled.wait()
            await self._call(server, server_setup, server.setup_args)
        except (Exception, SystemExit) as error:
            log.warning("%s is not used: %s", server.location, error)
            server.status = SERVER_IGNORE
            return
        if server.status == SERVER_DISCOVERED:
            server.status = SERVER_INITIALIZED
            self._tell(DiscoroStatus(SERVER_INITIALIZED, server.location))
            self._change()

    async def _call(self, server: Server, function: Any, args: tuple[Any, ...]) -> None:
        if function is None:
            return
        coro = await self._native.run(server.coro, function, args, {})
        result = await coro.finish()
        if result not in (None, 0):
            raise DiscoroError(f"{function.__name__} gave {result!r}, which is not 0")

    async def _warn(self) -> None:
        await asyncio.sleep(PATIENCE)
        if not self._servers:
            log.warning(
                "jobs wait: no server was found in %.0f s. Start some with: python -m discoro",
                PATIENCE,
            )

    def enable_node(self, host: Any, args: tuple[Any, ...]) -> int:
        """Use a node, with these arguments for its set-up: 0; -1 where there is none."""
        node = self.nodes.get(host.addr if isinstance(host, Location) else host_address(host))
        if node is None:
            return -1
        node.enabled, node.setup_args = True, args
        self._allot(node)
        return 0

    def enable_server(self, location: Location, args: tuple[Any, ...]) -> int:
        """Use a server, with these arguments for its set-up: 0; -1 where there is none."""
        server = self._servers.get((location.addr, location.port))
        if server is None:
            return -1
        server.setup_args = args
        server.enabled.set()
        return 0

    def suspend(self, where: Any, flag: bool) -> int:
        """Give no more jobs to a server, or to those of a host; or do so again: 0; -1 where there is none."""
        found = [server for server in self._servers.values() if _is_at(server, where)]
        for server in found:
            server.suspended = flag
        self._change()
        return 0 if found else -1

    # --- jobs

    async def take(self, where: Any, cpu: bool) -> Server | None:
        """The server for one more job; None where ``where`` is none of them. Of ``cpu`` jobs each server has one at a time."""
        while not self.closed:
            able = [server for server in self.ready() if _is_at(server, where)]
            if where is not None and not able:
                return None
            free = [one for one in able if not (one.suspended or (cpu and one.busy))]
            if free:
                server = min(free, key=lambda server: server.runs)
                server.runs += 1
                server.busy = server.busy or cpu
                return server
            await self._changed.wait()
        return None

    def give_back(self, server: Server, cpu: bool) -> None:
        """A job has ended."""
        server.runs -= 1
        if cpu:
            server.busy = False
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, everything: bool) -> None:
        """Wait for the jobs that have a server for themselves, or for all."""
        while any(server.busy or (everything and server.runs) for server in self.ready()):
            await self._changed.wait()

    async def close(self, everything: bool, at_once: bool, timeout: float | None) -> None:
        """Wait for the jobs, ``timeout`` seconds at most or not at all, and leave the servers."""
        if not at_once:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self.wait(everything)
        self.closed = True
        self._change()
        self._scheduler.network.status.remove(self._peer)
        for server in self.ready():
            server.status = SERVER_CLOSED
            try:
                await self._native.close(server.coro)
            except DiscoroError as error:
                log.warning("close at %s: %s", server.location, error)
            self._tell(DiscoroStatus(SERVER_CLOSED, server.location))
        for node in self.nodes.values():
            self._tell(DiscoroStatus(NODE_CLOSED, node.info()))
        for task in self._tasks:
            task.cancel()


def _is_at(server: Server, where: Any) -> bool:
    """Whether a server is meant by nothing, a location, or a host."""
    if where is None:
        return True
    if isinstance(where, Location):
        return (server.location.addr, server.location.port) == (where.addr, where.port)
    return server.location.addr == host_address(where)

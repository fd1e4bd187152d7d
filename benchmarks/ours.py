"""What discoro's own contestants have in common: a node with one server, and a scheduler beside it."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from benchmarks.contest import Contestant
from discoro import Computation, Coro, Location, Node, Scheduler


def free_udp_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """Nodes and a scheduler of their own, apart from what else runs on this machine."""

    def __init__(self, servers: int = 1) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="discoro-benchmark-")
        os.environ["XDG_STATE_HOME"] = self._folder.name
        os.environ["XDG_CACHE_HOME"] = self._folder.name
        self.udp_port = free_udp_port()
        self.node = Node(servers, udp_port=self.udp_port, force=True)

    async def __aenter__(self) -> World:
        await self.node.__aenter__()
        self.scheduler = Scheduler(udp_port=self.udp_port)
        await self.scheduler.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.scheduler.__aexit__(None, None, None)
        await self.node.__aexit__(None, None, None)
        self._folder.cleanup()

    @property
    def servers(self) -> list[Location]:
        """Where the servers are."""
        return self.node.servers


class Ours(Contestant):
    """A computation at one server; ``measure`` runs as a coroutine here.

    Attributes:
        function: The computation.
    """

    label = "discoro"
    function: Any = None

    async def start(self) -> None:
        self.world = await World().__aenter__()
        self.server = self.world.servers[0]
        self.computation: Computation[..., Any] = Computation(type(self).function)
        await self.computation.setup(self.server)

    async def measure(self, coro: Any) -> float:
        """Do the work of a round as coroutine ``coro``."""
        raise NotImplementedError

    async def round(self) -> float:
        async def main(coro: Any = None) -> float:
            return await self.measure(coro)

        result: float = await Coro(main)
        return result

    async def stop(self) -> None:
        await self.world.__aexit__()

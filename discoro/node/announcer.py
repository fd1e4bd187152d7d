"""The node's parent on the discovery port: one hint for the node, and those of its neighbours on this machine.

A question sent to this machine alone reaches one of the processes that listen there, so whoever gets it answers for the other
nodes too, which it knows from the state folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from discoro.node.settings import NodeSettings
from discoro.statefolder import NodeRecord, StateFolder
from discoro.transport.addresses import is_loopback, listen_hosts
from discoro.transport.beacon import MOST_PORTS, Ask, Beacon
from discoro.transport.discovery import Discovery

NEIGHBOURS_EVERY = 5.0
"""Seconds for which the neighbours' records are remembered."""
EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Announced:
    """A server that can be found: name, process id, ports."""

    name: str
    id: bytes
    port: int


class Announcer:
    """Answers those who look for nodes."""

    def __init__(
        self,
        settings: NodeSettings,
        folder: StateFolder,
        id: str,
        servers: Callable[[], list[Announced]],
    ) -> None:
        """Prepare; ``servers`` gives those that are ready, in order, and ``id`` is our own node's."""
        self._settings = settings
        self._folder = folder
        self._id = id
        self._servers = servers
        self._discovery = Discovery(settings.cluster)
        self._neighbours: list[NodeRecord] = []
        self._looked: float | None = None

    async def start(self) -> None:
        """Open the sockets.

        Raises:
            DiscoveryUnavailable: If the port cannot be had; programs elsewhere then need ``--peer`` or an address.
        """
        s = self._settings
        hosts = listen_hosts(s.addresses, not s.local)
        await self._discovery.start(s.udp_port, hosts, self.answer, None)

    def announce(self) -> None:
        """Tell everybody that we are here."""
        self._discovery.announce(self._own(""))

    def close(self) -> None:
        """Close the sockets."""
        self._discovery.close()

    def answer(self, ask: Ask) -> list[Beacon]:
        """Return what to tell who asks for ``ask.name``, or for anybody."""
        return self._own(ask.name) + self._others(ask.name)

    def _own(self, name: str) -> list[Beacon]:
        s = self._settings
        servers = self._servers()
        if name:
            servers = [server for server in servers if name in (server.name, s.name)]
        if not servers:
            return []
        # One hint for the node: that server tells of its siblings. Ports of others would come under its id.
        first = servers[0]
        return [Beacon(first.id, first.name, s.cluster, (first.port,), s.ext_ip_addr or "")]

    def _others(self, name: str) -> list[Beacon]:
        s = self._settings
        now = asyncio.get_running_loop().time()
        if self._looked is None or now - self._looked > NEIGHBOURS_EVERY:
            self._looked = now
            found = self._folder.nodes(cluster=s.cluster, udp_port=s.udp_port)
            self._neighbours = [record for record in found if record.id != self._id]
        here_only = s.loopback
        beacons = []
        for record in self._neighbours:
            for server in record.servers:
                if name and name not in (server.name, record.name):
                    continue
                host = next(
                    (h for h, _ in server.addresses if here_only or not is_loopback(h)), None
                )
                if host is None or not server.process:
                    continue
                shown = "" if host in EVERYWHERE else host
                id = bytes.fromhex(server.process)
                beacons.append(Beacon(id, server.name, s.cluster, (server.addresses[0][1],), shown))
                break
        return beacons[:MOST_PORTS]

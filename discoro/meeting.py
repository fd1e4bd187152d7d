"""Finding other processes: the user's state folder on this machine, datagrams on the network, what others mention.

All of these are hints. What a hint leads to is decided by the handshake; a hint that was refused is remembered, so that a
search can say why it found nobody, and is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from discoro.errors import DiscoroError, PeerBusy, PeerUnreachable
from discoro.messages import Neighbours
from discoro.statefolder import StateFolder
from discoro.transport.addresses import format_address, listen_hosts
from discoro.transport.beacon import Ask, Beacon
from discoro.transport.discovery import Discovery, DiscoveryUnavailable
from discoro.transport.hints import Hints

if TYPE_CHECKING:
    from discoro.network import Network
    from discoro.peer import Peer

log = logging.getLogger("discoro.meeting")

Address = tuple[str, int]
# How often the state folder is read while somebody searches: often at first.
_FIRST_LOOK, _LAST_LOOK = 0.05, 2.0
# A dial that only a hint led to may take this long.
_HINT_TIMEOUT = 10.0


class Meeting:
    """How one process finds others, and is found."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._hints = Hints(network.limits)
        self._asker: Discovery | None = None
        self._listener: Discovery | None = None
        self._searches = 0
        self._dialling: set[Address] = set()
        # Whom an address led to the last time, or why it led to nobody and when.
        self._known: dict[Address, bytes] = {}
        self._refused: dict[Address, tuple[DiscoroError, float]] = {}
        # Processes whose beacons are passed over until then: being dialled, or refused.
        self._refusing: dict[bytes, float] = {}
        network.requests.on(Neighbours, self._neighbours_came)

    # --- being found

    async def announce(self) -> None:
        """From now on answer those who ask on the network; a server of a node leaves that to its parent."""
        network = self._network
        if network.options.role == "server" or not network.addresses:
            return
        self._listener = Discovery(network.options.cluster, limits=network.limits)
        hosts = listen_hosts(network.options.hosts, network.options.has_secret)
        try:
            await self._listener.start(network.options.udp_port, hosts, self._answer, None)
        except DiscoveryUnavailable as error:
            log.warning("%s", error)
        self._listener.announce(self._beacons())

    def _answer(self, ask: Ask) -> list[Beacon]:
        if ask.name and ask.name != self._network.scheduler.name:
            return []
        return self._beacons()

    def _beacons(self) -> list[Beacon]:
        network = self._network
        ports = tuple(dict.fromkeys(port for _, port in network.addresses))
        host = network.options.ext_ip_addr or ""
        return [
            Beacon(
                network.process, network.scheduler.name, network.options.cluster, ports[:16], host
            )
        ]

    # --- finding

    async def search(self, done: Callable[[], bool]) -> None:
        """Dial everybody who can be found, and go on until ``done()``."""
        await self._look_around()
        # Time for what is here to answer: then nobody need list the interfaces of this machine, and ask through them.
        await asyncio.sleep(_FIRST_LOOK)
        if done():
            return
        await self._ask()
        self._searches += 1
        look = _FIRST_LOOK
        try:
            while not done():
                await self._look_around()
                await asyncio.sleep(look)
                look = min(look * 1.5, _LAST_LOOK)
        finally:
            self._searches -= 1
            if not self._searches and self._asker is not None:
                self._asker.stop_asking()

    async def _ask(self) -> None:
        options = self._network.options
        if self._asker is None:
            self._asker = asker = Discovery(options.cluster, limits=self._network.limits)
            hosts = listen_hosts(options.hosts, options.has_secret)
            await asker.start(options.udp_port, hosts, None, self._beacon_came)
        if not self._searches:
            self._asker.keep_asking()

    async def _look_around(self) -> None:
        """Dial the servers of this machine's nodes that we have no session with."""
        options = self._network.options
        records = await asyncio.to_thread(
            StateFolder().nodes, cluster=options.cluster, udp_port=options.udp_port
        )
        for record in records:
            for server in record.servers:
                for host, port in server.addresses[:1]:
                    self._dial((_dialled_host(host), port))

    def _beacon_came(self, beacon: Beacon, source: Address) -> None:
        if beacon.process_id == self._network.process or beacon.process_id in self._network.peers:
            return
        now = self._network.loop.time()
        # The same beacon comes by several ways: one dial is enough, and one refusal.
        if now < self._refusing.get(beacon.process_id, 0.0):
            return
        for host, port in beacon.addresses(source[0])[:1]:
            if self._hints.offer(host, port, now):
                self._refusing[beacon.process_id] = now + _HINT_TIMEOUT
                self._dial((host, port), beacon.process_id)

    def _neighbours_came(self, peer: Peer, message: Neighbours) -> Neighbours:
        """A server told us of the others of its node."""
        now = self._network.loop.time()
        host = peer.session.address[0] if peer.session is not None else ""
        for port in message.ports:
            known = host and type(port) is int and 0 < port < 65_536
            if known and self._hints.offer(host, port, now):
                self._dial((host, port))
        return message

    def _dial(self, address: Address, process: bytes = b"") -> None:
        network = self._network
        known = self._known.get(address)
        if address in self._dialling or (known is not None and known in network.peers):
            return
        refused = self._refused.get(address)
        if refused is not None and network.loop.time() < refused[1]:
            return
        self._dialling.add(address)
        network.task(self._try(address, process), f"try {address[0]}:{address[1]}")

    async def _try(self, address: Address, process: bytes) -> None:
        network = self._network
        try:
            peer = await network.dial(*address, timeout=_HINT_TIMEOUT)
        except DiscoroError as error:
            passing = isinstance(error, (PeerUnreachable, PeerBusy))
            if not passing:
                self._hints.refused(*address, network.loop.time())
            pause = 1.0 if passing else network.limits.hint_interval
            if passing:
                self._refusing.pop(process, None)  # another address may lead there
            elif process:
                self._refusing[process] = network.loop.time() + pause
            self._refused[address] = (error, network.loop.time() + pause)
            log.debug("hint %s:%d led to nobody: %s", *address, error)
        else:
            self._refused.pop(address, None)
            self._hints.accepted(*address)
            self._known[address] = peer.process
        finally:
            self._dialling.discard(address)

    def why(self) -> str:
        """Why nobody was found, in words that tell what to type."""
        errors = [error for error, _ in self._refused.values()]
        # Somebody who refuses says more than nobody who answers.
        errors.sort(key=lambda error: isinstance(error, PeerUnreachable))
        if errors:
            return "; ".join(list(dict.fromkeys(str(error) for error in errors))[:3])
        if self._dialling:
            where = ", ".join(format_address(*address) for address in sorted(self._dialling)[:3])
            return (
                f"{where} was dialled and does not answer yet: it computes or is stopped (`python -m discoro status` "
                "there tells), or a firewall drops what we send"
            )
        options = self._network.options
        return (
            f"nobody answers in cluster {options.cluster!r} on UDP port {options.udp_port}, and no node runs "
            "on this machine. Start one with: python -m discoro; or name one: "
            "yield scheduler.peer(HOST, tcp_port=PORT)"
        )

    async def ask_host(self, host: str, udp_port: int) -> None:
        """Ask one machine by UDP who is there."""
        await self._ask()
        assert self._asker is not None
        await self._asker.ask_host(host, udp_port)

    async def close(self) -> None:
        """Close the sockets."""
        for discovery in (self._asker, self._listener):
            if discovery is not None:
                discovery.close()


def _dialled_host(host: str) -> str:
    """Where a process of this machine is dialled that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)

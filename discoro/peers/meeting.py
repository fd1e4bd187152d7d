"""Finding other processes: the user's state folder on this machine, datagrams on the network, what others mention.

All of these are hints. What a hint leads to is decided by the handshake; a hint that was refused is remembered, so that a
search can say why it found nobody, and is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from discoro.errors import DiscoroError, PeerBusy, PeerUnreachable
from discoro.messages import Neighbours
from discoro.statefolder import StateFolder
from discoro.transport.addresses import format_address, is_loopback, listen_hosts, normal_host
from discoro.transport.beacon import Ask, Beacon
from discoro.transport.discovery import Discovery, DiscoveryUnavailable
from discoro.transport.hints import Hints
from discoro.transport.interfaces import interfaces_of

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.meeting")

Address = tuple[str, int]
# How often the state folder is read while somebody searches: often at first.
_FIRST_LOOK, _LAST_LOOK = 0.05, 2.0
# A dial that only a hint led to may take this long.
_HINT_TIMEOUT = 10.0
# Seconds between two questions to a machine that the user named.
_ASK_AGAIN = 0.2
# A search that begins so many seconds after the one before it asks often at first again, as if it were alone.
_ASK_ANEW = 0.25
# These say nothing about the next time.
_PASSING = (PeerUnreachable, PeerBusy)


class Meeting:
    """How one process finds others, and is found."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._hints = Hints(network.limits)
        self._asker: Discovery | None = None
        self._listener: Discovery | None = None
        self._searches = 0
        self._began_asking = 0.0
        # Addresses of machines that the user asks for just now.
        self._asked: Counter[str] = Counter()
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
        await self._keep_asking()
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

    async def _started_asker(self) -> Discovery:
        """Return the sockets that ask, and hear the answers."""
        options = self._network.options
        if self._asker is None:
            self._asker = asker = Discovery(options.cluster, limits=self._network.limits)
            hosts = listen_hosts(options.hosts, options.has_secret)
            await asker.start(options.udp_port, hosts, None, self._beacon_came)
        return self._asker

    async def _keep_asking(self) -> None:
        """Ask everybody, until the last search is over."""
        asker = await self._started_asker()
        now = self._network.loop.time()
        if not self._searches or now - self._began_asking >= _ASK_ANEW:
            self._began_asking = now
            asker.keep_asking()

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
            # Whom the user asked for by name is dialled, however often that was in vain.
            if self._asked[host] or self._asked[source[0]] or self._hints.offer(host, port, now):
                self._refusing[beacon.process_id] = now + _HINT_TIMEOUT
                self._dial((host, port), beacon.process_id)

    def _neighbours_came(self, peer: Peer, message: Neighbours) -> Neighbours:
        """A server told us of the others of its node."""
        now = self._network.loop.time()
        host = peer.session.address[0] if peer.session is not None else ""
        for port in message.ports:
            known = host and type(port) is int and 0 < port < 65_536
            if known and self._hints.offer(host, port, now, proven=True):
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
            now = network.loop.time()
            if isinstance(error, _PASSING):
                self._hints.passed(*address, now)
                pause = network.limits.hint_again
                self._refusing.pop(process, None)  # another address may lead there
            else:
                self._hints.refused(*address, now)
                pause = network.limits.hint_interval
                if process:
                    self._refusing[process] = now + pause
            self._refused[address] = (error, now + pause)
            log.debug("hint %s:%d led to nobody: %s", *address, error)
        else:
            self._refused.pop(address, None)
            self._hints.accepted(*address, network.loop.time())
            self._refusing.pop(process, None)  # should it go, its beacons count again
            self._known[address] = peer.process
        finally:
            self._dialling.discard(address)

    def why(self) -> str:
        """Why nobody was found, in words that tell what to type."""
        errors = [error for error, _ in self._refused.values()]
        # Somebody who refuses says more than nobody who answers.
        errors.sort(key=lambda error: isinstance(error, PeerUnreachable))
        if errors:
            return "; ".join(list(_told_once(errors))[:3])
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

    async def meet_host(self, host: str, udp_port: int) -> None:
        """Ask one machine by UDP who is there, until somebody of it is a peer.

        Raises:
            PeerError: If all who answer there refuse us; says why.
        """
        addresses = await self._addresses_of(host)
        self._forget_refusals(addresses)
        self._asked.update(addresses)
        try:
            while not self._live_at(addresses):
                refusal = self._refusal_at(addresses)
                await self.ask_host(host, udp_port)
                await asyncio.sleep(_ASK_AGAIN)
                # Another one there, who was asked at the same time, may have become a peer meanwhile.
                if refusal is not None and not self._live_at(addresses):
                    raise refusal
        finally:
            self._asked.subtract(addresses)

    async def ask_host(self, host: str, udp_port: int) -> None:
        """Ask one machine by UDP who is there, once."""
        asker = await self._started_asker()
        await asker.ask_host(host, udp_port)

    async def _addresses_of(self, host: str) -> set[str]:
        """Every address of a machine, for this one also those by which it is known to itself alone."""
        try:
            found = await self._network.loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = error.strerror or str(error)
            raise PeerUnreachable(f"{host}: {reason}; nothing was sent") from error
        addresses = {normal_host(str(item[4][0])) for item in found}
        ours = {one.address for one in await asyncio.to_thread(interfaces_of, None)}
        if any(address in ours or is_loopback(address) for address in addresses):
            addresses |= ours | {"127.0.0.1", "::1"}
        return addresses

    def _live_at(self, addresses: set[str]) -> bool:
        sessions = [peer.session for peer in self._network.live_peers()]
        return any(
            normal_host(host) in addresses
            for session in sessions
            if session is not None
            for host in (session.address[0], session.peer.host)
            if host
        )

    def _refusal_at(self, addresses: set[str]) -> DiscoroError | None:
        """Why somebody there refused us, once nobody there is being dialled any more."""
        if any(host in addresses for host, _ in self._dialling):
            return None
        errors = [error for (host, _), (error, _) in self._refused.items() if host in addresses]
        refusals = (error for error in errors if not isinstance(error, _PASSING))
        return next(refusals, None)

    def _forget_refusals(self, addresses: set[str]) -> None:
        """The user asks for them now: what they said before may be true no longer."""
        for address in [known for known in self._refused if known[0] in addresses]:
            del self._refused[address]
        self._refusing.clear()

    async def close(self) -> None:
        """Close the sockets."""
        for discovery in (self._asker, self._listener):
            if discovery is not None:
                discovery.close()


def _dialled_host(host: str) -> str:
    """Where a process of this machine is dialled that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _told_once(errors: list[DiscoroError]) -> Iterator[str]:
    """The texts of errors, one for all places that refuse us for the same reason."""
    alike: dict[str, list[DiscoroError]] = {}
    for error in errors:
        alike.setdefault(str(error).replace(_place(error), "", 1), []).append(error)
    for group in alike.values():
        places = dict.fromkeys(_place(error) for error in group[1:])
        places.pop(_place(group[0]), None)
        others = ", ".join(place for place in places if place)
        yield f"{group[0]} (The same at {others}.)" if others else str(group[0])


def _place(error: DiscoroError) -> str:
    return str(getattr(error, "location", None) or "")

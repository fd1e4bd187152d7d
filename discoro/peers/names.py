"""Names across processes: who is registered here, and finding elsewhere what is not.

A question for a name waits at the peer until the name is registered there, so that the order in which programs start does
not matter; it is taken back when it is answered elsewhere, or when whoever asked gives up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from discoro.errors import DiscoroError, PeerBusy, PeerUnreachable
from discoro.messages import Locate, Located, Message
from discoro.reference import Reference
from discoro.remotechannel import RemoteChannel
from discoro.remotecoro import RemoteCoro
from discoro.transport.addresses import Location
from discoro.within import found_within

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.names")

# After so many seconds somebody who waits for a name is told why it takes long.
SAY_WHY_AFTER = 3.0
# Seconds between two dials of a location where nobody answers yet.
TRY_AGAIN = 0.5


class Query:
    """One search for a name elsewhere."""

    def __init__(self, kind: str, name: str, location: Location | None) -> None:
        self.kind = kind
        self.name = name
        self.location = location
        self.found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asking: dict[Peer, asyncio.Task[Any]] = {}
        # Why its location could not be reached the last time.
        self.refused: DiscoroError | None = None

    def wants(self, peer: Peer) -> bool:
        """Whether this peer is one of those to ask."""
        where = self.location
        if where is None or peer in self.asking:
            return where is None and peer not in self.asking
        if where.id is not None:
            return where.id == peer.process
        assert peer.session is not None
        said = (peer.session.peer.host, peer.session.peer.port)
        return (where.addr, where.port) in (said, peer.session.address)


class Names:
    """The names of one process, as its peers see them, and its searches for theirs."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._queries: set[Query] = set()
        # Peers that wait for a name to be registered here.
        self._awaited: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        network.requests.on(Locate, self._asked)

    # --- others look here

    def registered(self, kind: str, name: str, thing: Any) -> None:
        """A name is registered here: tell those who wait for it."""
        for awaited in self._awaited.pop((kind, name), ()):
            if not awaited.done():
                awaited.set_result(None)

    async def _asked(self, peer: Peer, message: Locate) -> Message:
        key = (message.kind, message.name)
        while True:
            thing = self._network.scheduler.names.get(*key)
            if thing is not None:
                return Located(self._network.scheduler.export(thing), thing.name)
            if not message.wait:
                return Located(0, "")
            awaited = asyncio.get_running_loop().create_future()
            self._awaited.setdefault(key, set()).add(awaited)
            try:
                await awaited
            finally:
                # Taken back, perhaps: nothing may stay of a name that nobody waits for.
                waiting = self._awaited.get(key, set())
                waiting.discard(awaited)
                if not waiting:
                    self._awaited.pop(key, None)

    # --- we look elsewhere

    async def locate(
        self, kind: str, name: str, location: Location | Reference | None, timeout: float | None
    ) -> Any:
        """What is registered under a name at ``location``, or anywhere; None after ``timeout`` seconds.

        Raises:
            PeerError: If ``location`` refuses us; says why.
            TypeError: If ``location`` is something else.
        """
        if isinstance(location, Reference):
            location = location.location
        if location is not None and not isinstance(location, Location):
            raise TypeError(
                f"names are looked for at a Location, as Coro.locate and peers() give, not at {location!r}"
            )
        await self._network.start()
        query = Query(kind, name, location)
        looking = None
        saying = asyncio.get_running_loop().call_later(SAY_WHY_AFTER, self._say_why, query)
        try:
            self._queries.add(query)
            looking = self._network.task(self._reach(query), f"look for {name}")
            for peer in self._network.live_peers():
                self._ask(query, peer)
            return await found_within(timeout, query.found)
        finally:
            saying.cancel()
            self._queries.discard(query)
            for task in [*query.asking.values(), *([looking] if looking else [])]:
                task.cancel()

    def peer_opened(self, peer: Peer) -> None:
        """A new peer: ask it for everything that is being looked for."""
        for query in self._queries:
            self._ask(query, peer)

    async def _reach(self, query: Query) -> None:
        """Bring about the sessions in which to ask."""
        if query.location is None:
            await self._network.meeting.search(lambda: query.found.done())
            return
        while True:
            try:
                peer = await self._network.peer_at(query.location)
                break
            except (PeerUnreachable, PeerBusy) as error:
                # It may be about to start: whoever does not want to wait gives a timeout.
                query.refused = error
                await asyncio.sleep(TRY_AGAIN)
            except DiscoroError as error:
                if not query.found.done():
                    query.found.set_exception(error)
                return
        if peer not in query.asking:
            query.asking[peer] = self._network.task(self._question(query, peer), "locate")

    def _ask(self, query: Query, peer: Peer) -> None:
        if query.wants(peer):
            query.asking[peer] = self._network.task(self._question(query, peer), "locate")

    async def _question(self, query: Query, peer: Peer) -> None:
        try:
            answer = await self._network.requests.ask(peer, Locate(query.kind, query.name, True))
        except DiscoroError as error:
            if query.location is not None and not query.found.done():
                query.found.set_exception(error)
            return
        if isinstance(answer, Located) and answer.number and not query.found.done():
            session = peer.session
            hint = (session.peer.host, session.peer.port) if session is not None else None
            remote = RemoteChannel if query.kind == "channel" else RemoteCoro
            query.found.set_result(
                remote(self._network, peer.process, answer.number, answer.name, hint)
            )

    def _say_why(self, query: Query) -> None:
        peers = self._network.live_peers()
        if query.location is not None and query.refused is not None:
            log.warning("still looking for %s %r: %s", query.kind, query.name, query.refused)
        elif peers:
            names = ", ".join(sorted(peer.name for peer in peers)[:8])
            log.warning(
                "still looking for %s %r: none of the %d peers has it (%s)",
                query.kind,
                query.name,
                len(peers),
                names,
            )
        else:
            log.warning(
                "still looking for %s %r: %s", query.kind, query.name, self._network.meeting.why()
            )

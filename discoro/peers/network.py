"""The network, seen from one scheduler: who we are, whom we know, how a reference finds its process.

One Network belongs to one Scheduler. It is passive until a network verb is used: a program of local coroutines opens no
socket, derives no key and makes no certificate. It listens when something is published (a name, a TCP port that was
asked for), and never before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from discoro.errors import (
    AuthenticationFailed,
    CannotListen,
    DiscoroError,
    PeerLost,
    PeerUnreachable,
    from_transport,
)
from discoro.localcoro import LocalCoro
from discoro.outcomes import KeptOutcomes
from discoro.peers.addressbook import AddressBook
from discoro.peers.big import BigMessages
from discoro.peers.files import Files
from discoro.peers.inbound import Inbound
from discoro.peers.loopback import LoopbackSession
from discoro.peers.meeting import Meeting
from discoro.peers.names import Names
from discoro.peers.options import Options
from discoro.peers.peer import Peer
from discoro.peers.reachable import Reachable
from discoro.peers.requests import Requests
from discoro.peers.status import PeerStatus
from discoro.peers.unheard import Unheard
from discoro.reference import Reference
from discoro.remotecoro import RemoteCoro
from discoro.scheduler import MonitorException
from discoro.scheduler.waits import EAGER
from discoro.shipping.values import dumps
from discoro.transport.addresses import Location, listen_hosts
from discoro.transport.endpoint import Endpoint
from discoro.transport.errors import AuthenticationFailed as WrongSecret
from discoro.transport.errors import OwnProcess, TransportError
from discoro.transport.frames import Hello, Kind
from discoro.transport.lanes import Budget
from discoro.transport.session import Session, State
from discoro.version import __version__

if TYPE_CHECKING:
    from discoro.scheduler.outcome import Outcome
    from discoro.schedulers import Scheduler
    from discoro.server import Server

log = logging.getLogger("discoro.network")


class Network:
    """What one scheduler has with all other processes.

    Attributes:
        process: The 16 bytes by which others know this scheduler.
        peers: Every process we have, or want, a session with, by its id.
        server: What hosts computations here, None while no ``discoro_server`` runs.
    """

    def __init__(self, scheduler: Scheduler, options: Options) -> None:
        self.scheduler = scheduler
        self.options = options
        self.limits = options.limits
        self.process = os.urandom(16)
        self.peers: dict[bytes, Peer] = {}
        # Coroutines of ours that have ended and that somebody here still holds: what a reference to them resolves to.
        self.ended_coros: WeakValueDictionary[int, LocalCoro[Any]] = WeakValueDictionary()
        self.server: Server | None = None
        self.requests = Requests(self.limits.max_requests)
        self.budget = Budget(self.limits)
        self.big = BigMessages(self)
        self.files = Files(self)
        self.inbound = Inbound(self)
        self.names = Names(self)
        self.book = AddressBook()
        self.unheard = Unheard(self)
        self.status = PeerStatus(self)
        self.meeting = Meeting(self)
        self._endpoint: Endpoint | None = None
        self._starting: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._addresses: list[tuple[str, int]] = []
        self._outcomes = KeptOutcomes(
            self.limits.outcomes_kept, self.limits.outcome_seconds, self.limits.outcome_bytes
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sessions = 0
        self._closing = False
        self._local = options.local
        # Whom an address that was dialled led to; forgotten with the session.
        self._reached: dict[tuple[str, int], bytes] = {}
        self._end_watchers: dict[tuple[RemoteCoro[Any], Any], EndWatcher] = {}
        Reachable(self)

    # --- threads

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that everything here runs on."""
        return self.scheduler.loop

    @property
    def thread(self) -> int:
        """Identity of the thread that the loop runs in."""
        return self.scheduler.thread_id

    def in_thread(self) -> bool:
        """Whether the caller is in the loop's thread."""
        return threading.get_ident() == self.scheduler.thread_id

    def check_thread(self, call: str) -> None:
        """Raise WrongThread unless the caller is in the loop's thread."""
        self.scheduler.check_thread(call)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function(*args)`` in the loop's thread: now if that is this one, else soon, in order."""
        self.scheduler.call(function, *args)

    def send_from_thread(self, reference: Reference, message: Any) -> None:
        """``send`` from another thread: the value is pickled now, as it is now."""
        data = dumps(message, "the message", reference.code)
        self.scheduler.call(self._send_late, reference, data)

    def _send_late(self, reference: Reference, data: bytes) -> None:
        try:
            reference.peer().send_bytes(reference.number, data)
        except DiscoroError as error:
            log.warning("a message sent from a thread to %s was dropped: %s", reference, error)

    def sender_number(self) -> int:
        """Number of the coroutine that is running, 0 where it is none of ours."""
        coro = self.scheduler.running
        if coro is None or (EAGER and asyncio.current_task() is not cast(Any, coro)):
            return 0
        return coro._number or coro.number

    def _after_read(self) -> None:
        """A link has handed over what it read: run whom that woke, in the same turn."""
        scheduler = self.scheduler
        if scheduler.ready and not scheduler.in_drain:
            scheduler.drain()

    def task(self, work: Awaitable[Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the network closes."""
        task = asyncio.ensure_future(work)
        if isinstance(task, asyncio.Task):
            task.set_name(f"discoro {name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            if not isinstance(error, (DiscoroError, TransportError)):
                log.error("%s failed", task.get_name(), exc_info=error)

    # --- life

    async def opened(self, scheduler: Any) -> None:
        """The loop runs. Starts the network where the options ask for it."""
        if self.options.published:
            await self.publish()

    async def start(self) -> Endpoint:
        """Be able to dial; once. Called by every network verb."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
            if self._local and self.scheduler.names.items():
                # What was registered while nobody asked for the network is to be found from now on.
                self.task(self._publish_later(), "listen")
            self._local = False
        await asyncio.shield(self._starting)
        assert self._endpoint is not None
        return self._endpoint

    async def _start(self) -> None:
        credentials = await asyncio.to_thread(self.options.credentials)
        self._endpoint = Endpoint(
            process_id=self.process,
            predecessor=self.options.predecessor,
            hello=self._hello,
            credentials=credentials,
            limits=self.limits,
            handlers=self.inbound.handlers,
            observer=self,
            flush_later=self.scheduler.flush_later,
            after_read=self._after_read,
            batch_full=self.scheduler.end_drain_soon,
        )

    def _hello(self) -> Hello:
        host, port = self.address()
        self._sessions += 1
        return Hello(
            process_id=self.process,
            name=self.scheduler.name,
            cluster=self.options.cluster,
            version=__version__,
            python=self.options.python,
            host=host,
            port=port,
            run_base=self._sessions << 40,
            first_grant=self.budget.first_grant(),
            role=self.options.role,
        )

    async def publish(self) -> None:
        """Listen, and answer to those who look for us; once."""
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen())
        await asyncio.shield(self._listening)

    async def _publish_later(self) -> None:
        try:
            await self.publish()
        except CannotListen as error:
            log.error("others will not find what was registered: %s", error)

    async def _listen(self) -> None:
        endpoint = await self.start()
        sockets = self.options.sockets
        if sockets:
            self._addresses = await endpoint.adopt(list(sockets))
        elif not self.options.outbound_only:
            hosts = listen_hosts(self.options.hosts, self.options.has_secret)
            port = self.options.tcp_port or 0
            try:
                self._addresses = await endpoint.listen(hosts, port)
            except OSError as error:
                raise CannotListen(", ".join(hosts), port, error) from error
        await self.meeting.announce()

    async def closing(self) -> None:
        """The scheduler ends: say goodbye to every peer and leave nothing behind."""
        self.unheard.say()
        self._closing = True
        self.status.close()
        await self.meeting.close()
        if self.server is not None:
            await self.server.close()
        for starting in (self._starting, self._listening):
            if starting is not None:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.close()
        for peer in list(self.peers.values()):
            self._drop(peer, PeerLost("this scheduler was closed"))
        await self.requests.close()
        await self.files.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- who and where

    def address(self) -> tuple[str, int]:
        """Where others may dial us, as far as we know; port 0 where we do not listen."""
        if not self._addresses:
            return self.options.ext_ip_addr or "", 0
        host, port = self._addresses[0]
        return self.options.announced(host), port

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Every (host, port) that is listened on."""
        return list(self._addresses)

    @property
    def location(self) -> Location:
        """Where we are."""
        host, port = self.address()
        return Location(host or "localhost", port, self.scheduler.name, self.process)

    def location_of(self, process: bytes, hint: tuple[str, int] | None) -> Location:
        """Where a process is, as far as known."""
        if process == self.process:
            return self.location
        return self.book.location(process, hint)

    def hint_of(self, thing: Reference) -> tuple[str, int]:
        """Address that goes along with a reference, for third parties."""
        peer = self.peers.get(thing.process)
        if peer is not None and peer.session is not None:
            return peer.session.peer.host, peer.session.peer.port
        return thing.hint or ("", 0)

    def export(self, coro: LocalCoro[Any]) -> int:
        """Let others reach a coroutine of ours, and ask for its outcome once it has ended. From any thread."""
        number = coro.number
        by_number = self.scheduler.by_number
        if number not in by_number:
            if coro.is_alive():
                by_number[number] = coro
            # One that has ended is told of at once.
            self.scheduler.call(coro.watch, "outcome", self._exported_ended)
        return number

    def _exported_ended(self, coro: Any, outcome: Outcome) -> None:
        self.scheduler.by_number.pop(coro.number, None)
        self.ended_coros[coro.number] = coro
        self.keep_outcome(coro.number, outcome)

    def ended(self, number: int) -> Outcome | None:
        """How a coroutine of ours ended, where that is still known."""
        return self._outcomes.find(number, monotonic())

    def keep_outcome(self, number: int, outcome: Outcome) -> None:
        """Remember how a coroutine that others know has ended."""
        self._outcomes.keep(number, outcome, monotonic())

    # --- peers

    def peer(self, process: bytes, hint: tuple[str, int] | None = None) -> Peer:
        """What we have with a process; dials it when there is no session yet."""
        if process == self.process:
            return self._own()
        peer = self.peers.get(process)
        if peer is None:
            peer = self.peers[process] = Peer(self, process, hint)
            self.task(self._open(peer), f"dial {process.hex()[:8]}")
        return peer

    async def _open(self, peer: Peer) -> None:
        try:
            endpoint = await self.start()
            session = endpoint.sessions.get(peer.process)
            if session is None:
                await self._dial_known(endpoint, peer)
        except (TransportError, OSError, DiscoroError) as error:
            self._drop(peer, self._error(error, self.location_of(peer.process, peer.hint)))

    async def _dial_known(self, endpoint: Endpoint, peer: Peer) -> None:
        """Dial a process that a reference names, at each address that may lead there."""
        dead = self.book.dead(peer.process)
        if dead is not None:
            raise dead.once_more()
        ways = self.book.ways(peer.process, peer.hint)
        if not ways:
            raise PeerUnreachable(
                "its process does not listen, and has no session with this one",
                self.location_of(peer.process, peer.hint),
            )
        for left, ((host, port), given) in enumerate(ways, 1 - len(ways)):
            try:
                await endpoint.connect(
                    host,
                    port,
                    timeout=self.limits.resume_client,
                    expect=peer.process,
                    given=given,
                )
                return
            except (TransportError, OSError):
                if not left:
                    raise

    async def peer_at(self, where: Any, timeout: float | None = None) -> Peer:
        """The peer that ``where`` names, with its session open.

        Args:
            where: A reference, or a Location.
            timeout: Seconds to wait for an answer; None: as long as the caller does.

        Raises:
            PeerError: If it cannot be reached; says why.
        """
        if isinstance(where, (RemoteCoro, LocalCoro)):
            where = where.location
        if where is None:
            raise TypeError(
                "a peer is a Location or a reference, not None: `locate` gives None where nobody was found in time"
            )
        if not isinstance(where, Location):
            raise TypeError(
                f"a peer is a Location or a reference, as Coro.locate gives, not {where!r}"
            )
        if where.id == self.process:
            return self._own()
        if where.id is not None:
            peer = self.peer(where.id, (where.addr, where.port) if where.port else None)
            await peer.wait_open()
            return peer
        return await self.dial(where.addr, where.port, timeout, given=True)

    async def dial(
        self, host: str, port: int, timeout: float | None, *, given: bool = False
    ) -> Peer:
        """The peer that answers at an address, with its session open."""
        endpoint = await self.start()
        known = self.peers.get(self._reached.get((host, port), b""))
        if known is not None and known.session is not None and known.session.state is State.UP:
            return known
        try:
            session = await endpoint.connect(host, port, timeout=timeout, given=given)
        except OwnProcess:
            return self._own()
        except (TransportError, OSError) as error:
            raise self._error(error, Location(host, port)) from error
        self._reached[host, port] = session.process_id
        peer = self.peers.get(session.process_id)
        if peer is None:
            raise PeerLost("the session was over at once", Location(host, port))
        return peer

    def _error(self, error: BaseException, location: Location) -> DiscoroError:
        """The error that users see; where the secrets differ it says which one is ours."""
        if isinstance(error, WrongSecret):
            return AuthenticationFailed(
                f"{location} has another secret than this program: ours is {self.options.secret_source}. "
                f"Nothing was sent. {self.options.secret_remedy}",
                location,
            )
        return from_transport(error, location)

    def reached(self, where: Location) -> bytes | None:
        """The process that an address without an id has led to before, while there is a session with it."""
        return self._reached.get((where.addr, where.port))

    def _own(self) -> Peer:
        """This process as a peer of its own."""
        peer = self.peers.get(self.process)
        if peer is None:
            peer = self.peers[self.process] = Peer(self, self.process, None)
            session = LoopbackSession(self, self._hello())
            session.user = peer
            peer.open(session)  # type: ignore[arg-type]  # the part of a session that a Peer uses
        return peer

    def live_peers(self) -> list[Peer]:
        """The other processes that we have a session with."""
        return [
            peer
            for peer in self.peers.values()
            if peer.session is not None and peer.ended is None and peer.process != self.process
        ]

    def _drop(self, peer: Peer, error: DiscoroError, unacknowledged: int = 0) -> None:
        if self.peers.get(peer.process) is peer:
            del self.peers[peer.process]
        for address in [at for at, process in self._reached.items() if process == peer.process]:
            del self._reached[address]
        unsent = unacknowledged + peer.unsent()
        if unsent and not self._closing:
            log.warning(
                "%s not acknowledged by %s before the session was lost: %s",
                "1 message was" if unsent == 1 else f"{unsent} messages were",
                peer.name or self.book.name(peer.process),
                error,
            )
        # First, because it hands over what came and was held back.
        self.big.peer_lost(peer)
        self.inbound.peer_lost(peer)
        self.requests.peer_lost(peer)
        peer.lost(error)
        if self.server is not None:
            self.server.peer_lost(peer)

    # --- the endpoint tells

    def session_opened(self, session: Session) -> None:
        """A process and we have a session now."""
        peer = self.peers.get(session.process_id)
        if peer is None:
            peer = self.peers[session.process_id] = Peer(self, session.process_id, None)
        session.user = peer
        self.book.met(
            session.process_id,
            session.peer.name,
            session.address,
            (session.peer.host, session.peer.port),
            dialled=session.dialled,
            given=session.given,
        )
        peer.open(session)
        self.names.peer_opened(peer)
        self.status.opened(peer)

    def session_lost(self, session: Session, error: TransportError) -> None:
        """The session is over."""
        peer: Peer = session.user
        told = (Kind.SEND, Kind.BIG)  # a BIG may be a result: better one too many is reported
        unsent = sum(entry.kind in told for entry in session.unacknowledged())
        lost = from_transport(error, self.location_of(peer.process, peer.hint))
        self.book.ended(peer.process, lost)
        self._drop(peer, lost, unsent)
        self.status.lost(peer)

    def session_busy(self, session: Session, busy: bool) -> None:
        """The process answers not, but its kernel does; or it is back."""
        said = "does not answer, but its kernel does: it computes, or is stopped"
        log.info("%s: %s", session, said if busy else "answers again")
        self.status.busy(session.user, busy)

    def session_down(self, session: Session) -> None:
        """The connection is gone; the endpoint tries to get it back."""

    def session_up(self, session: Session) -> None:
        """The connection is back; nothing was lost."""

    # --- the scheduler asks (scheduler.Elsewhere)

    def published(self, kind: str, name: str, thing: Any) -> None:
        """Something was registered here: from now on others may look for it."""
        self.names.registered(kind, name, thing)
        if not self._local and not self._closing:
            self.task(self._publish_later(), "listen")

    def withdrawn(self, kind: str, name: str) -> None:
        """A registered name is gone; references to it live on."""

    async def locate(
        self, kind: str, name: str, location: Location | None, timeout: float | None
    ) -> Any:
        """Find elsewhere what is registered under a name; None after ``timeout`` seconds."""
        return await self.names.locate(kind, name, location, timeout)

    def monitor(self, watcher: Any, observed: Any) -> bool:
        """Watch a coroutine of another process for one of ours; False if ``observed`` is no reference."""
        if not isinstance(observed, RemoteCoro):
            return False
        self._watch_remote(observed, watcher)
        return True

    def watch_for(self, watcher: Any, observed: Any) -> None:
        """Let ``watcher``, a coroutine of ours, get one message when ``observed``, here or elsewhere, ends."""
        if not self.monitor(watcher, observed):
            observed.watch(("monitor", watcher), partial(_tell_monitor, watcher))

    def _watch_remote(self, observed: RemoteCoro[Any], watcher: Any) -> None:
        if observed.outcome is not None:
            watcher.put(MonitorException(observed, observed.outcome.to_info()))
            return
        peer = observed.peer()
        if peer.ended is not None:
            watcher.put(MonitorException(observed, (type(peer.ended), peer.ended)))
        else:
            peer.monitor(watcher, observed)

    def when_ended(
        self, observed: RemoteCoro[Any], key: Any, callback: Callable[[RemoteCoro[Any]], object]
    ) -> None:
        """Call ``callback(observed)`` once when a coroutine of another process ends, however it does."""
        watcher = EndWatcher(self.scheduler.next_number(), observed, callback)
        self._end_watchers[observed, key] = watcher
        self._watch_remote(observed, watcher)

    def forget_end(self, observed: RemoteCoro[Any], key: Any) -> None:
        """Take :meth:`when_ended` back."""
        watcher = self._end_watchers.pop((observed, key), None)
        peer = self.peers.get(observed.process)
        if watcher is not None and peer is not None:
            peer.demonitor(watcher, observed)


class EndWatcher:
    """Stands where a monitoring coroutine would, for a callback."""

    def __init__(
        self, number: int, observed: RemoteCoro[Any], callback: Callable[[RemoteCoro[Any]], object]
    ) -> None:
        self.number = number
        self._observed = observed
        self._callback = callback

    def put(self, message: MonitorException) -> None:
        """It has ended."""
        self._callback(self._observed)


def _tell_monitor(watcher: Any, coro: Any, outcome: Outcome) -> None:
    watcher.put(MonitorException(coro, outcome.to_info()))

"""An endpoint: all sessions of one loop, who listens, who dials, and what happens when a connection ends. Shell.

One table of sessions, by process id: two processes have one session, whatever addresses they know of each other. A second
OPEN is answered "have one"; when two first dials cross, the one of the higher process id stays. After a loss the side that
dialled dials again; the other side waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from . import kernel
from .arrival import Arrival, Frame
from .backoff import delay_before
from .bulk import Bulk
from .credentials import Credentials
from .dialling import Dialler
from .errors import (
    ProtocolError,
    SessionClosed,
    SessionLost,
    TransportError,
)
from .formerkeys import FormerKeys
from .frames import BatchCoder, FrameType, Hello
from .greeting import Reset, claim, read_proof
from .handshake import bulk_answer_proof, bulk_proof, resume_proof, resumed_proof, same_proof
from .limits import Limits
from .link import Link, ReceiveBuffer
from .network import Network, TlsNetwork
from .opening import Openings
from .reception import Reception
from .session import Handler, Judgement, Session, State, describe

logger = logging.getLogger("discoro.transport")

#: How many of the newest sessions an OPEN looks at for dials that have crossed it.
FRESH = 64


class Observer(Protocol):
    """Who hears of sessions. Called in the loop; must not raise."""

    def session_opened(self, session: Session) -> None:
        """There is a new session, and it is up."""

    def session_lost(self, session: Session, error: TransportError) -> None:
        """It is over; the last call about it, and made once. ``session.unacknowledged()`` says what was not delivered."""

    def session_busy(self, session: Session, busy: bool) -> None:
        """The peer's process does not answer and its kernel does; or it answers again."""

    def session_down(self, session: Session) -> None:
        """Its link is gone; it may come back."""

    def session_up(self, session: Session) -> None:
        """It has a link again."""


class Endpoint:
    """All sessions of one loop. Made in the loop.

    Args:
        hello: Called for each new session: what we say about ourselves (``run_base`` differs).
        credentials: Secret, cluster, certificate.
        limits: All figures.
        handlers: Called per entry, by kind; index 0 is not used.
        observer: Who hears of sessions.
        flush_later: Calls ``flush()`` of its argument at the end of the turn.
        after_read: Called after what a read brought was handed to the handlers.
        batch_full: Called when a session has a full batch out: it would be good if the turn ended.
        process_id: Ours, as in every hello; asked of ``hello`` when it is not given.
        predecessor: How the process ended that had our listening sockets before us, in words: told to whom it had sessions with.
        network: TCP and TLS, unless a test says otherwise.

    Attributes:
        sessions: By process id; those that are over are gone from it.
        former: Keys of those that are over.
    """

    def __init__(
        self,
        *,
        hello: Callable[[], Hello],
        credentials: Credentials,
        limits: Limits,
        handlers: Sequence[Handler],
        observer: Observer,
        flush_later: Callable[[Session], None],
        after_read: Callable[[], None] = lambda: None,
        batch_full: Callable[[], None] = lambda: None,
        process_id: bytes | None = None,
        predecessor: str = "",
        network: Network | None = None,
    ) -> None:
        self.limits = limits
        self.hello = hello
        #: Our process id.
        self.process_id = process_id or hello().process_id
        self.predecessor = predecessor
        self.credentials = credentials
        self.flush_later = flush_later
        self.batch_full = batch_full
        self.closing = False
        self._handlers = handlers
        self._observer = observer
        self._after_read = after_read
        self._loop = asyncio.get_running_loop()
        self.future = self._loop.create_future
        self.time = self._loop.time
        self._coder = BatchCoder(limits)
        self._buffer = ReceiveBuffer(limits.receive_buffer)
        self._sessions: dict[bytes, Session] = {}
        self.sessions: Mapping[bytes, Session] = MappingProxyType(self._sessions)
        self._by_id: dict[bytes, Session] = {}
        self._links: dict[bytes, Link] = {}
        # The newest bulk connection of each session that has one.
        self._bulk_transports: dict[bytes, asyncio.Transport] = {}
        # Links whose transport has not let go of the connection yet.
        self._live: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._redials: dict[bytes, asyncio.Task[None]] = {}
        self.network: Network = network or TlsNetwork(credentials, limits)
        self.dialler = Dialler(self.network, credentials, limits)
        self.former = FormerKeys(limits.max_sessions)
        self.openings = Openings(self)
        self._reception = Reception(self)
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        kernel.let_go_in_children(self)

    def __repr__(self) -> str:
        return f"<Endpoint {len(self._sessions)} sessions{' closing' if self.closing else ''}>"

    # --- listening and dialling ------------------------------------------------------------------------------------

    async def listen(self, hosts: list[str], port: int) -> list[tuple[str, int]]:
        """Listen on each of ``hosts``; with port 0 on one that is free on all of them.

        Returns:
            What is listened on.

        Raises:
            OSError: If an address cannot be bound; then none of them is.
        """
        return await self._reception.listen(hosts, port)

    async def adopt(
        self, sockets: list[socket.socket], *, ended: Callable[[], str] | None = None
    ) -> list[tuple[str, int]]:
        """Listen on sockets that somebody else has bound; they stay the caller's, copies are used.

        Args:
            sockets: Bound sockets.
            ended: Answer everybody, after the handshake, that the process which used to listen here has ended, in these words.

        Returns:
            What is listened on.
        """
        return await self._reception.adopt(sockets, ended)

    def release(self, sockets: list[socket.socket]) -> None:
        """Listen on these adopted sockets no longer; what is under way goes on."""
        self._reception.release(sockets)

    async def connect(
        self,
        host: str,
        port: int,
        *,
        timeout: float | None,
        expect: bytes | None = None,
        given: bool = False,
    ) -> Session:
        """Return the session with the process at an address; it is opened if there is none.

        Cancelling is safe: either there is a session afterwards, or there is none.

        Args:
            host: Name or address.
            port: TCP port.
            timeout: Seconds; None waits for as long as the peer is alive, be it busy.
            expect: Process id that must answer.
            given: Whether a user typed this address; it is the one to dial after a loss.

        Raises:
            PeerUnreachable: Nobody answers, or not in time.
            AuthenticationFailed: Another secret.
            WrongPeer: Somebody else than ``expect``.
            TransportError: NotTLS, VersionMismatch, Busy ...
        """
        if self.closing:
            raise SessionClosed(by_peer=False)
        session = self._sessions.get(expect) if expect is not None else None
        if session is None:
            session = await self.openings.connect(host, port, timeout, expect or b"", given)
        if given and session.dialled and session.address != (host, port):
            session.address, session.given = (host, port), True
        return session

    async def _dial_bulk(self, session: Session) -> tuple[asyncio.Transport, bytes]:
        """Open a bulk connection for a session that this side has dialled.

        Returns:
            The connection, whose protocol the caller sets at once, and what was read behind the proof.

        Raises:
            TransportError: If it cannot be had now, or the session is over.
        """
        if session.lost is not None:
            raise session.lost
        host, port = session.address

        def accepted(arrival: Arrival) -> None:
            assert arrival.proof is not None
            proof = bulk_proof(session.key, arrival.proof.transcript, session.id)
            arrival.write(claim(FrameType.BULK, session.epoch, 0, session.id, proof))

        def frame(arrival: Arrival, frame: Frame) -> None:
            assert arrival.proof is not None
            if frame.type is FrameType.RESET:
                raise Reset.decode(frame.number, frame.body, self.limits).as_loss()
            expected = bulk_answer_proof(session.key, arrival.proof.transcript, session.id)
            if frame.type is not FrameType.BULKED or not same_proof(
                read_proof(frame.body), expected
            ):
                raise ProtocolError("the peer's answer to BULK is wrong")
            arrival.done.set_result(None)

        arrival = await self.dialler.reach(host, port, accepted=accepted, frame=frame)
        return self.take_bulk(session, arrival), arrival.hand_on()

    def take_bulk(self, session: Session, arrival: Arrival) -> asyncio.Transport:
        """Note a bulk connection of a session, for :meth:`descriptors`; return it."""
        assert arrival.transport is not None
        self._bulk_transports[session.id] = arrival.transport
        return arrival.transport

    def new_bulk(self, session: Session) -> Bulk:
        """See :class:`~.session.Shell`."""
        dial = partial(self._dial_bulk, session) if session.dialled else None
        return Bulk(dial, self.limits, name=session.peer.name)

    # --- sessions --------------------------------------------------------------------------------------------------

    def find(self, session_id: bytes) -> Session | None:
        """Return the session of that id, unless it is over."""
        return self._by_id.get(session_id)

    def fresh_sessions(self) -> list[bytes]:
        """Return the ids of sessions that were opened from outside, the newest, and of which nothing was heard since."""
        newest = list(self._sessions.values())[-FRESH:]
        return [
            one.id
            for one in newest
            if not one.dialled and not one.inbox.last and one.outbox.first == 1
        ]

    def new_session(
        self,
        session_id: bytes,
        ours: Hello,
        theirs: Hello,
        arrival: Arrival,
        *,
        dialled: bool,
        address: tuple[str, int],
        given: bool = False,
    ) -> Session:
        """Make a session; :meth:`attach` follows."""
        assert arrival.proof is not None
        session = Session(
            session_id,
            arrival.proof.key,
            ours,
            theirs,
            dialled=dialled,
            address=address,
            given=given,
            limits=self.limits,
            coder=self._coder,
            handlers=self._handlers,
            shell=self,
        )
        self._sessions[theirs.process_id] = session
        self._by_id[session_id] = session
        return session

    def attach(self, session: Session, arrival: Arrival, epoch: int, peer_last: int) -> None:
        """Make a proved connection the link of a session; all in one step.

        Raises:
            ProtocolError: If the numbers cannot be; then nothing has changed.
        """
        transport = arrival.transport
        assert transport is not None
        session.check_link(epoch, peer_last)
        self.cut(session, None)
        first = session.state is State.NEW
        link = Link(session, transport, self._buffer, self, self._after_read)
        early = arrival.hand_on()
        self._links[session.id] = link
        self._live.add(link)
        transport.set_protocol(link)
        session.attach(transport.write, epoch, peer_last, self.time())
        if first:
            logger.info(
                "%s: session open, %s dialled", session, "we" if session.dialled else "they"
            )
        else:
            logger.info("%s: the connection is back, nothing was lost", session)
        self._start_ticking()
        if first:
            self._tell(self._observer.session_opened, session)
        else:
            self._tell(self._observer.session_up, session)
        if early:
            link.feed(early)

    def cut(self, session: Session, error: Exception | None) -> None:
        """Drop the link of a session, if it has one."""
        link = self._links.get(session.id)
        if link is not None:
            link.drop(error)

    def link_lost(self, link: Link, error: Exception | None) -> None:
        """A link is gone: the session goes down, and is dialled again if that is ours to do."""
        session = link.session
        assert session is not None
        if self._links.get(session.id) is not link:
            return
        del self._links[session.id]
        session.detach(self.time(), error)
        if session.ended:
            return
        logger.info(
            "%s: connection cut (%s); %s, for %g s",
            session,
            describe(error),
            "we dial again" if session.dialled else "they may dial again",
            session.patience,
        )
        if session.offences >= self.limits.protocol_errors:
            self.lose(session, SessionLost(f"the peer broke the rules again and again: {error}"))
            return
        if isinstance(error, ProtocolError):
            logger.warning("%s: broke the rules: %s", session, error)
        self._tell(self._observer.session_down, session)
        if session.dialled and not self.closing and session.id not in self._redials:
            task = self.spawn(self._redial(session), "discoro-redial")
            self._redials[session.id] = task

    def link_gone(self, link: Link) -> None:
        """The transport has let go of the connection."""
        self._live.discard(link)

    def lose(self, session: Session, error: SessionLost) -> None:
        """End a session; tell the observer."""
        if session.ended:
            return
        link = self._links.pop(session.id, None)
        session.end(error, closed=isinstance(error, SessionClosed))
        if link is not None:
            link.release()
        if self._sessions.get(session.process_id) is session:
            del self._sessions[session.process_id]
        self._by_id.pop(session.id, None)
        self.former.remember(session.id, session.key)
        self._bulk_transports.pop(session.id, None)
        if session.has_bulk:
            session.bulk.close(error)
        redial = self._redials.pop(session.id, None)
        if redial is not None and redial is not asyncio.current_task():
            redial.cancel()
        ended = f" ({error.ended})" if error.ended else ""
        logger.info("%s: session over: %s%s", session, error.reason, ended)
        self._tell(self._observer.session_lost, session, error)

    # --- what a session asks for (session.Shell) -------------------------------------------------------------------

    def ack_later(self, session: Session) -> None:
        """See :class:`~.session.Shell`."""
        self._loop.call_later(self.limits.ack_delay, session.ack_due)

    def link_broken(self, session: Session, error: Exception) -> None:
        """See :class:`~.session.Shell`. Later, because the caller is in the middle of something."""
        link = self._links.get(session.id)
        if link is not None:
            self._loop.call_soon(self._drop_if_current, link, error)

    def overfull(self, session: Session) -> None:
        """See :class:`~.session.Shell`."""
        size = self.limits.session_queue
        error = SessionLost(f"{size} bytes wait for the peer, and it does not take them")
        logger.warning("%r loses its session: %s", session, error)
        self._loop.call_soon(self.lose, session, error)

    def _drop_if_current(self, link: Link, error: Exception) -> None:
        if link.session is not None:
            link.drop(error)

    def closed_by_peer(self, session: Session) -> None:
        """See :class:`~.session.Shell`."""
        self.lose(session, SessionClosed(by_peer=True))

    async def wait(self, future: Any, timeout: float | None) -> bool:
        """See :class:`~.session.Shell`."""
        done, _ = await asyncio.wait({future}, timeout=timeout)
        return bool(done)

    # --- dialling again --------------------------------------------------------------------------------------------

    async def _redial(self, session: Session) -> None:
        """Dial until the session is up or over."""
        attempt = 0
        refused_at: float | None = None
        try:
            while session.state is State.DOWN:
                await asyncio.sleep(delay_before(attempt, self.limits, random.random))
                attempt += 1
                error = await self._resume(session)
                if error is None:
                    # Up, and perhaps down again before this task has run on: then it is still the one that dials.
                    attempt, refused_at = 0, None
                    continue
                logger.debug("%s: dialling again failed: %s", session, error)
                # Not what a user typed, nor what came with a reference from elsewhere: either may lead through a tunnel.
                own = not session.given and session.address[1] == session.peer.port
                if not isinstance(error.__cause__, ConnectionRefusedError) or not own:
                    refused_at = None
                    continue
                # Session state lives in the process that listens, so nobody listening means that it is gone.
                refused_at = refused_at or self.time()
                if self.time() - refused_at >= self.limits.refused_timeout:
                    self.lose(session, SessionLost("nobody listens at its address any more"))
        finally:
            if self._redials.get(session.id) is asyncio.current_task():
                del self._redials[session.id]

    async def _resume(self, session: Session) -> TransportError | None:
        """Dial once and resume; return what went wrong. Only an authenticated refusal ends the session."""
        host, port = session.address
        session.dialled_epoch = max(session.epoch, session.dialled_epoch) + 1
        epoch, last = session.dialled_epoch, session.inbox.last

        def accepted(arrival: Arrival) -> None:
            assert arrival.proof is not None
            proof = resume_proof(session.key, arrival.proof.transcript, epoch, last)
            arrival.write(claim(FrameType.RESUME, epoch, last, session.id, proof))

        def frame(arrival: Arrival, frame: Frame) -> None:
            self._resumed(session, arrival, frame, epoch)

        def waiting(seconds: float) -> None:
            session.excuse(seconds)
            if not session.busy:
                session.busy = True
                self._tell(self._observer.session_busy, session, True)

        try:
            await self.dialler.reach(
                host,
                port,
                accepted=accepted,
                frame=frame,
                connect_timeout=self.limits.handshake_timeout,
                waiting=waiting,
            )
        except TransportError as exc:
            return exc
        finally:
            if session.busy and session.state is State.DOWN:
                session.busy = False
                self._tell(self._observer.session_busy, session, False)
        return None

    def _resumed(self, session: Session, arrival: Arrival, frame: Frame, epoch: int) -> None:
        """Take the answer to RESUME."""
        assert arrival.proof is not None
        if frame.type is FrameType.RESET:
            reset = Reset.decode(frame.number, frame.body, self.limits)
            loss = reset.as_loss(session.process_id)
            if reset.retry_in:
                raise loss
            arrival.fail(loss)
            self.lose(session, loss)
            return
        expected = resumed_proof(session.key, arrival.proof.transcript, epoch, frame.ack)
        if (
            frame.type is not FrameType.RESUMED
            or frame.number != epoch
            or not same_proof(read_proof(frame.body), expected)
        ):
            raise ProtocolError("the peer's answer to RESUME is wrong")
        if session.state is not State.DOWN:
            arrival.fail(session.lost or ProtocolError("another link was faster"))
            return
        try:
            self.attach(session, arrival, epoch, frame.ack)
        except ProtocolError as exc:
            self.lose(session, SessionLost(str(exc)))
            raise

    # --- time ------------------------------------------------------------------------------------------------------

    def _start_ticking(self) -> None:
        if self._ticker is None and not self.closing:
            self._ticked_at = self.time()
            self._ticker = self._loop.call_later(self.limits.tick, self._tick)

    def _tick(self) -> None:
        """Look at the clock for all sessions; stop when there are none."""
        now = self.time()
        late = now - self._ticked_at - self.limits.tick
        self._ticked_at = now
        for session in list(self._sessions.values()):
            if late > self.limits.own_stall:
                # We stood still (stopped, suspended, or the loop was blocked): what the peer sent meanwhile is unread.
                session.excuse(late)
            self._judge(session, now)
        self._ticker = None
        if self._sessions and not self.closing:
            self._ticker = self._loop.call_later(self.limits.tick, self._tick)

    def _judge(self, session: Session, now: float) -> None:
        judgement = session.judge(now)
        if judgement is Judgement.PING:
            session.ask_for_life()
        elif judgement is Judgement.SILENT:
            link = self._links[session.id]
            if not self.network.answers(link.socket):
                link.drop(ConnectionError("the other kernel does not answer any more"))
            elif not session.busy:
                session.busy = True
                self._tell(self._observer.session_busy, session, True)
        elif judgement is Judgement.BACK:
            session.busy = False
            self._tell(self._observer.session_busy, session, False)
        elif judgement is Judgement.EXPIRED:
            self.lose(session, SessionLost(f"no link for {session.patience:g} s"))

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close_session(self, session: Session) -> None:
        """Close one session: its last batches are given ``close_timeout`` to be acknowledged."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.close_timeout):
                session.flush()
                await session.settled()
        if not session.ended:
            session.say_close()
            self.lose(session, SessionClosed(by_peer=False))

    async def close(self) -> None:
        """Close all sessions and listeners; nothing is left behind."""
        self.closing = True
        self._reception.close()
        self.openings.close()
        await asyncio.gather(*map(self.close_session, list(self._sessions.values())))
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for task in list(self._tasks):
            if not task.cancelling():  # one that is being given up says so to its peer
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        deadline = self.time() + self.limits.tls_shutdown_timeout
        while self._live and self.time() < deadline:
            await asyncio.sleep(0.001)
        for link in list(self._live):
            link.transport.abort()
        while self._live:
            await asyncio.sleep(0)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task that ends at the latest with the endpoint."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TransportError):
            logger.error("%s failed; this is a bug in discoro", task.get_name(), exc_info=error)

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors that a forked child must not keep (:class:`~.kernel.Holder`)."""
        yield from self._reception.descriptors()
        transports = [*self._bulk_transports.values(), *(link.transport for link in self._live)]
        for transport in transports:
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                yield sock.fileno()

    def _tell(self, method: Callable[..., None], *args: Any) -> None:
        try:
            method(*args)
        except Exception:
            logger.exception("an observer failed; this is a bug in discoro")

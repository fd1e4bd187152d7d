"""Reception: taking connections, and what a caller who has proved himself may ask for. Shell, part of an endpoint.

A stranger occupies one of a bounded number of places, for five seconds, and nothing more. Whoever has proved the secret
says one frame: OPEN, RESUME or BULK; it is answered, and the connection handed on, in one step.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from .arrival import Arrival, Frame
from .errors import AuthenticationFailed, ProtocolError, SessionLost, TransportError
from .frames import FrameType, ResetCode, bare
from .greeting import Open, Reset, opened, read_claim
from .handshake import (
    ServerHandshake,
    bulk_answer_proof,
    bulk_proof,
    open_proof,
    resume_proof,
    resumed_proof,
    same_proof,
)
from .network import Listener
from .session import Session, State
from .throttle import Throttle

if TYPE_CHECKING:
    from .endpoint import Endpoint

logger = logging.getLogger("discoro.transport")


COMPLAIN_EVERY = 60.0
"""Seconds between two lines in the log that no connection can be taken."""


class Reception:
    """The listeners of an endpoint, and the connections that have no session yet."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._limits = endpoint.limits
        self._throttle = Throttle(endpoint.limits)
        self._listeners: dict[Listener, asyncio.Task[None]] = {}
        self._adopted: dict[socket.socket, Listener] = {}
        self._raw: set[Any] = set()

    async def listen(self, hosts: list[str], port: int) -> list[tuple[str, int]]:
        """See :meth:`.endpoint.Endpoint.listen`."""
        attempts = 1 if port or len(hosts) < 2 else 20
        while True:
            attempts -= 1
            try:
                listeners = await self._bind(hosts, port)
                break
            except OSError:
                # The port that was free on the first address may be taken on another one.
                if attempts <= 0:
                    raise
        await self._prepare()
        for listener in listeners:
            self._start(listener, None)
        return [listener.address for listener in listeners]

    async def _bind(self, hosts: list[str], port: int) -> list[Listener]:
        """Bind all of ``hosts`` on one port, or none."""
        listeners: list[Listener] = []
        try:
            for host in hosts:
                listener = await self._endpoint.network.listen(host, port)
                listeners.append(listener)
                port = listener.address[1]
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        return listeners

    async def adopt(
        self, sockets: list[socket.socket], ended: Callable[[], str] | None
    ) -> list[tuple[str, int]]:
        """See :meth:`.endpoint.Endpoint.adopt`."""
        await self._prepare()
        addresses = []
        for sock in sockets:
            listener = self._endpoint.network.adopt(sock)
            self._adopted[sock] = listener
            self._start(listener, ended)
            addresses.append(listener.address)
        return addresses

    def release(self, sockets: list[socket.socket]) -> None:
        """See :meth:`.endpoint.Endpoint.release`."""
        for sock in sockets:
            listener = self._adopted.pop(sock, None)
            if listener is not None:
                self._stop(listener)

    async def _prepare(self) -> None:
        """Stretch the secret and make the certificate before anybody calls; a thread takes the 60 ms."""
        secret = self._endpoint.credentials.secret
        if not secret.stretched:
            await asyncio.get_running_loop().run_in_executor(None, lambda: secret.prs)

    def _start(self, listener: Listener, ended: Callable[[], str] | None) -> None:
        host, port = listener.address
        self._listeners[listener] = self._endpoint.spawn(
            self._accept(listener, ended), f"discoro-accept {host}:{port}"
        )

    def _stop(self, listener: Listener) -> None:
        task = self._listeners.pop(listener, None)
        if task is not None:
            task.cancel()
            listener.close()

    def close(self) -> None:
        """Take no more connections."""
        for listener in list(self._listeners):
            self._stop(listener)

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors of listeners and of connections that have no session yet."""
        for holder in (*self._listeners, *self._raw):
            number = holder.fileno() if hasattr(holder, "fileno") else -1
            if number >= 0:
                yield number

    async def _accept(self, listener: Listener, ended: Callable[[], str] | None) -> None:
        """Take connections until the listener is stopped."""
        complained = -COMPLAIN_EVERY
        while True:
            try:
                raw, source = await listener.accept()
            except ConnectionError:
                continue  # gone again before we looked
            except OSError as exc:
                # No descriptors left, as a rule; the callers wait in the kernel's queue meanwhile.
                now = self._endpoint.time()
                if now - complained >= COMPLAIN_EVERY:
                    complained = now
                    logger.warning("cannot take connections for now: %s", exc.strerror or exc)
                await asyncio.sleep(0.1)
                continue
            if self._throttle.connected(source[0], self._endpoint.time()) is not None:
                raw.close()  # a client takes this for "busy"
                continue
            self._raw.add(raw)
            welcome = self._endpoint.spawn(self._welcome(raw, source, ended), "discoro-welcome")
            welcome.add_done_callback(partial(self._not_begun, raw))

    def _not_begun(self, raw: Any, welcome: asyncio.Task[Any]) -> None:
        """Close a connection whose welcome was cancelled before it began; any other has discarded it."""
        if raw in self._raw:
            self._raw.discard(raw)
            self._endpoint.network.drop(raw)

    async def _welcome(
        self, raw: Any, source: tuple[str, int], ended: Callable[[], str] | None
    ) -> None:
        """See one connection through to its session, within the time that a stranger has."""
        endpoint, throttle = self._endpoint, self._throttle
        host = source[0]
        proved = admitted = False
        deadline = endpoint.time() + self._limits.handshake_timeout

        def admit() -> float | None:
            nonlocal admitted
            wait = throttle.admit(host, endpoint.time())
            admitted = wait is None
            return wait

        def decided() -> None:
            nonlocal admitted
            if admitted:
                admitted = False
                throttle.decided(host)

        def accepted(arrival: Arrival) -> None:
            nonlocal proved
            proved = True
            decided()
            throttle.disconnected(host)
            throttle.succeeded(host)

        def frame(arrival: Arrival, frame: Frame) -> None:
            if ended is not None:
                self._reset(arrival, Reset(ResetCode.ENDED, text=ended()))
            else:
                self._asked(arrival, frame, source)

        arrival = Arrival(accepted, frame)
        try:
            async with asyncio.timeout_at(deadline):
                await endpoint.network.secure_accepted(raw, arrival)
                handshake = ServerHandshake(
                    endpoint.credentials.secret.prs,
                    endpoint.network.fingerprint,
                    endpoint.credentials.cluster,
                    os.urandom,
                    endpoint.time(),
                    self._limits,
                    who=f"{host}:{source[1]}",
                    admit=admit,
                )
                arrival.begin(handshake)
                await asyncio.shield(arrival.done)
        except AuthenticationFailed:
            count = throttle.failed(host, endpoint.time())
            if count:
                logger.warning("wrong secret from %s (%d in the last minute)", host, count)
        except (TransportError, OSError, TimeoutError) as exc:
            logger.debug(
                "a connection from %s came to nothing: %s", host, str(exc) or type(exc).__name__
            )
        finally:
            self._raw.discard(raw)
            decided()
            try:
                if not arrival.done.done() and arrival.transport is not None:
                    arrival.transport.abort()
                elif not proved and not endpoint.closing:
                    # A stranger who was refused and does not close holds his place as long as the descriptor.
                    await arrival.leave(max(0.0, deadline - endpoint.time()))
            finally:
                if not proved:
                    throttle.disconnected(host)

    def _reset(self, arrival: Arrival, reset: Reset) -> None:
        """Refuse what a proved peer asked for."""
        arrival.write(reset.encode(self._limits))
        arrival.fail(reset.as_loss())

    def _asked(self, arrival: Arrival, frame: Frame, source: tuple[str, int]) -> None:
        """Answer the first frame of a proved peer."""
        endpoint = self._endpoint
        if endpoint.closing:
            self._reset(arrival, Reset(ResetCode.CLOSED))
        elif frame.type is FrameType.OPEN:
            wish = Open.decode(frame.body, self._limits)
            if frame.ack or not frame.number:
                raise ProtocolError(f"OPEN with ack {frame.ack} and epoch {frame.number}")
            self._open(arrival, wish, frame.number, source)
        elif frame.type is FrameType.RESUME:
            self._resume(arrival, frame, source)
        elif frame.type is FrameType.BULK:
            self._bulk(arrival, frame)
        else:
            raise ProtocolError(f"frame of type {frame.type} at the beginning")

    # --- OPEN ------------------------------------------------------------------------------------------------------

    def _open(self, arrival: Arrival, wish: Open, epoch: int, source: tuple[str, int]) -> None:
        """Somebody wants a session."""
        endpoint = self._endpoint
        theirs = wish.hello.process_id
        ours = endpoint.process_id
        if theirs == ours:
            self._reset(arrival, Reset(ResetCode.HAVE_ONE, process=ours))
        elif wish.expect and wish.expect != ours:
            self._reset(arrival, Reset(ResetCode.UNKNOWN, process=ours))
        elif endpoint.openings.has_sent(wish.fresh):
            # Two first dials have crossed, and ours was granted: the answer is on its way to us.
            reset = Reset(ResetCode.HAVE_ONE, process=ours)
            self._reset(arrival, reset)
        elif theirs < ours and endpoint.openings.outstanding(theirs):
            # Two first dials have crossed, perhaps, and ours would be the one that stays: wait for its answer.
            endpoint.spawn(self._open_later(arrival, wish, epoch, source), "discoro-crossing")
        else:
            self._open_now(arrival, wish, epoch, source)

    async def _open_later(
        self, arrival: Arrival, wish: Open, epoch: int, source: tuple[str, int]
    ) -> None:
        """Answer an OPEN once no dial of ours can be the same session any more; in a few seconds at the latest."""
        openings = self._endpoint.openings
        try:
            async with asyncio.timeout(self._limits.handshake_timeout / 2):
                while openings.outstanding(wish.hello.process_id):
                    await openings.settled()
        except TimeoutError:
            pass  # whoever we dialled does not answer; that is no reason to let this one wait
        if not arrival.done.done():
            try:
                self._open_now(arrival, wish, epoch, source)
            except TransportError as exc:
                arrival.fail(exc)

    def _open_now(self, arrival: Arrival, wish: Open, epoch: int, source: tuple[str, int]) -> None:
        endpoint = self._endpoint
        process = wish.hello.process_id
        known = endpoint.sessions.get(process)
        if known is not None and self._owned(arrival, wish, known):
            if known.id == wish.session:
                self._open_again(arrival, known, epoch)
                return
            endpoint.lose(known, SessionLost("the peer has given it up"))
            known = None
        if known is not None:
            reset = Reset(ResetCode.HAVE_ONE, process=endpoint.process_id, session=known.id)
            self._reset(arrival, reset)
            return
        if len(endpoint.sessions) >= self._limits.max_sessions:
            self._reset(arrival, Reset(ResetCode.BUSY, retry_in=self._limits.dial_most))
            return
        if endpoint.find(wish.session) is not None:
            raise ProtocolError("OPEN with the session id of somebody else")
        ours = endpoint.hello()
        session = endpoint.new_session(
            wish.session, ours, wish.hello, arrival, dialled=False, address=source
        )
        arrival.write(opened(epoch, 0, ours, self._limits))
        endpoint.attach(session, arrival, epoch, 0)

    @staticmethod
    def _owned(arrival: Arrival, wish: Open, known: Session) -> bool:
        """Whether an OPEN names the session that there is, and comes from who has its key: anybody can claim a process id."""
        assert arrival.proof is not None
        if known.id not in (wish.session, wish.instead):
            return False
        expected = open_proof(known.key, arrival.proof.transcript, known.id)
        return any(same_proof(proof, expected) for proof in wish.proofs)

    def _open_again(self, arrival: Arrival, session: Session, epoch: int) -> None:
        """The same OPEN once more: our answer was lost, so nothing of the session has reached the peer."""
        assert arrival.proof is not None
        if session.dialled or session.inbox.last:
            raise ProtocolError("OPEN for a session that is in use")
        session.check_link(epoch, 0)
        self._endpoint.cut(session, None)
        session.key = arrival.proof.key
        arrival.write(opened(epoch, 0, session.ours, self._limits))
        self._endpoint.attach(session, arrival, epoch, 0)

    # --- RESUME and BULK -------------------------------------------------------------------------------------------

    def _claimed(
        self, arrival: Arrival, frame: Frame, prove: Callable[[Session, bytes], bytes]
    ) -> Session | None:
        """Return the session that a peer claims, if its proof is good; refuse otherwise."""
        assert arrival.proof is not None
        session_id, proof = read_claim(frame.body)
        session = self._endpoint.find(session_id)
        if session is None or session.dialled:
            ours, before = self._endpoint.process_id, self._endpoint.predecessor
            self._reset(arrival, Reset(ResetCode.UNKNOWN, process=ours, text=before))
            return None
        if not same_proof(proof, prove(session, arrival.proof.transcript)):
            self._reset(arrival, Reset(ResetCode.BAD_PROOF))
            return None
        return session

    def _resume(self, arrival: Arrival, frame: Frame, source: tuple[str, int]) -> None:
        """A peer brings a new link for its session. The old one is forgotten first: what we say to have cannot move."""
        endpoint, epoch = self._endpoint, frame.number
        assert arrival.proof is not None
        transcript = arrival.proof.transcript
        session = self._claimed(
            arrival, frame, lambda one, th: resume_proof(one.key, th, epoch, frame.ack)
        )
        if session is None:
            return
        if epoch <= session.epoch:
            self._reset(arrival, Reset(ResetCode.OLD_EPOCH))
            return
        try:
            session.check_link(epoch, frame.ack)
        except ProtocolError as exc:
            self._reset(arrival, Reset(ResetCode.RANGE, text=str(exc)))
            endpoint.lose(session, SessionLost(str(exc)))
            return
        endpoint.cut(session, None)
        if session.state is not State.DOWN:
            self._reset(arrival, Reset(ResetCode.UNKNOWN, process=endpoint.process_id))
            return
        last = session.inbox.last
        proof = resumed_proof(session.key, transcript, epoch, last)
        arrival.write(bare(FrameType.RESUMED, epoch, last, proof))
        session.address = source
        endpoint.attach(session, arrival, epoch, frame.ack)

    def _bulk(self, arrival: Arrival, frame: Frame) -> None:
        """A peer brings a bulk connection for its session."""
        session = self._claimed(arrival, frame, lambda one, th: bulk_proof(one.key, th, one.id))
        if session is None:
            return
        assert arrival.proof is not None
        proof = bulk_answer_proof(session.key, arrival.proof.transcript, session.id)
        arrival.write(bare(FrameType.BULKED, frame.number, 0, proof))
        transport = self._endpoint.take_bulk(session, arrival)
        session.bulk.attach(transport, arrival.hand_on())

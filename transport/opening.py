"""Openings: first dials, until there is a session. Shell, part of an endpoint.

One opening per address and expected process, however many callers wait for it. Its session id is chosen once, so that an
OPEN that is sent again after a cut (its answer may have been lost) is recognised as the same.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .arrival import Arrival, ConnectionLostEarly, Frame
from .backoff import delay_before
from .errors import Busy, OwnProcess, PeerUnreachable, ProtocolError, TransportError, WrongPeer
from .frames import ID_BYTES, FrameType, Hello, ResetCode, bare
from .greeting import Open, Reset, read_opened
from .session import Session

if TYPE_CHECKING:
    from .endpoint import Endpoint


class Opening:
    """One first dial, with its repetitions.

    Attributes:
        host: Address dialled.
        port: Its port.
        expect: Process id that must answer, or empty.
        given: Whether a user typed the address.
        session: Id of the session to be.
        instead: Session that it replaces, or empty.
        ours: What we say about ourselves; the same in every repetition.
        epoch: Number of the last OPEN.
        outstanding: OPEN was sent, and not answered.
        waiters: Callers that wait for it.
        task: Runs it.
        trouble: What went wrong last.
    """

    def __init__(self, host: str, port: int, expect: bytes, given: bool, ours: Hello) -> None:
        self.host = host
        self.port = port
        self.expect = expect
        self.given = given
        self.session = os.urandom(ID_BYTES)
        self.instead = b""
        self.ours = ours
        self.epoch = 0
        self.outstanding = False
        self.waiters = 0
        self.task: asyncio.Task[Session] | None = None
        self.trouble: TransportError | None = None


class Openings:
    """All first dials of an endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._limits = endpoint.limits
        self._openings: dict[tuple[str, int, bytes], Opening] = {}
        # Set and replaced whenever an OPEN was answered or given up: others may have waited to know.
        self._settled: asyncio.Future[None] | None = None

    async def connect(
        self, host: str, port: int, timeout: float | None, expect: bytes, given: bool
    ) -> Session:
        """See :meth:`.endpoint.Endpoint.connect`."""
        key = (host, port, expect)
        opening = self._openings.get(key)
        if opening is None:
            opening = Opening(host, port, expect, given, self._endpoint.hello())
            self._openings[key] = opening
            opening.task = self._endpoint.spawn(self._open(opening), f"discoro-open {host}:{port}")
        task = opening.task
        assert task is not None
        opening.given = opening.given or given
        opening.waiters += 1
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            opening.waiters -= 1
            if not opening.waiters:
                if self._openings.get(key) is opening:
                    del self._openings[key]
                task.cancel()  # does nothing to one that is done
        if task.done() and not task.cancelled():
            return task.result()
        if opening.trouble is not None:
            raise opening.trouble
        raise PeerUnreachable(
            host, port, f"no answer within {timeout:g} s" if timeout is not None else "closing"
        )

    async def _open(self, opening: Opening) -> Session:
        """Dial until there is a session, or an answer that another dial would not change."""
        attempt = 0
        deadline = self._endpoint.time() + self._limits.resume_client
        while True:
            try:
                return await self._once(opening)
            except Busy as exc:
                opening.trouble = exc
                wait = exc.retry_in
            except ConnectionLostEarly as exc:
                # Cut, or dropped by a peer that has no descriptors left: no answer yet.
                attempt += 1
                wait = delay_before(attempt, self._limits, random.random)
                opening.trouble = PeerUnreachable(opening.host, opening.port, str(exc))
                if self._endpoint.time() > deadline:
                    raise opening.trouble from exc
            await asyncio.sleep(wait)

    async def _once(self, opening: Opening) -> Session:
        """Dial once; come back with a session, or raise."""
        endpoint = self._endpoint
        found: list[Session] = []
        resets: list[Reset] = []
        opening.epoch += 1

        def accepted(arrival: Arrival) -> None:
            assert arrival.proof is not None
            former, transcript = endpoint.former, arrival.proof.transcript
            wish = Open(
                opening.session,
                opening.ours,
                opening.expect,
                opening.instead,
                tuple(endpoint.fresh_sessions()),
                former.proofs(opening.session, transcript)
                + former.proofs(opening.instead, transcript),
            )
            former.remember(opening.session, arrival.proof.key)
            arrival.write(wish.encode(opening.epoch, self._limits))
            opening.outstanding = True

        def frame(arrival: Arrival, frame: Frame) -> None:
            opening.outstanding = False
            if frame.type is FrameType.OPENED:
                found.append(self._opened(opening, arrival, frame))
            elif frame.type is FrameType.RESET:
                resets.append(Reset.decode(frame.number, frame.body, self._limits))
                arrival.fail(resets[0].as_loss())
            else:
                raise ProtocolError(f"frame of type {frame.type} in answer to OPEN")
            self._answered()

        def given_up(arrival: Arrival) -> None:
            """Take OPEN back: the peer would keep a session for which nobody ever comes."""
            if opening.outstanding and not arrival.done.done():
                arrival.write(bare(FrameType.CLOSE, 0, 0))
                arrival.fail(ConnectionLostEarly(None))

        try:
            await endpoint.dialler.reach(
                opening.host, opening.port, accepted=accepted, frame=frame, given_up=given_up
            )
        except TransportError:
            if not resets:
                raise
        finally:
            if opening.outstanding:
                opening.outstanding = False
                self._answered()
        if resets:
            return await self._refused(opening, resets[0])
        return found[0]

    def _opened(self, opening: Opening, arrival: Arrival, frame: Frame) -> Session:
        """The peer agrees: there is a session."""
        endpoint = self._endpoint
        theirs = read_opened(frame.body, self._limits)
        if opening.expect and theirs.process_id != opening.expect:
            raise WrongPeer(opening.expect, theirs.process_id)
        if frame.number != opening.epoch or frame.ack:
            raise ProtocolError("the peer's answer to OPEN is wrong")
        known = endpoint.sessions.get(theirs.process_id)
        if known is not None:
            # Two dials have crossed, and the answer took so long that both were granted. One must go: ours, if we are the
            # one who may say so; then the other one is repeated, and recognised.
            if endpoint.process_id > theirs.process_id:
                arrival.write(bare(FrameType.CLOSE, 0, 0))
            raise ConnectionLostEarly(None)
        session = endpoint.new_session(
            opening.session,
            opening.ours,
            theirs,
            arrival,
            dialled=True,
            address=(opening.host, opening.port),
            given=opening.given,
        )
        endpoint.attach(session, arrival, opening.epoch, 0)
        return session

    async def _refused(self, opening: Opening, reset: Reset) -> Session:
        """Return the session there is already, or raise what the refusal means."""
        endpoint = self._endpoint
        where = (opening.host, opening.port)
        if reset.code is ResetCode.HAVE_ONE:
            if reset.process == opening.ours.process_id:
                raise OwnProcess(*where)
            session = endpoint.sessions.get(reset.process)
            while session is None and self.outstanding(reset.process):
                # The session it means may be one whose OPENED is still on its way to us.
                await self.settled()
                session = endpoint.sessions.get(reset.process)
            if session is not None:
                return session
            if reset.session and reset.session not in endpoint.former:
                # Somebody else has claimed our process id, or we have forgotten: it is over in a while.
                raise Busy(self._limits.dial_most)
            opening.instead = reset.session
            raise ConnectionLostEarly(None)
        if reset.code is ResetCode.BUSY:
            raise Busy(reset.retry_in)
        if reset.code is ResetCode.UNKNOWN and opening.expect:
            raise WrongPeer(opening.expect, reset.process)
        raise PeerUnreachable(*where, reset.text or reset.code.name.lower())

    def has_sent(self, sessions: Iterable[bytes]) -> bool:
        """Return whether one of these session ids is in an OPEN of ours that was sent and not answered."""
        ours = {one.session for one in self._openings.values() if one.outstanding}
        return not ours.isdisjoint(sessions)

    def outstanding(self, process: bytes) -> bool:
        """Return whether an OPEN that may reach ``process`` was sent and not answered."""
        return any(
            one.outstanding and one.expect in (b"", process) for one in self._openings.values()
        )

    async def settled(self) -> None:
        """Wait until some OPEN was answered or given up."""
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._settled)

    def _answered(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None and not settled.done():
            settled.set_result(None)

    def close(self) -> None:
        """Give all of them up."""
        for opening in self._openings.values():
            if opening.task is not None:
                opening.task.cancel()
        self._answered()

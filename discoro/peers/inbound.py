"""Entries that come in from peers, one handler per kind: where a message becomes a coroutine's.

Handlers run inside the read callback of a link. They never wait, never raise for what a peer sent, and keep no
view of the bytes. Decoding happens here, when the message reaches its mailbox; what cannot be decoded is an error of
that message alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from discoro.codeplace import names_for
from discoro.errors import ComputationClosed, MessageRefused, NoSuchCoro
from discoro.messages import Message, Undecodable
from discoro.outcomes import FAILED, REFUSED, TERMINATED, decode_outcome, encode_outcome, failed
from discoro.scheduler import Coro as LocalCoro
from discoro.scheduler import Mark
from discoro.scheduler.outcome import Failed, Outcome
from discoro.shipping.values import decode_exception, encode_exception, loads, loads_each
from discoro.transport.errors import ProtocolError
from discoro.transport.frames import KINDS, Kind
from discoro.transport.lanes import OVERHEAD, InLane

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.transport.session import Session

log = logging.getLogger("discoro.inbound")
Payloads = Sequence[bytes | memoryview]
Handler = Callable[["Session", int, int, Payloads], None]

# Seconds between two notices of messages that could not be decoded.
_TELL_AGAIN = 1.0

# OUTCOME entries name these in their source field.
OUTCOME_CODES = {1: FAILED, 2: TERMINATED, 3: REFUSED}


def _unused(session: Session, target: int, source: int, payloads: Payloads) -> None:
    """Kind 0 does not exist; the session lets no such entry through."""


@cache
def _no_such_coro() -> bytes:
    """The error of every message for a coroutine that has ended: made once, they may be many."""
    return encode_exception(NoSuchCoro())


def _put_each(put: Callable[[Any], None], messages: list[Any]) -> None:
    """Hand over messages one by one: to a channel."""
    for message in messages:
        put(message)


class Taking:
    """One receiver here and what it has been granted to one peer.

    Attributes:
        lane: The grant.
        put: Hands one message, or mark, to the receiver.
        put_all: The same for a list of messages.
        names: The code space in which its messages are decoded; None: the program's own.
    """

    __slots__ = ("lane", "names", "put", "put_all")

    def __init__(self, lane: InLane, receiver: Any, names: Any) -> None:
        self.lane = lane
        self.put: Callable[[Any], None] = receiver.put
        is_coro = isinstance(receiver, LocalCoro)
        self.put_all: Callable[[list[Any]], None] = (
            receiver.put_all if is_coro else partial(_put_each, receiver.put)
        )
        self.names = names


class GrantMark(Mark):
    """Stands in a mailbox behind messages of one lane: when it is reached they have been taken."""

    __slots__ = ("peer", "size", "target")

    def __init__(self, peer: Peer, target: int, size: int) -> None:
        self.peer = peer
        self.target = target
        self.size = size

    def taken(self) -> None:
        """The receiver took them: let the peer send as many again."""
        taking = self.peer.taking.get(self.target)
        if taking is not None and self.peer.ended is None:
            self.peer.post(Kind.GRANT, self.target, taking.lane.taken(self.size), b"")


class Inbound:
    """The handlers of one process, by kind."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._by_number = network.scheduler.by_number
        # Peers that hold a lane to a receiver here, by its number: they are told when it ends.
        self._holders: dict[int, set[Peer]] = {}
        # What new lanes have at present; all peers have been told, or told something near it.
        self._first_grant = network.limits.first_grant
        # What is handed on now was held back, and its grant used up when it came.
        self._prepaid = False
        # When the next message that cannot be decoded is told to its sender.
        self._tell_again: dict[Peer, float] = {}
        network.requests.on(Undecodable, self._lost_there)
        table: dict[int, Handler] = {
            Kind.SEND: self.on_send,
            Kind.DELIVER: self.on_deliver,
            Kind.RECEIPT: self.on_receipt,
            Kind.RUN: self.on_run,
            Kind.RESULT: self.on_result,
            Kind.OUTCOME: self.on_outcome,
            Kind.STARTED: self.on_started,
            Kind.GRANT: self.on_grant,
            Kind.GONE: self.on_gone,
            Kind.TERMINATE: self.on_terminate,
            Kind.WAKE: self.on_wake,
            Kind.THROW: self.on_throw,
            Kind.MONITOR: self.on_monitor,
            Kind.DOWN: self.on_down,
            Kind.DEMONITOR: self.on_demonitor,
            Kind.REQUEST: self.on_request,
            Kind.REPLY: self.on_reply,
            Kind.CANCEL: self.on_cancel,
            Kind.NOTICE: self.on_notice,
            Kind.BIG: network.big.on_big,
        }
        self.handlers: list[Handler] = [table.get(kind, _unused) for kind in range(KINDS)]

    # --- messages

    def on_send(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Messages for one receiver."""
        peer: Peer = session.user
        taking = peer.taking.get(target) or self.taking(peer, target)
        if taking is None:
            return
        if peer.held and self._hold(peer, Kind.SEND, taking, target, source, payloads):
            return
        if taking.lane.left <= 0 and not self._prepaid:
            raise ProtocolError(f"messages for coroutine {target:x} without a grant")
        count = len(payloads)
        if count == 1:
            data = payloads[0]
            size = len(data) + OVERHEAD
            try:
                taking.put(loads(data, taking.names))
            except Exception as error:
                self.lost(peer, target, error)
        else:
            size = sum(map(len, payloads)) + count * OVERHEAD
            failed = partial(self.lost, peer, target)
            taking.put_all(loads_each(payloads, taking.names, failed))
        self.owe(peer, target, taking, size)

    def on_deliver(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Messages with a receipt each: number of the receipt in eight bytes, then the value."""
        peer: Peer = session.user
        if peer.held:
            waiting = self.taking(peer, target)
            if waiting and self._hold(peer, Kind.DELIVER, waiting, target, source, payloads):
                return
        for data in payloads:
            receipt = int.from_bytes(data[:8], "big")
            taking = self.taking(peer, target)
            if taking is None:
                self.receipt(peer, receipt, NoSuchCoro())
                continue
            if taking.lane.left <= 0 and not self._prepaid:
                raise ProtocolError(f"a message for coroutine {target:x} without a grant")
            try:
                message = loads(memoryview(data)[8:], taking.names)
            except Exception as error:
                self.receipt(peer, receipt, self.undecodable(peer, target, error))
            else:
                taking.put(message)
                self.receipt(peer, receipt, None)
            self.owe(peer, target, taking, len(data) + OVERHEAD)

    def owe(self, peer: Peer, target: int, taking: Taking, size: int) -> None:
        """So many bytes went into a mailbox; once in a while a mark follows them."""
        due = taking.lane.put(size) if self._prepaid else taking.lane.came(size)
        if due:
            taking.put(GrantMark(peer, target, due))

    def receipt(self, peer: Peer, receipt: int, error: Exception | None) -> None:
        """Tell a sender that its message is in the mailbox, or why not."""
        if error is None:
            peer.post(Kind.RECEIPT, receipt, 0, b"")
        elif type(error) is NoSuchCoro:
            peer.post(Kind.RECEIPT, receipt, 1, _no_such_coro())
        else:
            peer.post(Kind.RECEIPT, receipt, 1, encode_exception(error))

    def lost(self, peer: Peer, target: int, error: Exception) -> None:
        """A message of ``send`` could not be decoded: its sender, who waits for no answer, hears of it once in a while."""
        self.undecodable(peer, target, error)
        now = self._network.loop.time()
        if now >= self._tell_again.get(peer, 0.0):
            self._tell_again[peer] = now + _TELL_AGAIN
            notice = Undecodable(target, str(error)[:500])
            peer.post(Kind.NOTICE, 0, 0, notice.encode())

    def _lost_there(self, peer: Peer, message: Undecodable) -> Message:
        log.warning(
            "%s could not decode a message for coroutine %x, and dropped it: %s",
            peer.name,
            message.number,
            message.reason,
        )
        return message

    def undecodable(self, peer: Peer, target: int, error: Exception) -> Exception:
        """Note that a message could not be decoded; gives the error for its sender."""
        refused = MessageRefused(
            f"a message for coroutine {target:x} could not be decoded and was not queued: {error}"
        )
        log.warning("%s (from %s)", refused, peer.name)
        return refused

    def taking(self, peer: Peer, target: int) -> Taking | None:
        """The lane from a peer to a receiver here; None, and the peer is told, when nobody is there."""
        found = peer.taking.get(target)
        if found is not None:
            return found
        receiver = self._by_number.get(target)
        if receiver is None:
            peer.post(Kind.GONE, target, 0, b"")
            return None
        network = self._network
        taking = peer.taking[target] = Taking(
            InLane(network.limits, network.budget, peer.announced),
            receiver,
            names_for(receiver),
        )
        self._announce()
        holders = self._holders.get(target)
        if holders is None:
            self._holders[target] = {peer}
            if isinstance(receiver, LocalCoro):
                receiver.watch("lanes", self._receiver_ended)
        else:
            holders.add(peer)
        return taking

    def _announce(self) -> None:
        """Let everybody know when new lanes have less than they did, or more again: the budget is one for all."""
        grant = self._network.budget.first_grant()
        if grant != self._first_grant:
            self._first_grant = grant
            for peer in self._network.live_peers():
                peer.announce(grant)

    def _receiver_ended(self, receiver: Any, outcome: Outcome) -> None:
        number = receiver.number
        for peer in self._holders.pop(number, ()):
            taking = peer.taking.pop(number, None)
            if taking is not None:
                taking.lane.close()
                peer.post(Kind.GONE, number, 0, b"")
                self._announce()

    def peer_lost(self, peer: Peer) -> None:
        """Give back what the lanes of a peer were granted."""
        self._tell_again.pop(peer, None)
        for observed, watcher in peer.watchers:
            coro = self._coro(observed)
            if coro is not None:
                coro.unwatch((peer, watcher))
        peer.watchers.clear()
        for target, taking in peer.taking.items():
            taking.lane.close()
            holders = self._holders.get(target)
            if holders is not None:
                holders.discard(peer)
        peer.taking.clear()

    def _hold(
        self,
        peer: Peer,
        kind: int,
        taking: Taking | None,
        target: int,
        source: int,
        payloads: Payloads,
    ) -> bool:
        """Keep entries back that must come after a big message still on its way; the grant is used up at once."""
        held = peer.held.get((target, source))
        if held is None:
            return False
        if taking is not None:
            taking.lane.arrived(sum(len(data) + OVERHEAD for data in payloads))
        held.append((kind, target, source, [bytes(data) for data in payloads]))
        return True

    def let_go(
        self, peer: Peer, kind: int, target: int, source: int, payloads: list[bytes]
    ) -> None:
        """Go on with entries that were held back: their grant was used up when they came."""
        assert peer.session is not None
        self._prepaid = True
        try:
            self.handlers[kind](peer.session, target, source, payloads)
        finally:
            self._prepaid = False

    def put_big(self, peer: Peer, target: int, taking: Taking, size: int) -> None:
        """A big message is in the mailbox, or will never be; its grant was used up when it was announced."""
        due = taking.lane.put(size)
        if due:
            taking.put(GrantMark(peer, target, due))

    # --- the life of coroutines

    def on_run(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Starts: the handle with its detach bit, the first run number, arguments each."""
        peer: Peer = session.user
        server = self._network.server
        if server is not None:
            server.runs.run(peer, target >> 1, bool(target & 1), source, payloads)
            return
        for number in range(source, source + len(payloads)):
            self.refuse_run(peer, number)

    def refuse_run(self, peer: Peer, number: int) -> None:
        """Nobody here hosts computations."""
        error = ComputationClosed("this process hosts no computations: it runs no discoro_server")
        peer.post(Kind.OUTCOME, number, 3, encode_exception(error))

    def on_result(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Runs that returned: their values."""
        peer: Peer = session.user
        for number, data in enumerate(payloads, target):
            run = peer.runs.pop(number, None)
            if run is None:
                continue
            try:
                run.returned(loads(data))
            except Exception as error:
                refused = MessageRefused(f"the result of {run.name} could not be decoded: {error}")
                run.settle(failed(refused))

    def on_outcome(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Runs that ended otherwise."""
        peer: Peer = session.user
        for number, data in enumerate(payloads, target):
            outcome = decode_outcome(OUTCOME_CODES.get(source, FAILED), data)
            run = peer.runs.get(number)
            if run is not None and source == 3 and isinstance(outcome, Failed):
                run.refused = outcome.exception
            peer.run_ended(number, outcome)

    def on_started(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Runs that go on beyond the turn in which they started."""
        peer: Peer = session.user
        for number in range(target, target + max(1, min(source, len(peer.runs)))):
            run = peer.runs.get(number)
            if run is not None:
                run.changed()

    def on_grant(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A receiver has taken so many bytes more."""
        session.user.granted(target, source)

    def on_gone(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A receiver has ended."""
        session.user.gone(target)

    def on_receipt(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A delivered message was taken, or not."""
        error = decode_exception(payloads[0]) if source else None
        session.user.receipt_came(target, error)

    def _coro(self, number: int) -> LocalCoro[Any] | None:
        found = self._by_number.get(number)
        return found if isinstance(found, LocalCoro) else None

    def on_terminate(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """Cancel a coroutine here, also one whose arguments are still on their way."""
        coro = self._coro(target)
        if coro is not None:
            coro.terminate()
        else:
            self._network.big.cancel_run(session.user, target)

    def on_wake(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """``resume`` of a coroutine here."""
        coro = self._coro(target)
        if coro is not None:
            try:
                coro.resume(loads(payloads[0]))
            except Exception as error:
                self.undecodable(session.user, target, error)

    def on_throw(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """``throw`` into a coroutine here."""
        coro = self._coro(target)
        if coro is not None:
            coro.throw(decode_exception(payloads[0]))

    # --- monitors

    def on_monitor(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A coroutine there wants to know when one here ends."""
        self.watch(session.user, target, source)

    def watch(self, peer: Peer, observed: int, watcher: int) -> None:
        """Tell ``watcher`` at ``peer`` when ``observed``, here, ends: once, also when it has ended."""
        coro = self._coro(observed)
        if coro is not None:
            if len(peer.watchers) >= self._network.limits.max_monitors:
                log.warning("%s has too many monitors here: one more was refused", peer.name)
                peer.no_such(watcher, observed)
                return
            peer.watchers.add((observed, watcher))
            coro.watch((peer, watcher), partial(self._observed_ended, peer, watcher))
            return
        outcome = self._network.ended(observed)
        if outcome is None:
            peer.no_such(watcher, observed)
        else:
            peer.send_down(watcher, observed, *encode_outcome(outcome))

    def _observed_ended(self, peer: Peer, watcher: int, coro: Any, outcome: Outcome) -> None:
        peer.watchers.discard((coro.number, watcher))
        if peer.ended is None:
            peer.send_down(watcher, coro.number, *encode_outcome(outcome))

    def on_demonitor(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A coroutine there does not want to know any more."""
        coro = self._coro(target)
        session.user.watchers.discard((target, source))
        if coro is not None:
            coro.unwatch((session.user, source))

    def on_down(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """What a coroutine here monitors has ended."""
        peer: Peer = session.user
        if peer.held and self._hold(peer, Kind.DOWN, None, target, source, payloads):
            return
        for data in payloads:
            if not data:
                raise ProtocolError("the end of a coroutine without its outcome")
            peer.down_came(target, source, data[0], memoryview(data)[1:])

    # --- questions and answers

    def on_request(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A question."""
        self._network.requests.request_came(session.user, source, payloads[0])

    def on_reply(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """The answer to one of ours."""
        self._network.requests.reply_came(session.user, target, source, payloads[0])

    def on_cancel(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A question that was taken back."""
        self._network.requests.cancel_came(session.user, target)

    def on_notice(self, session: Session, target: int, source: int, payloads: Payloads) -> None:
        """A message that wants no answer."""
        self._network.requests.notice_came(session.user, payloads[0])

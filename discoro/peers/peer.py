"""What this process has with one other process, over one session: lanes, receipts, answers, runs, monitors.

A Peer is made when its process is first wanted and may wait for its session; it ends with the session, and a new one
takes its place at the next call. Sending goes through here; what comes in, comes through :mod:`discoro.peers.inbound`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from discoro.errors import MailboxFull, NoSuchCoro, PeerLost, ProtocolViolation, RunRefused
from discoro.messages import Done, Ended, Finish, Watch
from discoro.outcomes import NO_SUCH, decode_outcome, failed
from discoro.scheduler import MonitorException
from discoro.shipping.values import dumps, encode_exception
from discoro.transport.errors import FrameTooBig, LaneFull, SessionLost, TransferFailed
from discoro.transport.frames import Kind
from discoro.transport.lanes import OVERHEAD, OutLane

if TYPE_CHECKING:
    from discoro.coro import Coro
    from discoro.errors import DiscoroError
    from discoro.messages import Message
    from discoro.peers.inbound import Inbound, Taking
    from discoro.peers.network import Network
    from discoro.remotecoro import RemoteCoro
    from discoro.scheduler.outcome import Outcome
    from discoro.transport.session import Session

log = logging.getLogger("discoro.peers")

# A plain number: a member of an enum costs several times as much, and this one goes out with every message.
_SEND, _RUN = int(Kind.SEND), int(Kind.RUN)
# So many numbers each side of a session may choose for coroutines it starts at the other.
RUN_NUMBERS = 1 << 40


class Peer:
    """One other process.

    Attributes:
        session: The session, None until it is open.
        ended: Why there is no session any more, None before.
        runs: Coroutines started there from here that have not ended, by number.
        watched: (observed number, watcher number) -> the watcher here and what it observes there.
        taking: What each receiver here has from there, by its number.
        thread: Identity of the thread of the scheduler's loop, in which alone it is used.
        lanes: The grants of receivers there, by their number; who has one has a session.
        max_payload: The longest message that goes into a batch.
        wants: Whether a value is big, at a glance.
        scheduler: The scheduler of the network.
        send: Queues an entry that surely fits into a batch, while the session stands; :meth:`post` does all others.
    """

    def __init__(self, network: Network, process: bytes, hint: tuple[str, int] | None) -> None:
        self.network = network
        self.thread = network.thread
        self.process = process
        self.hint = hint
        self.name = ""
        self.session: Session | None = None
        self.ended: DiscoroError | None = None
        self.opened: asyncio.Future[Session] = network.loop.create_future()
        self.replies: dict[int, asyncio.Future[Message]] = {}
        self.runs: dict[int, RemoteCoro[Any]] = {}
        self.watched: dict[tuple[int, int], tuple[Any, Coro[Any]]] = {}
        self.taking: dict[int, Taking] = {}
        # (receiver here, sender there) -> entries that must come after a big message on its way.
        self.held: dict[tuple[int, int], deque[Any]] = {}
        # (observed here, watcher there): whom we owe a word at the end.
        self.watchers: set[tuple[int, int]] = set()
        # What the other side was told that each new lane to us has, in bytes.
        self.announced = 0
        # The numbers above this one are the other side's for coroutines it starts here.
        self.first_run = 0
        self._receipts: dict[int, asyncio.Future[None]] = {}
        self.lanes: dict[int, OutLane] = {}
        # Entries, and what makes some, that wait for the session.
        self._early: list[tuple[int, int, int, bytes] | Callable[[], object]] = []
        self._early_bytes = 0
        self._count = 0
        self._last_run = 0
        # Looked up once, for RemoteReceiver.send().
        self.max_payload = network.limits.max_payload
        self.wants = network.big.wants
        self.scheduler = network.scheduler
        self.send: Callable[[int, int, int, bytes], None] = self.post

    def __repr__(self) -> str:
        if self.ended is not None:
            state = f"lost: {self.ended}"
        else:
            state = "opening" if self.session is None else "open"
        return f"<Peer {self.name or self.process.hex()[:8]} {state}>"

    # --- life

    def open(self, session: Session) -> None:
        """The session is there: send what has waited for it."""
        self.session = session
        self.send = session.send
        self.announced = session.ours.first_grant
        self.first_run = session.ours.run_base
        self.name = session.peer.name
        self._last_run = session.peer.run_base
        early, self._early = self._early, []
        for entry in early:
            if isinstance(entry, tuple):
                self.post(*entry)
                continue
            try:
                entry()
            except MailboxFull as error:
                log.warning("a message that waited for a session was dropped: %s", error)
        if not self.opened.done():
            self.opened.set_result(session)

    def lost(self, error: DiscoroError) -> None:
        """The session is over, or never came: tell everybody who waits for something, once."""
        if self.ended is not None:
            return
        self.ended = error
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # whoever waits gets it; nobody has to
        waiting: list[asyncio.Future[Any]] = [*self.replies.values(), *self._receipts.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        runs, self.runs = self.runs, {}
        for run in runs.values():
            run.settle(failed(error))
        watched, self.watched = self.watched, {}
        for watcher, observed in watched.values():
            watcher.put(MonitorException(observed, (type(error), error)))
        self.lanes.clear()
        self._early.clear()

    def unsent(self) -> int:
        """How many messages of ``send`` wait here, for the session or for a grant."""
        early = sum(not isinstance(one, tuple) or one[0] == Kind.SEND for one in self._early)
        waiting = (entry[0] for lane in self.lanes.values() for entry, _ in lane.waiting)
        return early + sum(kind in (Kind.SEND, Kind.BIG) for kind in waiting)

    def check(self) -> None:
        """Raise what ended this peer, if it has ended."""
        if self.ended is not None:
            raise self.ended

    def next_number(self) -> int:
        """A fresh number for a request or a receipt."""
        self._count += 1
        return self._count

    def post(self, kind: int, target: int, source: int, payload: bytes) -> None:
        """Queue one entry; before the session is open it waits here. After the end it is dropped."""
        if self.ended is not None:
            return
        if self.session is None:
            self._early.append((kind, target, source, payload))
            return
        try:
            self.session.send(kind, target, source, payload)
        except FrameTooBig:
            self.network.big.post_whole(self, kind, target, source, payload)
        except SessionLost:
            pass  # it has just ended, and we hear of that next

    def flush(self) -> None:
        """Write what was queued now, not at the end of this turn."""
        if self.session is not None:
            self.session.flush()

    def when_open(self, act: Callable[[], object]) -> None:
        """Call ``act`` once the session, which is not open yet, is: in its turn among what was posted."""
        assert self.session is None
        if self.ended is None:
            self._early.append(act)

    def announce(self, grant: int) -> None:
        """Tell the other side what new lanes have from now on, where that has changed by half."""
        if self.session is None or self.ended is not None:
            return
        if grant * 2 <= self.announced or grant * 2 >= self.announced * 3:
            self.announced = grant
            self.post(Kind.GRANT, 0, grant, b"")

    @property
    def bulk(self) -> Any:
        """The bulk transfers of the session, which must be open."""
        self.check()
        assert self.session is not None
        return self.session.bulk

    def refuse_transfer(self, number: int, size: int, why: str) -> None:
        """Do not take a transfer that the other side has announced; none of its bytes will come."""

        def refuse() -> bytearray:
            raise TransferFailed(number, why)

        self.expect_transfer(number, size, refuse)

    def expect_transfer(self, number: int, size: int, into: Any) -> asyncio.Future[Any]:
        """Consent to a transfer that the other side has announced; see :meth:`~discoro.transport.bulk.Bulk.expect`.

        Raises:
            ProtocolViolation: If it has announced the same one before.
        """
        try:
            coming: asyncio.Future[Any] = self.bulk.expect(number, size, into)
        except ValueError as error:
            raise ProtocolViolation(str(error)) from error
        return coming

    @property
    def inbound(self) -> Inbound:
        """The handlers of what comes in."""
        return self.network.inbound

    # --- messages

    def send_value(self, target: int, message: Any, code: str | None = None) -> None:
        """Queue a message for the receiver ``target``, which runs the code of bundle ``code``.

        Raises:
            MailboxFull: If too much waits for it already.
        """
        if self.wants(message):
            self.network.big.send(self, target, message)
        else:
            self.send_bytes(target, dumps(message, "the message", code))

    def send_bytes(self, target: int, data: bytes) -> None:
        """Queue a message that was made into bytes already."""
        size = len(data)
        if size > self.max_payload:
            self.network.big.send_pickled(self, target, data)
            return
        entry = (_SEND, target, self.network.sender_number(), data)
        self.queue(entry, size + OVERHEAD, limited=True)

    async def deliver_value(
        self, target: int, message: Any, timeout: float | None, code: str | None = None
    ) -> int:
        """Put a message into the mailbox of ``target``; 1, or 0 when it is not known to be there in time."""
        self.check()
        if self.wants(message):
            return await self.network.big.deliver(self, target, message, timeout)
        data = dumps(message, "the message", code)
        if len(data) > self.network.limits.max_payload - 8:
            return await self.network.big.deliver_pickled(self, target, data, timeout)
        receipt, future = self.expect_receipt()
        payload = receipt.to_bytes(8, "big") + data
        entry = (Kind.DELIVER, target, self.network.sender_number(), payload)
        self.queue(entry, len(payload) + OVERHEAD, limited=False)
        return await self.receipt_within(
            receipt, future, timeout, lambda: self.withdraw(target, entry)
        )

    def withdraw(self, target: int, entry: tuple[int, int, int, bytes]) -> None:
        """Take a message back that has not left; what stood behind it may go now."""
        self._early = [
            early
            for early in self._early
            if not isinstance(early, partial) or early.args[0] is not entry
        ]
        lane = self.lanes.get(target)
        if lane is not None and lane.withdraw(entry):
            for other in lane.ready():
                self.post(*other)

    def expect_receipt(self) -> tuple[int, asyncio.Future[None]]:
        """A fresh receipt number and the future that its receipt settles."""
        receipt = self.next_number()
        future: asyncio.Future[None] = self.network.loop.create_future()
        self._receipts[receipt] = future
        return receipt, future

    async def receipt_within(
        self, receipt: int, future: asyncio.Future[None], timeout: float | None, withdraw: Any
    ) -> int:
        """Wait for a receipt; at a timeout or a cancel take back what has not left."""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await future
            return 1
        except TimeoutError:
            if not limit.expired():
                raise
            withdraw()
            return 0
        except asyncio.CancelledError:
            withdraw()
            raise
        finally:
            self._receipts.pop(receipt, None)

    def receipt_came(self, receipt: int, error: BaseException | None) -> None:
        """The receiver took a delivered message, or could not."""
        future = self._receipts.get(receipt)
        if future is not None and not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def lane(self, target: int) -> OutLane:
        """The lane to one receiver."""
        lane = self.lanes.get(target)
        if lane is None:
            assert self.session is not None
            grant = self.session.first_grant
            lane = self.lanes[target] = OutLane(self.network.limits, grant)
        return lane

    def queue(self, entry: tuple[int, int, int, bytes], size: int, *, limited: bool) -> None:
        """Queue an entry that needs a grant of ``size`` bytes; with ``limited`` there may be no room for it.

        Raises:
            MailboxFull: If too much waits for its receiver already.
        """
        if self.session is None:
            self._queue_early(entry, size, limited)
            return
        lane = self.lane(entry[1])
        if lane.take(size):
            self.post(*entry)
            return
        if not limited:
            lane.wait(entry, size)
            return
        try:
            lane.queue(entry, size)
        except LaneFull as full:
            raise self._full(entry[1], full.limit) from None

    def _queue_early(self, entry: tuple[int, int, int, bytes], size: int, limited: bool) -> None:
        limit = self.network.limits.lane_queue
        if limited and self._early_bytes >= limit:
            raise self._full(entry[1], limit)
        self._early_bytes += size
        self.when_open(partial(self.queue, entry, size, limited=False))

    def _full(self, target: int, limit: int) -> MailboxFull:
        who = f"coroutine {target:x} of {self.name or 'the peer'}"
        return MailboxFull(who, limit, "bytes")

    def granted(self, target: int, grant: int) -> None:
        """The receiver has taken so many bytes more: send what has waited for that. 0 stands for all new ones."""
        if not target and self.session is not None:
            self.session.first_grant = min(grant, self.network.limits.first_grant)
            return
        lane = self.lanes.get(target)
        if lane is not None:
            for entry in lane.grant(grant):
                self.post(*entry)

    def gone(self, target: int) -> None:
        """The receiver has ended: what waits for it is dropped, and waiting deliveries are told."""
        lane = self.lanes.pop(target, None)
        if lane is None:
            return
        dropped = 0
        for kind, _, _, payload in lane.drain():
            if kind == Kind.DELIVER:
                receipt = int.from_bytes(payload[:8], "big")
                self.receipt_came(receipt, NoSuchCoro())
            elif kind == Kind.BIG:
                dropped += self.network.big.drop_waiting(self, payload)
            elif kind != Kind.DOWN:
                dropped += 1
        if dropped:
            log.debug(
                "dropped %d messages for a coroutine of %s that has ended", dropped, self.name
            )

    # --- coroutines there

    def start(self, target: int, arguments: bytes, run: RemoteCoro[Any]) -> None:
        """Start a coroutine there under the number that ``run`` has; the session must be open."""
        self.runs[run.number] = run
        if len(arguments) <= self.max_payload:
            self.send(_RUN, target, run.number, arguments)
        else:
            self.post(_RUN, target, run.number, arguments)

    def next_run(self) -> int:
        """The number for the next coroutine started there; the session must be open."""
        self._last_run += 1
        return self._last_run

    def check_run(self, number: int) -> None:
        """See that the other side may start a coroutine here under a number of its choice.

        Raises:
            RunRefused: If the number is not of its range, or taken: it may be that of somebody else's coroutine.
        """
        if not self.first_run < number < self.first_run + RUN_NUMBERS or (
            number in self.scheduler.by_number
        ):
            raise RunRefused(f"number {number:x} is not free for a coroutine of this session")

    def terminate(self, number: int) -> None:
        """Cancel a coroutine there."""
        self.post(Kind.TERMINATE, number, 0, b"")

    def throw(self, number: int, error: BaseException) -> None:
        """Raise an exception in a coroutine there."""
        self.post(Kind.THROW, number, 0, encode_exception(error))

    def wake(self, number: int, update: Any) -> None:
        """Wake a suspended coroutine there."""
        self.post(Kind.WAKE, number, 0, dumps(update))

    def run_ended(self, number: int, outcome: Outcome) -> None:
        """A coroutine started from here has ended."""
        run = self.runs.pop(number, None)
        if run is not None:
            run.settle(outcome)

    async def outcome_of(self, number: int) -> Outcome:
        """How a coroutine there that somebody else started ends."""
        ended = await self.network.requests.ask(self, Finish(number))
        assert isinstance(ended, Ended)
        return decode_outcome(ended.code, ended.payload)

    # --- monitors

    def monitor(self, watcher: Any, observed: RemoteCoro[Any]) -> None:
        """Let a coroutine here get one message when ``observed``, there, ends."""
        observed.heard = True
        key = (observed.number, watcher.number)
        self.watched[key] = (watcher, observed)
        self.post(Kind.MONITOR, *key, b"")

    def demonitor(self, watcher: Any, observed: RemoteCoro[Any]) -> None:
        """Take :meth:`monitor` back; a message that is on its way is dropped."""
        key = (observed.number, watcher.number)
        if self.watched.pop(key, None) is not None:
            self.post(Kind.DEMONITOR, *key, b"")

    def down_came(
        self, watcher: int, observed: int, code: int, payload: bytes | memoryview
    ) -> None:
        """What a coroutine here monitors has ended."""
        found = self.watched.pop((observed, watcher), None)
        if found is not None:
            outcome = decode_outcome(code, payload)
            found[0].put(MonitorException(found[1], outcome.to_info()))

    def send_down(self, watcher: int, observed: int, code: int, payload: bytes) -> None:
        """Tell a watcher there; behind everything that waits for it, and without a grant."""
        entry = (Kind.DOWN, watcher, observed, bytes([code]) + payload)
        lane = self.lanes.get(watcher)
        if lane is not None and lane.waiting:
            lane.wait(entry, 0)
        else:
            self.post(*entry)

    def no_such(self, watcher: int, observed: int) -> None:
        """Tell a watcher there that nothing is known under that number."""
        self.send_down(watcher, observed, NO_SUCH, b"")

    async def watch_for(self, number: int, observed: Coro[Any]) -> int:
        """Let coroutine ``number`` there monitor ``observed``, wherever that is."""
        done = await self.network.requests.ask(self, Watch(number, dumps(observed)))
        assert isinstance(done, Done)
        return 0

    def wait_open(self) -> Awaitable[Session]:
        """Wait for the session; raises why there will be none."""
        return asyncio.shield(self.opened)


def lost_error(reason: str) -> PeerLost:
    """The end of a session that this process closed itself."""
    return PeerLost(reason)

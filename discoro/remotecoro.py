"""A reference to a coroutine of another process, and what can be awaited of it: its start, its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Generator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from discoro.coro import Coro
from discoro.errors import NoSuchCoro, PeerLost, PeerUnreachable, ServerKilled
from discoro.messages import Adjust
from discoro.outcomes import raisable
from discoro.receiver import RemoteReceiver
from discoro.scheduler.checks import check_name, check_timeout
from discoro.scheduler.outcome import Failed, Returned, exception_of
from discoro.scheduler.waits import Wait, Waitable, stepping
from discoro.transport.frames import Kind
from discoro.within import within

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.scheduler.outcome import Outcome


T = TypeVar("T")

_FORGOTTEN = "what computation.run() gives is awaited first (`remote = await computation.run(...)`, or yield); it"


class RemoteCoro(RemoteReceiver, Coro[T], Waitable):
    """A reference to a coroutine of another process (or to one that has ended).

    Attributes:
        outcome: How it ended, once that is known here.
        refused: Why it never started, where it did not.
        started: Whether there was word from its server: it runs, or has ended.
        heard: Somebody here has been told how it ended, or will be.
    """

    __module__ = "discoro"
    __slots__ = ("_lost", "_waiting", "heard", "outcome", "refused", "started")

    def __init__(
        self,
        network: Network | None,
        process: bytes,
        number: int,
        name: str = "",
        hint: tuple[str, int] | None = None,
    ) -> None:
        # What Reference.__init__ does, without a call: there is one for each run.
        self._network = network
        self._peer = None
        self.process = process
        self.number = number
        self.name = name
        self.hint = hint
        self.code = None
        self.outcome: Outcome | None = None
        self.refused: BaseException | None = None
        self.started = False
        self.heard = False
        # What ended the session through which it was started.
        self._lost: PeerLost | None = None
        # Those who wait for its start or its end.
        self._waiting: list[Word] | None = None

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self.outcome is None else f"{text[:-1]}, {self.outcome!r}>"

    async def deliver(self, msg: Any, timeout: float | None = None) -> int:
        """See :meth:`Coro.deliver`."""
        self.network.check_thread("deliver")
        check_timeout(timeout)
        try:
            return await self.peer().deliver_value(self.number, msg, timeout, self.code)
        except NoSuchCoro:
            raise NoSuchCoro(f"{self.name} at {self.location}") from None

    async def finish(self, timeout: float | None = None) -> T:
        """See :meth:`Coro.finish`."""
        self.network.check_thread("finish")
        if timeout is None:
            return await self
        async with within(
            timeout,
            lambda: f"{self.name} at {self.location} has not ended after {timeout} s; it goes on",
        ):
            return await self

    def __await__(self) -> Generator[Any, Any, T]:
        network = self._network or self.network
        if get_ident() != network.scheduler.thread_id:
            network.check_thread("await of a reference")
        outcome = self.outcome
        if type(outcome) is Returned:
            self.heard = True
            return outcome.value  # type: ignore[no-any-return]
        self._try_again()
        self.heard = True
        if self.outcome is None:
            if stepping(network.scheduler) is not None and self._is_ours():
                return (yield End(self))  # type: ignore[no-any-return]
            yield from self._ended().__await__()
        assert self.outcome is not None
        return cast(T, self.outcome.result())

    def _is_ours(self) -> bool:
        """Whether its end is told without a question: it was started from here, over a session that stands."""
        return self.peer().runs.get(self.number) is self

    async def _ended(self) -> None:
        if self._is_ours():
            while self.outcome is None:
                await Word(self)
        else:
            try:
                self.outcome = raisable(await self.peer().outcome_of(self.number))
            except PeerUnreachable as error:
                if self._lost is None:
                    raise
                raise self._lost from error  # nothing new: what was known of it still holds

    def value(self, timeout: float | None = None) -> T:
        """See :meth:`Coro.value`."""
        if self.network.in_thread():
            if self.outcome is not None:
                return cast(T, self.outcome.result())
            self.network.scheduler.refuse_blocking("value")
        waiting = asyncio.run_coroutine_threadsafe(self.finish(), self.network.loop)
        try:
            return waiting.result(timeout)
        except concurrent.futures.TimeoutError:
            if waiting.done():
                raise
            waiting.cancel()
            raise TimeoutError(f"{self} has not ended within {timeout} s; it goes on") from None

    def terminate(self) -> int:
        """See :meth:`Coro.terminate`."""
        self.network.call(self._terminate)
        return 0

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> int:
        """See :meth:`Coro.throw`."""
        self.network.check_thread("throw")
        self.peer().throw(self.number, exception_of(error, value, traceback))
        return 0

    def resume(self, update: Any = None) -> int:
        """See :meth:`Coro.resume`."""
        self.network.call(self._wake, update)
        return 0

    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known here."""
        return self.outcome is None and (self._peer is None or self._peer.ended is None)

    async def monitor(self, observed: Coro[Any]) -> int:
        """See :meth:`Coro.monitor`: asks its process to watch ``observed`` for it."""
        self.network.check_thread("monitor")
        return await self.peer().watch_for(self.number, observed)

    def register(self, name: str | None = None) -> int:
        """See :meth:`Coro.register`."""
        if name is not None:
            check_name(name)
        return self._adjust("register", name=name)

    def unregister(self, name: str | None = None) -> int:
        """See :meth:`Coro.unregister`."""
        if name is not None:
            check_name(name)
        return self._adjust("unregister", name=name)

    def set_daemon(self, flag: bool = True) -> int:
        """See :meth:`Coro.set_daemon`."""
        return self._adjust("set_daemon", flag=bool(flag))

    def hot_swappable(self, flag: bool) -> int:
        """See :meth:`Coro.hot_swappable`."""
        return self._adjust("hot_swappable", flag=bool(flag))

    def _adjust(self, call: str, *, name: str | None = None, flag: bool = False) -> int:
        self.network.check_thread(call)
        message = Adjust(self.number, call, name, flag)
        self.peer().post(Kind.NOTICE, 0, 0, message.encode())
        return 0

    def _terminate(self) -> None:
        self.peer().terminate(self.number)

    def _wake(self, update: Any) -> None:
        self.peer().wake(self.number, update)

    def waiting(self) -> Wait | None:
        """What a scheduler waits with for its end, where no question has to be asked for that."""
        self._try_again()
        self.heard = True
        return End(self) if self.outcome is not None or self._is_ours() else None

    def _try_again(self) -> None:
        """Forget that the session was lost, once somebody has been told: the coroutine may live on (``detach=True``)."""
        outcome = self.outcome
        if self.heard and isinstance(outcome, Failed):
            lost = outcome.exception
            if isinstance(lost, PeerLost) and not isinstance(lost, ServerKilled):
                self._lost = lost
                self.outcome = None

    # --- called by the peer

    def returned(self, value: Any) -> None:
        """It has returned: the frequent case of :meth:`settle`."""
        if self.outcome is None:
            self.outcome = Returned(value)
        self.started = True
        if self._waiting is not None:
            self.changed()

    def settle(self, outcome: Outcome) -> None:
        """It has ended; wake everybody who waits for that. The first outcome stays."""
        if self.outcome is None:
            outcome = self.outcome = raisable(outcome)
            if not self.heard and isinstance(outcome, Failed):
                self.network.unheard.add(self)
        self.changed()

    def changed(self) -> None:
        """Something about it is known now; wake everybody who waits."""
        self.started = True
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            for word in waiting:
                word.came()


class Word(Wait):
    """Wait for word of a coroutine elsewhere: that it runs, or how it has ended."""

    __slots__ = ("_of", "_waiter")

    def __init__(self, of: RemoteCoro[Any]) -> None:
        self._of = of
        self._waiter: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if stepping(self._of.network.scheduler) is not None:
            return (yield self)
        return (yield from super().__await__())

    def start(self, waiter: Any) -> bool:
        """Wait, in the line of those who do."""
        self._waiter = waiter
        of = self._of
        if of._waiting is None:
            of._waiting = [self]
        else:
            of._waiting.append(self)
        return False

    def came(self) -> None:
        """Hear that there is word."""
        waiter = self._waiter
        if waiter._wait is self:
            waiter._wake()

    def drop(self) -> None:
        """Stop waiting."""
        waiting = self._of._waiting
        if waiting is not None and self in waiting:
            waiting.remove(self)


class End(Word):
    """Wait for the end of a coroutine that was started from here: ``yield remote``."""

    __slots__ = ()

    def start(self, waiter: Any) -> bool:
        """Give its result, or raise what it raised; or wait."""
        outcome = self._of.outcome
        if outcome is None:
            return super().start(waiter)
        waiter._value = outcome.result()
        return True

    def came(self) -> None:
        """Hear that there is word: that it has ended, or only that it runs."""
        outcome = self._of.outcome
        waiter = self._waiter
        if waiter._wait is not self:
            return
        if outcome is None:
            super().start(waiter)
            return
        try:
            value = outcome.result()
        except BaseException as error:  # whatever it was: it belongs to the coroutine that waits
            waiter._wake(error=error)
        else:
            waiter._wake(value)


class Start(Word, Generic[T]):
    """What ``Computation.run`` gives: await it for the reference to the coroutine that it has started.

    As good as the coroutine object of an ``async def``: tasks take it, too.
    """

    __slots__ = ("_peer", "_steps")

    def __init__(self, run: RemoteCoro[T], peer: Peer) -> None:
        self._of = run
        self._waiter = None
        self._peer = peer
        self._steps: Generator[Any, Any, Coro[T]] | None = None

    def __repr__(self) -> str:
        run = self._of
        return f"<the start of {run.name} at {run.location}: await or yield it>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{_FORGOTTEN} has no {name!r}")

    def __await__(self) -> Generator[Any, Any, Coro[T]]:
        run = self._of
        if run.started:
            return self._result()
        if stepping(run.network.scheduler) is not None:
            return cast("Coro[T]", (yield self))
        return cast("Coro[T]", (yield from Wait.__await__(self)))

    def start(self, waiter: Any) -> bool:
        """Give the reference where there was word from the server; or wait for that."""
        if not self._of.started:
            return super().start(waiter)
        waiter._value = self._result()
        return True

    def came(self) -> None:
        """Hear that it runs, or has ended, or never ran."""
        waiter = self._waiter
        if waiter._wait is not self:
            return
        try:
            run = self._result()
        except BaseException as error:  # whatever the server has said
            waiter._wake(error=error)
        else:
            waiter._wake(run)

    def _result(self) -> RemoteCoro[T]:
        run = self._of
        if run.refused is not None:
            run.heard = True
            raise run.refused
        if self._peer.ended is not None and isinstance(run.outcome, Failed):
            raise run.outcome.exception
        return run

    def drop(self) -> None:
        """Cancel the start: nobody would have the reference."""
        super().drop()
        run = self._of
        if not run.started:
            run.heard = True
            self._peer.terminate(run.number)

    # --- what a task asks of a coroutine object

    def send(self, value: Any) -> Any:
        """Go on."""
        if self._steps is None:
            if value is not None:
                raise TypeError(f"{_FORGOTTEN} takes no messages")
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the wait."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        """Give it up."""
        if self._steps is not None:
            self._steps.close()

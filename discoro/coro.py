"""Coroutines as users see them: ``Coro``, and its two kinds, here and elsewhere.

``Coro(func, *args)`` starts a coroutine in this process and gives a :class:`LocalCoro`; ``Computation.run``,
``Coro.locate`` and references in messages give a :class:`RemoteCoro`. Both have the same face, and both are
instances of ``Coro``. A reference is (process id, number): it can be sent to anybody, compares equal
everywhere, and arrives as the coroutine itself in the process where that lives.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from discoro import registry
from discoro import scheduler as _local
from discoro.errors import NotTheCoroutine, PeerLost, PeerUnreachable, ServerKilled
from discoro.messages import Adjust
from discoro.outcomes import raisable
from discoro.reference import Reference
from discoro.scheduler import default
from discoro.scheduler.checks import check_name, check_timeout
from discoro.scheduler.default import HERE
from discoro.scheduler.outcome import Failed, Returned, exception_of
from discoro.scheduler.waits import Wait, Waitable, stepping
from discoro.transport.addresses import Location
from discoro.transport.frames import Kind
from discoro.within import within

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.scheduler.outcome import Outcome

T = TypeVar("T")


class Coro(Generic[T]):
    """A coroutine, here or in another process; ``Coro(func, *args, **kwargs)`` starts one here.

    ``func`` is a generator function or a coroutine function. A parameter of it named ``coro`` that the call leaves
    unfilled gets the new Coro. May be called from any thread; in a plain script it starts a default scheduler.
    References, as ``Computation.run``, ``Coro.locate`` and messages bring them, have the same methods. They can be sent
    to anybody, are equal where they mean the same coroutine, and arrive as the coroutine itself where that lives.

    ``await coro``, or ``yield coro.finish()`` in a generator, gives its result or raises what it raised. asyncio's tools
    take it, too; ``asyncio.gather``, when cancelled, cancels a coroutine of this process and leaves one elsewhere alone.

    Raises:
        NotACoroutine: If ``func`` is something else; it is a TypeError.
        TypeError: If the arguments do not fit.
        SchedulerClosed: If the scheduler is closed.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__new__ is Coro.__new__:
            raise TypeError(
                f"{cls.__name__} cannot be derived from Coro, which is two classes behind one name: give it a function"
            )

    if TYPE_CHECKING:

        @overload
        def __init__(
            self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
        ) -> None: ...

        @overload
        def __init__(
            self, func: Callable[..., Generator[Any, Any, T]], *args: Any, **kwargs: Any
        ) -> None: ...

        def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None: ...

    @property
    def name(self) -> str:
        """Name of its function, or the one it was given."""
        raise NotImplementedError

    @property
    def number(self) -> int:
        """Its number, unique in its process."""
        raise NotImplementedError

    @property
    def location(self) -> Location:
        """Where the coroutine runs, as a :class:`Location`."""
        raise NotImplementedError

    def send(self, msg: Any) -> int:
        """Queue a message for it, without waiting; gives 0. From any thread, in order per thread.

        The coroutine gets a copy if it lives in another process, else the object itself. To a coroutine that has ended
        the message is dropped; what is not acknowledged when a session ends is logged. Who has to know uses
        :meth:`deliver`.

        Args:
            msg: Any value that can be pickled, coroutines and channels among them; in one process any object.

        Raises:
            MailboxFull: If too much waits for this receiver already (64 MiB on the way to another process, or
                ``max_mailbox`` messages in this one); nothing was queued.
            NotPicklable: If it cannot be sent to another process; the text has the way to the culprit.
            MessageTooBig: If it is longer than the limit of a message; nothing was sent.
        """
        raise NotImplementedError

    def deliver(self, msg: Any, timeout: float | None = None) -> Awaitable[int]:
        """Await: put a message into its mailbox; gives 1 once it is there, 0 when it is not known to be there in time.

        Unlike :meth:`send` it waits for room. A cancelled wait takes back what has not left this process; what has left it
        may still arrive, once.

        Args:
            msg: As for :meth:`send`.
            timeout: Seconds to wait; None: without end.

        Raises:
            NoSuchCoro: If the coroutine has ended; the message was dropped.
            PeerLost: If its process is gone; the message may have arrived.
            MessageRefused: If the other process could not decode it; nothing was queued.
            NotPicklable, MessageTooBig: As for :meth:`send`.
        """
        raise NotImplementedError

    def finish(self, timeout: float | None = None) -> Awaitable[T]:
        """Await: wait until it has ended; gives its result or raises what it raised (the same as ``await coro``).

        A cancelled wait leaves the coroutine alone. May be called by several, and after the end.

        Args:
            timeout: Seconds to wait; None: without end.

        Raises:
            TimeoutError: After ``timeout`` seconds; the coroutine goes on.
            Terminated: If it was terminated.
            PeerLost: If its process is gone, or there was no way to it for a minute; it may have run to its end.
            NoSuchCoro: If it has ended, and its process keeps nothing of it any more.
            RemoteError: If it raised, in another process, what cannot be sent; text and traceback come along.
        """
        raise NotImplementedError

    def value(self, timeout: float | None = None) -> T:
        """Give the result, as :meth:`finish` does, in an ordinary thread, which waits.

        Args:
            timeout: Seconds to wait; None: without end.

        Raises:
            WrongThread: In the scheduler's own thread, where nobody would run the coroutine meanwhile.
            TimeoutError: After ``timeout`` seconds; the coroutine goes on.
        """
        raise NotImplementedError

    def receive(self, timeout: float | None = None, alarm_value: Any = None) -> Awaitable[Any]:
        """Await: the oldest message in its mailbox. Only the coroutine itself may, and what it awaits.

        A cancelled wait loses nothing: the message is either given or stays in the mailbox.

        Args:
            timeout: Seconds to wait; 0: take what is there; None: without end.
            alarm_value: What is given when none came in time.

        Raises:
            NotTheCoroutine: If this is another coroutine, or a reference.
            MailboxBusy: If something else waits for a message of this coroutine already.
        """
        raise NotTheCoroutine(self.name, "receive")

    def sleep(self, timeout: float | None = None, alarm_value: Any = None) -> Awaitable[Any]:
        """Await: wait ``timeout`` seconds, then give ``alarm_value``; or until :meth:`resume`. Only the coroutine itself.

        Args:
            timeout: Seconds; None: until :meth:`resume`.
            alarm_value: What is given when the time is over.

        Raises:
            NotTheCoroutine: If this is another coroutine, or a reference.
        """
        raise NotTheCoroutine(self.name, "sleep")

    def suspend(self, timeout: float | None = None, alarm_value: Any = None) -> Awaitable[Any]:
        """Do the same as :meth:`sleep`: ``alarm_value`` after ``timeout`` seconds, or until :meth:`resume`."""
        raise NotTheCoroutine(self.name, "suspend")

    def hot_swap(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> int:
        """Let ``func(*args, **kwargs)`` go on in its place, with its name, number and mailbox; gives 0. Only in its own process.

        It happens where the coroutine next waits in a call of discoro, once it has said ``hot_swappable(True)``.
        ``HotSwapException`` is raised there in the old code, which may clean up; who swallows it stays. No message is lost.

        Raises:
            HotSwapRefused: If one is a generator function and the other ``async def``, or it has ended; the old code goes on.
            NotACoroutine: If ``func`` is neither.
            NotTheCoroutine: If this is a reference.
        """
        raise NotTheCoroutine(self.name, "hot_swap")

    def terminate(self) -> int:
        """Cancel it; gives 0, at once. From any thread.

        Where it waits it gets GeneratorExit (a generator) or CancelledError (``async def``), and may clean up. One that has not
        ended 10 s later is reported in the log. Who waits for it gets ``Terminated``; for one that has ended nothing happens.
        """
        raise NotImplementedError

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> int:
        """Raise an exception in it where it waits; gives 0.

        Args:
            error: The exception, or its type.
            value: Its argument, where ``error`` is a type.
            traceback: The traceback it shall have, or None.
        """
        raise NotImplementedError

    def resume(self, update: Any = None) -> int:
        """Wake it from ``suspend`` or ``sleep``, which give ``update``; gives 0. Ignored if it does neither. From any thread."""
        raise NotImplementedError

    def is_alive(self) -> bool:
        """Whether it has not ended; of one in another process, as far as is known here."""
        raise NotImplementedError

    def monitor(self, observed: Coro[Any]) -> Awaitable[int]:
        """Await: let this coroutine get one :class:`MonitorException` message when ``observed`` ends; gives 0.

        It comes after everything that ``observed`` sent to it. One that has ended already is told at once; so is the loss of its
        process, as ``PeerLost``.

        Raises:
            TypeError: If ``observed`` is no coroutine.
        """
        raise NotImplementedError

    def register(self, name: str | None = None) -> int:
        """Let others find it with :meth:`locate` under ``name`` (default: its own); gives 0. The end takes it back.

        With its first name a process that has a ``Scheduler(...)``, or ``run``, begins to listen. On a reference the call is
        carried out in its process, which logs a failure.

        Raises:
            NameTaken: If another coroutine of the process has that name; it keeps it.
            NoSuchCoro: If it has ended.
        """
        raise NotImplementedError

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register`, with the same ``name``, back; gives 0. References that others have go on working."""
        raise NotImplementedError

    def set_daemon(self, flag: bool = True) -> int:
        """Tell whether the end of its scheduler waits for it; gives 0. With ``flag`` it does not, and terminates it."""
        raise NotImplementedError

    def hot_swappable(self, flag: bool) -> int:
        """Allow :meth:`hot_swap` from now on, or without ``flag`` hold it back; gives 0."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, T]:
        raise NotImplementedError

    @staticmethod
    async def locate(
        name: str, location: Location | None = None, timeout: float | None = None
    ) -> Coro[Any] | None:
        """Await: find the coroutine registered under a name, here or in any process that is there, or comes.

        After three seconds without an answer the log says why, once. A cancelled wait leaves nothing behind.

        Args:
            name: The name. Each server of a node has a coroutine ``"discoro_server"``, to which computations are sent.
            location: Look only there; None: here first, then everywhere, and the first to answer is given.
            timeout: Seconds to look; None: until there is one.

        Returns:
            The coroutine, or a reference to it; None after ``timeout`` seconds.

        Raises:
            PeerError: If ``location`` refuses us; the text says why. One where nobody answers is tried again.
        """
        found = await default.awaited("locate").find("coro", name, location, timeout)
        return cast("Coro[Any] | None", found)


class LocalCoro(_local.Coro[T], Coro[T]):
    """A coroutine of this process: the only kind that is a Future."""

    __module__ = "discoro"

    @classmethod
    def home(cls) -> Any:
        """The scheduler that new coroutines of this thread belong to; starts the default one if there is none."""
        return registry.scheduler_class().instance()

    @classmethod
    def _scheduler(cls) -> Any:
        here = HERE.get()  # of the coroutine that runs this: nearly always there is one
        return here if here is not None and here.thread_id else cls.home()

    @property
    def location(self) -> Location:
        """Where the coroutine runs: this process."""
        return cast("Network", self.scheduler.elsewhere).location

    def __reduce__(self) -> tuple[Any, ...]:
        elsewhere: Network = self.scheduler.elsewhere  # type: ignore[assignment]  # ours always has one
        number = self.scheduler.export(self)
        return resolve_coro, (elsewhere.process, number, self.name, *elsewhere.address())


# `Coro(func)` makes the kind that lives here. This is C all through, since it stands in the way of every coroutine; the
# two kinds, and what is below them, have a __new__ of their own.
Coro.__new__ = staticmethod(partial(asyncio.Future.__new__, LocalCoro))  # type: ignore[method-assign, assignment]


class RemoteCoro(Reference, Coro[T], Waitable):
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
        text = Reference.__repr__(self)
        return text if self.outcome is None else f"{text[:-1]}, {self.outcome!r}>"

    def send(self, msg: Any) -> int:
        """See :meth:`Coro.send`."""
        network = self._network or self.network
        if get_ident() == network.scheduler.thread_id:
            peer = self._peer
            if peer is None or peer.ended is not None:
                peer = self.peer()
            peer.send_value(self.number, msg, self.code)
        else:
            network.send_from_thread(self, msg)
        return 0

    async def deliver(self, msg: Any, timeout: float | None = None) -> int:
        """See :meth:`Coro.deliver`."""
        self.network.check_thread("deliver")
        check_timeout(timeout)
        return await self.peer().deliver_value(self.number, msg, timeout, self.code)

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


def resolve_coro(process: bytes, number: int, name: str, host: str, port: int) -> Coro[Any]:
    """The coroutine (process, number): itself, if it lives here, else a reference.

    Pickles name this function: its name and arguments are part of the protocol.
    """
    home = registry.home(process)
    if home is not None:
        coro = home.scheduler.by_number.get(number) or home.ended_coros.get(number)
        if isinstance(coro, LocalCoro):
            return coro
    return RemoteCoro(home, process, number, name, (host, port) if port else None)


RemoteCoro.resolve = staticmethod(resolve_coro)
Coro.__module__ = "discoro"

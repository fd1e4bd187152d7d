"""``Coro``, the face of coroutines here and elsewhere; what they do stands with its two kinds.

``Coro(func, *args)`` starts a coroutine in this process and gives a ``LocalCoro`` (:mod:`discoro.localcoro`); ``Computation.run``,
``Coro.locate`` and references in messages give a ``RemoteCoro`` (:mod:`discoro.remotecoro`). Both are instances of ``Coro``. A reference is (process id, number): it can be sent to anybody, compares equal
everywhere, and arrives as the coroutine itself in the process where that lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from discoro.errors import NotTheCoroutine
from discoro.scheduler import default
from discoro.transport.addresses import Location

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
        # Its two kinds have a __new__ of their own; this class gets its own once they are there (discoro.localcoro).
        if cls.__new__ is Coro.__new__ is not object.__new__:
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

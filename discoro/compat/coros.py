"""Coroutines with their old face: the calls of discoro's, whose failures are -1, 0 or None.

``Codes`` does that over either kind of coroutine; a family (asyncoro, pycos) makes its two classes of it and says what a
failure looks like and what monitors are sent.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import numbers
import traceback
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from discoro.compat import references
from discoro.compat.inloop import in_loop
from discoro.compat.start import home
from discoro.coro import Coro
from discoro.errors import DiscoroError, Terminated, WrongThread
from discoro.localcoro import LocalCoro
from discoro.remotecoro import RemoteCoro
from discoro.scheduler.outcome import Failed, MonitorException, Outcome, Returned
from discoro.schedulers import Scheduler
from discoro.shipping.excs import RemoteTraceback

log = logging.getLogger("discoro.compat")

if TYPE_CHECKING:
    Native = Any
else:
    Native = object


class Family:
    """What the coroutines of one old system have in common.

    Attributes:
        name: ``"asyncoro"`` or ``"pycos"``.
        own: Name of the parameter that gets a function's own coroutine.
    """

    def __init__(
        self,
        name: str,
        own: str,
        failure: Callable[[Any, Failed], Any],
        message: Callable[[MonitorException], Any],
    ) -> None:
        self.name = name
        self.own = own
        self.failure = failure
        self.message = message

    def result(self, coro: Any, outcome: Outcome | None) -> Any:
        """What ``value`` and ``finish`` give for an outcome; None for no outcome in time, and for a terminated one."""
        if isinstance(outcome, Returned):
            return outcome.value
        if isinstance(outcome, Failed):
            return self.failure(coro, outcome)
        return None


def trace_text(error: BaseException) -> str:
    """The traceback of an exception, as old monitors got it: where it was raised, here or elsewhere."""
    if isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.text
    return "".join(traceback.format_exception(error))


def number_or_none(value: Any) -> bool:
    """Whether it can be a timeout."""
    return value is None or isinstance(value, numbers.Real)


class FaceType(type):
    """Makes every coroutine an instance of ``Coro`` or ``Task``, references that come from anywhere included."""

    def __instancecheck__(cls, thing: Any) -> bool:
        if "any_coro" in cls.__dict__:
            return isinstance(thing, Coro)
        return super().__instancecheck__(thing)

    @property
    def scheduler(cls) -> Callable[[], Any]:
        """``Task.scheduler()``; on an instance the name means its scheduler."""
        return home


class Codes(Native):  # type: ignore[misc]  # stands before one of two classes of discoro
    """Calls that give codes."""

    __slots__ = ()

    family: ClassVar[Family]

    @property
    def _id(self) -> int:
        return int(self.number)

    def __call__(self, timeout: float | None = None) -> Any:
        """The same as :meth:`finish`: ``result = yield task()``."""
        return self.finish(timeout)

    def send(self, message: Any) -> int:
        """Queue a message: 0; -1 when the coroutine has ended or cannot be reached."""
        if not self.is_alive():
            return -1
        return as_code(self, super().send, message)

    async def deliver(self, message: Any, timeout: float | None = None) -> int:
        """Put a message into the mailbox: 1; 0 at the timeout; -1 when there is no such coroutine."""
        try:
            return int(await super().deliver(message, timeout))
        except DiscoroError as error:
            log.warning("deliver to %s: %s", self, error)
            return -1

    async def finish(self, timeout: float | None = None) -> Any:
        """Wait for its result; None at the timeout, and when it was terminated."""
        try:
            return await super().finish(timeout)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return self._no_result(error)

    def value(self, timeout: float | None = None) -> Any:
        """The same for an ordinary thread."""
        try:
            return super().value(timeout)
        except WrongThread:
            raise
        except BaseException as error:
            return self._no_result(error)

    def _no_result(self, error: BaseException) -> Any:
        if self.outcome is None and not isinstance(error, DiscoroError | TimeoutError):
            raise error
        if self.outcome is None and isinstance(error, DiscoroError):
            log.warning("%s: %s", self, error)
        return self.family.result(self, self.outcome)

    def terminate(self) -> int:
        """End it: 0; -1 when it has ended."""
        if not self.is_alive():
            return -1
        return as_code(self, super().terminate)

    def throw(self, *args: Any) -> int:
        """Raise an exception where it waits: 0; -1 when it has ended."""
        if not self.is_alive():
            return -1
        return as_code(self, in_loop, self._home(), partial(super().throw, *args))

    def resume(self, update: Any = None) -> int:
        """Wake it: 0; -1 when it has ended."""
        if not self.is_alive():
            return -1
        return as_code(self, super().resume, update)

    wakeup = resume

    async def monitor(self, observed: Any) -> int:
        """Let it get a message when ``observed`` ends: 0; -1 when that is no coroutine or has ended here."""
        if not isinstance(observed, Coro):
            return -1
        if isinstance(observed, LocalCoro) and not observed.is_alive():
            return -1
        try:
            return int(await super().monitor(observed))
        except DiscoroError as error:
            log.warning("monitor %s: %s", observed, error)
            return -1

    async def notify(self, monitor: Any) -> int:
        """Let ``monitor`` get a message when it ends: 0 or -1."""
        if not isinstance(monitor, Coro):
            return -1
        try:
            return int(await monitor.monitor(self))
        except DiscoroError:
            return -1

    @classmethod
    async def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Any:
        """The coroutine registered as ``name``; None when there is none in time, or its process cannot be reached."""
        found = await find("coro", name, location, timeout)
        return references.faced(cls.family.name, found)


def as_code(face: Any, call: Callable[..., Any], *args: Any) -> int:
    """What ``call(*args)`` of a coroutine or channel gives; -1 where discoro raises."""
    try:
        return int(call(*args))
    except (DiscoroError, TypeError) as error:
        log.warning("%s: %s", face, error)
        return -1


async def find(kind: str, name: str, location: Any, timeout: float | None) -> Any:
    """What is registered under a name, here or elsewhere; None where discoro raises."""
    try:
        return await home().find(kind, name, location, timeout)
    except (DiscoroError, TypeError) as error:
        log.warning("locate %s: %s", name, error)
        return None


class Remote(Codes, RemoteCoro[Any]):
    """A reference with codes."""

    __slots__ = ()

    def _home(self) -> Any:
        return self.network.scheduler

    def __repr__(self) -> str:
        return f"{self.name or '?'}/{self.number}@{self.location}"

    def __reduce__(self) -> tuple[Any, ...]:
        return references.coro, (self.family.name, *super().__reduce__()[1])

    def register(self, name: str | None = None) -> int:
        """Refuse, as ever: a coroutine is registered where it runs."""
        return -1

    unregister = register

    def hot_swappable(self, *args: Any, **kwargs: Any) -> int:
        """Refuse, as ever: only where it runs."""
        return -1

    hot_swap = set_daemon = hot_swappable


class Local(Codes, LocalCoro[Any], metaclass=FaceType):  # type: ignore[misc]  # so can this
    """A coroutine of this process with codes.

    Takes its function also the way ``threading.Thread`` does: ``target=``, ``args=``, ``kwargs=``.
    """

    @classmethod
    def home(cls) -> Any:
        """The scheduler there is; starts one where there is none."""
        return home()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not args:
            function = kwargs.pop("target", None)
            args = (function, *kwargs.pop("args", ()))
            kwargs = kwargs.pop("kwargs", kwargs)
        super().__init__(*args, **kwargs)

    def _prepare(
        self,
        scheduler: Any,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context | None = None,
        name: str | None = None,
    ) -> None:
        kwargs = self._with_own(func, args, kwargs)
        super()._prepare(scheduler, func, args, kwargs, context, name)

    def _with_own(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments with this coroutine under its family's name, where the function wants it.

        ``coro`` is filled by discoro itself.
        """
        own = self.family.own
        if own == "coro" or own in kwargs or inspect.isgenerator(func):
            return kwargs
        try:
            wanted = own in inspect.signature(func).parameters
            bound = inspect.signature(func).bind_partial(*args, **kwargs)
        except (TypeError, ValueError):
            return kwargs
        return {**kwargs, own: self} if wanted and own not in bound.arguments else kwargs

    def _home(self) -> Any:
        return self.scheduler

    def __repr__(self) -> str:
        return f"{self.name}/{self.number}"

    def __reduce__(self) -> tuple[Any, ...]:
        return references.coro, (self.family.name, *super().__reduce__()[1])

    def put(self, item: Any) -> None:
        """Take a message; word of the end of a coroutine in the form its family knows."""
        if type(item) is MonitorException:
            item = self.family.message(item)
        super().put(item)

    def sleep(self, timeout: float | None = None, alarm_value: Any = None) -> Any:
        """Wait ``timeout`` seconds, or for a resume; -1 for another coroutine, or what is no number."""
        if not number_or_none(timeout) or Scheduler.cur_coro() is not self:
            log.warning("%s: only the coroutine itself can sleep, for a number of seconds", self)
            return -1
        return super().sleep(timeout, alarm_value)

    suspend = sleep

    def register(self, name: str | None = None) -> int:
        """Let others find it: 0; -1 when the name is taken or no name, or the coroutine has ended."""
        if name is not None and (not isinstance(name, str) or name.startswith("^")):
            return -1
        return as_code(self, in_loop, self.scheduler, super().register, name)

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register` back: 0; -1 when it was not registered."""
        return as_code(self, in_loop, self.scheduler, self._unregister, super().unregister, name)

    def _unregister(self, unregister: Callable[..., int], name: str | None) -> int:
        if self.scheduler.names.get("coro", name or self.name) is not self:
            return -1
        return unregister(name)

    def set_daemon(self, flag: bool = True) -> int:
        """Tell whether the end of the program waits for it."""
        return as_code(self, in_loop, self.scheduler, super().set_daemon, flag)

    def hot_swappable(self, flag: bool) -> int:
        """Allow a swap from now on, or hold it back: 0; -1 for another coroutine."""
        if Scheduler.cur_coro() is not self:
            return -1
        return as_code(self, super().hot_swappable, flag)

    def hot_swap(self, *args: Any, **kwargs: Any) -> int:
        """Replace its code: 0; -1 when that is no generator function, or the coroutine has ended."""
        if not args:
            args = (kwargs.pop("target", None), *kwargs.pop("args", ()))
            kwargs = kwargs.pop("kwargs", kwargs)
        func, args = args[0], args[1:]
        code = getattr(func, "__code__", None)
        if code is not None and not hasattr(func, "gi_code"):
            # HotSwapException brings the function where it brought a generator.
            getattr(func, "__func__", func).gi_code = code
        kwargs = self._with_own(func, args, kwargs)
        return as_code(
            self, in_loop, self.scheduler, partial(super().hot_swap, func, *args, **kwargs)
        )


def terminated(message: MonitorException) -> bool:
    """Whether that is word of a coroutine that was terminated: a normal end to old programs."""
    return message.type is Terminated

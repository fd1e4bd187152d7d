"""What calls inside one process raise. Pure.

::

    DiscoroError
      Terminated             the coroutine was ended on request: neither a return nor a failure
      NoSuchCoro             it has ended and nothing is kept of it, or it never was
      MailboxFull            a limit was set and the receiver does not keep up; nothing was queued
      MailboxBusy            two readers at one mailbox
      NotTheCoroutine        only the coroutine itself may do that
      NotACoroutine          also a TypeError: what was given is no generator or coroutine function
      ForgottenWait          also a TypeError: a yield or await is missing before the call
      WrongThread            also a RuntimeError: called outside the thread of the scheduler's loop
      NameTaken              another thing is registered under that name
      HotSwapRefused         the new code cannot take the place of the old
      SchedulerClosed        the scheduler has been closed
      SchedulerConflict      two default schedulers with different options

    HotSwapException         no Exception: thrown into a coroutine that is about to be replaced

Every error can be pickled: the network carries them home.
"""

from __future__ import annotations

from inspect import isasyncgenfunction
from typing import Any


def _rebuild(cls: type[DiscoroError], args: tuple[Any, ...], state: dict[str, Any]) -> DiscoroError:
    """Make an error from what ``__reduce__`` said, without running its ``__init__``."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class DiscoroError(Exception):
    """Root of everything discoro raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The arguments of __init__ are data, those of Exception the text: pickle's own way, calling
        # the class with the text, would fail or wrap one text into the other.
        return _rebuild, (type(self), self.args, self.__dict__)


class Terminated(DiscoroError):
    """The coroutine was ended on request: it neither returned nor failed.

    Attributes:
        reason: What ended it, in words; may be empty.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "terminated")
        self.reason = reason


class NoSuchCoro(DiscoroError):
    """The coroutine has ended and nothing is kept of it, or it never was.

    A message for it was dropped. ``monitor`` tells of an end in time.

    Attributes:
        name: Name of the coroutine, as far as it is known.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(
            f"there is no coroutine {name!r} (any more)"
            if name
            else "there is no such coroutine (any more)"
        )
        self.name = name


class MailboxFull(DiscoroError):
    """The receiver does not keep up; the message was not queued.

    ``deliver`` waits for room instead.

    Attributes:
        name: Name of the receiving coroutine.
        limit: The limit that was reached.
        unit: What the limit counts, "messages" or "bytes".
    """

    def __init__(self, name: str, limit: int, unit: str = "messages") -> None:
        super().__init__(
            f"the mailbox of {name!r} holds {limit} {unit}, its limit; nothing was queued "
            "(`deliver` waits for room)"
        )
        self.name = name
        self.limit = limit
        self.unit = unit


class MailboxBusy(DiscoroError):
    """A mailbox has one reader at a time, and another one is waiting there.

    Let one of them receive, and pass on what the other needs.

    Attributes:
        name: Name of the coroutine whose mailbox it is.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"somebody else is waiting for a message of {name!r}")
        self.name = name


class NotTheCoroutine(DiscoroError):
    """Only the coroutine itself may do that.

    A function finds its own coroutine in its parameter ``coro``; others are sent messages.

    Attributes:
        name: Name of the coroutine that the call was made on.
        call: The call.
    """

    def __init__(self, name: str, call: str) -> None:
        super().__init__(
            f"only {name!r} itself may call its {call}(); "
            "a function finds its own coroutine in its parameter `coro`"
        )
        self.name = name
        self.call = call


class NotACoroutine(DiscoroError, TypeError):
    """What was given is neither a generator function nor a coroutine function.

    Write ``async def``, or put a ``yield`` into it.
    """

    def __init__(self, given: object) -> None:
        name = getattr(given, "__name__", None) or repr(given)
        if isasyncgenfunction(given):
            text = (
                f"{name} has both `async def` and `yield`, an asynchronous generator: yield and "
                "async def do not go together, use `await` in it"
            )
        elif callable(given) and not isinstance(given, type):
            text = (
                f"{name} is an ordinary function: write `async def {name}`, or put a `yield` in it, "
                "which makes it a generator function"
            )
            if name == "<lambda>":
                text = (
                    "a lambda is an ordinary function: write an `async def` or a generator function"
                )
        else:
            text = (
                f"{given!r} is neither a generator function (`def` with `yield`) nor a coroutine "
                "function (`async def`)"
            )
        super().__init__(text)


class ForgottenWait(DiscoroError, TypeError):
    """What a call gives to be awaited was about to be sent: a ``yield`` or ``await`` is missing.

    Attributes:
        call: The call.
    """

    def __init__(self, call: str) -> None:
        super().__init__(f"a yield or await is missing before {call}")
        self.call = call


class WrongThread(DiscoroError, RuntimeError):
    """A call outside the thread of the scheduler's loop.

    In other threads ``Coro(...)``, ``send``, ``resume``, ``terminate`` and ``value`` may be called: let a coroutine do the rest.

    Attributes:
        call: The call.
    """

    def __init__(self, call: str, text: str = "") -> None:
        super().__init__(
            text
            or f"{call} was called outside the scheduler's thread: there, only Coro(...), send, "
            "resume, terminate and value may be called"
        )
        self.call = call


class NameTaken(DiscoroError):
    """Another thing is registered under that name in this process.

    The other one keeps it. Unregister that, or use another name.

    Attributes:
        kind: "coro", "channel" or "rci".
        name: The name.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"the name {name!r} is taken by another {kind}; unregister that one first")
        self.kind = kind
        self.name = name


class HotSwapRefused(DiscoroError):
    """The new code cannot take the place of the old one; the old one goes on.

    A generator function takes the place of a generator function, ``async def`` that of ``async def``.
    """


class SchedulerClosed(DiscoroError):
    """The scheduler has been closed, or was never opened.

    Make a new one; in a loop of your own ``async with Scheduler():``.
    """

    #: What somebody hears who awaits a call of ours in a loop of his own.
    NO_SCHEDULER = (
        "no scheduler runs in this event loop: `async with Scheduler():` or "
        "`await Scheduler().start()` first"
    )

    def __init__(self, text: str = "the scheduler is closed") -> None:
        super().__init__(text)


class SchedulerConflict(DiscoroError):
    """Two schedulers with different options ask to be the default one.

    Make one, or open each with ``with``.
    """


class HotSwapException(BaseException):
    """Thrown into a coroutine that is about to be replaced; let it pass, or clean up and re-raise.

    Who swallows it stays. It is no ``Exception``, so that the ``except Exception`` around a
    server's loop does not keep the old code alive by accident.
    """


for _error in list(vars().values()):
    if isinstance(_error, type) and issubclass(_error, BaseException):
        # The name that users type, in tracebacks and reprs.
        _error.__module__ = "discoro.errors"

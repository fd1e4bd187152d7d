"""How a coroutine ended: three different facts. Pure.

``Returned(value)``, ``Failed(exception, traceback_text)`` and ``Stopped(reason)``; a monitor gets
them as ``MonitorException(coro, (type, value))``.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from .errors import Terminated


class Returned:
    """It returned ``value``. No dataclass: making a frozen one takes three times as long, and there is one per run."""

    __slots__ = ("value",)
    __match_args__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Returned) else NotImplemented

    def __hash__(self) -> int:
        return hash((Returned, self.value))

    def __repr__(self) -> str:
        return f"Returned(value={self.value!r})"

    def result(self) -> Any:
        """Return the value."""
        return self.value

    def to_info(self) -> tuple[type[BaseException], BaseException]:
        """Return what a monitor is told: ``StopIteration`` and one that holds the value."""
        return StopIteration, StopIteration(self.value)


class Failed:
    """It raised ``exception``.

    The text of the traceback is made when it is first asked for: it costs more than most coroutines.
    """

    __slots__ = ("_text", "_traceback", "exception")

    def __init__(self, exception: BaseException, traceback_text: str | None = None) -> None:
        self.exception = exception
        self._traceback: TracebackType | None = exception.__traceback__
        self._text = traceback_text

    @property
    def traceback_text(self) -> str:
        """The traceback as it stood when the coroutine ended."""
        if self._text is None:
            lines = traceback.format_exception(
                type(self.exception), self.exception, self._traceback
            )
            self._text = "".join(lines)
        return self._text

    def result(self) -> NoReturn:
        """Raise the exception, with the traceback it had at the end, not one grown by each caller."""
        raise self.exception.with_traceback(self._traceback)

    def to_info(self) -> tuple[type[BaseException], BaseException]:
        """Return what a monitor is told: the exception and its type."""
        return type(self.exception), self.exception

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and self.exception is other.exception

    def __hash__(self) -> int:
        return hash((Failed, id(self.exception)))

    def __repr__(self) -> str:
        return f"Failed({self.exception!r})"


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was ended on request; ``reason`` says by what, and may be empty."""

    reason: str = ""

    def result(self) -> NoReturn:
        """Raise ``Terminated``."""
        raise Terminated(self.reason)

    def to_info(self) -> tuple[type[BaseException], BaseException]:
        """Return what a monitor is told: ``Terminated`` and one with the reason."""
        return Terminated, Terminated(self.reason)


Outcome = Returned | Failed | Stopped


def exception_of(error: Any, value: Any = None, traceback: Any = None) -> BaseException:
    """Return the exception that ``throw(error, value, traceback)`` means, as generators take it.

    Raises:
        TypeError: If it is none.
    """
    if isinstance(error, type) and issubclass(error, BaseException):
        error = error() if value is None else value if isinstance(value, error) else error(value)
    if not isinstance(error, BaseException):
        raise TypeError(f"throw() takes an exception, not {error!r}")
    return error if traceback is None else error.with_traceback(traceback)


class MonitorException(Exception):
    """The message that a monitor gets when a coroutine has ended: ``args`` are the coroutine and ``(type, value)``.

    ``type`` is ``StopIteration`` (a normal return, the value in ``value.value``), the exception's own
    type, or one of discoro's errors: ``Terminated``, ``PeerLost``, ``ServerKilled``, ``RemoteError``. It is sent, not raised; it is an
    exception for the sake of programs that raise it on.
    """

    __module__ = "discoro"

    def __init__(self, coro: Any, info: tuple[type[BaseException], BaseException | None]) -> None:
        super().__init__(coro, info)

    @property
    def coro(self) -> Any:
        """The coroutine that ended."""
        return self.args[0]

    @property
    def type(self) -> type[BaseException]:
        """What kind of end it was."""
        kind: type[BaseException] = self.args[1][0]
        return kind

    @property
    def value(self) -> Any:
        """The exception; that of a normal return holds the returned value in ``.value``."""
        return self.args[1][1]

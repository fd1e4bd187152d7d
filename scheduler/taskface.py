"""What asyncio, and libraries on it, expect of a current task beyond a Future.

``asyncio.timeout`` and ``TaskGroup`` use ``cancel``, ``cancelling`` and ``uncancel``; anyio reads
``_must_cancel`` and ``_fut_waiter``.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any, TypeVar

from .machine import CANCEL, Machine
from .waits import ENDED, RUNNING, State, Wait

T = TypeVar("T")


class TaskFace(Machine[T]):
    """A machine that asyncio takes for a task."""

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        """End the coroutine, as ``asyncio.Task.cancel`` does: what it awaits is cancelled first.

        ``asyncio.gather(coro)`` and 3.11's ``asyncio.wait_for(coro)`` call this when they are
        cancelled; ``await coro`` and :meth:`finish` do not.
        """
        wait = self._wait
        if wait is ENDED:
            return False
        self._rarely().cancels += 1
        if not isinstance(wait, (State, Wait)) and wait.cancel(msg=msg):
            return True
        self._pending = CANCEL
        self._cancel_message = msg
        if isinstance(wait, Wait):
            self._interrupt()
        return True

    def uncancel(self) -> int:
        """Take one cancel back; for ``asyncio.timeout`` and its like."""
        rare = self._rare
        if rare is None:
            return 0
        if rare.cancels:
            rare.cancels -= 1
        if not rare.cancels and self._wait is RUNNING and self._pending is CANCEL:
            self._pending = None
        return rare.cancels

    def set_result(self, result: Any) -> None:
        """Refuse: the coroutine's return is its result."""
        raise RuntimeError("a coroutine gets its result by returning; set_result is not for it")

    def set_exception(self, exception: Any) -> None:
        """Refuse: what the coroutine raises is its exception."""
        raise RuntimeError("a coroutine fails by raising; to raise something in it, use throw")

    @property
    def _fut_waiter(self) -> Any:
        return None if isinstance(self._wait, (State, Wait)) else self._wait

    @property
    def _must_cancel(self) -> bool:
        return self._pending is CANCEL

    @_must_cancel.setter
    def _must_cancel(self, flag: bool) -> None:
        if flag:
            self._pending = CANCEL
        elif self._pending is CANCEL and self._wait is RUNNING:
            self._pending = None

    def get_name(self) -> str:
        """Return its name."""
        return self._name

    def set_name(self, value: object) -> None:
        """Give it another name."""
        self._name = str(value)

    def get_coro(self) -> Any:
        """Return the frame that runs; None when it has ended."""
        return self._top

    def get_context(self) -> Context:
        """Return the context it runs in."""
        context: Context = self._context
        return context

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        """Return its Python frames, the oldest first."""
        frames = [*(self._stack or ()), self._top]
        found = [getattr(f, "gi_frame", None) or getattr(f, "cr_frame", None) for f in frames]
        found = [frame for frame in found if frame is not None]
        return found if limit is None else found[-limit:]

    def __repr__(self) -> str:
        number = f" {self._number}" if self._number else ""
        state = "ended" if self._wait is ENDED else self._describe()
        return f"<{type(self).__name__} {self._name}{number} {state}>"

    def _describe(self) -> str:
        wait = self._wait
        text = repr(wait) if isinstance(wait, State) else f"in {type(wait).__name__.lower()}"
        return f"{text}, {self.waiting} messages" if self.waiting else text

    def where(self) -> str:
        """Return in words what it does: its state, and the line of the user's code."""
        text, frames = self._describe(), self.get_stack()
        theirs = [frame for frame in frames if not _is_ours(frame)] or frames
        if theirs:
            text += f", at {theirs[-1].f_code.co_filename}:{theirs[-1].f_lineno}"
        return text


def _is_ours(frame: Any) -> bool:
    """Whether it runs code of discoro, in which users have no line."""
    return str(frame.f_globals.get("__name__", "")).startswith("discoro.")

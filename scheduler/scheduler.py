"""The scheduler: the coroutines of one process, their numbers and names.

How it begins and ends is in :mod:`.life`, the loop that runs coroutines in :mod:`.stepping`. What lies
outside the process is behind the :class:`~.life.Elsewhere` given to the constructor.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, Self, TypeVar

from . import default
from .checks import check_count, check_name, check_timeout
from .coro import Coro
from .errors import WrongThread
from .life import Elsewhere, Life
from .machine import Machine
from .names import Names

T = TypeVar("T")


class Scheduler(Life):
    """Runs coroutines in one event loop.

    Args:
        elsewhere: The network, if there is any.
        max_mailbox: How many messages a mailbox takes before ``send`` raises ``MailboxFull``; None:
            no limit.
        coro_class: What :meth:`spawn` makes.
        options: What else makes it another one than a second plain one.

    Attributes:
        coros: The live coroutines.
        by_number: Those that others may reach, by number; channels too.
        names: What is registered.
        options: What makes this scheduler another one than a second plain one.
    """

    def __init__(
        self,
        *,
        elsewhere: Elsewhere | None = None,
        max_mailbox: int | None = None,
        coro_class: type[Coro[Any]] = Coro,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(elsewhere)
        if max_mailbox is not None:
            check_count(max_mailbox, "max_mailbox")
            if max_mailbox < 1:
                raise ValueError(f"max_mailbox is at least 1, not {max_mailbox}")
        self.max_mailbox = max_mailbox
        self.coro_class = coro_class
        self.options.update(options or {}, max_mailbox=max_mailbox)
        self.by_number: dict[int, Any] = {}
        self.names = Names()
        self.next_number: Callable[[], int] = itertools.count(1).__next__
        default.constructed(self)

    # -- coroutines -------------------------------------------------------------------------------

    @classmethod
    def instance(cls) -> Self:
        """Give the scheduler that a call here means; starts the default one where there is none.

        It is that of the running coroutine, else the innermost open one, else the default one: the plain ``Scheduler(...)`` that was
        constructed, or one that is made now.

        Raises:
            SchedulerConflict: If two plain ones with different options ask to be the default.
        """
        return default.current(cls)

    @classmethod
    def cur_coro(cls) -> Coro[Any] | None:
        """Return the coroutine that runs this code, or None."""
        try:
            task: object = asyncio.current_task()
        except RuntimeError:
            return None
        return task if isinstance(task, Coro) else None

    def spawn(
        self,
        func: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        number: int | None = None,
        name: str | None = None,
        daemon: bool = False,
        coro_class: type[Coro[Any]] | None = None,
    ) -> Coro[Any]:
        """Start a coroutine. Only in the loop's thread.

        Args:
            func: A generator function or coroutine function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            number: The number it shall have; others may reach it by that.
            name: Its name; default: that of ``func``.
            daemon: Whether the scheduler's end does not wait for it.
            coro_class: What to make of it; default: the scheduler's.
        """
        if get_ident() != self.thread_id:
            self.check_thread("spawn")
        cls = coro_class or self.coro_class
        coro = cls._start(self, func, args, kwargs or {}, number=number, name=name)
        if daemon:
            coro._rarely().daemon = True
        self._begin(coro)
        return coro

    def begin(self, coro: Coro[Any]) -> None:
        """Let a new coroutine run. May be called from any thread."""
        if get_ident() == self.thread_id:
            self._begin(coro)
        else:
            self.call(self._begin, coro)

    def _begin(self, coro: Coro[Any]) -> None:
        self.coros.add(coro)
        self.ready.append(coro)
        if not self.armed:
            self.arm()

    def _begin_all(self, coros: list[Any]) -> None:
        """Let many new coroutines, which have numbers, run and be reached. Only in the loop's thread."""
        self.coros.update(coros)
        self.by_number.update([(coro._number, coro) for coro in coros])
        self.ready.extend(coros)
        if not self.armed:
            self.arm()

    def forget_names(self, thing: Any) -> None:
        """Take all names of ``thing`` back: it has ended."""
        for kind, name in self.names.of(thing):
            self.unregister(kind, name, thing)

    def refuse_blocking(self, call: str) -> None:
        """Refuse a call that would block the loop's own thread."""
        raise WrongThread(
            call, f"{call}() would block the scheduler's loop: use yield/await coro.finish()"
        )

    # -- names ------------------------------------------------------------------------------------

    def export(self, thing: Any) -> int:
        """Make a coroutine or channel reachable by number; returns the number."""
        number: int = thing.number
        self.by_number[number] = thing
        return number

    def register(self, kind: str, name: str, thing: Any) -> None:
        """Give ``thing`` a name.

        Raises:
            NameTaken: If another thing has it.
        """
        if isinstance(thing, Machine):
            thing._rarely()  # its end looks for names only then
        if self.names.register(kind, name, thing) and self.elsewhere is not None:
            self.elsewhere.published(kind, name, thing)

    def unregister(self, kind: str, name: str, thing: Any) -> None:
        """Take a name back; ignored if ``thing`` does not have it."""
        if self.names.unregister(kind, name, thing) and self.elsewhere is not None:
            self.elsewhere.withdrawn(kind, name)

    async def find(
        self, kind: str, name: str, location: Any = None, timeout: float | None = None
    ) -> Any:
        """Find what is registered, here first (unless ``location`` is given), then elsewhere.

        Returns None at ``timeout``.
        """
        self.check_thread("locate")
        check_name(name)
        check_timeout(timeout)
        if location is not None and self.elsewhere is not None:
            return await self.elsewhere.locate(kind, name, location, timeout)
        thing = self.names.get(kind, name)
        if thing is not None:
            return thing
        token = object()
        here: asyncio.Future[Any] = self.loop.create_future()
        self.names.wait(kind, name, token, lambda thing: _settle(here, thing))
        waiting: set[asyncio.Future[Any]] = {here}
        if self.elsewhere is not None:
            waiting.add(asyncio.ensure_future(self.elsewhere.locate(kind, name, location, timeout)))
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if here in done:
                return here.result()
            return done.pop().result() if done else None
        finally:
            self.names.stop_waiting(kind, name, token)
            for future in waiting:
                future.cancel()


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


default.provide(Scheduler)

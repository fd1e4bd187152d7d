"""The coroutines of this process, as users see them; and references that arrive: those of our own become the coroutine itself."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from discoro import registry
from discoro import scheduler as _local
from discoro.coro import Coro
from discoro.remotecoro import RemoteCoro
from discoro.scheduler.default import HERE
from discoro.transport.addresses import Location

if TYPE_CHECKING:
    from discoro.peers.network import Network


T = TypeVar("T")


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

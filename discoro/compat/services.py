"""RCI, and the same under its later names RTI and RPS, with their old face."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from discoro.compat import references
from discoro.compat.coros import Family
from discoro.compat.inloop import in_loop
from discoro.compat.start import home
from discoro.coro import Coro
from discoro.errors import DiscoroError
from discoro.localcoro import LocalCoro
from discoro.rci import RCI
from discoro.transport.addresses import Location

log = logging.getLogger("discoro.compat")

CALL_TIMEOUT = 10.0
"""Seconds in which the other end answers a call; after that it gives None."""


class Service:
    """A generator function that others may call by name.

    Args:
        method: The function.
        name: Name under which it is registered; default: that of the function.

    Raises:
        TypeError: If ``method`` is something else.
    """

    family: ClassVar[Family]
    coro_class: ClassVar[type[LocalCoro[Any]]]

    def __init__(self, method: Callable[..., Any], name: str | None = None) -> None:
        home()  # an RCI starts none of ours
        self._native: RCI[Any] = RCI(method, name, coro_class=self.coro_class)

    @property
    def name(self) -> str:
        """Name of the service."""
        return self._native.name

    @property
    def location(self) -> Location:
        """Where its coroutines run."""
        return self._native.location

    @classmethod
    async def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Any:
        """The service registered as ``name``; None when there is none in time, or its process cannot be reached."""
        try:
            home()
            found = await RCI.locate(name, location, timeout)
        except (DiscoroError, TypeError) as error:
            log.warning("locate %s: %s", name, error)
            return None
        return None if found is None else revive(cls, found)

    def register(self) -> int:
        """Let others find it: 0; -1 when the name is taken, or for a reference."""
        return self._code(self._native.register)

    def unregister(self) -> int:
        """Take :meth:`register` back: 0; -1 when it was not registered."""
        network = self._native.network
        if network.scheduler.names.get("rci", self.name) is not self._native:
            return -1
        return self._code(self._native.unregister)

    def monitor(self, coro: Any) -> int:
        """Let ``coro`` get a message for the end of each coroutine called from now on: 0, or -1."""
        if not isinstance(coro, Coro):
            return -1
        self._native.add_monitor(coro)
        return 0

    def close(self) -> int:
        """Terminate what was called through this object, and make no further calls: 0, or -1."""
        return self._code(self._native.close)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine of it; None when that fails."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                coro = await self._native(*args, **kwargs)
        except (DiscoroError, TimeoutError) as error:
            log.warning("call of %s: %s", self, error)
            return None
        return references.faced(self.family.name, coro)

    def _code(self, call: Callable[[], int]) -> int:
        try:
            return in_loop(self._native.network.scheduler, call)
        except DiscoroError as error:
            log.warning("%s: %s", self, error)
            return -1

    def __eq__(self, other: object) -> bool:
        return self._native == other._native if isinstance(other, Service) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._native)

    def __repr__(self) -> str:
        return f"{self.name}@{self.location}"

    def __reduce__(self) -> tuple[Any, ...]:
        return revive, (type(self), self._native)


def revive(cls: type[Service], native: RCI[Any]) -> Service:
    """Give a service its old face."""
    service = cls.__new__(cls)
    service._native = native
    return service

"""Channels with their old face."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from discoro.channels import Channel
from discoro.compat import references
from discoro.compat.coros import Family, as_code, find
from discoro.compat.inloop import in_loop
from discoro.compat.start import home
from discoro.coro import Coro
from discoro.errors import DiscoroError
from discoro.remotechannel import RemoteChannel
from discoro.transport.addresses import Location

log = logging.getLogger("discoro.compat")

if TYPE_CHECKING:
    Native = Any
else:
    Native = object


class ChannelType(type):
    """Makes references to channels instances of ``Channel``."""

    def __instancecheck__(cls, thing: Any) -> bool:
        if "any_channel" in cls.__dict__:
            return isinstance(thing, Channel | RemoteChannel)
        return super().__instancecheck__(thing)


class ChannelCodes(Native):  # type: ignore[misc]  # stands before one of two classes of discoro
    """Calls that give codes."""

    __slots__ = ()

    family: Family

    def send(self, message: Any) -> int:
        """Send to those who have subscribed: 0, or -1."""
        return as_code(self, super().send, message)

    async def deliver(self, message: Any, timeout: float | None = None, n: int = 0) -> int:
        """Send to all once ``n`` have subscribed: how many have it; 0 at the timeout, or when it cannot be reached."""
        try:
            async with asyncio.timeout(None if timeout is None else timeout + _GRACE):
                return int(await super().deliver(message, timeout, n))
        except (DiscoroError, TimeoutError) as error:
            log.warning("deliver to %s: %s", self, error)
            return 0

    async def subscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Send to ``subscriber`` from now on: 0, or -1."""
        return await self._join(super().subscribe, subscriber, timeout)

    async def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Send no more to ``subscriber``: 0, or -1."""
        return await self._join(super().unsubscribe, subscriber, timeout)

    async def _join(
        self, call: Callable[[Any], Awaitable[int]], subscriber: Any, timeout: float | None
    ) -> int:
        if not isinstance(subscriber, Coro | Channel | RemoteChannel):
            return -1
        try:
            async with asyncio.timeout(timeout):
                return int(await call(subscriber))
        except (DiscoroError, TimeoutError) as error:
            log.warning("subscribing to %s: %s", self, error)
            return -1

    @classmethod
    async def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Any:
        """The channel registered as ``name``; None when there is none in time, or its process cannot be reached."""
        found = await find("channel", name, location, timeout)
        return references.faced(cls.family.name, found)


# The other end keeps the timeout of a delivery; its answer takes a moment.
_GRACE = 5.0


class RemoteFace(ChannelCodes, RemoteChannel):
    """A reference to a channel, with codes."""

    __slots__ = ()

    def register(self, name: str | None = None) -> int:
        """Refuse, as ever: a channel is registered where it is."""
        return -1

    unregister = register

    def close(self) -> int:
        """Refuse, as ever: a channel is closed where it is."""
        return -1

    def set_transform(self, transform: Any) -> int:
        """Refuse, as ever: a channel's transform is set where it is."""
        return -1

    def __repr__(self) -> str:
        return f"{self.name}@{self.location}"

    def __reduce__(self) -> tuple[Any, ...]:
        return references.channel, (self.family.name, *super().__reduce__()[1])


class LocalFace(ChannelCodes, Channel, metaclass=ChannelType):  # type: ignore[misc]  # awaitables all
    """A channel of this process, with codes."""

    def __init__(self, name: str, transform: Any = None) -> None:
        if transform is not None and not callable(transform):
            log.warning("channel %s: its transform is no function and is ignored", name)
            transform = None
        super().__init__(name, transform)

    @classmethod
    def _scheduler(cls) -> Any:
        return home()

    @property
    def location(self) -> Location:
        """Where the channel lives: this process."""
        return self._elsewhere().location

    def set_transform(self, transform: Any) -> int:
        """Change the transform: 0, or -1 for what is no function."""
        return as_code(self, super().set_transform, transform)

    def register(self, name: str | None = None) -> int:
        """Let others find it: 0; -1 when the name is taken."""
        return as_code(self, in_loop, self.scheduler, super().register, name)

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register` back: 0; -1 when it was not registered."""
        if self.scheduler.names.get("channel", name or self.name) is not self:
            return -1
        return as_code(self, in_loop, self.scheduler, super().unregister, name)

    def close(self) -> int:
        """Forget the subscribers and the names: 0."""
        return as_code(self, in_loop, self.scheduler, super().close)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return references.channel, (self.family.name, *super().__reduce__()[1])

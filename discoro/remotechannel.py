"""A channel of another process: the same calls as on a local one."""

from __future__ import annotations

from typing import Any

from discoro import registry
from discoro.messages import ChannelDeliver, Done, Subscribe
from discoro.receiver import RemoteReceiver
from discoro.scheduler.checks import check_count, check_timeout
from discoro.shipping.values import dumps
from discoro.within import within


class RemoteChannel(RemoteReceiver):
    """A reference to a channel of another process."""

    __module__ = "discoro"
    __slots__ = ()

    async def deliver(self, msg: Any, timeout: float | None = None, n: int = 0) -> int:
        """Put a message into the mailboxes of all subscribers once there are ``n``; gives how many took it."""
        self.network.check_thread("deliver")
        check_timeout(timeout)
        check_count(n)
        answer = await self.network.requests.ask(
            self.peer(), ChannelDeliver(self.number, dumps(msg), n, timeout)
        )
        return answer.value or 0 if isinstance(answer, Done) else 0

    async def subscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Let a coroutine or channel, wherever it lives, get what is sent to this channel; gives 0."""
        return await self._change("subscribe", subscriber, timeout)

    async def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> int:
        """Take a subscriber out; gives 0."""
        return await self._change("unsubscribe", subscriber, timeout)

    async def _change(self, call: str, subscriber: Any, timeout: float | None) -> int:
        self.network.check_thread(call)
        if not callable(getattr(subscriber, "send", None)):
            raise TypeError(f"{subscriber!r} cannot subscribe: it has no send()")
        data = dumps(subscriber, "the subscriber")
        late = (
            f"channel {self.name} at {self.location} has not answered to {call} after {timeout} s"
        )
        async with within(timeout, lambda: late):
            message = Subscribe(self.number, data, call == "unsubscribe")
            await self.network.requests.ask(self.peer(), message)
        return 0


def resolve_channel(process: bytes, number: int, name: str, host: str, port: int) -> Any:
    """The channel (process, number): itself, if it lives here, else a reference.

    Pickles name this function: its name and arguments are part of the protocol.
    """
    home = registry.home(process)
    if home is not None:
        channel = home.scheduler.by_number.get(number)
        if channel is not None:
            return channel
    return RemoteChannel(home, process, number, name, (host, port) if port else None)


RemoteChannel.resolve = staticmethod(resolve_channel)

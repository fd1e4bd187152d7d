"""Channel as users see it: local channels whose subscribers may live anywhere, and references to remote ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from discoro import scheduler as _local
from discoro.localcoro import LocalCoro
from discoro.remotechannel import RemoteChannel, resolve_channel
from discoro.remotecoro import RemoteCoro

if TYPE_CHECKING:
    from discoro.peers.network import Network


class Channel(_local.Channel):
    """One message to everybody who has subscribed, here or in other processes.

    It lives where it is made. References to it can be sent along, and have the same methods. Nothing is kept for who
    subscribes later. What one sender sends arrives in order.

    Args:
        name: Its name; ``register()`` lets others find it with ``Channel.locate(name)``.
        transform: ``transform(name, message)`` gives what the subscribers get; None drops the message. One that raises drops
            it, too, and is logged.

    Raises:
        TypeError: If ``transform`` is no function.
    """

    __module__ = "discoro"

    @classmethod
    def _scheduler(cls) -> Any:
        return LocalCoro.home()

    def __reduce__(self) -> tuple[Any, ...]:
        elsewhere = self._elsewhere()
        number = self.scheduler.export(self)
        return resolve_channel, (elsewhere.process, number, self.name, *elsewhere.address())

    def _subscribe(self, subscriber: Any) -> int:
        super()._subscribe(subscriber)
        if isinstance(subscriber, RemoteCoro):
            self._elsewhere().when_ended(subscriber, self, self._unsubscribe)
        return 0

    def _unsubscribe(self, subscriber: Any) -> int:
        super()._unsubscribe(subscriber)
        if isinstance(subscriber, RemoteCoro):
            self._elsewhere().forget_end(subscriber, self)
        return 0

    def _elsewhere(self) -> Network:
        return cast("Network", self.scheduler.elsewhere)


__all__ = ["Channel", "RemoteChannel"]

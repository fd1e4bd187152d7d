"""What other processes may ask of coroutines and channels here."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from discoro.errors import DiscoroError, NoSuchCoro
from discoro.messages import (
    Adjust,
    ChannelDeliver,
    Done,
    Ended,
    Finish,
    Message,
    Subscribe,
    Watch,
)
from discoro.outcomes import NO_SUCH, encode_outcome
from discoro.scheduler import Channel, Coro
from discoro.shipping.values import loads

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.scheduler.outcome import Outcome

log = logging.getLogger("discoro.reachable")


class Reachable:
    """Answers for the coroutines and channels of one process."""

    def __init__(self, network: Network) -> None:
        self._network = network
        requests = network.requests
        requests.on(Finish, self._finish)
        requests.on(Watch, self._watch)
        requests.on(Subscribe, self._subscribe)
        requests.on(ChannelDeliver, self._deliver)
        requests.on(Adjust, self._adjust)

    def _finish(self, peer: Peer, message: Finish) -> Any:
        coro = self._network.scheduler.by_number.get(message.number)
        if isinstance(coro, Coro):
            return self._end_of(coro)
        outcome = self._network.ended(message.number)
        if outcome is None:
            return Ended(NO_SUCH, b"")
        return Ended(*encode_outcome(outcome))

    async def _end_of(self, coro: Coro[Any]) -> Message:
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def heard(_: Any, outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        coro.watch(ended, heard)
        try:
            return Ended(*encode_outcome(await ended))
        finally:
            coro.unwatch(ended)

    async def _watch(self, peer: Peer, message: Watch) -> Message:
        watcher = self._network.scheduler.by_number.get(message.number)
        if not isinstance(watcher, Coro):
            raise NoSuchCoro()
        self._network.watch_for(watcher, loads(message.observed))
        return Done()

    def _adjust(self, peer: Peer, message: Adjust) -> Message:
        coro = self._network.scheduler.by_number.get(message.number)
        if isinstance(coro, Coro):
            try:
                match message.call:
                    case "register":
                        coro.register(message.name)
                    case "unregister":
                        coro.unregister(message.name)
                    case "set_daemon":
                        coro.set_daemon(message.flag)
                    case "hot_swappable":
                        coro.hot_swappable(message.flag)
            except (DiscoroError, TypeError, ValueError) as error:
                log.warning("%s asked for %s of %s: %s", peer.name, message.call, coro.name, error)
        return Done()

    async def _subscribe(self, peer: Peer, message: Subscribe) -> Message:
        channel = self._channel(message.number)
        subscriber = loads(message.subscriber)
        if message.leave:
            await channel.unsubscribe(subscriber)
        else:
            await channel.subscribe(subscriber)
        return Done()

    async def _deliver(self, peer: Peer, message: ChannelDeliver) -> Message:
        channel = self._channel(message.number)
        return Done(await channel.deliver(loads(message.value), message.timeout, message.count))

    def _channel(self, number: int) -> Channel:
        channel = self._network.scheduler.by_number.get(number)
        if not isinstance(channel, Channel):
            raise DiscoroError("there is no such channel (any more)")
        return channel

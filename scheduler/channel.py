"""Channels: one message to everybody who has subscribed.

Anything with a ``send`` may subscribe: a coroutine, another channel, references to remote ones. What
also has an awaitable ``deliver(message, timeout)`` is asked by :meth:`Channel.deliver`, and what that
gives is summed up; so a hierarchy counts its end recipients. Nothing is kept for late subscribers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from . import default
from .checks import check_count, check_name, check_timeout
from .coro import Coro
from .errors import DiscoroError, NoSuchCoro
from .mailbox import Mark
from .outcome import Outcome
from .waits import Act, Wait

if TYPE_CHECKING:
    from .scheduler import Scheduler

Transform = Callable[[str, Any], Any]

logger = logging.getLogger("discoro.scheduler")

_DROPPED: Any = object()


class Channel:
    """A channel of this process.

    Args:
        name: Its name; :meth:`register` lets others find it.
        transform: ``transform(name, message)`` gives what the subscribers get; None drops the message.
    """

    def __init__(self, name: str, transform: Transform | None = None) -> None:
        check_name(name, "the name of a channel")
        self.scheduler: Scheduler = self._scheduler()
        self.name = name
        self.set_transform(transform)
        self.subscribers: dict[Any, None] = {}
        self.is_closed = False
        self._number = 0
        self._more: set[asyncio.Future[None]] = set()

    @classmethod
    def _scheduler(cls) -> Scheduler:
        """Find the scheduler of a new channel."""
        return cast("Scheduler", default.here())

    @property
    def number(self) -> int:
        """Its number, unique in the process, greater than 0."""
        if not self._number:
            self._number = self.scheduler.next_number()
        return self._number

    def set_transform(self, transform: Transform | None) -> int:
        """Change the transform, from the next message on; gives 0.

        Raises:
            TypeError: If it is neither a function nor None.
        """
        if transform is not None and not callable(transform):
            raise TypeError(f"a transform is a function of (name, message), not {transform!r}")
        self.transform = transform
        return 0

    # -- subscribers ------------------------------------------------------------------------------

    def subscribe(self, subscriber: Any, timeout: float | None = None) -> Wait:
        """Await: send to ``subscriber`` from now on; gives 0. A second time it changes nothing.

        Args:
            subscriber: A coroutine or channel, here or elsewhere, or anything with a ``send``. A coroutine is dropped when it ends.
            timeout: Seconds to wait for the process of the channel; here it is done at once.

        Raises:
            TypeError: If ``subscriber`` has no ``send``.
            DiscoroError: If two channels of one process would send to each other round and round.
            PeerLost: If the process of the channel is gone.
            TimeoutError: If it does not answer in time.
        """
        return Act("channel.subscribe()", self._subscribe, subscriber)

    def unsubscribe(self, subscriber: Any, timeout: float | None = None) -> Wait:
        """Await: send no more to ``subscriber``; gives 0, also if it had not subscribed.

        Args:
            subscriber: As for :meth:`subscribe`.
            timeout: Seconds to wait for the process of the channel.
        """
        return Act("channel.unsubscribe()", self._unsubscribe, subscriber)

    def _subscribe(self, subscriber: Any) -> int:
        self.scheduler.check_thread("subscribe")
        if not callable(getattr(subscriber, "send", None)):
            raise TypeError(f"{subscriber!r} cannot subscribe: it has no send()")
        if isinstance(subscriber, Channel) and subscriber._reaches(self):
            raise DiscoroError(
                f"channel {subscriber.name!r} sends to {self.name!r}: subscribing it there would "
                "send messages round and round"
            )
        self.subscribers[subscriber] = None
        if isinstance(subscriber, Coro):
            subscriber.watch(("channel", self), self._subscriber_ended)
        for future in self._more:
            if not future.done():
                future.set_result(None)
        return 0

    def _subscriber_ended(self, coro: Any, outcome: Outcome) -> None:
        self.subscribers.pop(coro, None)

    def _unsubscribe(self, subscriber: Any) -> int:
        self.scheduler.check_thread("unsubscribe")
        self.subscribers.pop(subscriber, None)
        if isinstance(subscriber, Coro):
            subscriber.unwatch(("channel", self))
        return 0

    def _reaches(self, other: Channel) -> bool:
        return self is other or any(
            sub._reaches(other) for sub in self.subscribers if isinstance(sub, Channel)
        )

    # -- messages ---------------------------------------------------------------------------------

    def send(self, msg: Any) -> int:
        """Send ``msg`` to those who have subscribed, without waiting; gives 0. May be called from any thread.

        A subscriber that does not keep up (``MailboxFull``) misses the message, which is logged; the others have it.
        """
        if get_ident() == self.scheduler.thread_id:
            self.put(msg)
        else:
            self.scheduler.call(self.put, msg)
        return 0

    def put(self, item: Any) -> None:
        """Take one message, or a :class:`~.mailbox.Mark`, for which nothing ever waits here."""
        if isinstance(item, Mark):
            item.taken()
            return
        message = self._transformed(item)
        if message is _DROPPED:
            return
        for subscriber in list(self.subscribers):
            try:
                subscriber.send(message)
            except Exception as error:  # one that does not keep up must not cost the others
                logger.warning("channel %s: not sent to %r: %s", self.name, subscriber, error)

    def _transformed(self, message: Any) -> Any:
        """What the subscribers get; a message may be None, one that a transform gives is dropped."""
        if self.is_closed:
            return _DROPPED
        if self.transform is None:
            return message
        try:
            message = self.transform(self.name, message)
        except Exception:
            logger.exception("channel %s: its transform failed; message dropped", self.name)
            return _DROPPED
        return _DROPPED if message is None else message

    async def deliver(self, msg: Any, timeout: float | None = None, n: int = 0) -> int:
        """Await: wait until ``n`` have subscribed, send to all, give how many took it in time.

        With fewer than ``n`` subscribers at the timeout nothing is sent, and it gives 0. Subscribers
        whose mailbox is full, or that are remote, may not have it by then: they are not counted. With a hierarchy of channels the
        last recipients count. Cancelling the wait takes nothing back that was sent.

        Args:
            msg: The message.
            timeout: Seconds for all of it; None: without end.
            n: Number of subscribers to wait for.

        Raises:
            PeerLost: If the process of the channel is gone. A subscriber whose process is gone is just not counted.
        """
        self.scheduler.check_thread("deliver")
        check_timeout(timeout)
        check_count(n)
        loop = self.scheduler.loop
        end = None if timeout is None else loop.time() + timeout
        if len(self.subscribers) < n and not await self._have(n, end):
            return 0
        msg = self._transformed(msg)
        if msg is _DROPPED:
            return 0
        left = None if end is None else max(0.0, end - loop.time())
        taken, waiting = 0, []
        for subscriber in list(self.subscribers):
            answer = self._hand(subscriber, msg, left)
            if isinstance(answer, int):
                taken += answer
            else:
                waiting.append(answer)
        if waiting:
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                taken += self._counted(result)
        return taken

    def _hand(self, subscriber: Any, message: Any, left: float | None) -> int | Awaitable[Any]:
        """Give one subscriber the message: how many took it, or an awaitable of that."""
        if isinstance(subscriber, Coro) and subscriber.has_room():
            subscriber.put(message)
            return 1
        deliver = getattr(subscriber, "deliver", None)
        try:
            if deliver is not None:
                answer: Awaitable[Any] = deliver(message, left)
                return answer
            subscriber.send(message)
        except Exception as error:
            return self._counted(error)
        return 1

    def _counted(self, result: Any) -> int:
        if isinstance(result, BaseException):
            if not isinstance(result, NoSuchCoro):
                logger.warning("channel %s: not delivered to a subscriber: %s", self.name, result)
            return 0
        return int(result)

    async def _have(self, n: int, end: float | None) -> bool:
        """Wait until ``n`` have subscribed; False at the point of time ``end``."""
        loop = self.scheduler.loop
        while len(self.subscribers) < n:
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return False
            more: asyncio.Future[None] = loop.create_future()
            self._more.add(more)
            try:
                await asyncio.wait([more], timeout=left)
            finally:
                self._more.discard(more)
        return True

    # -- names ------------------------------------------------------------------------------------

    def register(self, name: str | None = None) -> int:
        """Let others find this channel under ``name`` (default: its own); gives 0.

        Raises:
            NameTaken: If another channel of the process has that name; it keeps it.
        """
        self.scheduler.check_thread("register")
        self.scheduler.register("channel", self.name if name is None else name, self)
        return 0

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register`, with the same ``name``, back; gives 0. References that others have go on working."""
        self.scheduler.check_thread("unregister")
        self.scheduler.unregister("channel", self.name if name is None else name, self)
        return 0

    @classmethod
    def locate(cls, name: str, location: Any = None, timeout: float | None = None) -> Any:
        """Await: find the channel registered under a name, here or in any process that is there, or comes.

        Args:
            name: The name.
            location: Look only there; None: here first, then everywhere.
            timeout: Seconds to look; None: until there is one.

        Returns:
            The channel, or a reference to it; None after ``timeout`` seconds.

        Raises:
            PeerError: If ``location`` refuses us; the text says why. One where nobody answers is tried again.
        """
        return default.awaited("locate").find("channel", name, location, timeout)

    def close(self) -> int:
        """Forget the subscribers and the names; what is sent from now on is dropped; gives 0. Only in its own process."""
        self.scheduler.check_thread("close")
        self.is_closed = True
        for subscriber in list(self.subscribers):
            self._unsubscribe(subscriber)
        self.scheduler.forget_names(self)
        self.scheduler.by_number.pop(self._number, None)
        return 0

    def __repr__(self) -> str:
        return f"<Channel {self.name} with {len(self.subscribers)} subscribers>"

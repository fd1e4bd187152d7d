"""Requests between processes: one question, one answer, and giving up on either side.

The asking side keeps a future per request number; the answering side a task per request that takes time. Which
handler answers which message is a table, filled by the modules that answer: names, channels, files, the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from discoro import messages
from discoro.errors import ComputationClosed, DiscoroError, ProtocolViolation, from_transport
from discoro.messages import Message
from discoro.shipping.values import decode_exception, encode_exception
from discoro.transport.errors import TransportError
from discoro.transport.frames import Kind
from discoro.transport.limits import Limits

if TYPE_CHECKING:
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.requests")
M = TypeVar("M", bound=Message)
Answer = Message | Awaitable[Message]
Handler = Callable[["Peer", Any], Answer]

ANSWER, ERROR = 0, 1


class Requests:
    """The requests of one process: those that wait for an answer from elsewhere, and those being answered."""

    def __init__(self, most: int = Limits().max_requests) -> None:
        self._most = most
        self._handlers: dict[type[Message], Handler] = {}
        # Requests of others that are being worked on, by peer and number.
        self._tasks: dict[Peer, dict[int, asyncio.Task[None]]] = {}
        # Work that a notice caused: nobody waits for it.
        self._unasked: set[asyncio.Task[None]] = set()

    def on(self, kind: type[M], handler: Callable[[Peer, M], Answer]) -> None:
        """Let ``handler(peer, message)`` answer this kind: with a message, or an awaitable of one."""
        assert kind not in self._handlers, f"{kind.__name__} has a handler"
        self._handlers[kind] = handler

    def answers(self, kind: type[Message]) -> bool:
        """Whether somebody here answers this kind."""
        return kind in self._handlers

    # --- asking

    async def ask(self, peer: Peer, message: Message) -> Message:
        """Send a request and wait for its answer.

        Cancelling is safe: the other side is told, and a late answer is dropped.

        Raises:
            DiscoroError: What the other side answered with, or PeerLost.
        """
        peer.check()
        number = peer.next_number()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        peer.replies[number] = future
        try:
            peer.post(Kind.REQUEST, 0, number, message.encode())
            return await future
        except asyncio.CancelledError:
            # A cancel of whoever waits cancels the future, too.
            if peer.ended is None and (future.cancelled() or not future.done()):
                peer.post(Kind.CANCEL, number, 0, b"")
            raise
        finally:
            peer.replies.pop(number, None)

    def reply_came(self, peer: Peer, number: int, code: int, data: bytes | memoryview) -> None:
        """An answer came in: hand it to whoever waits for it, if anybody does."""
        future = peer.replies.get(number)
        if future is None or future.done():
            return
        if code != ANSWER:
            future.set_exception(decode_exception(data))
            return
        try:
            future.set_result(messages.decode(data))
        except TransportError as error:
            # Whoever asked must not wait for ever; that the peer broke the rules is the session's matter.
            future.set_exception(from_transport(error))
            raise

    # --- answering

    def request_came(self, peer: Peer, number: int, data: bytes | memoryview) -> None:
        """A request came in: answer it now, or start a task that will."""
        try:
            message = messages.decode(data)
            handler = self._handlers.get(type(message))
            if handler is None:
                raise ComputationClosed(
                    "this process hosts no computations: it runs no discoro_server. "
                    "Servers are started with: python -m discoro"
                )
            if len(self._tasks.get(peer, ())) >= self._most:
                raise DiscoroError(
                    f"{self._most} requests of this process wait for an answer here, as many as may"
                )
            if number in self._tasks.get(peer, ()):
                raise ProtocolViolation(f"request number {number} was used twice")
            answer = handler(peer, message)
        except Exception as error:
            self._refuse(peer, number, error)
            return
        if isinstance(answer, Message):
            peer.post(Kind.REPLY, number, ANSWER, answer.encode())
            return
        self._work(peer, number, answer, self._answer(peer, number, answer))

    def _work(
        self, peer: Peer, number: int, answer: object, work: Coroutine[Any, Any, None]
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        if isinstance(answer, Coroutine):
            # For one that is cancelled before its first step.
            task.add_done_callback(lambda _: answer.close())
        if number:
            self._tasks.setdefault(peer, {})[number] = task
            task.add_done_callback(lambda _: self._worked(peer, number))
        else:
            self._unasked.add(task)
            task.add_done_callback(self._unasked.discard)

    def _worked(self, peer: Peer, number: int) -> None:
        tasks = self._tasks.get(peer, {})
        tasks.pop(number, None)
        if not tasks:
            self._tasks.pop(peer, None)

    def notice_came(self, peer: Peer, data: bytes | memoryview) -> None:
        """A message that wants no answer came in."""
        message = messages.decode(data)
        handler = self._handlers.get(type(message))
        answer = None if handler is None else handler(peer, message)
        if isinstance(answer, Awaitable):
            self._work(peer, 0, answer, self._carry_out(answer))

    def cancel_came(self, peer: Peer, number: int) -> None:
        """The other side does not want the answer any more."""
        task = self._tasks.get(peer, {}).get(number)
        if task is not None:
            self._worked(peer, number)
            self._unasked.add(task)
            task.add_done_callback(self._unasked.discard)
            task.cancel()

    def peer_lost(self, peer: Peer) -> None:
        """Nobody is left to answer to."""
        for task in self._tasks.get(peer, {}).values():
            task.cancel()

    async def close(self) -> None:
        """Cancel everything that is being worked on, and wait until it has ended."""
        tasks = [*self._unasked]
        for peers in self._tasks.values():
            tasks += peers.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, peer: Peer, number: int, answer: Awaitable[Message]) -> None:
        try:
            message = await answer
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._refuse(peer, number, error)
        else:
            if peer.ended is None:
                peer.post(Kind.REPLY, number, ANSWER, message.encode())

    async def _carry_out(self, answer: Awaitable[Message]) -> None:
        try:
            await answer
        except Exception as error:
            log.debug("carrying out a notice failed: %s", error)

    def _refuse(self, peer: Peer, number: int, error: Exception) -> None:
        if not isinstance(error, (DiscoroError, TransportError, TimeoutError)):
            log.exception("answering a request of %s failed", peer, exc_info=error)
        if isinstance(error, TransportError):
            error = from_transport(error)
        if peer.ended is None:
            peer.post(Kind.REPLY, number, ERROR, encode_exception(error))

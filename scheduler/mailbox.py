"""Messages in order, and marks between them. Pure.

A mailbox is a deque that never has a mark at its front, so its truth value says whether a message
can be taken. It is created when the first message has to wait: an empty deque costs 760 bytes, and
most coroutines are handed what they wait for. The loop that runs coroutines takes messages by hand::

    message = mailbox.popleft()
    if mailbox.attention and (mailbox.awaited or (mailbox and isinstance(mailbox[0], Mark))):
        mailbox.attend()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Mark:
    """An entry that is no message: a place in the queue that somebody wants to hear of."""

    __slots__ = ()

    def taken(self) -> None:
        """Hear that everything put before this mark has been taken. Must not raise."""
        raise NotImplementedError


class Mailbox(deque[Any]):
    """Messages that wait, oldest first.

    Attributes:
        marks: How many of the entries are marks.
        attention: Not zero while :meth:`attend` may have something to do after a message was taken.
        awaited: Somebody waits for room: it has something to do.
    """

    __slots__ = ("_room", "attention", "awaited", "marks")

    def __init__(self) -> None:
        self.marks = 0
        self.attention = 0
        self.awaited = False
        self._room: list[Callable[[], None]] | None = None

    @property
    def messages(self) -> int:
        """How many messages wait, marks not counted."""
        return len(self) - self.marks

    def put_mark(self, mark: Mark) -> None:
        """Put a mark behind everything that waits; it is taken at once if nothing does."""
        if self:
            self.append(mark)
            self.marks += 1
            self.attention += 1
        else:
            mark.taken()

    def take(self) -> Any:
        """Take the oldest message.

        Raises:
            IndexError: If there is none.
        """
        message = self.popleft()
        if self.attention:
            self.attend()
        return message

    def put_back(self, message: Any) -> None:
        """Make ``message`` the oldest one again: it had been handed out, but was not used."""
        self.appendleft(message)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once when the next message is taken."""
        if self._room is None:
            self._room = []
            self.awaited = True
            self.attention += 1
        self._room.append(callback)

    def attend(self) -> None:
        """Tell the marks that have come to the front, and those who wait for room."""
        while self and isinstance(self[0], Mark):
            mark = self.popleft()
            self.marks -= 1
            self.attention -= 1
            mark.taken()
        if self._room is not None:
            callbacks, self._room = self._room, None
            self.awaited = False
            self.attention -= 1
            for callback in callbacks:
                callback()

"""Messages in order, and marks between them. Pure.

A mailbox is a deque of messages and nothing else; the marks stand beside it, each with the number of messages
before it. It is created when the first message has to wait: an empty deque costs 760 bytes, and most
coroutines are handed what they wait for. The loop that runs coroutines takes messages by hand::

    message = mailbox.popleft()
    if mailbox.attention:
        mailbox.attention -= 1
        if not mailbox.attention:
            mailbox.attend()
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Mark:
    """A place between messages that somebody wants to hear of."""

    __slots__ = ()

    def taken(self) -> None:
        """Hear that everything put before this mark has been taken. Must not raise."""
        raise NotImplementedError

    def dropped(self) -> None:
        """Hear that the receiver has ended: nothing is taken any more. Must not raise."""


class _Room(Mark):
    """Stands behind the oldest message: those who wait for room hear of it when that is taken."""

    __slots__ = ("callbacks",)

    def __init__(self) -> None:
        # In order, and to be found again: the values mean nothing.
        self.callbacks: dict[Callable[[], None], None] = {}

    def taken(self) -> None:
        callbacks, self.callbacks = self.callbacks, {}
        for callback in callbacks:
            callback()

    dropped = taken


class Mailbox(deque[Any]):
    """Messages that wait, oldest first.

    Attributes:
        attention: After so many more messages were taken :meth:`attend` has something to do; 0 while nobody wants to hear
            of anything.
    """

    __slots__ = ("_marks", "attention")

    def __init__(self) -> None:
        self.attention = 0
        # (place, mark), in order; none, nearly always. Places count messages from some moment in the past, and
        # the first place less `attention` is how many have been taken since then.
        self._marks: deque[tuple[int, Mark]] | None = None

    def put_mark(self, mark: Mark) -> None:
        """Put a mark behind everything that waits; it is taken at once if nothing does."""
        if not self:
            mark.taken()
        elif self.attention:
            assert self._marks is not None
            self._marks.append((self._marks[0][0] - self.attention + len(self), mark))
        else:
            self._begin(len(self), mark)

    def take(self) -> Any:
        """Take the oldest message.

        Raises:
            IndexError: If there is none.
        """
        message = self.popleft()
        if self.attention:
            self.attention -= 1
            if not self.attention:
                self.attend()
        return message

    def put_back(self, message: Any) -> None:
        """Make ``message`` the oldest one again: it had been handed out, but was not used."""
        self.appendleft(message)
        if self.attention:
            self.attention += 1

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once when there is room for one message more than now; a message must be there."""
        marks = self._marks
        if not self.attention:
            room = _Room()
            self._begin(1, room)
        else:
            assert marks is not None
            place, first = marks[0]
            if isinstance(first, _Room):
                room = first
            else:
                room = _Room()
                marks.appendleft((place - self.attention + 1, room))
                self.attention = 1
        room.callbacks[callback] = None

    def forget_room(self, callback: Callable[[], None]) -> None:
        """Take :meth:`on_room` back; ignored if it was told."""
        for _, mark in self._marks or ():
            if isinstance(mark, _Room):
                mark.callbacks.pop(callback, None)
                break  # there is one at most

    def _begin(self, place: int, mark: Mark) -> None:
        """Count from now on: this is the only mark."""
        if self._marks is None:
            self._marks = deque()
        self._marks.append((place, mark))
        self.attention = place

    def attend(self) -> None:
        """Tell the marks that have come to the front; ``attention`` has come down to 0."""
        marks = self._marks
        assert marks is not None
        place, _ = marks[0]
        due = []
        while marks and marks[0][0] == place:
            due.append(marks.popleft()[1])
        if marks:
            self.attention = marks[0][0] - place
        for mark in due:
            mark.taken()

    def end(self) -> None:
        """Drop all messages, and tell all marks so: nobody will take anything any more."""
        self.clear()
        self.attention = 0
        marks, self._marks = self._marks, None
        for _, mark in marks or ():
            mark.dropped()

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from discoro.scheduler.mailbox import Mailbox, Mark


class Noted(Mark):
    def __init__(self, log: list[object], name: object) -> None:
        self.log = log
        self.name = name

    def taken(self) -> None:
        self.log.append(("mark", self.name))


def test_a_mark_in_an_empty_mailbox_is_taken_at_once() -> None:
    log: list[object] = []
    mailbox = Mailbox()

    mailbox.put_mark(Noted(log, 1))

    assert log == [("mark", 1)] and not mailbox


@given(st.lists(st.sampled_from(["message", "mark", "take", "back"]), max_size=40))
def test_messages_and_marks_keep_their_order_and_no_mark_is_ever_in_front(steps: list[str]) -> None:
    """A mark is told exactly when the last message put before it has been taken."""
    log: list[object] = []
    mailbox = Mailbox()
    model: list[object] = []
    expected: list[object] = []
    for number, step in enumerate(steps):
        if step == "message":
            mailbox.append(number)
            model.append(number)
        elif step == "mark":
            mailbox.put_mark(Noted(log, number))
            model.append(("mark", number))
        elif step == "take" and mailbox:
            place = len(log)
            log.insert(place, mailbox.take())
            expected.append(model.pop(0))
        elif step == "back" and mailbox:
            mailbox.put_back(mailbox.popleft())
        while model and isinstance(model[0], tuple):
            expected.append(model.pop(0))

        assert log == expected
        assert mailbox.messages == sum(not isinstance(item, tuple) for item in model)
        assert not (mailbox and isinstance(mailbox[0], Mark))


def test_who_waits_for_room_is_told_once_when_a_message_is_taken() -> None:
    told: list[str] = []
    mailbox = Mailbox()
    mailbox.extend([1, 2])
    mailbox.on_room(lambda: told.append("room"))

    assert (mailbox.take(), mailbox.take(), told, mailbox.attention) == (1, 2, ["room"], 0)

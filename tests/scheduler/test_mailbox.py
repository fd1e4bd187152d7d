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

    def dropped(self) -> None:
        self.log.append(("dropped", self.name))


def test_a_mark_in_an_empty_mailbox_is_taken_at_once() -> None:
    log: list[object] = []
    mailbox = Mailbox()

    mailbox.put_mark(Noted(log, 1))

    assert log == [("mark", 1)] and not mailbox


STEPS = ["message", "mark", "take", "back", "room"]


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_marks_and_who_waits_for_room_are_told_in_their_places(steps: list[str]) -> None:
    """A mark is told exactly when the last message put before it has been taken; room, when the next one is."""
    log: list[object] = []
    mailbox = Mailbox()
    # Messages are numbers, all else is told when it comes to the front.
    model: list[object] = []
    expected: list[object] = []

    def take() -> int:
        place = len(log)
        message: int = mailbox.take()
        log.insert(place, message)
        expected.append(model.pop(0))
        while model and isinstance(model[0], tuple):
            expected.append(model.pop(0))
        return message

    for number, step in enumerate(steps):
        if step == "message":
            mailbox.append(number)
            model.append(number)
        elif step == "mark":
            mailbox.put_mark(Noted(log, number))
            (model if model else expected).append(("mark", number))
        elif step == "room" and mailbox:
            mailbox.on_room(lambda number=number: log.append(("room", number)))
            place = 1
            while place < len(model) and model[place] in rooms(model):
                place += 1
            model.insert(place, ("room", number))
        elif step == "take" and mailbox:
            take()
        elif step == "back" and mailbox:
            message = take()
            mailbox.put_back(message)
            model.insert(0, message)

        assert log == expected
        assert list(mailbox) == [item for item in model if not isinstance(item, tuple)]
        assert bool(mailbox.attention) == any(isinstance(item, tuple) for item in model)


def rooms(model: list[object]) -> list[object]:
    return [item for item in model if isinstance(item, tuple) and item[0] == "room"]


def test_who_waits_for_room_is_told_once_when_a_message_is_taken() -> None:
    told: list[str] = []
    mailbox = Mailbox()
    mailbox.extend([1, 2])
    mailbox.on_room(lambda: told.append("room"))

    assert (mailbox.take(), mailbox.take(), told, mailbox.attention) == (1, 2, ["room"], 0)


def test_who_still_finds_no_room_may_wait_again_while_being_told() -> None:
    told: list[int] = []
    mailbox = Mailbox()
    mailbox.extend([1, 2, 3])

    def again() -> None:
        told.append(len(mailbox))
        if len(told) < 2:
            mailbox.on_room(again)

    mailbox.on_room(again)
    mailbox.put_mark(Noted(log := [], "behind"))

    assert (mailbox.take(), mailbox.take(), told) == (1, 2, [2, 1])
    assert (mailbox.take(), log, mailbox.attention) == (3, [("mark", "behind")], 0)


def test_all_marks_are_told_that_nobody_takes_any_more_when_the_mailbox_ends() -> None:
    log: list[object] = []
    mailbox = Mailbox()
    mailbox.extend([1, 2])
    mailbox.put_mark(Noted(log, 1))
    mailbox.append(3)
    mailbox.put_mark(Noted(log, 2))
    mailbox.on_room(lambda: log.append("room"))
    mailbox.end()

    assert log == ["room", ("dropped", 1), ("dropped", 2)]
    assert (list(mailbox), mailbox.attention) == ([], 0)

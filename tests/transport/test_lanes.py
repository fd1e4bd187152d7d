"""Grants: a silent receiver stops its own senders and nobody else, within a budget."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.errors import LaneFull, ProtocolError
from discoro.transport.lanes import LEAST_GRANT, Budget, InLane, OutLane
from discoro.transport.limits import KIB, Limits

LIMITS = Limits()


def entry(number: int) -> tuple[int, int, int, bytes]:
    return (1, 7, number, b"")


def test_a_message_may_begin_while_there_is_credit_and_overshoot_once() -> None:
    lane = OutLane(LIMITS, 100)
    assert lane.take(60) and lane.take(60) and not lane.take(1)
    assert lane.credit == -20


def test_what_waits_keeps_its_order_and_leaves_with_the_grant() -> None:
    lane = OutLane(LIMITS, 10)
    assert lane.take(100)
    for number in range(4):
        lane.queue(entry(number), 50)
    assert not lane.take(1), "nobody overtakes"
    assert lane.grant(90) == [] and lane.grant(10) == [entry(0)]
    assert lane.grant(60) == [entry(1)] and lane.queued == 100
    assert lane.grant(1000) == [entry(2), entry(3)]
    lane.validate()


def test_an_entry_that_needs_no_grant_waits_only_for_those_before_it() -> None:
    lane = OutLane(LIMITS, 10)
    lane.take(100)
    lane.queue(entry(1), 50)
    lane.wait(entry(2), 0)
    lane.queue(entry(3), 50)
    assert lane.grant(91) == [entry(1), entry(2)]
    lane.validate()


def test_too_much_waiting_is_refused_and_queues_nothing() -> None:
    lane = OutLane(Limits(lane_queue=100), 0)
    lane.take(LEAST_GRANT)
    lane.queue(entry(1), 99)
    lane.queue(entry(2), 99)
    with pytest.raises(LaneFull) as caught:
        lane.queue(entry(3), 1)
    assert (caught.value.waiting, caught.value.limit) == (198, 100)
    lane.wait(entry(4), 1)
    assert lane.drain() == [entry(1), entry(2), entry(4)] and lane.queued == 0


def test_a_waiting_entry_can_be_taken_back_and_one_that_left_cannot() -> None:
    lane = OutLane(LIMITS, 10)
    lane.take(100)
    first, second = entry(1), entry(2)
    lane.queue(first, 50)
    lane.wait(second, 0)
    assert lane.withdraw(first) and not lane.withdraw(first)
    assert lane.queued == 0 and lane.ready() == [second]


def test_a_window_grows_while_its_receiver_takes() -> None:
    budget = Budget(LIMITS)
    lane = InLane(LIMITS, budget, LIMITS.first_grant)
    windows = []
    for _ in range(6):
        while not (due := lane.came(4096)):
            pass
        lane.taken(due)
        lane.validate()
        windows.append(lane.window // KIB)
    assert windows == [128, 256, 512, 1024, 1024, 1024]
    assert budget.given == 1 << 20
    lane.close()
    assert budget.given == 0


def test_a_sender_without_a_grant_breaks_the_rules() -> None:
    lane = InLane(LIMITS, Budget(LIMITS), LIMITS.first_grant)
    lane.came(LIMITS.first_grant - 1)
    lane.came(10 << 20)  # one message over
    with pytest.raises(ProtocolError):
        lane.came(1)


def test_grants_stay_within_the_budget_and_new_lanes_get_less() -> None:
    limits = Limits(grant_budget=100 << 20)
    budget = Budget(limits)
    lanes = [InLane(limits, budget, budget.first_grant()) for _ in range(1000)]
    for _ in range(8):
        for lane in lanes:
            due = lane.came(max(1, lane.window >> 2))
            lane.taken(due)
            lane.validate()
    assert budget.given <= budget.total
    assert budget.first_grant() < limits.first_grant
    for lane in lanes:
        lane.close()
    assert budget.given == 0


def test_lanes_give_back_when_the_budget_is_low() -> None:
    limits = Limits(grant_budget=8 << 20)
    budget = Budget(limits)
    lane = InLane(limits, budget, limits.first_grant)
    for _ in range(6):
        due = lane.came(lane.window >> 2)
        lane.taken(due)
    grown = lane.window
    budget.open(7 << 20)
    for _ in range(40):
        due = lane.came(lane.window >> 2)
        lane.taken(due)
        lane.validate()
    assert grown == limits.most_grant and lane.window == limits.first_grant


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([64, 70, 1000, 20_000, 200_000])), max_size=120
    ),
    st.sampled_from([None, LEAST_GRANT, 10_000, 65_536]),
)
@settings(max_examples=150, deadline=None)
def test_every_message_arrives_in_order_and_nothing_is_stuck(
    steps: list[tuple[int, int]], announced: int | None
) -> None:
    """Sender, a mailbox with marks, receiver: whatever the order of events, all of it is taken in the end."""
    budget = Budget(LIMITS)
    out, taking = OutLane(LIMITS, announced), InLane(LIMITS, budget, announced)
    mailbox: deque[tuple[str, int]] = deque()
    sizes: dict[int, int] = {}
    sent = taken = 0

    def arrive(number: int) -> None:
        mailbox.append(("message", number))
        due = taking.came(sizes[number])
        if due:
            mailbox.append(("mark", due))

    def take() -> None:
        nonlocal taken
        what, number = mailbox.popleft()
        if what == "mark":
            for _, _, ready, _ in out.grant(taking.taken(number)):
                arrive(ready)
        else:
            assert number == taken
            taken += 1

    for what, size in steps:
        if what and (out.queued < LIMITS.lane_queue):
            sizes[sent] = size
            if out.take(size):
                arrive(sent)
            else:
                out.queue(entry(sent), size)
            sent += 1
        elif mailbox:
            take()
        out.validate()
        taking.validate()
    while mailbox:
        take()
    assert taken == sent and not out.waiting

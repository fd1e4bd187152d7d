"""The checker finds what it is there for: a history that keeps all promises, and each promise broken in it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.checker import RULES, check, figures
from tests.chaos.history import Event

RUN = "client-0.0/1/7"
OTHER = "client-0.0/1/8"
LIVES = "client-0.0"
SERVER = "server-100"


def conversation(run: str, outcome: str, began: float, count: int = 3) -> list[Event]:
    """A run that keeps every promise."""
    at = iter(began + n / 100 for n in range(1000))
    events = [
        Event(next(at), LIVES, "asked", run, 1),
        Event(next(at), SERVER, "started", run, 100),
        Event(next(at), LIVES, "watched", run, "own"),
        Event(next(at), LIVES, "watched", run, "watchman"),
    ]
    for number in range(count):
        events += [
            Event(next(at), LIVES, "sent", run, number),
            Event(next(at), SERVER, "got", run, number),
            Event(next(at), SERVER, "answered", run, number),
            Event(next(at), LIVES, "received", run, number),
        ]
    events.append(Event(next(at), LIVES, "delivered", run, [count - 1, 1]))
    ends = {"StopIteration": "returned", "ValueError": "raised", "PeerLost": "cancelled"}
    events.append(Event(next(at), SERVER, ends[outcome], run, count))
    events += [Event(next(at), LIVES, "down", run, [who, outcome]) for who in ("own", "watchman")]
    events.append(Event(next(at), LIVES, "outcome", run, [outcome, count]))
    return events


def fault(at: float, kind: str, seconds: float = 0.0, **more: Any) -> Event:
    facts = {"kind": kind, "servers": [1], "clients": [], "seconds": seconds, "pids": [], **more}
    return Event(at, "driver", "fault", "", facts)


def history() -> list[Event]:
    """Two runs that came to their own end, one that was lost with its session, and one that was refused."""
    refused = "client-0.0/1/9"
    census = {"coroutines": 3, "descriptors": 20, "files": 0}
    return [
        Event(0.0, "driver", "census", "", [1, "before", census]),
        *conversation(RUN, "StopIteration", 10.0),
        *conversation(OTHER, "ValueError", 20.0),
        fault(30.0, "partition", 90.0, clients=[0]),
        *[
            event._replace(at=event.at + 70)
            for event in conversation("client-0.0/1/5", "PeerLost", 29.0)
        ],
        Event(99.5, LIVES, "asked", refused, 1),
        Event(99.6, LIVES, "outcome", refused, ["ComputationClosed", None]),
        Event(130.0, LIVES, "usable", "", 1),
        Event(131.0, LIVES, "farewell"),
        Event(140.0, "driver", "census", "", [1, "after", census]),
    ]


def first(events: list[Event], kind: str, run: str = RUN) -> int:
    return next(i for i, event in enumerate(events) if event.kind == kind and event.run == run)


def last(events: list[Event], kind: str, run: str = RUN) -> int:
    return max(i for i, event in enumerate(events) if event.kind == kind and event.run == run)


def without(*kinds: str, run: str = RUN) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [e for e in events if e.run != run or e.kind not in kinds]


def twice(kind: str) -> Callable[[list[Event]], list[Event]]:
    def change(events: list[Event]) -> list[Event]:
        again = events[first(events, kind)]
        return [*events, again._replace(at=again.at + 0.5)]

    return change


def changed(kind: str, run: str = RUN, **new: Any) -> Callable[[list[Event]], list[Event]]:
    def change(events: list[Event]) -> list[Event]:
        at = last(events, kind, run)
        return [*events[:at], events[at]._replace(**new), *events[at + 1 :]]

    return change


def swapped(kind: str) -> Callable[[list[Event]], list[Event]]:
    """The first two of this kind change places."""

    def change(events: list[Event]) -> list[Event]:
        one = first(events, kind)
        two = one + 1 + first(events[one + 1 :], kind)
        events[one], events[two] = (
            events[one]._replace(at=events[two].at),
            events[two]._replace(at=events[one].at),
        )
        return events

    return change


def plus(*more: Event) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [*events, *more]


def last_number(*kinds: str) -> Callable[[list[Event]], list[Event]]:
    """The last message of the run leaves no trace of these kinds."""
    return lambda events: [
        e for e in events if not (e.run == RUN and e.kind in kinds and e.detail == 2)
    ]


def no_partition(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind != "fault"]


def short_partition(events: list[Event]) -> list[Event]:
    return [*no_partition(events), fault(80.0, "partition", 20.0, clients=[0])]


def elsewhere(events: list[Event]) -> list[Event]:
    return [*no_partition(events), fault(30.0, "partition", 90.0, servers=[2], clients=[0])]


BROKEN: dict[str, tuple[str, Callable[[list[Event]], list[Event]]]] = {
    "no outcome": ("an_outcome_is_told_once", without("outcome")),
    "two outcomes": ("an_outcome_is_told_once", twice("outcome")),
    "never asked for": ("an_outcome_is_told_once", without("asked")),
    "two starts": ("a_run_starts_at_most_once", twice("started")),
    "started and refused": (
        "what_was_refused_has_not_started",
        plus(Event(99.55, SERVER, "started", "client-0.0/1/9", 100)),
    ),
    "returned and did not": ("what_was_reported_as_finished_did_run", without("returned")),
    "raised and did not": ("what_was_reported_as_finished_did_run", without("raised", run=OTHER)),
    "another value": ("what_was_reported_as_finished_did_run", changed("returned", detail=4)),
    "an end that nobody planned": (
        "what_was_reported_as_finished_did_run",
        changed("outcome", detail=["KeyError", "x"]),
    ),
    "runs still": ("a_started_run_comes_to_an_end", without("returned")),
    "ended twice": ("a_started_run_comes_to_an_end", plus(Event(15.0, SERVER, "cancelled", RUN))),
    "got twice": ("a_lane_is_in_order", twice("got")),
    "received twice": ("a_lane_is_in_order", twice("received")),
    "overtaken on the way there": ("a_lane_is_in_order", swapped("got")),
    "overtaken on the way back": ("a_lane_is_in_order", swapped("received")),
    "a gap": ("a_lane_is_in_order", lambda e: e[: first(e, "got")] + e[first(e, "got") + 1 :]),
    "never sent": ("a_lane_is_in_order", last_number("sent")),
    "lost on the way there": ("nothing_is_lost_while_both_live", last_number("got")),
    "lost on the way back": ("nothing_is_lost_while_both_live", last_number("received")),
    "a delivery that gave 0": (
        "a_delivery_without_a_time_limit_gives_1_or_raises",
        changed("delivered", detail=[2, 0]),
    ),
    "a silent monitor": ("a_monitor_fires_once", without("down")),
    "a monitor fired twice": ("a_monitor_fires_once", twice("down")),
    "a monitor of nobody": ("a_monitor_fires_once", without("watched")),
    "a monitor of nothing": (
        "a_monitor_fires_once",
        plus(Event(100.0, LIVES, "down", "", ["watchman", "PeerLost"])),
    ),
    "another end for monitors": (
        "monitors_and_outcomes_agree",
        changed("down", detail=["watchman", "PeerLost"]),
    ),
    "a message after the end": ("a_monitor_fires_after_all_messages", changed("received", at=12.0)),
    "lost without a reason": ("who_is_lost_was_killed_or_out_of_reach", no_partition),
    "lost after a short while": ("who_is_lost_was_killed_or_out_of_reach", short_partition),
    "lost, and others were cut off": ("who_is_lost_was_killed_or_out_of_reach", elsewhere),
    "killed, and nobody did it": (
        "who_is_lost_was_killed_or_out_of_reach",
        changed("outcome", "client-0.0/1/5", detail=["ServerKilled", ""]),
    ),
    "an unusable server": (
        "everybody_is_usable_afterwards",
        lambda events: [event for event in events if event.kind != "usable"],
    ),
    "nobody came to his end": (
        "everybody_is_usable_afterwards",
        lambda events: [event for event in events if event.kind != "farewell"],
    ),
    "terminated by nobody": (
        "what_was_reported_as_finished_did_run",
        changed("outcome", detail=["Terminated", ""]),
    ),
    "handed on, and it never came": (
        "what_was_handed_on_came_unless_there_was_no_way",
        plus(Event(15.0, LIVES, "terminated", RUN, "stuck")),
    ),
    "a coroutine is left": (
        "nothing_is_left",
        plus(Event(141.0, "driver", "census", "", [1, "after", {"coroutines": 4}])),
    ),
    "a file is left": (
        "nothing_is_left",
        plus(Event(141.0, "driver", "census", "", [1, "after", {"files": 1}])),
    ),
}


def test_a_history_that_keeps_all_promises_passes() -> None:
    assert check(history()) == []
    assert figures(history())["runs"] == 4


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    rule, change = BROKEN[name]
    found = check(change(history()))
    assert any(text.startswith(f"{rule}: ") for text in found), found


def test_each_rule_has_been_broken() -> None:
    assert {rule for rule, _ in BROKEN.values()} == {rule.__name__ for rule in RULES}


def test_who_was_killed_need_not_have_heard() -> None:
    """A client that was killed has heard of nothing more; what it had started was cancelled."""
    events = [
        event for event in history() if event.who != LIVES or event.run != RUN or event.at < 10.05
    ]
    events = [e for e in events if not (e.who == SERVER and e.run == RUN and e.kind != "started")]
    events = [event for event in events if event.kind not in ("farewell", "usable")]
    events += [Event(12.0, SERVER, "cancelled", RUN), Event(130.0, "client-1.1", "usable", "", 1)]
    events += [Event(131.0, "client-1.1", "farewell")]
    assert check(events) == []


def test_a_run_in_a_killed_process_need_not_end() -> None:
    killed = fault(10.06, "kill server", pids=[100])
    lost = {"StopIteration": "ServerKilled"}
    events = [
        event._replace(detail=[event.detail[0], lost[event.detail[1]]])
        if event.kind == "down" and event.run == RUN
        else event
        for event in without("returned", "outcome")(history())
    ]
    told = Event(13.0, LIVES, "outcome", RUN, ["ServerKilled", ""])
    assert check([*events, killed, told]) == []


def test_a_server_may_die_behind_its_result() -> None:
    """The last message was a big one, and on its way still: the monitor that waits behind it is told of the death."""
    events = last_number("received")(history())
    at = first(events, "down")
    events[at] = events[at]._replace(detail=["own", "ServerKilled"])
    assert check(events)
    assert check([*events, fault(10.1, "kill server", pids=[100])]) == []


def test_who_hands_on_may_die_with_what_he_had_not_handed_over() -> None:
    stuck = Event(15.0, LIVES, "terminated", RUN, "stuck")
    asked = Event(10.0, LIVES, "asked", f"{RUN}-hands-on", 2)
    told = Event(10.2, LIVES, "outcome", f"{RUN}-hands-on", ["PeerLost", None])
    broken = "what_was_handed_on_came_unless_there_was_no_way: "
    lives = check([*history(), stuck])
    dies = check([*history(), stuck, asked, told, fault(10.1, "kill server", servers=[2])])
    assert any(text.startswith(broken) for text in lives) and dies == []

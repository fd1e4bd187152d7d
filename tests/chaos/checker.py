"""Proves on a history that what is promised was kept. Pure: events in, violations out.

Each rule is a function that is given the history, ordered by run and by process, and says what it has against it. A history that
breaks none of them is a proof only of what is in it: :func:`figures` says how much that is.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.chaos.history import Event

#: Ends that say that a run has not started, and ends that say that nobody knows.
NOT_STARTED = {"ComputationClosed", "PeerUnreachable", "RunRefused", "PeerBusy"}
LOST = {"PeerLost", "ServerKilled"}
OWN_END = {"StopIteration", "ValueError"}

PATIENCE = 50.0  # shorter outages must be survived: a session is kept for 60 s
AFTERMATH = 10.0  # two outages less than this apart count as one: dialling again takes a while
MEANWHILE = (
    15.0  # a run may be asked for so long after its server was killed, before the client knows
)


class History:
    """Events, ordered as the rules want them."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.at)
        self.runs: dict[str, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self.kinds: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            self.kinds[event.kind].append(event)
            if event.run:
                self.runs[event.run][event.kind].append(event)
        self.faults = [event.detail | {"at": event.at} for event in self.kinds["fault"]]
        self.clients = 1 + max((_client(event) for event in self.kinds["asked"]), default=0)
        self.lived = {event.who for event in self.kinds["farewell"]}
        self.last = self.events[-1].at if self.events else 0.0

    def of(self, run: str, kind: str) -> list[Event]:
        """What of this kind happened to a run."""
        return self.runs[run].get(kind, []) if run in self.runs else []

    def outcome(self, run: str) -> str:
        """The name of the type of a run's outcome; empty where none was told."""
        told = self.of(run, "outcome")
        return str(told[0].detail[0]) if told else ""

    def killed(self, server: int, begin: float, end: float) -> bool:
        """Whether a server was killed in that time."""
        return any(
            fault["kind"] == "kill server"
            and server in fault["servers"]
            and begin <= fault["at"] <= end
            for fault in self.faults
        )

    def killed_process(self, pid: int) -> float | None:
        """When a process was killed."""
        for fault in self.faults:
            if fault["kind"].startswith("kill") and pid in fault["pids"]:
                return float(fault["at"])
        return None

    def outage(self, client: int, server: int, begin: float, end: float) -> float:
        """The longest time within these bounds in which the two could not, or not for long enough, talk."""
        longest, since, until = 0.0, None, 0.0
        for fault in self.faults:
            befalls = (server in fault["servers"] or not fault["servers"]) and (
                client in fault["clients"] or not fault["clients"]
            )
            if not befalls or not fault["seconds"]:
                continue
            ends = fault["at"] + fault["seconds"]
            if since is None or fault["at"] > until + AFTERMATH:
                since = fault["at"]
            until = max(until, ends)
            if until >= begin and since <= end:
                longest = max(longest, until - since)
        return longest

    def may_be_lost(self, run: str, end: float, *, killed: bool = False) -> bool:
        """Whether something happened by then that may cost the session of a run; ``killed``: its server's end alone counts."""
        asked = self.of(run, "asked")[0]
        begin = asked.at - MEANWHILE
        if self.killed(asked.detail, begin, end):
            return True
        return not killed and self.outage(_client(asked), asked.detail, begin, end) >= PATIENCE


def _client(event: Event) -> int:
    """The number of the client that wrote it, which those that take its place keep."""
    return int(event.who.split("-")[1].split(".")[0])


Rule = Callable[[History], Iterator[str]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Count a function among the rules."""
    RULES.append(function)
    return function


def check(events: Iterable[Event]) -> list[str]:
    """Return all that contradicts the promises; an empty list where nothing does."""
    history = History(events)
    return [f"{each.__name__}: {text}" for each in RULES for text in each(history)]


def figures(events: Iterable[Event]) -> dict[str, Any]:
    """How much there is in a history."""
    history = History(events)
    return {
        "faults": dict(Counter(fault["kind"] for fault in history.faults)),
        "runs": len(history.kinds["asked"]),
        "outcomes": dict(Counter(event.detail[0] for event in history.kinds["outcome"])),
        "messages sent": len(history.kinds["sent"]) + len(history.kinds["answered"]),
        "messages received": len(history.kinds["got"]) + len(history.kinds["received"]),
        "delivered": len(history.kinds["delivered"]),
        "monitors": len(history.kinds["down"]),
    }


@rule
def an_outcome_is_told_once(history: History) -> Iterator[str]:
    """To a client that lived: exactly once; to one that was killed: at most once. And nobody hears of what he did not ask."""
    for run in history.runs:
        asked, told = history.of(run, "asked"), history.of(run, "outcome")
        if not asked:
            yield f"{run} was never asked for"
        elif len(told) > 1:
            yield f"{run} ended {len(told)} times: {[event.detail for event in told]}"
        elif not told and asked[0].who in history.lived:
            yield f"{run} has no outcome"


@rule
def a_run_starts_at_most_once(history: History) -> Iterator[str]:
    for run in history.runs:
        if len(started := history.of(run, "started")) > 1:
            yield f"{run} started {len(started)} times, in {[event.who for event in started]}"


@rule
def what_was_refused_has_not_started(history: History) -> Iterator[str]:
    for run in history.runs:
        if history.outcome(run) in NOT_STARTED and history.of(run, "started"):
            yield f"{run} has started, and {history.outcome(run)} says that it has not"


@rule
def what_was_reported_as_finished_did_run(history: History) -> Iterator[str]:
    for run in history.runs:
        outcome = history.outcome(run)
        returned, raised = history.of(run, "returned"), history.of(run, "raised")
        if outcome == "StopIteration":
            if not returned:
                yield f"{run} is said to have returned, and has not"
            elif returned[0].detail != history.of(run, "outcome")[0].detail[1]:
                yield f"{run} returned {returned[0].detail}, which is not what was told"
        elif outcome == "ValueError" and not raised:
            yield f"{run} is said to have raised, and has not"
        elif outcome == "Terminated" and not history.of(run, "terminated"):
            yield f"{run} is said to be terminated, and nobody did it"
        elif outcome not in {"", *OWN_END, "Terminated", *LOST, *NOT_STARTED}:
            yield f"{run} ended with {history.of(run, 'outcome')[0].detail}"


@rule
def a_started_run_comes_to_an_end(history: History) -> Iterator[str]:
    """In a server process that lived on: it returned, raised, or was cancelled; once."""
    for run in history.runs:
        for started in history.of(run, "started"):
            ends = [*history.of(run, "returned"), *history.of(run, "raised")]
            ends += history.of(run, "cancelled")
            if len(ends) > 1:
                yield f"{run} ended {len(ends)} times at its server"
            elif not ends and history.killed_process(started.detail) is None:
                yield f"{run} runs still in {started.who}, which was not killed"


@rule
def a_lane_is_in_order(history: History) -> Iterator[str]:
    """What arrives is what was sent, from the first on, without a gap, and nothing twice."""
    for run in history.runs:
        for sent, arrived in (("sent", "got"), ("answered", "received")):
            there = [event.detail for event in history.of(run, arrived)]
            if there != list(range(len(there))):
                yield f"{run}: {arrived} {there}"
            begun = {event.detail: event.at for event in history.of(run, sent)}
            for event in history.of(run, arrived):
                if begun.get(event.detail, event.at + 1) > event.at:
                    yield f"{run}: {event.detail} was {arrived} and had not been {sent}"


@rule
def nothing_is_lost_while_both_live(history: History) -> Iterator[str]:
    """A run that came to its own end has had every message; and where its end was told to a monitor, so was all that it said."""
    for run in history.runs:
        if history.outcome(run) not in OWN_END:
            continue
        # The server may have died behind its result, with a big message still on its way: then the monitor says so.
        told = any(e.detail[0] == "own" and e.detail[1] in OWN_END for e in history.of(run, "down"))
        for sent, arrived in (("sent", "got"), ("answered", "received"))[: 1 + told]:
            missing = {e.detail for e in history.of(run, sent)} - {
                e.detail for e in history.of(run, arrived)
            }
            if missing:
                yield f"{run}: {sorted(missing)} {sent}, and never {arrived}"


@rule
def a_delivery_without_a_time_limit_gives_1_or_raises(history: History) -> Iterator[str]:
    for event in history.kinds["delivered"]:
        if event.detail[1] != 1:
            yield f"{event.run}: deliver of {event.detail[0]} gave {event.detail[1]}"


@rule
def a_monitor_fires_once(history: History) -> Iterator[str]:
    for run in history.runs:
        fired = Counter(event.detail[0] for event in history.of(run, "down"))
        for event in history.of(run, "watched"):
            count = fired.pop(event.detail, 0)
            if count > 1 or (count == 0 and event.who in history.lived):
                yield f"{run}: the monitor of {event.detail} fired {count} times"
        if fired:
            yield f"{run}: monitors fired that nobody had set: {sorted(fired)}"
    if strange := [event for event in history.kinds["down"] if not event.run]:
        yield f"monitors of nothing: {strange}"


@rule
def monitors_and_outcomes_agree(history: History) -> Iterator[str]:
    for run in history.runs:
        outcome = history.outcome(run)
        for event in history.of(run, "down"):
            died_behind_it = outcome in OWN_END and event.detail[1] in LOST
            if died_behind_it and history.may_be_lost(run, event.at):
                continue
            if outcome and event.detail[1] != outcome:
                yield f"{run}: {outcome} was told, and {event.detail[1]} to the monitor of {event.detail[0]}"


@rule
def a_monitor_fires_after_all_messages(history: History) -> Iterator[str]:
    for run in history.runs:
        for down in history.of(run, "down"):
            if down.detail[0] == "own":
                late = [e.detail for e in history.of(run, "received") if e.at > down.at]
                if late:
                    yield f"{run}: {late} came after its end"


@rule
def who_is_lost_was_killed_or_out_of_reach(history: History) -> Iterator[str]:
    """A session survives everything but the death of an end, and an outage longer than its patience."""
    for run in history.runs:
        outcome = history.outcome(run)
        if outcome not in LOST or not history.of(run, "asked"):
            continue
        told = history.of(run, "outcome")[0]
        if not history.may_be_lost(run, told.at, killed=outcome == "ServerKilled"):
            yield f"{run}: {told.detail}, and nothing had happened that may cost a session"


@rule
def what_was_handed_on_came_unless_there_was_no_way(history: History) -> Iterator[str]:
    """Between two servers as well: a run waits in vain only where a session between them was lost, or the speaker's process."""
    for run in history.runs:
        for event in history.of(run, "terminated"):
            server = history.of(run, "asked")[0].detail
            begin, end = history.of(run, "asked")[0].at - MEANWHILE, event.at
            speakers = history.of(f"{run}-hands-on", "asked")
            if any(history.killed(one.detail, begin, end) for one in speakers):
                continue
            if event.detail == "stuck" and not any(
                history.outage(client, server, begin, end) >= PATIENCE
                for client in range(history.clients)
            ):
                yield f"{run}: all was handed on, and not all came"


@rule
def everybody_is_usable_afterwards(history: History) -> Iterator[str]:
    servers = {event.detail[0] for event in history.kinds["census"]}
    if not history.lived:
        yield "no client came to its end"
    for who in sorted(history.lived):
        seen = {event.detail for event in history.kinds["usable"] if event.who == who}
        if missing := sorted(servers - seen):
            yield f"{who} could not use servers {missing}"


#: What a server may hold beyond what it held before: the connection of the census before may be closing still, the three servers
#: beside it are its peers once runs have talked to each other (with a connection, and one with a task for big messages, each), and the
#: threads that asyncio keeps for blocking calls come as they are needed.
SLACK = {
    "descriptors": 1 + 2 * 3,
    "peers": 3,
    "tasks": 3,
    "memory": 64 << 20,
    "threads": 4 + (os.cpu_count() or 1),
}


def left(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """What is there that was not there before."""
    return [
        f"{key} were {before.get(key)}, are {value}"
        for key, value in after.items()
        if value > before.get(key, 0) + SLACK.get(key, 0)
    ]


@rule
def nothing_is_left(history: History) -> Iterator[str]:
    held: dict[tuple[int, str], dict[str, int]] = {}
    for event in history.kinds["census"]:
        server, when, found = event.detail
        held[server, when] = found
    for (server, when), found in held.items():
        if when == "after":
            for text in left(held.get((server, "before"), {}), found):
                yield f"server {server}: {text}"

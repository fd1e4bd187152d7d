"""Which computations a server has: no order of events leaves a run or a computation behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from discoro.errors import ComputationClosed, RunRefused, SetupRefused
from discoro.hosting import Hosted, Hosting, State

OWNER = b"o" * 16


def ready(hosting: Hosting, computation: bytes = b"c" * 16, owner: bytes = OWNER) -> Hosted:
    hosted = hosting.offer(computation, owner, "work")
    hosting.begin(hosted)
    hosting.ready(hosted)
    return hosted


def test_a_computation_goes_from_offer_to_ready_and_is_forgotten() -> None:
    hosting = Hosting(max_runs=10, max_computations=10)
    hosted = ready(hosting)
    assert hosting.for_run(hosted.handle, OWNER) is hosted
    assert hosting.offer(b"c" * 16, OWNER, "work") is hosted
    assert hosting.close(hosted) == []
    with pytest.raises(ComputationClosed):
        hosting.for_run(hosted.handle, OWNER)
    with pytest.raises(SetupRefused, match="being closed"):
        hosting.offer(b"c" * 16, OWNER, "work")
    assert hosting.abandon(hosted)
    hosting.forget(hosted)
    assert hosting.counts() == {"computations": 0, "runs": 0}
    assert hosting.offer(b"c" * 16, OWNER, "work") is not hosted


def test_nobody_else_may_run_or_find_it() -> None:
    hosting = Hosting(max_runs=10, max_computations=10)
    hosted = ready(hosting)
    with pytest.raises(ComputationClosed):
        hosting.for_run(hosted.handle, b"x" * 16)
    with pytest.raises(ComputationClosed):
        hosting.find(hosted.computation, b"x" * 16)
    with pytest.raises(SetupRefused, match="another client"):
        hosting.offer(hosted.computation, b"x" * 16, "work")


def test_there_are_only_so_many_runs_and_computations() -> None:
    hosting = Hosting(max_runs=2, max_computations=2)
    hosted = ready(hosting)
    for number in (1, 2):
        hosting.started(hosting.for_run(hosted.handle, OWNER), [number], False)
    with pytest.raises(RunRefused, match="2 runs"):
        hosting.for_run(hosted.handle, OWNER)
    hosting.ended(1)
    hosting.for_run(hosted.handle, OWNER)
    ready(hosting, b"d" * 16)
    with pytest.raises(SetupRefused, match="close some"):
        hosting.offer(b"e" * 16, OWNER, "work")
    hosting.offer(b"e" * 16, b"x" * 16, "of another client")


def test_a_lost_client_takes_its_runs_with_it_but_not_the_detached_ones() -> None:
    hosting = Hosting(max_runs=10, max_computations=10)
    hosted = ready(hosting)
    other = ready(hosting, b"d" * 16, b"x" * 16)
    hosting.started(hosted, [1], False)
    hosting.started(hosted, [2], True)
    hosting.started(other, [3], False)
    gone, doomed = hosting.owner_lost(OWNER)
    assert (gone, doomed) == ([hosted], [1])
    assert not hosting.abandon(hosted)
    assert hosting.ended(1) is None
    assert hosting.ended(2) is hosted  # now it can go
    hosting.forget(hosted)
    assert hosting.for_run(other.handle, b"x" * 16) is other


def test_the_last_run_does_not_end_a_computation_that_somebody_closes() -> None:
    hosting = Hosting(max_runs=10, max_computations=10)
    hosted = ready(hosting)
    hosting.started(hosted, [1], False)
    assert hosting.close(hosted) == [1]
    assert hosting.owner_lost(OWNER) == ([], [])
    assert hosting.ended(1) is None
    assert hosting.abandon(hosted)


class Life(RuleBasedStateMachine):
    """Any order of what a server does and what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.hosting = Hosting(max_runs=4, max_computations=3)
        self.running: set[int] = set()
        self.closers: list[Hosted] = []
        self.last_run = 0

    def hosted(self, index: int) -> Hosted | None:
        known = list(self.hosting)
        return known[index % len(known)] if known else None

    @rule(name=st.integers(0, 5), owner=st.integers(0, 1))
    def offer(self, name: int, owner: int) -> None:
        try:
            self.hosting.offer(bytes([name]) * 16, bytes([owner]) * 16, "work")
        except SetupRefused:
            pass

    @rule(index=st.integers(0, 9), works=st.booleans())
    def set_up(self, index: int, works: bool) -> None:
        hosted = self.hosted(index)
        if hosted is None or hosted.state is not State.OFFERED:
            return
        self.hosting.begin(hosted)
        if works:
            self.hosting.ready(hosted)
        else:
            self.hosting.close(hosted)
            self.hosting.forget(hosted)

    @rule(index=st.integers(0, 9), detach=st.booleans())
    def run_one(self, index: int, detach: bool) -> None:
        hosted = self.hosted(index)
        if hosted is None:
            return
        try:
            found = self.hosting.for_run(hosted.handle, hosted.owner)
        except (ComputationClosed, RunRefused):
            return
        self.last_run += 1
        self.hosting.started(found, [self.last_run], detach)
        self.running.add(self.last_run)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_one(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(number)
        waiting = self.hosting.ended(number)
        if waiting is not None:
            self.hosting.forget(waiting)

    @rule(index=st.integers(0, 9))
    def begin_to_close(self, index: int) -> None:
        hosted = self.hosted(index)
        if hosted is not None and hosted.state is State.READY:
            self.hosting.close(hosted)
            self.closers.append(hosted)

    @precondition(lambda self: self.closers)
    @rule()
    def finish_closing(self) -> None:
        hosted = self.closers.pop()
        if self.hosting.abandon(hosted):
            self.hosting.forget(hosted)

    @rule(owner=st.integers(0, 1))
    def lose(self, owner: int) -> None:
        gone, _ = self.hosting.owner_lost(bytes([owner]) * 16)
        for hosted in gone:
            if self.hosting.abandon(hosted):
                self.hosting.forget(hosted)

    @invariant()
    def is_sound(self) -> None:
        self.hosting.validate()

    def teardown(self) -> None:
        for owner in (0, 1):
            self.lose(owner)
        while self.closers:
            self.finish_closing()
        for number in sorted(self.running):
            waiting = self.hosting.ended(number)
            if waiting is not None:
                self.hosting.forget(waiting)
        assert self.hosting.counts() == {"computations": 0, "runs": 0}


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

"""When a server process has taken too much: the decision, without any process."""

from __future__ import annotations

import pytest

from discoro.node.guard import BEAT_EVERY, LAST_WORDS, Bounds, Excess, Guard, checked, frames

GIB = 1 << 30


def blocked_for(
    guard: Guard, seconds: float, *, every: float = 0.25, stopped: bool = False
) -> Excess | None:
    """Let a loop not answer for so long; return what the guard says at last."""
    now, end = 100.0, 100.0 + seconds
    assert guard.beat_due(now)
    while now < end:
        now += every
        if (excess := guard.look(now, 0, stopped=stopped)) is not None:
            return excess
    return None


def test_without_bounds_there_is_nothing_to_guard() -> None:
    assert not Bounds() and not checked(None, None)
    assert Bounds(max_stall=2.0) and Bounds(max_rss=GIB)
    guard = Guard(Bounds(max_rss=GIB), 100.0)
    assert not guard.beat_due(100.0)


def test_memory_is_too_much_only_beyond_the_bound() -> None:
    guard = Guard(Bounds(max_rss=2 * GIB), 100.0)
    assert guard.look(100.1, 2 * GIB, stopped=False) is None
    excess = guard.look(100.2, 2 * GIB + GIB // 10, stopped=False)
    assert str(excess) == "it took 2.1 GiB of memory, more than --max-rss 2 GiB"


def test_who_it_was_is_waited_for_as_long_as_memory_does_not_grow() -> None:
    guard = Guard(Bounds(max_rss=2 * GIB), 100.0)
    excess = guard.look(100.1, 3 * GIB, stopped=False)
    assert excess is not None
    assert not excess.urgent(0.1, 3 * GIB + GIB // 2)
    assert excess.urgent(0.1, 3 * GIB + GIB // 2 + 1)
    assert not excess.urgent(LAST_WORDS - 0.1, 3 * GIB)
    assert excess.urgent(LAST_WORDS, 0)
    blocked = blocked_for(Guard(Bounds(max_stall=3.0), 99.9), 4.0)
    assert blocked is not None
    assert not blocked.urgent(LAST_WORDS - 0.1, 100 * GIB) and blocked.urgent(LAST_WORDS, 0)


def test_a_loop_that_does_not_answer_is_blocked_from_when_it_was_asked() -> None:
    guard = Guard(Bounds(max_stall=3.0), 99.9)
    assert blocked_for(guard, 3.0) is None
    assert str(guard.look(103.25, 0, stopped=False)) == (
        "its loop was blocked for 3.25 s, longer than --max-stall 3 s"
    )


def test_a_loop_that_answers_is_asked_again_and_never_blamed() -> None:
    guard = Guard(Bounds(max_stall=1.0), 100.0)
    now, beats = 100.0, 0
    for _ in range(100):
        if guard.beat_due(now):
            beats += 1
            assert not guard.beat_due(now)  # one at a time
            guard.answered()
        assert guard.look(now, 0, stopped=False) is None
        now += 0.1
    assert 8 / BEAT_EVERY <= beats <= 10 / BEAT_EVERY + 1


def test_a_stopped_server_has_done_nothing_wrong_and_time_counts_from_its_going_on() -> None:
    guard = Guard(Bounds(max_stall=3.0), 99.9)
    assert blocked_for(guard, 60.0, stopped=True) is None
    said = [guard.look(160.0 + 0.5 * step, 0, stopped=False) for step in range(1, 8)]
    assert said[:6] == [None] * 6 and said[6] is not None


def test_time_in_which_the_parent_stood_still_is_not_held_against_a_server() -> None:
    guard = Guard(Bounds(max_stall=3.0), 99.9)
    assert blocked_for(guard, 2.0) is None
    assert guard.look(1000.0, 0, stopped=False) is None
    guard.answered()
    assert guard.look(1000.25, 0, stopped=False) is None


@pytest.mark.parametrize(
    ("max_rss", "max_stall", "said"),
    [
        (0, None, "--max-rss 0 B"),
        (64 << 20, None, "128 MiB"),
        (None, 0.0, "1 s"),
        (None, 0.9, "0.9 s"),
    ],
)
def test_bounds_that_no_server_could_live_within_are_refused(
    max_rss: int | None, max_stall: float | None, said: str
) -> None:
    with pytest.raises(ValueError, match="or leave it out") as caught:
        checked(max_rss, max_stall)
    assert said in str(caught.value)


def test_bounds_read_well() -> None:
    assert str(Bounds(2 * GIB, 30.0)) == (
        "takes more than 2 GiB (--max-rss) or blocks for longer than 30 s (--max-stall)"
    )


def test_a_stack_that_was_written_in_c_is_read_innermost_first() -> None:
    dump = (
        "Stack (most recent call first):\n"
        '  File "/home/me/my work.py", line 12 in fill\n'
        "  ...\n"
        '  File "<string>", line 1 in <module>\n'
        "garbage {\n"
    )
    assert frames(dump) == [("/home/me/my work.py", 12, "fill"), ("<string>", 1, "<module>")]
    assert frames("") == []

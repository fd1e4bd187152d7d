"""Reports of a server process to its parent, with stacks between and in the middle of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from discoro.node.guard import frames
from discoro.node.reports import Reports, report

STACK = (
    "Current thread 0x00007f31a5596fc0 (most recent call first):",
    '  File "/home/me/jobs.py", line 20 in block',
    '  File "/opt/discoro/scheduler/stepping.py", line 130 in _drain',
)
BLOCKED = {"seconds": 1.5, "file": "/home/me/jobs.py", "line": 20, "whose": "coroutine {é}"}


def test_a_report_in_the_middle_of_a_line_of_a_stack_costs_neither() -> None:
    """The thread that knew whose coroutine it was had answered, and its answer was taken for a part of the stack."""
    reports = Reports()
    text = "\n".join([*STACK, ""]).encode()
    at = text.index(b"jobs.py")
    assert reports.feed(text[:at]) == [STACK[0]]
    assert reports.feed(report("who", BLOCKED)) == [("who", BLOCKED)]
    assert reports.feed(text[at:]) == list(STACK[1:])


@given(
    st.lists(st.integers(0, len("\n".join([*STACK, ""]))), max_size=6),
    st.lists(st.integers(0, 1000), max_size=20),
)
def test_whatever_comes_between_and_however_it_is_cut(places: list[int], cuts: list[int]) -> None:
    text = "\n".join([*STACK, ""]).encode()
    written, before = b"", 0
    for number, place in enumerate(sorted(places)):
        written += text[before:place] + report("who", {**BLOCKED, "number": number})
        before = place
    written += text[before:]

    reports = Reports()
    found: list[tuple[str, dict[str, Any]] | str] = []
    bounds = [0, *sorted(cut for cut in cuts if cut < len(written)), len(written)]
    for first, last in pairwise(bounds):
        found += reports.feed(written[first:last])
    said = [one for one in found if isinstance(one, str)]
    assert [one[1]["number"] for one in found if not isinstance(one, str)] == list(
        range(len(places))
    )
    assert said == list(STACK)
    assert frames("\n".join(said))[0] == ("/home/me/jobs.py", 20, "block")


def test_a_report_that_was_torn_is_left_out_and_the_next_is_taken() -> None:
    torn = report("counts", {"runs": 1})[:20] + b'  File "/home/me/jobs.py", line 20 in block\n'
    assert Reports().feed(torn + report("beat", {})) == [("beat", {})]

"""The text of ``status``: what it shows, and that it fits."""

from __future__ import annotations

from typing import Any

import pytest

from discoro.cli.statustext import Column, cut, duration, numbers, printable, status_text, table

NOW = 1_000_000.0
BUSY = {"seconds": 12.0, "file": "/home/me/primes.py", "line": 12, "function": "work"}
WORK = {
    "id": "ab" * 16,
    "name": "work",
    "client": "laptop-4711",
    "since": NOW - 720,
    "state": "ready",
    "runs": 2,
}
WAITING = {
    "name": "work",
    "number": (1 << 40) + 7,
    "file": "/home/me/project/primes.py",
    "line": 12,
    "function": "work",
    "waits_in": "receive",
    "mailbox": 3,
    "computation": "work",
    "client": "laptop-4711",
}
CLIENT = {
    "id": "cd" * 16,
    "name": "laptop-4711",
    "role": "program",
    "address": ["192.168.1.5", 51234],
    "state": "connected",
}
SERVER: dict[str, Any] = {
    "name": "bob-1",
    "pid": 811,
    "state": "running",
    "addresses": [["0.0.0.0", 9700], ["::", 9700]],
    "rss": 63 << 20,
    "max_rss": None,
    "max_stall": None,
    "restarts": 0,
    "last_end": None,
    "blocked": None,
    "busy": None,
    "stopped": False,
    "silent": False,
    "counts": {"computations": 2, "coroutines": 14, "peers": 1},
    "as_of": 0.01,
    "computations": [WORK],
    "coroutines": [WAITING],
    "more_coroutines": 0,
    "peers": [CLIENT],
}
DEAD = {
    **SERVER,
    "name": "bob-2",
    "pid": None,
    "state": "waiting to restart",
    "restarts": 2,
    "counts": {},
    "last_end": "ended by SIGSEGV (signal 11)",
    "as_of": None,
    "computations": [],
    "coroutines": [],
    "peers": [],
}
NODE = {
    "name": "bob",
    "state": "running",
    "pid": 810,
    "cluster": "default",
    "version": "0.1.0",
    "python": "3.11.7",
    "udp_port": 51350,
    "seconds": 3700.0,
    "servers": [
        SERVER,
        DEAD,
        {**SERVER, "name": "bob-3", "busy": BUSY, "as_of": 12.5},
        {**SERVER, "name": "bob-4", "stopped": True, "addresses": [], "as_of": None},
    ],
}


def shown(*servers: dict[str, Any], **more: Any) -> list[str]:
    node = {**NODE, "servers": list(servers)} if servers else NODE
    return status_text([node], NOW, **more).splitlines()


def row_of(lines: list[str], first: str) -> list[str]:
    return next(line for line in lines if line.split()[:1] == [first]).split()


def test_a_node_says_what_it_is_and_each_server_what_it_does() -> None:
    lines = shown()
    assert lines[0] == "node bob: running, up 1 h 1 min, pid 810, cluster default"
    assert lines[1] == "  discoro 0.1.0, Python 3.11.7, UDP port 51350"
    assert row_of(lines, "bob-1") == ["bob-1", "811", "9700", "2", "14", "1", "running"]
    assert row_of(lines, "bob-2")[:6] == ["bob-2", "-", "9700", "-", "-", "-"]
    assert "      restarted 2 times; the process before ended by SIGSEGV (signal 11)" in lines
    assert row_of(lines, "bob-3")[-4:] == ["busy", "for", "12", "s"]
    assert "      at /home/me/primes.py:12 in work" in lines
    assert "      it does not say what runs in it; shown is what it said 12 s ago" in lines
    assert row_of(lines, "bob-4")[2] == "-"
    assert "stopped (SIGSTOP)" in "".join(lines) and "      kill -CONT 811 lets it go on" in lines
    assert "      it does not say what runs in it" in lines
    assert status_text([], NOW) == ""


def test_what_a_server_may_take_stands_beside_what_it_takes() -> None:
    lines = shown({**SERVER, "max_rss": 2 << 30, "max_stall": 30.0}, {**DEAD, "max_rss": 2 << 30})
    assert (
        "      has 63 MiB of memory; is ended if it takes more than 2 GiB (--max-rss) "
        "or blocks for longer than 30 s (--max-stall)"
    ) in lines
    assert "--max" not in "".join(shown())
    assert sum("--max" in line for line in lines) == 1


def test_a_server_that_not_even_a_thread_answers_for_is_busy() -> None:
    lines = shown({**SERVER, "silent": True, "as_of": None})
    assert row_of(lines, "bob-1")[-1] == "busy"
    assert "      none of its threads runs: C code that keeps Python's lock, perhaps" in lines


def test_a_computation_and_a_client_stand_once_however_many_servers_have_them() -> None:
    busy = {**CLIENT, "state": "busy"}
    lines = shown(SERVER, DEAD, SERVER, {**SERVER, "peers": [busy]})
    assert row_of(lines, "work") == ["work", "laptop-4711", "1,3-4", "12", "min", "6", "ready"]
    assert row_of(lines, "laptop-4711")[2:] == (
        ["192.168.1.5:51234", "connected:", "1,3;", "busy:", "4"]
    )


def test_coroutines_with_the_longest_mailboxes_come_first_and_the_others_are_counted() -> None:
    others = [
        {**WAITING, "name": f"w{number}", "number": number, "mailbox": number}
        for number in range(30)
    ]
    lines = shown({**SERVER, "coroutines": others, "more_coroutines": 70}, DEAD, most=5, width=100)
    at = next(number for number, line in enumerate(lines) if "waits in" in line)
    assert [line.split()[0] for line in lines[at + 1 : at + 6]] == [
        "w29",
        "w28",
        "w27",
        "w26",
        "w25",
    ]
    assert lines[at + 6] == "  and 95 more"
    assert lines[at + 1].split() == [
        *("w29", "29", "1", "/home/me/project/primes.py:12", "receive", "29", "laptop-4711")
    ]


def test_an_idle_node_has_no_empty_tables() -> None:
    idle = {**SERVER, "computations": [], "coroutines": [], "peers": []}
    assert len(shown(idle)) == 5


@pytest.mark.parametrize("width", [80, 100])
def test_everything_fits_the_width(width: int) -> None:
    long = {
        **WAITING,
        "name": "a_function_with_a_long_name",
        "waits_in": "finish of another_one",
        "file": "/home/somebody/projects/number_theory/primes.py",
        "mailbox": 123_456,
        "client": "a-laptop-of-somebody-else-123456",
    }
    server = {
        **SERVER,
        "name": "some-machine-in-the-cellar-12",
        "coroutines": [long],
        "peers": [{**CLIENT, "name": "a-laptop-of-somebody-else-123456"}],
        "computations": [{**WORK, "name": "x" * 60, "client": "y" * 60}],
    }
    lines = shown(server, {**server, "state": "waiting to restart"}, width=width)
    assert max(map(len, lines)) <= width, "\n".join(lines)
    assert any("primes.py:12" in line for line in lines)  # of a path the end is what tells


def test_names_cannot_move_the_cursor() -> None:
    lines = shown({**SERVER, "peers": [{**CLIENT, "name": "evil\x1b[2J\nnode x"}]})
    assert "\x1b" not in "".join(lines) and any("evil?[2J?node x" in line for line in lines)
    assert printable("née 東京") == "née 東京"


def test_a_table_cuts_only_what_may_be_cut() -> None:
    columns = (Column("a", cut="end"), Column("number", right=True), Column("path", cut="start"))
    heading, row = table(columns, [("abcdefghij", "1", "/x/y/z.py:1")], 29)
    assert heading.split() == ["a", "number", "path"] and len(row) == 29
    first, number, path = row.split()
    assert first.startswith("abcd") and first.endswith("..")
    assert number == "1" and row.index("1  ") == heading.index("number") + 5
    assert path.startswith("..") and path.endswith(".py:1")
    assert table((Column("a"),), [("abcdef",)], 4)[1].strip() == "abcdef"


def test_a_cut_text_keeps_the_end_that_matters() -> None:
    assert cut("/home/me/a.py:1", 9, "start") == "../a.py:1"
    assert cut("abcdef", 5) == "abc.." and cut("abcdef", 6) == "abcdef" and cut("abc", 2) == "ab"


@pytest.mark.parametrize(
    ("found", "text"), [([], ""), ([1], "1"), ([1, 2, 3, 5, 7, 8], "1-3,5,7-8")]
)
def test_numbers_stand_as_ranges(found: list[int], text: str) -> None:
    assert numbers(found) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text

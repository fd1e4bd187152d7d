"""ledger: names, owners, quotas, and what a killed process leaves for the next one to know."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.errors import FileRefused, NameHeld, QuotaExceeded, UnsafePath
from discoro.transport.ledger import FILES, Ledger
from discoro.transport.limits import Limits

LIMITS = Limits(max_file_size=100, max_files=3, max_files_bytes=250, free_space=1000)
PLENTY = 1 << 40


def sha(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


def hold(ledger: Ledger, owner: str, *files: tuple[str, int, str], free: int = PLENTY) -> None:
    wanted = [(name, size, sha(content)) for name, size, content in files]
    ledger.check(owner, wanted, free)
    for name, size, digest in wanted:
        ledger.take(owner, name, size, digest)


def test_each_quota_holds_at_its_limit_and_not_one_beyond() -> None:
    hold(Ledger(LIMITS), "a", ("x", 100, "x"))
    hold(Ledger(LIMITS), "a", ("x", 100, "x"), ("y", 100, "y"), ("z", 50, "z"), free=1250)
    cases = [
        ([("x", 101, "x")], PLENTY, (100, 101)),
        ([("x", 100, "x"), ("y", 100, "y"), ("z", 51, "z")], PLENTY, (250, 251)),
        ([(name, 1, name) for name in "wxyz"], PLENTY, (3, 4)),
        ([("x", 100, "x"), ("y", 100, "y")], 1199, (199, 200)),
    ]
    for files, free, figures in cases:
        ledger = Ledger(LIMITS)
        with pytest.raises(QuotaExceeded) as caught:
            hold(ledger, "a", *files, free=free)
        assert (caught.value.limit, caught.value.needed) == figures
        assert len(ledger) == 0


def test_quotas_are_of_each_owner_and_come_back() -> None:
    ledger = Ledger(LIMITS)
    for owner in "ab":
        hold(ledger, owner, *[(f"{owner}{n}", 80, "x") for n in range(3)])
    with pytest.raises(QuotaExceeded):
        hold(ledger, "a", ("more", 1, "x"))

    assert ledger.drop("a", "a0") is True
    hold(ledger, "a", ("more", 1, "x"))
    assert (ledger.usage("a").files, ledger.usage("a").size) == (3, 161)


def test_the_same_name_with_other_content_is_refused_and_the_holder_named() -> None:
    ledger = Ledger(LIMITS)
    hold(ledger, "first", ("data.csv", 5, "one"))

    for name, size, content in (
        ("data.csv", 5, "two"),
        ("DATA.csv", 5, "one"),
        ("data.csv/x", 1, "x"),
    ):
        with pytest.raises(NameHeld, match="computation first"):
            hold(ledger, "second", (name, size, content))


def test_a_folder_that_is_in_use_is_no_name_for_a_file() -> None:
    ledger = Ledger(LIMITS)
    hold(ledger, "first", ("a/b/c", 5, "one"))

    with pytest.raises(NameHeld, match="computation first"):
        hold(ledger, "second", ("a/B", 5, "two"))


def test_the_same_content_is_shared_until_the_last_owner_goes() -> None:
    ledger = Ledger(LIMITS)
    for owner in ("one", "two", FILES):
        hold(ledger, owner, ("x", 5, "same"))

    assert [ledger.drop(owner, "x") for owner in ("two", "two", FILES, "one")] == [
        False,
        False,
        False,
        True,
    ]
    assert len(ledger) == 0


def test_names_that_meet_in_one_set_and_bad_names_are_refused() -> None:
    with pytest.raises(NameHeld):
        hold(Ledger(LIMITS), "a", ("x", 1, "x"), ("X", 1, "x"))
    with pytest.raises(UnsafePath):
        hold(Ledger(LIMITS), "a", ("../x", 1, "x"))


def test_what_was_left_behind_may_be_replaced() -> None:
    ledger = Ledger(LIMITS)
    hold(ledger, "one", ("x", 5, "old"))
    assert ledger.drop("one", "x", keep=True) is False

    hold(ledger, "two", ("x", 6, "new"))

    entry = ledger.get("x")
    assert entry is not None and entry.replace and entry.sha256 == sha("new")


def test_a_file_that_is_sent_without_its_hash_counts_and_is_nobodys_until_it_is_known() -> None:
    ledger = Ledger(LIMITS)
    entry = ledger.take(FILES, "x", 100, b"")

    assert (ledger.usage(FILES).files, ledger.usage(FILES).size) == (1, 100)
    with pytest.raises(FileRefused, match="at this moment"):
        hold(ledger, "comp", ("x", 100, "same"))
    ledger.identify(entry, sha("same"))
    hold(ledger, "comp", ("x", 100, "same"))
    assert entry.owners == {FILES, "comp"}


def test_the_journal_knows_a_file_from_when_its_hash_is_known() -> None:
    """One that was on its way when its process was killed is nothing to the next process."""
    ledger = Ledger(LIMITS)
    ledger.take(FILES, "half", 5, b"")
    given_up = ledger.take(FILES, "given/up", 5, b"")
    ledger.drop(FILES, given_up.name)
    assert ledger.journal() == ledger.snapshot() == ""

    whole = ledger.take(FILES, "whole", 5, b"")
    ledger.identify(whole, sha("same"))
    text = ledger.journal()
    for journal in (text, ledger.snapshot()):
        again = Ledger(LIMITS)
        assert again.replay(journal) == []
        assert [(entry.name, entry.sha256) for entry in again.entries()] == [("whole", sha("same"))]


actions = st.tuples(
    st.sampled_from(["take", "drop", "keep", "send", "identify"]),
    st.sampled_from(["c1", "c2", FILES]),
    st.sampled_from(["x", "y", "d/z"]),
    st.sampled_from(["p", "q"]),
)


@settings(max_examples=200)
@given(st.lists(actions, max_size=30), st.integers(0, 40))
def test_the_journal_of_a_killed_process_tells_what_its_computations_held(
    script: list[tuple[str, str, str, str]], torn: int
) -> None:
    ledger, text = Ledger(LIMITS), ""
    for action, owner, name, content in script:
        try:
            entry = ledger.get(name)
            if action == "take":
                hold(ledger, owner, (name, 5, content))
            elif action == "send":
                if entry is None:
                    ledger.check(FILES, [(name, 5, b"")], PLENTY)
                    ledger.take(FILES, name, 5, b"")
            elif action == "identify":
                if entry is not None and entry.owners and not entry.sha256:
                    ledger.identify(entry, sha(content))
            else:
                ledger.drop(owner, name, keep=action == "keep")
        except FileRefused:
            pass
        text += ledger.journal()

    again = Ledger(LIMITS)
    dead = again.replay(text + '["+", "c9", "torn'[:torn])

    held = {entry.name for entry in ledger.entries() if entry.owners and FILES not in entry.owners}
    assert set(dead) == held
    assert {entry.name: entry.sha256 for entry in again.entries()} == {
        entry.name: entry.sha256
        for entry in ledger.entries()
        if entry.name not in held and entry.sha256
    }
    assert set(again.owners()) <= {FILES}
    third = Ledger(LIMITS)
    assert third.replay(again.journal()) == []
    assert {entry.name for entry in third.entries()} == {entry.name for entry in again.entries()}


def test_a_journal_that_is_rubbish_or_hostile_does_no_harm() -> None:
    lines = [
        "",
        "null",
        "[]",
        "{}",
        '["+"]',
        '["+", "c", "../../etc/passwd", 5, "00"]',
        '["+", 3, "x", "y", "z"]',
        '["-", "c", "x"]',
        "\ufffd",
    ]

    assert Ledger(LIMITS).replay("\n".join(lines)) == []

"""paths: the table of hostile names, generated ones, and what a user's own path becomes."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.errors import NameHeld, UnsafePath
from discoro.transport.limits import Limits
from discoro.transport.paths import check_together, folded, joined, safe_parts, wire_name

LIMITS = Limits()

HOSTILE = [
    "", "/", "//", ".", "..", "./x", "../x", "x/..", "x/../y", "x/./y", "x//y", "x/", "/x", "/etc/passwd", "//host/share",
    "../../../../../../etc/passwd", "a/../../b", "..\\x", "a\\b", "\\\\host\\share", "C:x", "C:\\x", "c:/x", "x:stream", "a/b:c",
    "x\0", "\0", "x\0.txt", "a\nb", "a\rb", "a\tb", "\x1b[2J", "\x7f", "a\x85b", "a\u2028b", "a\u2029b", "\u202etxt.exe",
    "a\u200fb", "\u2066x", "\ud800", "a\udcffb", "a\u0301", "A\u030a", "\u1100\u1161", "con", "CON", "Con.txt", "nul", "NUL.tar.gz",
    "aux", "prn", "com1", "COM9.log", "lpt1", "LPT3.x", "com\u00b9", "conin$", "a/nul/b", "nul .txt", "x.", "x ", "x/y.", "x. /y",
    "...", ". .", ".. ", "../", " /..", "x" * 256, "\u00e9" * 128, "a/" * 16 + "a", "/".join(["a" * 250] * 5),
    ".part-0123456789abcdef", ".PART-x", "a/.part-1", "~/../x", "a/b/c/../../../../d",
]  # fmt: skip

FINE = [
    "x", "data.csv", "a/b/c.txt", ".hidden", "..x", "x..y", "~x", "$HOME", "a b", "-rf", "*", "\u00e9", "\u65e5\u672c/\u8a9e.txt",
    "\U0001f469\u200d\U0001f52c", "x" * 255, "\u00e9" * 127, "/".join(["a"] * 16), "console", "com10", "nulls.txt", "a.nul", "conin",
    "part-x", "%2e%2e/x", "a;b", "`id`", "x|y", "#x",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(UnsafePath) as caught:
        safe_parts(name, LIMITS)

    assert caught.value.reason


@pytest.mark.parametrize("name", FINE, ids=ascii)
def test_an_honest_name_is_cut_at_its_slashes(name: str) -> None:
    assert safe_parts(name, LIMITS) == tuple(name.split("/"))


@pytest.mark.parametrize("thing", [None, 3, b"x", ["x"], Path("x")], ids=repr)
def test_what_is_no_text_is_refused(thing: object) -> None:
    with pytest.raises(UnsafePath):
        safe_parts(thing, LIMITS)  # type: ignore[arg-type]


def test_lengths_count_in_bytes_up_to_the_limit_and_not_beyond() -> None:
    limits = Limits(path_bytes=10, path_parts=2, path_part_bytes=6)

    assert safe_parts("abcdef/ghi", limits) == ("abcdef", "ghi")
    for name in ("abcdef/ghij", "abcdefg", "a/b/c", "\u00e9\u00e9\u00e9\u00e9"):
        with pytest.raises(UnsafePath):
            safe_parts(name, limits)


pieces = st.one_of(
    st.sampled_from(
        [
            "..",
            ".",
            "",
            "/",
            "//",
            "\\",
            ":",
            "\0",
            "nul",
            "a",
            "x.txt",
            "~",
            " ",
            ".part-",
            "\u0301",
        ]
    ),
    st.text(max_size=6),
)


@settings(max_examples=1000)
@given(st.lists(pieces, max_size=8).map("/".join) | st.text(max_size=40))
def test_whatever_passes_stays_inside_its_folder(name: str) -> None:
    """Judged by an independent rule: what the operating system's own path arithmetic makes of it."""
    try:
        parts = safe_parts(name, LIMITS)
    except UnsafePath:
        return

    path = os.path.normpath(os.path.join("/top/folder", *parts))
    assert path == "/top/folder/" + name
    assert unicodedata.normalize("NFC", name) == name


def test_passing_names_can_be_created(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        for name in FINE:
            path = Path(folder, *safe_parts(name, LIMITS))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_names_of_one_set_may_not_meet() -> None:
    check_together(["a", "b/c", "b/d", "\u00df"])
    for names in (
        ["a", "A"],
        ["a", "a"],
        ["a", "a/b"],
        ["A/b/c", "a/B"],
        ["\u00df", "SS"],
        ["\u00e9", "\u00c9"],
    ):
        with pytest.raises(NameHeld):
            check_together(names)
    assert folded("Stra\u00dfe") == folded("STRASSE")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data.csv", "data.csv"),
        ("./data/x.csv", "data/x.csv"),
        ("data//x.csv", "data/x.csv"),
        ("/home/me/data/x.csv", "x.csv"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),
    ],
)
def test_a_relative_path_keeps_its_folders_an_absolute_one_its_last_part(
    path: str, name: str
) -> None:
    assert wire_name(path, LIMITS) == name


@pytest.mark.parametrize("path", ["", "/", ".", "../x", "a/../../x", "a/nul"])
def test_a_path_of_which_nothing_safe_is_left_is_refused(path: str) -> None:
    with pytest.raises(UnsafePath):
        wire_name(path, LIMITS)


def test_a_windows_path_is_read_with_its_own_separator() -> None:
    assert wire_name("data\\x.csv", LIMITS, separator="\\") == "data/x.csv"
    assert wire_name("C:\\data\\x.csv", LIMITS, separator="\\") == "x.csv"


def test_a_folder_of_the_user_is_relative_to_dest_path() -> None:
    assert joined(None, "x", LIMITS) == "x"
    assert joined("", "x", LIMITS) == "x"
    assert joined("./results/", "x", LIMITS) == "results/x"
    for folder in ("/tmp", "..", "a/../..", "a\\b"):
        with pytest.raises(UnsafePath):
            joined(folder, "x", LIMITS)

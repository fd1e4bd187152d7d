"""Sizes and lengths of time, as people type and read them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from discoro.quantities import parse_seconds, parse_size, seconds_text, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("500B", 500),
        ("100K", 102_400),
        ("20m", 20 << 20),
        ("4GiB", 4 << 30),
        ("1TB", 1 << 40),
        ("1.5G", 3 << 29),
        (" 2 gib ", 2 << 30),
        (str(2**63), 2**63),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "K", "-1", "10X", "1,5G", "5i", "5iB", "1e9", "nan", "\u0661", "2GG"]
)
def test_strange_sizes_are_refused_with_good_ones_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size; .*1\.5G"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("2 sec", 2),
        ("0.5", 0.5),
        ("5min", 300),
        ("5m", 300),
        ("1.5 min", 90),
        ("2h", 7200),
    ],
)
def test_lengths_of_time_have_units(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "5x", "inf", "nan", "1:30", "5 5"])
def test_strange_lengths_of_time_are_refused_with_good_ones_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no length of time; .*1\.5min"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (63 << 20, "63 MiB"),
        (2254857830, "2.1 GiB"),
        (1020 << 20, "1020 MiB"),
    ],
)
def test_sizes_are_read_easily(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (31.24, "31.2 s"), (300, "5 min"), (7200, "2 h")]
)
def test_lengths_of_time_are_read_easily(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@given(st.integers(0, 1 << 60))
@example(1_048_051_712)  # 999.5 MiB, which was shown as 1e+03 MiB
@example(1 << 60)
def test_what_is_shown_can_be_typed(size: int) -> None:
    assert parse_size(size_text(size)) == pytest.approx(size, rel=0.01, abs=1)


@given(st.floats(0, 1e9))
@example(3_599_999.0)
def test_what_is_shown_of_time_can_be_typed(seconds: float) -> None:
    text = seconds_text(seconds)
    if "e" not in text:  # a millionth of a second, which nobody types
        assert parse_seconds(text) == pytest.approx(seconds, rel=0.01)

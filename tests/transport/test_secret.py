"""Secrets: what is stretched, what is not, and which slips of the fingers are told."""

from __future__ import annotations

import copy
import hashlib
import pickle
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.limits import Limits
from discoro.transport.secret import PREFIX, Secret, check, generate, is_generated

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
FIXED = "discoro-abcdefghijklmnopqrstuvwxyz5"


def test_a_typed_secret_is_stretched_with_the_parameters_that_all_versions_share() -> None:
    expected = hashlib.scrypt(
        b"hello there", salt=b"discoro/1 prs", n=2**15, r=8, p=1, maxmem=2**26, dklen=32
    )

    assert Secret("hello there").prs == expected


def test_the_stretched_forms_never_change() -> None:
    """Changing them locks out every peer that is already deployed."""
    assert is_generated(FIXED)
    assert Secret("correct horse").prs.hex() == (
        "8d094cd28c56b9f7ed1e8c4a8eab5c3ece388bafacd9d7a1bda2948e964c086a"
    )
    assert Secret(FIXED).prs.hex() == (
        "9fef327f275013d4e1e350d7f7543e1b5020536a3c520102be748dc68ba10aaa"
    )


def test_stretching_happens_once_and_drops_the_text() -> None:
    secret = Secret("hello there")
    assert not secret.stretched

    first = secret.prs

    assert secret.stretched and secret.prs is first
    assert secret._text is None


def test_a_generated_secret_is_not_stretched() -> None:
    assert Secret(generate()).stretched


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hello there")

    for shown in (repr(secret), str(secret), f"{secret}", repr([secret]), repr({"s": secret})):
        assert "hello" not in shown and "<secret>" in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_the_line_end_of_a_secret_file_does_not_count(ending: str) -> None:
    assert Secret("hello there" + ending) == Secret("hello there")
    assert Secret(FIXED + ending).prs == Secret(FIXED).prs


def test_spaces_count() -> None:
    assert Secret("hello there ") != Secret("hello there")


def test_two_ways_to_write_an_accent_are_one_secret() -> None:
    one, other = (unicodedata.normalize(form, "café déjà vu") for form in ("NFC", "NFD"))
    assert one != other

    assert Secret(one) == Secret(other)


@pytest.mark.parametrize("text", ["", "\n", "\r\n"])
def test_an_empty_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--new-secret"):
        Secret(text)


def test_a_secret_that_no_encoding_has_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        Secret("hello \udcff there")


@pytest.mark.parametrize("text", ["x", "short", "elevenchars"])
def test_a_short_secret_works_and_is_weak(text: str) -> None:
    assert Secret(text).weak


def test_twelve_characters_are_not_weak() -> None:
    assert not Secret("twelve chars").weak
    assert Secret("twelve chars", limits=Limits(weak_secret=13)).weak
    assert not Secret(generate()).weak


def test_a_generated_secret_has_the_promised_form() -> None:
    secret = generate()

    assert secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 27
    assert set(secret[len(PREFIX) :]) <= set(ALPHABET)
    assert is_generated(secret) and check(secret) is None
    assert secret != generate()


def test_all_130_bits_of_a_generated_secret_come_from_the_random_source() -> None:
    drawn = []

    def source(count: int) -> bytes:
        drawn.append(count)
        return bytes(range(count))

    assert generate(source) == FIXED
    assert drawn == [26]


@pytest.mark.parametrize("seed", range(20))
def test_every_single_wrong_character_is_told(seed: int) -> None:
    rng = random.Random(seed)
    secret = generate(rng.randbytes)
    for position in range(len(PREFIX), len(secret)):
        for wrong in ALPHABET.replace(secret[position], ""):
            slipped = secret[:position] + wrong + secret[position + 1 :]
            assert not is_generated(slipped)
            assert check(slipped) is not None


@pytest.mark.parametrize("seed", range(20))
def test_every_two_characters_that_changed_places_are_told(seed: int) -> None:
    rng = random.Random(seed)
    secret = generate(rng.randbytes)
    for one in range(len(PREFIX), len(secret)):
        for other in range(one + 1, len(secret)):
            characters = list(secret)
            if characters[one] == characters[other]:
                continue
            characters[one], characters[other] = characters[other], characters[one]
            assert check("".join(characters)) is not None


@pytest.mark.parametrize(
    "slip",
    [
        lambda secret: secret[:-1],
        lambda secret: secret + "a",
        lambda secret: secret[:20] + secret[21:],
        lambda secret: secret[:20] + "8" + secret[21:],
    ],
)
def test_a_lost_or_doubled_character_of_a_generated_secret_is_told(slip: object) -> None:
    with pytest.raises(ValueError, match="copy it again"):
        Secret(slip(FIXED))  # type: ignore[operator]


def test_capitals_and_look_alikes_are_taken_for_what_they_mean() -> None:
    confused = FIXED.upper().replace("O-", "o-").replace("L", "1")
    assert confused != FIXED

    assert is_generated(confused)
    assert Secret(confused).prs == Secret(FIXED).prs


@pytest.mark.parametrize(
    "text", ["discoro-", "discoro-test", "discoro-my-secret", "discoro", "x" * 500]
)
def test_what_merely_begins_alike_is_an_ordinary_secret(text: str) -> None:
    assert check(text) is None and not is_generated(text)


@settings(max_examples=200)
@given(st.text())
def test_any_other_text_is_a_secret_or_refused_in_words(text: str) -> None:
    problem = check(text)
    if problem is None:
        assert Secret(text).generated == is_generated(text)
    else:
        with pytest.raises(ValueError):
            Secret(text)


def test_a_child_gets_the_stretched_form_and_never_the_text() -> None:
    secret = Secret("hello there")

    child = Secret.from_prs(secret.prs)

    assert child == secret and child.stretched and not child.weak
    with pytest.raises(ValueError, match="32 bytes"):
        Secret.from_prs(b"short")


def test_secrets_compare_by_what_they_prove() -> None:
    assert Secret("hello there") != Secret("hello where")
    assert Secret("hello there") != "hello there"
    assert hash(Secret("a")) == hash(Secret("b"))

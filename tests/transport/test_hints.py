"""Hints: how often a forged beacon can make us dial."""

from __future__ import annotations

import pytest

from discoro.transport.hints import Hints
from discoro.transport.limits import Limits


def test_an_address_is_dialled_at_most_once_a_minute() -> None:
    hints = Hints()

    dialled = [now for now in range(200) if hints.offer("10.0.0.1", 9, float(now))]

    assert dialled == [0, 60, 120, 180]


def test_at_most_fifty_new_addresses_a_second_are_dialled() -> None:
    hints = Hints()

    dialled = sum(hints.offer(f"10.0.{n >> 8}.{n & 255}", 9, n / 1000) for n in range(5_000))

    assert 250 <= dialled <= 300


def test_what_a_peer_tells_is_not_held_up_by_what_strangers_send() -> None:
    """A node tells of its servers once: what was passed over then would never be dialled."""
    hints = Hints()
    while hints.offer("10.0.0.1", len(hints) + 1, 0.0):
        pass

    assert all(hints.offer("10.0.0.2", port, 0.0, proven=True) for port in range(1, 1000))
    assert not hints.offer("10.0.0.2", 1, 0.0, proven=True), "once a minute it stays"


def test_an_address_that_was_passed_over_is_dialled_when_there_is_room() -> None:
    """A beacon comes again every ten seconds; the first one must not be lost on the table."""
    hints = Hints(Limits(hint_rate=1.0))
    assert hints.offer("10.0.0.1", 9, 0.0)
    assert not hints.offer("10.0.0.2", 9, 0.1)

    assert hints.offer("10.0.0.2", 9, 1.1)


def test_ports_of_one_host_are_different_addresses() -> None:
    hints = Hints()

    assert hints.offer("10.0.0.1", 9, 0.0) and hints.offer("10.0.0.1", 10, 0.0)


def test_after_three_refusals_an_address_is_ignored() -> None:
    hints = Hints()
    dialled = []
    for minute in range(100):
        if hints.offer("10.0.0.1", 9, minute * 61.0):
            dialled.append(minute)
            hints.refused("10.0.0.1", 9, minute * 61.0)

    assert dialled == [0, 1, 2]
    assert hints.ignored("10.0.0.1", 9) and not hints.ignored("10.0.0.2", 9)


def test_a_proof_at_an_ignored_address_makes_it_welcome_again() -> None:
    hints = Hints()
    hints.offer("10.0.0.1", 9, 0.0)
    for _ in range(3):
        hints.refused("10.0.0.1", 9, 0.0)

    hints.accepted("10.0.0.1", 9, 0.0)

    assert not hints.ignored("10.0.0.1", 9)
    assert hints.offer("10.0.0.1", 9, 61.0)


def test_hinted_dials_hand_out_no_more_guesses_than_a_server_answers() -> None:
    """Whoever is dialled has one guess at our secret; forged beacons must not make that fifty a second."""
    hints = Hints()
    guesses = 0
    for n in range(10_000):
        now = n / 1000
        if hints.offer(f"10.1.{n >> 8}.{n & 255}", 9, now):
            hints.refused(f"10.1.{n >> 8}.{n & 255}", 9, now)
            guesses += 1

    assert guesses <= 20 + 10 * 20


def test_addresses_remembered_are_bounded() -> None:
    hints = Hints(Limits(hint_addresses=10, hint_rate=1e6))
    for n in range(1_000):
        hints.offer("10.0.0.1", n + 1, 0.0)

    assert len(hints) == 10


def test_where_a_dial_failed_in_passing_the_next_ones_come_soon_and_ever_more_seldom() -> None:
    """A server that is being restarted is found as soon as it is there; a forged hint costs little."""
    hints = Hints()
    dialled = []
    for tenth in range(3_000):
        if hints.offer("10.0.0.1", 9, tenth / 10):
            dialled.append(tenth / 10)
            hints.passed("10.0.0.1", 9, tenth / 10)

    assert dialled == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_a_dial_that_is_under_way_is_not_repeated_for_another_hint() -> None:
    hints = Hints()
    assert hints.offer("10.0.0.1", 9, 0.0)
    hints.passed("10.0.0.1", 9, 8.0)  # it took so long

    assert [now for now in range(20) if hints.offer("10.0.0.1", 9, float(now))] == [9]


def test_where_somebody_proved_himself_he_is_found_again_at_once_after_he_went() -> None:
    hints = Hints()
    for now in (0.0, 1.0, 3.0):
        assert hints.offer("10.0.0.1", 9, now)
        hints.passed("10.0.0.1", 9, now)
    assert hints.offer("10.0.0.1", 9, 7.0)
    hints.accepted("10.0.0.1", 9, 7.1)

    assert not hints.offer("10.0.0.1", 9, 8.0) and hints.offer("10.0.0.1", 9, 8.2)


def test_not_even_addresses_where_nobody_is_are_dialled_more_than_fifty_times_a_second() -> None:
    hints = Hints(Limits(hint_again=0.001))
    dialled = 0
    for n in range(10_000):
        host, now = f"10.0.0.{n % 200}", n / 1000
        if hints.offer(host, 9, now):
            hints.passed(host, 9, now)
            dialled += 1

    assert dialled <= 50 + 10 * 50


@pytest.mark.parametrize("method", ["refused", "accepted"])
def test_a_verdict_about_an_unknown_address_changes_nothing(method: str) -> None:
    hints = Hints()

    hints.refused("10.0.0.1", 9, 0.0) if method == "refused" else hints.accepted("10.0.0.1", 9, 0.0)
    hints.passed("10.0.0.1", 9, 0.0)

    assert len(hints) == 0 and hints.offer("10.0.0.1", 9, 0.0)

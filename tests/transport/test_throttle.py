"""Throttle: who may guess how often, and whom that never holds up."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.errors import AuthenticationFailed, Busy
from discoro.transport.handshake import ClientHandshake, ServerHandshake
from discoro.transport.limits import Limits
from discoro.transport.throttle import Bucket, Throttle


def host(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def attempt(throttle: Throttle, source: str, now: float) -> bool:
    """Guess wrong, if we are let."""
    if throttle.admit(source, now) is not None:
        return False
    throttle.failed(source, now)
    throttle.decided(source)
    return True


def test_five_failures_are_free_then_one_a_second() -> None:
    throttle = Throttle()

    guesses = [attempt(throttle, "10.0.0.1", 100.0) for _ in range(20)]
    assert guesses == [True] * 5 + [False] * 15

    wait = throttle.admit("10.0.0.1", 100.0)
    assert wait == pytest.approx(1.0)
    assert not attempt(throttle, "10.0.0.1", 100.9)
    assert attempt(throttle, "10.0.0.1", 101.01)
    assert not attempt(throttle, "10.0.0.1", 101.02)


def test_a_source_guesses_a_limited_number_however_it_times_its_attempts() -> None:
    throttle, rng = Throttle(), random.Random(3)
    times = sorted(rng.uniform(0, 100) for _ in range(5_000))

    done = sum(attempt(throttle, "10.0.0.1", now) for now in times)

    assert 100 <= done <= 105


def test_all_sources_together_get_twenty_a_second() -> None:
    throttle = Throttle()

    done = sum(attempt(throttle, host(n), n / 1000) for n in range(10_000))

    assert 190 <= done <= 20 + 10 * 20


def test_told_to_wait_is_told_right() -> None:
    """Who waits as long as it was told is let in, if nobody else came."""
    throttle = Throttle()
    while attempt(throttle, "10.0.0.1", 5.0):
        pass
    wait = throttle.admit("10.0.0.1", 5.0)
    assert wait is not None

    assert throttle.admit("10.0.0.1", 5.0 + wait) is None


def test_asking_costs_nothing() -> None:
    throttle = Throttle()

    for _ in range(1_000):
        assert throttle.admit("10.0.0.1", 0.0) is None
        throttle.decided("10.0.0.1")


def test_a_source_that_has_proved_itself_is_not_held_up_by_the_failures_of_others() -> None:
    throttle = Throttle()
    throttle.succeeded("10.9.9.9")
    for n in range(1_000):
        attempt(throttle, host(n), 0.0)
    assert throttle.admit(host(5_000), 0.0) is not None

    assert throttle.admit("10.9.9.9", 0.0) is None


def test_its_own_failures_hold_up_even_a_source_that_has_proved_itself() -> None:
    """Somebody else at that address may be guessing."""
    throttle = Throttle()
    throttle.succeeded("10.9.9.9")

    assert sum(attempt(throttle, "10.9.9.9", 0.0) for _ in range(100)) == 5


def test_failures_of_proved_sources_do_not_use_up_what_strangers_share() -> None:
    throttle = Throttle()
    for n in range(100):
        throttle.succeeded(host(n))
        throttle.failed(host(n), 0.0)

    assert throttle.admit(host(5_000), 0.0) is None


def test_a_64_of_ipv6_is_one_source() -> None:
    throttle = Throttle()

    done = sum(attempt(throttle, f"2001:db8:1:2::{n:x}", 0.0) for n in range(100))

    assert done == 5
    assert attempt(throttle, "2001:db8:1:3::1", 0.0)


def test_the_loopback_is_one_source() -> None:
    throttle = Throttle()

    done = sum(attempt(throttle, f"127.0.{n}.1", 0.0) for n in range(100))

    assert done == 5
    assert throttle.admit("::1", 0.0) is not None


def test_a_source_is_remembered_until_forgetting_changes_little() -> None:
    throttle = Throttle(Limits(throttle_sources=10, failures_total=1e9))
    for n in range(1_000):
        throttle.failed(host(n), 0.0)
        throttle.succeeded(host(n))

    assert len(throttle._failures) == len(throttle._proved) == 10


def test_one_line_a_minute_and_source_is_logged_with_the_count() -> None:
    throttle = Throttle()

    said = [throttle.failed("10.0.0.1", float(now)) for now in range(130)]

    assert [(now, count) for now, count in enumerate(said) if count] == [
        (0, 1),
        (60, 60),
        (120, 60),
    ]
    assert throttle.failed("10.0.0.2", 1.0) == 1


def test_eight_connections_of_one_source_and_64_in_all_may_be_unproved() -> None:
    throttle = Throttle()

    taken = [throttle.connected("10.0.0.1", 0.0) is None for _ in range(10)]
    assert taken == [True] * 8 + [False] * 2

    others = sum(throttle.connected(host(n), 0.0) is None for n in range(2, 100))
    assert others == 64 - 8
    assert throttle.connections == 64


def test_the_loopback_may_have_32() -> None:
    throttle = Throttle()

    assert sum(throttle.connected(f"127.0.0.{n % 200 + 1}", 0.0) is None for n in range(64)) == 32


def test_a_proved_source_gets_a_place_when_strangers_hold_all() -> None:
    """Sixty-four stalled strangers do not lock out who was here before."""
    throttle = Throttle()
    throttle.succeeded("10.9.9.9")
    for n in range(200):
        throttle.connected(host(n), 0.0)
    assert throttle.connected(host(5_000), 0.0) is not None

    assert sum(throttle.connected("10.9.9.9", 0.0) is None for _ in range(20)) == 8


def test_a_place_is_free_again_when_its_connection_is_gone() -> None:
    throttle = Throttle()
    for n in range(64):
        assert throttle.connected(host(n), 0.0) is None
    wait = throttle.connected(host(99), 0.0)
    assert wait is not None and 0 < wait <= 5

    throttle.disconnected(host(3))

    assert throttle.connected(host(99), 0.0) is None
    throttle.disconnected("10.77.77.77")  # never counted: nothing happens
    assert throttle.connections == 64


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=300))
def test_the_count_of_connections_is_right_after_any_history(steps: list[tuple[int, bool]]) -> None:
    throttle = Throttle(Limits(handshake_connections=10, handshake_per_source=4))
    model = [0, 0, 0, 0]
    for source, opens in steps:
        if opens:
            fits = model[source] < 4 and sum(model) < 10
            assert (throttle.connected(host(source), 0.0) is None) == fits
            model[source] += fits
        elif model[source]:
            throttle.disconnected(host(source))
            model[source] -= 1

    assert throttle.connections == sum(model)
    assert throttle._open == {host(n): count for n, count in enumerate(model) if count}


def test_a_bucket_may_be_overdrawn_by_what_it_holds_and_no_more() -> None:
    bucket = Bucket(5, 1.0)
    for _ in range(100):
        bucket.take(0.0)

    assert bucket.wait(0.0) == pytest.approx(6.0)
    assert bucket.wait(6.0) is None


def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens() -> None:
    bucket = Bucket(1, 1.0, 100.0)
    bucket.take(100.0)

    assert bucket.wait(99.0) == bucket.wait(100.0) == pytest.approx(1.0)


def shake(throttle: Throttle, source: str, prs: bytes, now: float) -> ClientHandshake:
    """One handshake with a server that uses the throttle as the endpoint does."""
    client = ClientHandshake(prs, b"f" * 32, "default", os.urandom, now)
    waits: list[float | None] = []

    def admit() -> float | None:
        waits.append(throttle.admit(source, now))
        return waits[-1]

    server = ServerHandshake(
        *(b"p" * 32, b"f" * 32, "default", os.urandom, now),
        admit=admit,
    )
    if throttle.connected(source, now) is not None:
        server.refuse_busy(1.0)
    for _ in range(2):
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
        if client.failed is not None:
            break
    if server.done is not None:
        throttle.succeeded(source)
    elif isinstance(server.failed, AuthenticationFailed):
        throttle.failed(source, now)
    if waits == [None]:
        throttle.decided(source)
    throttle.disconnected(source)
    return client


def test_a_thousand_guesses_get_five_answers_and_who_knows_the_secret_gets_in_elsewhere() -> None:
    throttle = Throttle()

    ends = [type(shake(throttle, "10.0.0.1", b"q" * 32, 0.0).failed) for _ in range(1_000)]

    assert ends.count(AuthenticationFailed) == 5
    assert ends.count(Busy) == 995
    assert shake(throttle, "10.0.0.2", b"p" * 32, 0.0).done is not None


def test_a_botnet_does_not_keep_out_who_was_here_before() -> None:
    throttle = Throttle()
    assert shake(throttle, "10.9.9.9", b"p" * 32, 0.0).done is not None
    for n in range(500):
        shake(throttle, host(n), b"q" * 32, n / 1000)
    assert isinstance(shake(throttle, host(600), b"p" * 32, 0.5).failed, Busy)

    assert shake(throttle, "10.9.9.9", b"p" * 32, 0.5).done is not None


def test_who_waits_as_told_gets_in_once_the_guessing_is_over() -> None:
    throttle = Throttle()
    for n in range(500):
        shake(throttle, host(n), b"q" * 32, 0.0)
    client = shake(throttle, "10.9.9.9", b"p" * 32, 0.0)
    assert isinstance(client.failed, Busy)

    assert shake(throttle, "10.9.9.9", b"p" * 32, client.failed.retry_in).done is not None


def test_guesses_made_side_by_side_do_not_all_find_the_same_token() -> None:
    """Each waits with its confirmation until all have been admitted."""
    throttle = Throttle()

    assert [throttle.admit("10.0.0.1", 0.0) is None for _ in range(8)] == [True] * 5 + [False] * 3
    for _ in range(5):
        throttle.failed("10.0.0.1", 0.0)
        throttle.decided("10.0.0.1")
    assert throttle.admit("10.0.0.1", 0.0) == pytest.approx(1.0)
    # Over many sources: twenty, and no more before some are decided.
    admitted = [throttle.admit(host(n), 0.0) is None for n in range(60)]
    assert sum(admitted) == 15
    throttle.decided(host(0))
    assert throttle.admit(host(100), 0.0) is None


def test_who_has_proved_itself_makes_as_many_connections_at_once_as_it_likes() -> None:
    throttle = Throttle()
    throttle.succeeded("10.0.0.1")

    assert all(throttle.admit("10.0.0.1", 0.0) is None for _ in range(100))

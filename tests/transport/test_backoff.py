"""The wait before the next dial."""

from __future__ import annotations

import pytest

from discoro.transport.backoff import delay_before
from discoro.transport.limits import Limits

LIMITS = Limits()


@pytest.mark.parametrize(
    "attempt,delay",
    [(0, 0), (-1, 0), (1, 0.05), (2, 0.1), (3, 0.2), (6, 1.6), (7, 2.0), (100, 2.0), (10**9, 2.0)],
)
def test_the_first_dial_goes_out_at_once_and_later_ones_wait_longer(
    attempt: int, delay: float
) -> None:
    assert delay_before(attempt, LIMITS, lambda: 0.5) == pytest.approx(delay)


def test_the_jitter_is_half_either_way() -> None:
    assert delay_before(3, LIMITS, lambda: 0.0) == pytest.approx(0.1)
    assert delay_before(3, LIMITS, lambda: 1.0) == pytest.approx(0.3)

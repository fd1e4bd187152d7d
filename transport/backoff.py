"""How long to wait before the next dial.

Pure: the attempt and the randomness are arguments. The first dial after a loss goes out at once; then 50 ms,
doubled up to 2 s, each with a jitter of half either way, so that a thousand clients of a restarted server do
not come back in step.
"""

from __future__ import annotations

from collections.abc import Callable

from .limits import Limits


def delay_before(attempt: int, limits: Limits, random: Callable[[], float]) -> float:
    """Return the seconds to wait before dial number ``attempt`` (0 is the first).

    Args:
        attempt: Number of dials that have failed in a row.
        limits: ``dial_first``, ``dial_most`` and ``dial_jitter`` are read.
        random: Gives floats in [0, 1).
    """
    if attempt <= 0:
        return 0.0
    # The exponent is bounded, so that an attempt number of any size is a number and not an overflow.
    plain = min(limits.dial_most, limits.dial_first * 2.0 ** min(attempt - 1, 30))
    return plain * (1.0 + limits.dial_jitter * (2.0 * random() - 1.0))

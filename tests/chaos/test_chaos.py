"""Four servers, two clients, and a seeded plan of kills, stops, cuts and partitions: the history proves what is promised.

By hand, with a seed of your own: ``python -m tests.chaos --seconds 600 --seed 5``.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import carry_out

SHORT: dict[str, Any] = {"every": 0.25, "longest": 2.0, "kill_clients": False}
LONG: dict[str, Any] = {"every": 1.0, "longest": 20.0, "overlong": 90.0}


@pytest.mark.slow
def test_a_short_plan(tmp_path: Path) -> None:
    carry_out(tmp_path, 8.0, random.randrange(1 << 30), **SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_ten_minutes(tmp_path: Path) -> None:
    carry_out(tmp_path, 600.0, random.randrange(1 << 30), **LONG)

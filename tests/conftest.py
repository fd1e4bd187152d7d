"""A world per test, and one per module, for tests of several processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import World, world


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    """A world of this test alone."""
    with world(tmp_path) as here:
        yield here


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that the tests of a module share."""
    with world(tmp_path_factory.mktemp("world")) as here:
        yield here

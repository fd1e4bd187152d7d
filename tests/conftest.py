"""A world per test, and one per module, for tests of several processes; and what hypothesis looks at.

The tests look at the same examples each time, so that what is green stays green until something has changed. Others are
looked at by night, and by ``tox -e random``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import World, world

settings.register_profile("random", derandomize=False)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


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

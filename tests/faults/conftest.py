"""A server that the tests of a module share."""

from __future__ import annotations

import pytest

from tests.processes import ServerProgram, World


@pytest.fixture(scope="module")
def server(shared: World) -> ServerProgram:
    """A server that the tests of a module share: what one test does to it, the next one must survive."""
    return shared.server(name="victim")

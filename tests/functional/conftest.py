"""Two servers that the tests of a module share."""

from __future__ import annotations

import pytest

from tests.processes import ServerProgram, World


@pytest.fixture(scope="module")
def server(shared: World) -> ServerProgram:
    """A server that the tests of a module share."""
    return shared.server(name="first")


@pytest.fixture(scope="module")
def other(shared: World) -> ServerProgram:
    """A second one."""
    return shared.server(name="second")

"""A function to ship that brings nothing along: the modules of the benchmarks would be imported by every server."""

from __future__ import annotations


async def nothing() -> None:
    """Return at once."""

"""What the loop reports of connections: uvloop calls it fatal when TLS still had bytes for a TCP connection that is gone.

That happens when a peer is killed while its handshake ends: uvloop then prints a traceback of its own, though the
connection is lost in the usual way, by ``connection_lost``, and nothing else is wrong. Everything else goes where
it would have gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("discoro.transport")

Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


class LoopReports:
    """An exception handler of a loop, before the one that was there."""

    def __init__(self, before: Handler | None) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take a report."""
        if is_of_a_lost_connection(context):
            log.debug("a connection was gone before TLS had written its last bytes to it")
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)


def is_of_a_lost_connection(context: dict[str, Any]) -> bool:
    """Whether uvloop's TLS complains that its TCP connection is closed; it has no exception of its own for that."""
    error, protocol = context.get("exception"), context.get("protocol")
    return (
        isinstance(error, RuntimeError)
        and "the handler is closed" in str(error)
        and type(protocol).__name__ == "SSLProtocol"
    )


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Handle the reports of ``loop``, once; what a program sets afterwards takes our place until the next connection."""
    before = loop.get_exception_handler()
    if not isinstance(before, LoopReports):
        loop.set_exception_handler(LoopReports(before))

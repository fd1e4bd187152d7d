"""What the clients of a chaos plan ship: one end of a conversation, which writes down all that happens to it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from tests.chaos.history import Recorder


async def converse(
    client: Any, folder: str, name: str, count: int, manner: str, coro: Any = None
) -> int:
    """Answer ``count`` messages, and write down each."""
    record = Recorder(folder, f"server-{os.getpid()}")
    record("started", name, os.getpid())
    try:
        for turn in range(count):
            number, padding = await coro.receive()
            record("got", name, number)
            if manner == "block" and turn == count // 2:
                time.sleep(0.3)
            record("answered", name, turn)
            client.send((turn, padding))
    except asyncio.CancelledError:
        record("cancelled", name)
        raise
    if manner == "raise":
        record("raised", name)
        raise ValueError(name)
    record("returned", name, count)
    return count


async def nothing() -> None:
    """Show that runs are possible."""

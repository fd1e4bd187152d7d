"""What the clients of a chaos plan ship: one end of a conversation, and one that hands it on; both write down what happens."""

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


async def pass_on(
    to: Any, folder: str, name: str, its_name: str, count: int, coro: Any = None
) -> int:
    """Hand ``count`` messages on to a run at another server."""
    record = Recorder(folder, f"server-{os.getpid()}")
    record("started", name, os.getpid())
    try:
        for _ in range(count):
            message = await coro.receive()
            record("got", name, message[0])
            record("sent", its_name, message[0])
            to.send(message)
    except asyncio.CancelledError:
        record("cancelled", name)
        raise
    record("returned", name, count)
    return count


async def nothing() -> None:
    """Show that runs are possible."""

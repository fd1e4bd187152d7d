"""One-way ``send`` of a small dict to a remote mailbox."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from benchmarks.contest import Question
from benchmarks.ours import Ours

QUESTIONS = [
    Question(
        name="messages",
        title="one-way messages, a small dict each, to the mailbox of a remote coroutine",
        unit="per s",
        size=100_000,
        quick_size=1_000,
        floor="benchmarks.floor.messages:ToMailbox",
        others=[
            "benchmarks.messages:Send",
            "benchmarks.peers.zeromq:PushPull",
        ],
        goals={"discoro": 0.85},
        beats={"ZeroMQ": 1},
    )
]


def count(client: Any, coro: Any = None) -> Any:
    """Answer to the last of so many."""
    left = 0
    while True:
        message = yield coro.receive()
        left = message if type(message) is int else left - 1
        if not left:
            client.send("done")


class Send(Ours):
    """Send, and let the others have their turn once in a while."""

    function = staticmethod(count)

    async def measure(self, coro: Any) -> float:
        remote = await self.computation.run(self.server, coro)
        begun = perf_counter()
        remote.send(self.size)
        for i in range(self.size):
            remote.send({"i": i, "x": "abc"})
            if i % 128 == 127:
                await asyncio.sleep(0)
        await coro.receive()
        taken = perf_counter() - begun
        remote.terminate()
        return self.size / taken

"""A contestant's own process: ``python -m benchmarks.worker module:class size``.

It answers ``round`` on stdin with a line of JSON on stdout, and ends with stdin. What the contestant's libraries print goes
to stderr.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
from typing import Any

from benchmarks.contest import Contestant, Missing


def named(reference: str) -> Any:
    """Return what ``module:name`` means."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


async def work(reference: str, size: int, replies: Any) -> None:
    """Be the contestant until stdin ends."""

    def reply(**facts: Any) -> None:
        replies.write(json.dumps(facts) + "\n")
        replies.flush()

    try:
        contestant: Contestant = named(reference)(size)
        await contestant.start()
    except (Missing, ImportError) as error:
        reply(missing=str(error))
        return
    reply(ready=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    try:
        while await commands.readline():
            gc.collect()
            reply(figure=await contestant.round())
    finally:
        await contestant.stop()


def main() -> None:
    """Run the contestant that the command line names."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loop_factory = None
    if not sys.argv[1].startswith("benchmarks.peers.") or ":Async" in sys.argv[1]:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work(sys.argv[1], int(sys.argv[2]), replies))


if __name__ == "__main__":
    main()

"""Floor of ``messages``: one way into the mailbox of a task, writes coalesced; the last one is answered."""

from __future__ import annotations

import asyncio
from time import perf_counter

from benchmarks.contest import Contestant
from benchmarks.floor.coalesced import Link, Mailbox, connect, serve
from benchmarks.serving import ServerProcess


async def mailbox() -> int:
    """Serve with a task that counts what comes and answers to the last."""
    tasks = []

    def made() -> Link:
        box = Mailbox()
        link = Link(box.put)

        async def count() -> None:
            left = 0
            while True:
                while box.messages:
                    message = box.messages.popleft()
                    left = message if type(message) is int else left - 1
                    if not left:
                        link.send("done")
                await box.wait()

        tasks.append(asyncio.get_running_loop().create_task(count()))
        return link

    return await serve(made)


class ToMailbox(Contestant):
    """Send so many small dicts."""

    label = "mailbox and task"

    async def start(self) -> None:
        self._server = ServerProcess("benchmarks.floor.messages:mailbox")
        self._box = Mailbox()
        self._link = await connect(lambda: Link(self._box.put), self._server.port)

    async def round(self) -> float:
        link, box = self._link, self._box
        begun = perf_counter()
        link.send(self.size)
        for i in range(self.size):
            link.send({"i": i, "x": "abc"})
            if i % 128 == 127:
                await asyncio.sleep(0)
                await link.room()
        if not box.messages:
            await box.wait()
        box.messages.clear()
        return self.size / (perf_counter() - begun)

    async def stop(self) -> None:
        self._server.close()

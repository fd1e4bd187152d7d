"""What a transfer of 256 MiB costs each end, and for how long at a time: ``python -m benchmarks.ends [deliver|file|array]...``.

CPU time does not count what other programs take; so these figures hold on a busy machine too. First the CPU time of both
processes; then, in another transfer, of every turn of their loops: for so long a small message may have to wait.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

from benchmarks.bulk import swallow
from benchmarks.files import NewFile
from benchmarks.floor.bulk import payload
from benchmarks.ours import World
from discoro import Computation, Coro

SIZE = 256
ROUNDS = 5


async def back(array: Any) -> Any:
    """Return what was given."""
    return array


async def used() -> tuple[float, float]:
    """CPU time of this process so far, and that of its loop's thread alone; in seconds."""
    return time.process_time(), time.thread_time()


async def turns(coro: Any = None) -> list[float]:
    """CPU time of each turn of this loop until a message comes."""
    loop, found = asyncio.get_running_loop(), [time.thread_time()]
    ended = False

    def turn() -> None:
        found.append(time.thread_time())
        if not ended:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await coro.receive()
    ended = True
    return [after - before for before, after in pairwise(found)]


class Ends:
    """Two processes, and what passes between them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server = world.servers[0]
        self._at: dict[Any, Computation[..., Any]] = {}

    async def run(self, function: Any, *arguments: Any) -> Any:
        """Start a function at the server."""
        if function not in self._at:
            self._at[function] = Computation(function)
            await self._at[function].setup(self._server)
        return await self._at[function].run(self._server, *arguments)

    async def transfer(self, kind: str) -> Awaitable[Any]:
        """Get ready to let a value pass."""
        if kind == "file":
            self._file = NewFile(SIZE)
            self._file.renew()
            return self._world.scheduler.send_file(self._server, self._file.path, overwrite=True)
        if kind == "deliver":
            taker = await self.run(swallow)
            delivered: Awaitable[Any] = taker.deliver(payload("bytearray", SIZE))
            return delivered
        array = payload("array", SIZE)

        async def there_and_back() -> None:
            await (await self.run(back, array))

        await (await self.run(back, 0))
        return there_and_back()

    async def cost(self, kind: str) -> None:
        """Say what both ends use."""
        passing = await self.transfer(kind)
        there, here = await (await self.run(used)), await used()
        await passing
        here_after, there_after = await used(), await (await self.run(used))
        ends = (("client", here, here_after), ("server", there, there_after))
        for name, before, after in ends:
            all_of_it, loop = (late - early for early, late in zip(before, after, strict=True))
            print(f"{kind}: {name} {all_of_it:.2f} s of CPU, its loop {loop:.2f}", end="; ")
        print(flush=True)

    async def each_turn(self, kind: str) -> None:
        """Say how long the turns of both loops are."""
        passing = await self.transfer(kind)
        there, here = await self.run(turns), Coro(turns)
        await passing
        there.send("end")
        here.send("end")
        for name, times in (("client", await here), ("server", await there)):
            times.sort()
            longest = " ".join(f"{one * 1e3:.1f}" for one in times[-3:])
            tail = times[len(times) * 999 // 1000] * 1e3
            print(f"{kind}: {name}'s turns p99.9 {tail:.2f}, longest {longest} ms of CPU", end="; ")
        print(flush=True)


async def main(kinds: list[str]) -> None:
    """Measure."""
    async with World() as world:
        ends = Ends(world)

        async def measure() -> None:
            for kind in kinds:
                for _ in range(ROUNDS):
                    await ends.cost(kind)
                for _ in range(ROUNDS):
                    await ends.each_turn(kind)

        await Coro(measure)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        _runner.run(main(sys.argv[1:] or ["deliver", "file", "array"]))

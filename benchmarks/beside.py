"""Small messages while a big value passes between the same two processes: head-of-line blocking."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from benchmarks.bulk import swallow
from benchmarks.contest import Question
from benchmarks.echo import echo
from benchmarks.files import NewFile
from benchmarks.floor.beside import Beside
from benchmarks.floor.bulk import payload
from benchmarks.ours import Ours
from discoro import Computation

_DELIVER, _FILE = "discoro, deliver", "discoro, send_file"

QUESTIONS = [
    Question(
        name="beside",
        title="a message and its answer while 256 MiB pass: p99, to the p99 just before",
        unit="times",
        lower_is_better=True,
        size=256,
        quick_size=8,
        floor="benchmarks.floor.beside:TwoPairs",
        others=[
            "benchmarks.beside:BesideDeliver",
            "benchmarks.beside:BesideFile",
            "benchmarks.floor.beside:OneLoop",
        ],
        at_most={_DELIVER: 5, _FILE: 5},
    )
]


class BesideDeliver(Beside, Ours):
    """``deliver`` of a bytearray."""

    label = _DELIVER
    function = staticmethod(echo)

    async def start(self) -> None:
        await Ours.start(self)
        self._swallow: Computation[..., Any] = Computation(swallow)
        await self._swallow.setup(self.server)
        self._value = payload("bytearray", self.size)

    async def measure(self, coro: Any) -> float:
        self._coro = coro
        self._remote = await self.computation.run(self.server, coro)
        self._taker = await self._swallow.run(self.server)
        ratio = await self.compare()
        self._remote.terminate()
        self._taker.terminate()
        return ratio

    async def once(self) -> None:
        self._remote.send({"i": 1, "x": "abc"})
        await self._coro.receive()

    def transfer(self) -> Awaitable[Any]:
        delivered: Awaitable[Any] = self._taker.deliver(self._value)
        return delivered

    async def round(self) -> float:
        return await Ours.round(self)

    async def stop(self) -> None:
        await Ours.stop(self)


class BesideFile(BesideDeliver):
    """``send_file``."""

    label = _FILE

    async def start(self) -> None:
        await super().start()
        self._file = NewFile(self.size)

    async def measure(self, coro: Any) -> float:
        self._file.renew()
        ratio = await super().measure(coro)
        await self.world.scheduler.del_file(self.server, self._file.path.name)
        return ratio

    def transfer(self) -> Awaitable[Any]:
        sent: Awaitable[Any] = self.world.scheduler.send_file(self.server, self._file.path)
        return sent

    async def stop(self) -> None:
        await super().stop()
        self._file.close()

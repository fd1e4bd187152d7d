"""256 MiB in one message."""

from __future__ import annotations

from time import perf_counter
from typing import Any, ClassVar

from benchmarks.contest import Question
from benchmarks.floor.bulk import payload
from benchmarks.ours import Ours


def _question(kind: str, floor: str, ours: str, peers: list[str], goal: float) -> Question:
    return Question(
        name=f"bulk-{kind}",
        title=f"256 MiB in one message, {kind}: deliver",
        unit="MB/s",
        size=256,
        quick_size=4,
        floor=f"benchmarks.floor.bulk:{floor}",
        others=[f"benchmarks.bulk:{ours}", *peers],
        goals={"discoro": goal},
        beats={"Dask": 3},
    )


QUESTIONS = [
    _question("array", "ArrayBulk", "ArrayMessage", ["benchmarks.peers.dask:Bulk"], 0.9),
    _question("bytearray", "Bulk", "Message", [], 0.9),
    _question("bytes", "BytesBulk", "BytesMessage", [], 0.6),
]


def swallow(coro: Any = None) -> Any:
    """Take what comes."""
    while True:
        yield coro.receive()


class Message(Ours):
    """``deliver``: returns when the value is in the mailbox."""

    function = staticmethod(swallow)
    kind: ClassVar[str] = "bytearray"

    async def start(self) -> None:
        await super().start()
        self._value = payload(self.kind, self.size)

    async def measure(self, coro: Any) -> float:
        remote = await self.computation.run(self.server)
        begun = perf_counter()
        delivered = await remote.deliver(self._value)
        taken = perf_counter() - begun
        assert delivered == 1
        remote.terminate()
        return self.size * 1.048576 / taken


class ArrayMessage(Message):
    """An array of numpy."""

    kind = "array"


class BytesMessage(Message):
    """Bytes."""

    kind = "bytes"

"""asyncoro's discoro_schedulers of 2015 and 2016: what Computation itself does since."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discoro.compat.jobs import Computation


class RemoteCoroScheduler:
    """Runs at most one coroutine at each server; schedules the computation with the first of them."""

    def __init__(self, computation: Computation) -> None:
        self.computation = computation

    async def schedule(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a function at a server that is free: a reference, or None."""
        await self.computation.schedule()
        return await self.computation.run(gen, *args, **kwargs)

    submit = schedule

    async def submit_at(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """The same at a server, or at one of a node."""
        await self.computation.schedule()
        return await self.computation.run_at(where, gen, *args, **kwargs)

    async def execute(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function at a server that is free, and give its result."""
        await self.computation.schedule()
        return await self.computation.run_result(gen, *args, **kwargs)

    async def execute_at(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """The same at a server, or at one of a node."""
        await self.computation.schedule()
        return await self.computation.run_result_at(where, gen, *args, **kwargs)

    async def map_results(self, gen: Any, iter: Iterable[Any]) -> list[Any]:
        """Run a function once for each element, and give the results in that order."""
        await self.computation.schedule()
        return await self.computation.run_results(gen, iter)

    async def finish(self, close: bool = False) -> int:
        """Wait for what runs; with ``close`` leave the servers."""
        return await (self.computation.close() if close else self.computation.wait())


__all__ = ["RemoteCoroScheduler"]

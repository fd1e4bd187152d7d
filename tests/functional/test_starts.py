"""Starting many runs: each is on its way with the call, and what ``run`` gives is as good as a coroutine object."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discoro import Computation, Coro
from discoro.errors import RunRefused
from tests.functional import jobs
from tests.kit import run_async
from tests.processes import ServerProgram, World


async def _stay(coro: Any = None) -> None:
    await coro.receive()


async def _runs() -> int:
    from discoro import Scheduler

    return Scheduler.instance().counts()["runs"]


def test_runs_are_started_by_the_call_and_awaited_later(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[..., Any] = Computation(jobs.add)
            await computation.setup(server.location)
            starts = [computation.run(server.location, i, 1) for i in range(300)]
            runs = [await start for start in starts]
            assert [await run for run in runs] == [i + 1 for i in range(300)]
            assert len({run.number for run in runs}) == 300

            def generator(coro: Any = None) -> Any:
                starts = [computation.run(server.location, i, 2) for i in range(10)]
                results = []
                for start in starts:
                    run = yield start
                    results.append((yield run))
                return results

            assert await Coro(generator) == [i + 2 for i in range(10)]

    run_async(main)


def test_a_start_is_taken_by_everything_that_takes_a_coroutine_object(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[..., Any] = Computation(jobs.add)
            where = server.location
            await computation.setup(where)
            runs = [await asyncio.create_task(computation.run(where, 1, 1))]
            runs += await asyncio.gather(*(computation.run(where, i, 1) for i in (2, 3)))
            runs.append(await asyncio.wait_for(computation.run(where, 4, 1), 10))
            async with asyncio.TaskGroup() as group:
                task = group.create_task(computation.run(where, 5, 1))
            runs.append(await task)
            async with asyncio.timeout(10):
                runs.append(await computation.run(where, 6, 1))
            assert [await run for run in runs] == [2, 3, 4, 5, 6, 7]

            async def within_a_coroutine() -> list[Any]:
                runs = await asyncio.gather(*(computation.run(where, i, 1) for i in range(3)))
                return [await run for run in runs]

            assert await Coro(within_a_coroutine) == [1, 2, 3]

    run_async(main)


def test_a_start_whose_wait_is_cancelled_is_cancelled(shared: World, server: ServerProgram) -> None:
    async def main() -> None:
        async with shared.scheduler():
            staying: Computation[..., Any] = Computation(_stay)
            counting: Computation[..., Any] = Computation(_runs)
            where = server.location
            await staying.setup(where)
            await counting.setup(where)
            for begin in (asyncio.create_task, Coro):

                async def wait() -> None:
                    await staying.run(where)

                waiting: Any = begin(wait() if begin is asyncio.create_task else wait)
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                assert waiting.cancelled()
                while await (await counting.run(where)) > 1:
                    await asyncio.sleep(0.005)

    run_async(main)


def test_how_a_run_was_refused_is_raised_where_its_start_is_awaited(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[..., Any] = Computation(jobs.add)
            await computation.setup(server.location)
            refused = computation.run(server.location)
            assert await (await computation.run(server.location, 1, 2)) == 3
            with pytest.raises(RunRefused, match="add"):
                await refused

    run_async(main)

"""References after a session was lost: the next call dials again, and who is gone keeps name and address."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discoro import Computation, Coro, Location
from discoro.errors import PeerLost
from tests.functional import jobs
from tests.functional.test_faults import QUICK
from tests.kit import eventually
from tests.processes import World
from tests.proxy import CuttingProxy


def test_a_detached_coroutine_is_reached_again_by_the_address_that_was_given(own: World) -> None:
    server = own.server(limits=QUICK)

    async def main(coro: Any = None) -> None:
        async with CuttingProxy("127.0.0.1", server.port) as proxy:
            where = Location("127.0.0.1", proxy.port)
            echo = Computation(jobs.echo)
            await echo.setup(where)
            run = await echo.options(detach=True).run(where, coro)
            statuses: list[Any] = []
            coro.scheduler.peer_status(lambda *said: statuses.append(said))
            before = run.location

            port = proxy.port
            await proxy.stop_listening()
            proxy.cut()
            await eventually(lambda: statuses and statuses[-1][2] == 0, guard=20)
            await proxy.start(port)

            assert run.location == before and run.location.name == before.name
            name, location, _ = statuses[-1]
            assert (name, location.addr, location.port) == (before.name, "127.0.0.1", port)
            with pytest.raises(PeerLost):
                await run.finish(5)
            assert await run.deliver("still there", 10) == 1
            assert await coro.receive(10) == "still there"
            finishing = asyncio.ensure_future(run.finish(20))
            run.terminate()
            with pytest.raises(Exception, match="terminated"):
                await finishing

    own.run(main, limits=QUICK)


def test_sys_exit_over_there_ends_a_coroutine_over_there_and_nothing_here(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        leave: Computation[Any, Any] = Computation(jobs.leave)
        await leave.setup(server.location)
        for how in (SystemExit, KeyboardInterrupt):
            run: Coro[Any] = await leave.run(server.location, how)
            with pytest.raises(Exception, match=how.__name__) as caught:
                await run
            assert isinstance(caught.value.__cause__, how)

    own.run(main)

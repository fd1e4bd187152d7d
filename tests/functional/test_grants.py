"""One budget for all grants of a process: when it runs low, new lanes begin with less, and everybody is told."""

from __future__ import annotations

import asyncio
from typing import Any

from discoro import Computation
from tests.functional import jobs
from tests.kit import eventually
from tests.processes import World

MIB = 1 << 20


def test_many_silent_receivers_make_new_grants_smaller_and_their_end_makes_them_larger_again(
    own: World,
) -> None:
    limits = {"grant_budget": 32 * MIB}
    server = own.server(limits=limits)

    async def main(coro: Any = None) -> None:
        hang: Computation[Any, Any] = Computation(jobs.hang)
        echo = Computation(jobs.echo)
        await hang.setup(server.location)
        await echo.setup(server.location)
        network = coro.scheduler.network
        (peer,) = network.live_peers()
        before = peer.session.first_grant
        runs = await asyncio.gather(*(hang.run(server.location) for _ in range(2_300)))
        for run in runs:
            run.send("never taken")

        await eventually(lambda: peer.session.first_grant <= before // 2)
        run = await echo.run(server.location, coro)
        text = "x" * before
        for number in range(100):
            run.send((number, text))
        assert [(await coro.receive(10))[0] for _ in range(100)] == list(range(100))

        for each in runs:
            each.terminate()
        await eventually(lambda: peer.session.first_grant > before // 2)

    own.run(main, guard=60)

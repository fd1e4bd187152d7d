"""What happens while a scheduler says goodbye: who comes or calls just then is not made a fool of."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from discoro import RCI, Coro, Scheduler
from discoro.errors import PeerLost
from tests.processes import World


def _meanwhile(scheduler: Scheduler, work: Any) -> None:
    """Let ``work()`` happen between the end of the coroutines and the goodbye, where a slow machine leaves time."""
    network = scheduler.network
    close = network.meeting.close

    async def slowly() -> None:
        await work()
        await close()

    network.meeting.close = slowly  # type: ignore[method-assign]


def test_who_comes_while_we_close_is_not_told_of(
    own: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer_status callback that starts a coroutine for each peer: one came in the last turn, and the coroutine
    failed with "closed here" on the user's screen."""
    seen = []

    async def greet(location: Any) -> None:
        await Coro.locate("nobody", location, timeout=10)

    def comes(name: str, location: Any, status: Any) -> None:
        seen.append((name, status))
        Coro(greet, location)

    async def main(coro: Any = None) -> None:
        async with own.scheduler(name="late") as late:
            async with own.scheduler(name="closing", tcp_port=0) as closing:
                await closing.network.publish()
                closing.peer_status(comes)
                port = closing.location.port
                _meanwhile(closing, lambda: late.peer("127.0.0.1", tcp_port=port))
            assert [peer.name for peer in late.peers()] in ([], ["closing"])

    own.run(main)
    assert ("late", 1) not in seen
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_call_that_comes_while_we_close_cleans_up(own: World) -> None:
    """It was begun, so it is ended as everything here is: its ``finally`` runs, its caller is told."""
    steps: list[str] = []

    async def service() -> None:
        steps.append("begun")
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("cleaning up")
            await asyncio.sleep(0.01)
            steps.append("clean")

    async def call(where: Any, called: asyncio.Event) -> None:
        found: Any = await RCI.locate("service", where, timeout=10)
        running = await found()
        called.set()
        with pytest.raises(PeerLost):
            await running

    async def main(coro: Any = None) -> None:
        async with own.scheduler(name="late") as late:
            called = asyncio.Event()
            async with own.scheduler(name="closing", tcp_port=0) as closing:
                RCI(service).register("service")
                await closing.network.publish()
                assert await late.peer("127.0.0.1", tcp_port=closing.location.port) == 0

                async def call_late() -> None:
                    caller.append(late.spawn(call, (late.peers()[0], called)))
                    await called.wait()

                caller: list[Any] = []
                _meanwhile(closing, call_late)
            assert steps == ["begun", "cleaning up", "clean"]
            await caller[0]

    own.run(main)

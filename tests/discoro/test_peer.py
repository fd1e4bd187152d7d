"""What waits for a session: in order, bounded, taken back; and who is told when there will be none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from discoro import Coro, Scheduler
from discoro.errors import MailboxFull, NoSuchCoro, PeerLost, PeerUnreachable
from discoro.remotecoro import RemoteCoro
from discoro.transport.frames import Kind
from tests.kit import eventually, run_async
from tests.processes import World, free_port, world
from tests.proxy import CuttingProxy


def two_schedulers(folder: Path, main: Any) -> None:
    """Call ``main(world, server)``; the server listens, and nobody has a session with it."""

    async def both() -> None:
        with world(folder) as here:
            async with here.scheduler(name="server", tcp_port=0) as server:
                await main(here, server)

    run_async(both)


async def collect(count: int, coro: Any = None) -> list[Any]:
    return [await coro.receive() for _ in range(count)]


def reference(client: Scheduler, coro: Any, port: int) -> Any:
    """What a third party has: a reference, and an address, of a process that it has no session with."""
    server = coro.scheduler
    number = server.export(coro)
    process = server.network.process
    return RemoteCoro(client.network, process, number, "collect", ("127.0.0.1", port))


def test_what_is_sent_before_the_session_is_open_arrives_in_order(tmp_path: Path) -> None:
    async def main(here: World, server: Scheduler) -> None:
        messages = [1, bytes(2_000_000), 2, bytes(1_500_000), *range(3000), bytes(70_000), "end"]
        collecting: Coro[Any] = Coro(collect, len(messages))
        async with here.scheduler(name="client") as client:
            there = reference(client, collecting, server.location.port)
            for message in messages[:-1]:
                assert there.send(message) == 0
            assert await there.deliver(messages[-1]) == 1
            assert await collecting == messages

    two_schedulers(tmp_path, main)


def test_what_waits_for_a_session_is_bounded_and_can_be_taken_back(tmp_path: Path) -> None:
    async def main(here: World, server: Scheduler) -> None:
        collecting: Coro[Any] = Coro(collect, 2)
        async with (
            CuttingProxy("127.0.0.1", server.location.port) as proxy,
            here.scheduler(name="client", limits={"lane_queue": 100_000}) as client,
        ):
            proxy.stall(True)
            there = reference(client, collecting, proxy.port)
            there.send("first")
            assert await there.deliver("never", timeout=0.05) == 0
            assert await there.deliver(["never", bytes(2_000_000)], timeout=0.05) == 0
            with pytest.raises(MailboxFull, match="bytes"):
                while True:
                    client.network.peer(server.network.process).send_value(7, bytes(10_000))
            proxy.stall(False)
            assert await there.deliver("last") == 1
            assert await collecting == ["first", "last"]

    two_schedulers(tmp_path, main)


def test_all_who_wait_are_told_when_there_will_be_no_session(tmp_path: Path) -> None:
    async def main(here: World, server: Scheduler) -> None:
        collecting: Coro[Any] = Coro(collect, 1)
        async with here.scheduler(name="client") as client:
            there = reference(client, collecting, free_port())
            there.send("into nothing")
            waiting = [there.deliver("x"), there.finish(), there.monitor(there)]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [PeerUnreachable] * 3
            watcher = client.spawn(collect, (1,))
            again = reference(client, collecting, free_port())
            client.network.monitor(watcher, again)
            (message,) = await watcher.finish(10)
            assert message.args[1][0] is PeerUnreachable
            collecting.terminate()

    two_schedulers(tmp_path, main)


def test_a_reference_to_somebody_else_at_that_address_is_told_apart(tmp_path: Path) -> None:
    async def main(here: World, server: Scheduler) -> None:
        collecting: Coro[Any] = Coro(collect, 1)
        async with here.scheduler(name="client") as client:
            there = reference(client, collecting, server.location.port)
            there.process = bytes(16)
            with pytest.raises((PeerUnreachable, PeerLost)):
                await there.deliver("x", timeout=10)
            collecting.terminate()

    two_schedulers(tmp_path, main)


def test_closing_tells_who_waits(tmp_path: Path) -> None:
    async def main(here: World, server: Scheduler) -> None:
        collecting: Coro[Any] = Coro(collect, 1)
        client = here.scheduler(name="client")
        async with client:
            there = reference(client, collecting, server.location.port)
            with pytest.raises(NoSuchCoro):
                await RemoteCoro(
                    client.network, there.process, there.number + 1, "", there.hint
                ).deliver("x")
            finishing = asyncio.ensure_future(there.finish())
            await asyncio.sleep(0.05)
        with pytest.raises(PeerLost, match="closed"):
            await finishing
        collecting.terminate()

    two_schedulers(tmp_path, main)


def test_who_waits_for_a_grant_is_told_when_the_receiver_ends_and_nothing_is_kept(
    tmp_path: Path,
) -> None:
    async def main(here: World, server: Scheduler) -> None:
        async with here.scheduler(name="client") as client:
            _, ended, there = await with_much_waiting(client, server)
            there.send(bytes(2_000_000))
            delivering = [
                asyncio.ensure_future(there.deliver(bytes(size))) for size in (10, 3_000_000)
            ]
            await asyncio.sleep(0.1)
            assert not any(one.done() for one in delivering)
            ended.set()
            results = await asyncio.gather(*delivering, return_exceptions=True)
            assert [type(result) for result in results] == [NoSuchCoro] * 2
            (peer,) = client.network.live_peers()
            await eventually(lambda: not peer.bulk._sources)

    two_schedulers(tmp_path, main)


async def with_much_waiting(client: Scheduler, server: Scheduler) -> tuple[Any, asyncio.Event, Any]:
    """A coroutine that takes one message and ends when it may; more wait for it than it has granted."""

    async def collect_one(coro: Any = None) -> None:
        await coro.receive()
        await ended.wait()

    ended = asyncio.Event()
    ending = server.spawn(collect_one)
    there = reference(client, ending, server.location.port)
    await there.deliver("first")
    for _ in range(400):
        there.send(bytes(1000))
    return ending, ended, there


def test_the_end_of_a_receiver_grants_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had not taken is no reason to send more to nobody."""

    async def main(here: World, server: Scheduler) -> None:
        async with here.scheduler(name="client") as client:
            ending, ended, _ = await with_much_waiting(client, server)
            await eventually(lambda: ending._queue is not None and bool(ending._queue.attention))
            posted: list[int] = []
            (peer,) = server.network.live_peers()
            monkeypatch.setattr(peer, "post", lambda kind, *rest: posted.append(kind))
            ended.set()
            await ending
            assert posted == [Kind.GONE]
            monkeypatch.undo()
            peer.post(Kind.GONE, ending.number, 0, b"")

    two_schedulers(tmp_path, main)

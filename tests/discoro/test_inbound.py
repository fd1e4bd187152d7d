"""What a peer with the secret may send by mistake, or on purpose: it is told or dropped, and everything goes on."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from discoro import Coro, Scheduler, discoro_server
from discoro.errors import (
    ComputationClosed,
    DiscoroError,
    NoSuchCoro,
    PythonMismatch,
    SetupRefused,
)
from discoro.messages import Finish, Locate, Located, Offer, PingComputation, Setup, Wanted
from discoro.peers.peer import Peer
from discoro.transport.frames import Kind
from discoro.transport.secret import generate
from tests.kit import run_async
from tests.processes import world


def two_schedulers(folder: Path, main: Any, **limits: Any) -> None:
    """Call ``main(client, server, peer)`` with two schedulers that have a session."""
    secret = generate()

    async def both() -> None:
        with world(folder) as here:
            here.secret = secret
            async with here.scheduler(name="server", tcp_port=0, limits=limits) as server:
                hosting: Coro[Any] = Coro(discoro_server)
                async with here.scheduler(name="client") as client:
                    peer = await client.network.dial("127.0.0.1", server.location.port, 5)
                    await main(client, server, peer)
                hosting.terminate()

    run_async(both)


async def answers(client: Scheduler, peer: Peer) -> bool:
    """Whether the other side still works."""
    located = await client.network.requests.ask(peer, Locate("coro", "discoro_server", False))
    return isinstance(located, Located) and located.number > 0


# Kinds whose payload is the user's, or nothing; garbage in the others breaks the protocol and costs the session.
HARMLESS = [
    Kind.SEND,
    Kind.DELIVER,
    Kind.RECEIPT,
    Kind.RUN,
    Kind.RESULT,
    Kind.OUTCOME,
    Kind.STARTED,
    Kind.GONE,
    Kind.MONITOR,
    Kind.DEMONITOR,
    Kind.CANCEL,
    Kind.GRANT,
]


@pytest.mark.parametrize("seed", range(4))
def test_entries_of_garbage_cost_nothing_but_themselves(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        found = await client.network.requests.ask(peer, Locate("coro", "discoro_server", False))
        assert isinstance(found, Located)
        chance = random.Random(seed)
        numbers = [0, 1, found.number, 7, 2**39, 2**40 + 1, 2**62]
        for _ in range(1500):
            kind = chance.choice(HARMLESS)
            # Neither byte is an opcode of pickle: random ones may be a pickle that takes gigabytes, and who has the
            # secret may send that.
            payload = chance.choice([b"\xff", b"\0"]) * chance.choice([0, 0, 1, 3, 8, 9, 40])
            assert peer.session is not None
            peer.session.send(kind, chance.choice(numbers), chance.choice(numbers), payload)
            if chance.random() < 0.05:
                await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await answers(client, peer)

    caplog.set_level(logging.ERROR)
    two_schedulers(tmp_path, main)
    # A handler that lets an exception out is a bug of ours.
    assert [record.getMessage() for record in caplog.records if "bug" in record.getMessage()] == []


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.REPLY, Kind.NOTICE, Kind.BIG, Kind.DOWN])
def test_who_breaks_the_protocol_loses_the_session_and_nobody_else(
    tmp_path: Path, kind: Kind
) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        async with Scheduler(
            secret=client.network.options.secret, node="127.0.0.1", name="other"
        ) as other:
            bystander = await other.network.dial("127.0.0.1", server.location.port, 5)
            for _ in range(20):
                if peer.ended is not None:
                    break
                peer.post(kind, 1, 1, b"" if kind == Kind.DOWN else b"\xc1 no control message")
                await asyncio.sleep(0.05)
            assert await answers(other, bystander)
            again = await client.network.dial("127.0.0.1", server.location.port, 5)
            assert await answers(client, again)

    two_schedulers(tmp_path, main)


def test_a_stranger_to_a_computation_cannot_run_or_close_it(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        ask = client.network.requests.ask
        with pytest.raises(ComputationClosed):
            await ask(peer, Setup(b"x" * 16, None))
        done = await ask(peer, PingComputation(b"x" * 16))
        assert done.value == 0  # type: ignore[attr-defined]
        ended = await ask(peer, Finish(2**50))
        assert ended.code == 4  # type: ignore[attr-defined]

    two_schedulers(tmp_path, main)


def offer(number: int, python: str = "", size: int = 10) -> Offer:
    return Offer(bytes([number]) * 16, "work", python, b"d" * 32, size, [], True, b"bundle")


def test_code_of_another_python_is_refused_with_both_versions(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        with pytest.raises(PythonMismatch) as caught:
            await client.network.requests.ask(peer, offer(1, "cpython-3.1"))
        ours = client.network.options.python
        assert "3.1" in str(caught.value) and ours.partition("-")[2] in str(caught.value)
        assert await answers(client, peer)

    two_schedulers(tmp_path, main)


def test_a_damaged_bundle_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        python = client.network.options.python
        ask = client.network.requests.ask
        assert await ask(peer, offer(1, python)) == Wanted([])
        with pytest.raises(Exception):  # noqa: B017  # whatever the decoder says
            await ask(peer, Setup(bytes([1]) * 16, None))
        assert server.network.server is not None
        assert server.network.server.counts() == {"computations": 0, "runs": 0}
        assert await answers(client, peer)

    two_schedulers(tmp_path, main)


def test_a_client_has_only_so_many_computations(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        python = client.network.options.python
        ask = client.network.requests.ask
        for number in range(3):
            await ask(peer, offer(number, python))
        with pytest.raises(SetupRefused, match="close some"):
            await ask(peer, offer(3, python))

    two_schedulers(tmp_path, main, max_computations=3)


def test_questions_are_taken_back(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        asking = asyncio.ensure_future(
            client.network.requests.ask(peer, Locate("coro", "nobody", True))
        )
        while not server.network.requests._tasks:
            await asyncio.sleep(0.001)
        asking.cancel()
        async with asyncio.timeout(5):
            while server.network.requests._tasks:
                await asyncio.sleep(0.001)
        assert peer.replies == {}

    two_schedulers(tmp_path, main)


def test_a_session_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        python = client.network.options.python
        await client.network.requests.ask(peer, offer(1, python))
        found = await client.network.requests.ask(peer, Locate("coro", "discoro_server", False))
        assert isinstance(found, Located)
        waiting = [
            asyncio.ensure_future(
                client.network.requests.ask(peer, Locate("coro", "nobody", True))
            ),
            asyncio.ensure_future(peer.deliver_value(found.number, "x", None)),
        ]
        await asyncio.sleep(0.05)
        (there,) = server.network.live_peers()
        assert there.taking
        given = server.network.budget.given
        assert given > 0
        await client.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(result == 1 or isinstance(result, DiscoroError) for result in results)
        async with asyncio.timeout(5):
            while server.network.live_peers() or server.network.budget.given:
                await asyncio.sleep(0.001)
        assert not there.taking and not server.network.requests._tasks
        assert server.network.server is not None
        async with asyncio.timeout(5):
            while server.network.server.counts()["computations"]:
                await asyncio.sleep(0.001)

    two_schedulers(tmp_path, main)


def test_a_delivery_to_nobody_says_so(tmp_path: Path) -> None:
    async def main(client: Scheduler, server: Scheduler, peer: Peer) -> None:
        with pytest.raises(NoSuchCoro):
            await peer.deliver_value(12345, "x", None)
        peer.send_value(12345, "dropped")
        assert await answers(client, peer)

    two_schedulers(tmp_path, main)

"""What the contract says of wrong input, wrong threads, time limits and errors: the words that users read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discoro import Location
from discoro.errors import AuthenticationFailed, PeerUnreachable
from discoro.transport.secret import generate
from tests.kit import run_async
from tests.processes import ServerProgram, World


# --- peers added by hand


def test_a_machine_whose_processes_are_peers_already_is_one_at_once(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            await scheduler.peer("127.0.0.1", tcp_port=server.port)
            for host in ("127.0.0.1", "localhost"):
                assert await scheduler.peer(host, udp_port=shared.udp_port, timeout=3) == 0

    run_async(main)


def test_a_machine_with_another_secret_refuses_at_once(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        assert server.port
        async with shared.scheduler(secret=generate()) as scheduler:
            for _ in range(2):
                with pytest.raises(AuthenticationFailed):
                    await scheduler.peer("127.0.0.1", udp_port=shared.udp_port, timeout=8)

    run_async(main)


def test_a_machine_where_nobody_answers_says_so(own: World) -> None:
    async def main() -> None:
        async with own.scheduler() as scheduler:
            with pytest.raises(TimeoutError, match=r"nobody at 127\.0\.0\.1 has become a peer"):
                await scheduler.peer("127.0.0.1", udp_port=own.udp_port, timeout=0.3)
            with pytest.raises(PeerUnreachable, match="no-such-host"):
                await scheduler.peer("no-such-host.invalid", udp_port=own.udp_port, timeout=5)

    run_async(main)


def test_oneself_is_no_peer_and_no_error(own: World) -> None:
    async def main() -> None:
        async with own.scheduler() as scheduler:
            assert await scheduler.peer(scheduler.location, timeout=3) == 0

    run_async(main)

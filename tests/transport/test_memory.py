"""Endpoints over a network in memory: disorder that a seed repeats, and a script cut at every byte."""

from __future__ import annotations

import pytest

from discoro.transport.limits import Limits
from discoro.transport.memory import MemoryNetwork
from tests.kit import eventually, run_async
from tests.transport.ends import ends

LIMITS = Limits(dial_first=0.001, dial_most=0.002, ack_delay=0.001)


@pytest.mark.parametrize("seed", range(10))
def test_entries_arrive_once_and_in_order_whatever_the_pieces_and_cuts(seed: int) -> None:
    async def main() -> None:
        net = MemoryNetwork(seed)
        net.cuts = [2000 + 517 * seed, 3000, 100, 900, 5000, 0]
        async with ends(limits=LIMITS, network=lambda *_: net) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            for number in range(300):
                session.send(1, 7, number % 3, b"%d" % number)
                other.session.send(1 + number % 20, 8, 9, b"%d" % number * 100)
            await eventually(lambda: len(other.got) == len(one.got) == 300)
            assert [data for *_, data in other.got] == [b"%d" % n for n in range(300)]
            assert [data for *_, data in one.got] == [b"%d" % n * 100 for n in range(300)]
            assert net.made > 3

    run_async(main)


def test_a_cable_that_is_pulled_and_plugged_in_again_loses_nothing() -> None:
    async def main() -> None:
        net = MemoryNetwork(1)
        limits = Limits(tick=0.01, ping_idle=0.02, silence=0.05, dial_first=0.001, own_stall=5)
        async with ends(limits=limits, network=lambda *_: net) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            net.be_silent(True)
            session.send(1, 7, 9, b"through the cut")
            await eventually(lambda: one.told("down") and other.told("down"))
            net.be_silent(False)
            await eventually(lambda: other.got and one.told("up"))
            assert other.got == [(1, 7, 9, b"through the cut")]

    run_async(main)

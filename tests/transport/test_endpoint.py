"""Endpoints over real TCP, TLS and handshake, in one process."""

from __future__ import annotations

from tests.kit import eventually, run_async
from tests.transport.ends import ends


def test_entries_go_both_ways_and_survive_a_cut() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            session.send(1, 7, 9, b"hello")
            await eventually(lambda: other.got)
            assert other.got == [(1, 7, 9, b"hello")]

            for number in range(100):
                session.send(1, 7, 9, b"%d" % number)
                other.session.send(1, 8, 9, b"%d" % number)
            other.endpoint.cut(other.session, None)
            await eventually(lambda: len(other.got) == 101 and len(one.got) == 100)
            assert [data for *_, data in other.got[1:]] == [b"%d" % n for n in range(100)]
            assert [data for *_, data in one.got] == [b"%d" % n for n in range(100)]
            assert len(one.told("up")) == 1 and len(other.told("up")) == 1
            assert await session.ping(5)

    run_async(main)

"""Endpoints over real TCP, TLS and handshake, in one process."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from discoro.transport.errors import (
    AuthenticationFailed,
    OwnProcess,
    PeerUnreachable,
    SessionClosed,
    SessionLost,
    WrongPeer,
)
from discoro.transport.greeting import Open
from discoro.transport.limits import Limits
from discoro.transport.memory import MemoryNetwork
from discoro.transport.session import State
from tests.kit import eventually, run_async
from tests.proxy import CuttingProxy
from tests.transport.ends import End, ends

FAST = Limits(dial_first=0.002, dial_most=0.01)


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
            assert session.rtt is not None

    run_async(main)


def test_each_side_knows_what_the_other_said_about_itself() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            assert session.peer.process_id == session.process_id == other.process_id
            assert session.peer.port == port and session.address == ("127.0.0.1", port)
            assert other.session.peer == session.ours
            assert session.dialled and not other.session.dialled
            assert one.told("opened") == [("opened", session)]

    run_async(main)


def test_a_megabyte_message_passes_and_a_longer_one_is_refused() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            data = os.urandom(one.limits.max_payload)
            session.send(5, 7, 9, data)
            session.send(1, 7, 9, b"after")
            await eventually(lambda: len(other.got) == 2)
            assert other.got == [(5, 7, 9, data), (1, 7, 9, b"after")]

    run_async(main)


def test_a_second_connect_gives_the_same_session() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            port = await other.listen()
            first = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            again = await one.endpoint.connect("localhost", port, timeout=5)
            known = await one.endpoint.connect("nowhere", 1, timeout=5, expect=other.process_id)
            back = await other.endpoint.connect("127.0.0.1", await one.listen(), timeout=5)
            assert first is again is known
            assert back is other.session
            assert len(one.told("opened")) == len(other.told("opened")) == 1

    run_async(main)


def test_many_callers_share_one_dial() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            port = await other.listen()
            found = await asyncio.gather(
                *(one.endpoint.connect("127.0.0.1", port, timeout=5) for _ in range(20))
            )
            assert len({id(session) for session in found}) == 1
            assert len(other.told("opened")) == 1

    run_async(main)


@pytest.mark.parametrize("seed", range(40))
def test_two_dials_that_cross_make_one_session(seed: int) -> None:
    async def main() -> None:
        net = MemoryNetwork(seed)
        async with ends(limits=FAST, network=lambda *_: net) as (one, other):
            ports = [await one.listen(), await other.listen()]
            there, back = await asyncio.gather(
                one.endpoint.connect("127.0.0.1", ports[1], timeout=5),
                other.endpoint.connect("127.0.0.1", ports[0], timeout=5),
            )
            assert there is one.session and back is other.session
            assert there.id == back.id and there.dialled != back.dialled
            there.send(1, 1, 1, b"x")
            back.send(1, 2, 2, b"y")
            await eventually(lambda: one.got and other.got)
            assert not one.told("lost") and not other.told("lost")

    run_async(main)


@pytest.mark.parametrize("cut_after", [None, 84, 150, 250, 300, 400, 450, 520, 600])
def test_an_open_that_is_cut_anywhere_is_repeated_and_recognised(cut_after: int | None) -> None:
    """Also when the peer has the session already and only its answer was lost."""

    async def main() -> None:
        net = MemoryNetwork()
        net.cuts = [cut_after]
        async with ends(limits=FAST, network=lambda *_: net) as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            session.send(1, 1, 1, b"x")
            other.session.send(1, 2, 2, b"y")
            await eventually(lambda: one.got and other.got)
            assert other.session.id == session.id
            assert len(other.told("opened")) == 1 and not other.told("lost")

    run_async(main)


def test_the_wrong_secret_raises_on_both_sides_of_nothing() -> None:
    async def main() -> None:
        one, other = End(secret="another secret than theirs"), End()
        try:
            with pytest.raises(AuthenticationFailed):
                await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            assert not one.events and not other.events
        finally:
            await one.endpoint.close()
            await other.endpoint.close()

    run_async(main)


def test_nobody_there_somebody_else_there_and_ourselves_there() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            with pytest.raises(PeerUnreachable, match="refused"):
                await one.endpoint.connect("127.0.0.1", port, timeout=5)
            with pytest.raises(PeerUnreachable, match="no such host"):
                await one.endpoint.connect("no.such.host.invalid", port, timeout=5)
            with pytest.raises(PeerUnreachable, match="no such host"):
                await one.endpoint.connect("a..b", port, timeout=5)
            port = await other.listen()
            with pytest.raises(WrongPeer) as caught:
                await one.endpoint.connect("127.0.0.1", port, timeout=5, expect=b"x" * 16)
            assert caught.value.found == other.process_id
            assert not one.endpoint.sessions and not other.endpoint.sessions
            with pytest.raises(OwnProcess):
                await other.endpoint.connect("127.0.0.1", port, timeout=5)

    run_async(main)


def test_no_descriptors_left_is_an_answer_and_a_session_survives_it(monkeypatch: Any) -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)

            def none_left(*args: Any) -> socket.socket:
                raise OSError(errno.EMFILE, "Too many open files")

            with monkeypatch.context() as patch:
                patch.setattr("discoro.transport.network.socket.socket", none_left)
                with pytest.raises(PeerUnreachable, match="too many open files"):
                    await one.endpoint.connect("127.0.0.2", port, timeout=5)
                one.endpoint.cut(session, None)
                await asyncio.sleep(0.05)
                assert session.state is State.DOWN
            await eventually(lambda: session.state is State.UP)

    run_async(main)


def test_a_dial_that_hears_nothing_waits_for_its_caller_and_no_longer() -> None:
    async def main() -> None:
        async with ends(1) as (one,):
            with socket.create_server(("127.0.0.1", 0)) as silent:
                port = silent.getsockname()[1]
                with pytest.raises(PeerUnreachable, match="no answer within"):
                    await one.endpoint.connect("127.0.0.1", port, timeout=0.05)
                waiting = asyncio.ensure_future(
                    one.endpoint.connect("127.0.0.1", port, timeout=None)
                )
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            assert not one.events

    run_async(main)


def test_a_dial_given_up_after_open_leaves_no_session_at_the_other_end(
    monkeypatch: Any,
) -> None:
    """The answer is on its way, or the peer computes, and the caller has no more time."""

    async def main() -> None:
        async with ends() as (one, other):
            port = await other.listen()
            encode = Open.encode

            def gives_up(wish: Open, *args: Any) -> bytes:
                (opening,) = one.endpoint.openings._openings.values()
                assert opening.task is not None
                opening.task.cancel()  # as connect() does at its timeout
                return encode(wish, *args)

            with monkeypatch.context() as patch:
                patch.setattr(Open, "encode", gives_up)
                with pytest.raises(PeerUnreachable):
                    await one.endpoint.connect("127.0.0.1", port, timeout=5)
            await eventually(lambda: other.told("lost"))
            ((_, _, error),) = other.told("lost")
            assert isinstance(error, SessionClosed) and error.by_peer
            assert not one.endpoint.sessions and not other.endpoint.sessions
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            assert session is one.session

    run_async(main)


def test_a_session_whose_opening_was_cut_and_given_up_gives_way_to_the_next() -> None:
    """There was nobody left to tell; the next dial proves that it may."""

    async def main() -> None:
        net = MemoryNetwork()
        net.cuts = [560]  # OPEN has arrived, its answer does not
        limits = Limits(dial_first=0.2, dial_most=0.2)
        async with ends(limits=limits, network=lambda *_: net) as (one, other):
            port = await other.listen()
            connecting = asyncio.ensure_future(one.endpoint.connect("127.0.0.1", port, timeout=5))
            await eventually(lambda: other.told("down"))
            connecting.cancel()
            await asyncio.wait([connecting])
            assert other.session.state is State.DOWN and not one.endpoint.sessions
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            assert other.session.id == session.id
            session.send(1, 1, 1, b"x")
            await eventually(lambda: other.got)

    run_async(main)


def test_closing_delivers_what_was_sent_and_tells_the_other_side() -> None:
    async def main() -> None:
        async with ends() as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            for number in range(1000):
                session.send(1, 1, 1, b"%d" % number)
            await one.endpoint.close()
            await eventually(lambda: other.told("lost"))
            assert len(other.got) == 1000
            ((_, _, error),) = other.told("lost")
            assert isinstance(error, SessionClosed) and error.by_peer
            ((_, _, error),) = one.told("lost")
            assert isinstance(error, SessionClosed) and not error.by_peer
            assert not session.unacknowledged()
            assert session.state is State.CLOSED
            with pytest.raises(SessionClosed):
                session.send(1, 1, 1, b"late")
            with pytest.raises(SessionClosed):
                await one.endpoint.connect("127.0.0.1", other.port, timeout=1)

    run_async(main)


def test_a_peer_that_was_restarted_is_known_at_once() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            async with CuttingProxy("127.0.0.1", port) as proxy:
                session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5)
                new = End(limits=FAST)
                try:
                    proxy.target = ("127.0.0.1", await new.listen())
                    proxy.stall(True)
                    session.send(1, 7, 9, b"for the one before")
                    await asyncio.sleep(0)
                    proxy.cut()
                    proxy.stall(False)
                    await eventually(lambda: one.told("lost"))
                    assert [entry.payload for entry in session.unacknowledged()] == [
                        b"for the one before"
                    ]
                    assert isinstance(one.told("lost")[0][2], SessionLost)
                    assert not new.events and session.state is State.LOST
                finally:
                    await new.endpoint.close()

    run_async(main)


def test_a_server_that_has_ended_is_answered_for() -> None:
    """The parent holds the listening socket: it says how the server ended, after the handshake."""

    async def main() -> None:
        async with ends(3, limits=FAST) as (one, server, parent):
            with socket.create_server(("127.0.0.1", 0)) as held:
                port = held.getsockname()[1]
                assert await server.endpoint.adopt([held]) == [("127.0.0.1", port)]
                session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
                server.endpoint.release([held])
                await parent.endpoint.adopt([held], ended=lambda: "ended by signal 11")
                server.endpoint.cut(server.session, None)
                await eventually(lambda: one.told("lost"))
                error = one.told("lost")[0][2]
                assert error is session.lost and error.ended == "ended by signal 11"
                with pytest.raises(PeerUnreachable, match="ended by signal 11"):
                    await one.endpoint.connect("127.0.0.1", port, timeout=5)
                parent.endpoint.release([held])
                await server.endpoint.adopt([held])
                server.endpoint.lose(server.session, SessionLost("for this test"))
                await one.endpoint.connect("127.0.0.1", port, timeout=5)

    run_async(main)


@pytest.mark.parametrize(
    ("given", "announced"), [(True, False), (True, True), (False, False), (False, True)]
)
def test_refused_for_long_ends_a_session_only_at_the_peers_own_address(
    given: bool, announced: bool
) -> None:
    """Its own is what it announces, unless a user typed it; anything else may be a tunnel, or came with a reference."""

    async def main() -> None:
        limits = Limits(refused_timeout=0.05, dial_first=0.001, dial_most=0.01)
        async with (
            ends(limits=limits) as (one, other),
            CuttingProxy("127.0.0.1", await other.listen()) as proxy,
        ):
            if announced:
                other.port = proxy.port
            session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5, given=given)
            await proxy.stop_listening()
            proxy.cut()
            await eventually(lambda: one.told("down"))
            if announced and not given:
                await eventually(lambda: one.told("lost"))
            else:
                await asyncio.sleep(0.1)
                await proxy.start()
                await eventually(lambda: session.state is State.UP)
                assert not one.told("lost")

    run_async(main)


def test_no_link_for_too_long_ends_a_session_on_both_sides_the_client_first() -> None:
    async def main() -> None:
        limits = Limits(
            tick=0.01, resume_client=0.1, resume_server=0.2, own_stall=5, dial_most=0.02
        )
        async with (
            ends(limits=limits) as (one, other),
            CuttingProxy("127.0.0.1", await other.listen()) as proxy,
        ):
            await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5, given=True)
            await proxy.stop_listening()
            proxy.cut()
            await eventually(lambda: one.told("lost"))
            assert not other.told("lost")
            await eventually(lambda: other.told("lost"))
            assert "no link for" in str(one.told("lost")[0][2])

    run_async(main)


def test_a_session_that_one_side_has_lost_gives_way_to_a_new_one() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            old = other.session
            old.send(1, 1, 1, b"never read")
            one.endpoint.lose(session, SessionLost("for this test"))
            new = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            assert new is not session and other.session.id == new.id
            assert old.state is State.LOST and len(other.told("lost")) == 1

    run_async(main)


def test_a_silent_peer_whose_kernel_answers_is_busy_and_not_lost() -> None:
    async def main() -> None:
        limits = Limits(tick=0.01, ping_idle=0.03, silence=0.06, own_stall=5)
        async with (
            ends(limits=limits) as (one, other),
            CuttingProxy("127.0.0.1", await other.listen()) as proxy,
        ):
            session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5)
            proxy.stall(True)  # for us the proxy's kernel is the peer's
            await eventually(lambda: one.told("busy"))
            assert session.busy and not await session.ping(0.02)
            await asyncio.sleep(0.1)
            assert session.state is State.UP and len(one.told("busy")) == 1
            proxy.stall(False)
            await eventually(lambda: len(one.told("busy")) == 2)
            assert not session.busy and not one.told("down") and not one.told("lost")

    run_async(main)


def test_half_a_close_is_a_cut_like_any_other() -> None:
    async def main() -> None:
        async with (
            ends(limits=FAST) as (one, other),
            CuttingProxy("127.0.0.1", await other.listen()) as proxy,
        ):
            session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5)
            proxy.half_close()
            session.send(1, 7, 9, b"x")
            await eventually(lambda: other.got and other.told("up") and session.idle)

    run_async(main)


def test_a_peer_that_breaks_the_rules_loses_its_link_and_after_three_its_session() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            for round in range(3):
                await eventually(lambda: session.state is State.UP)
                await eventually(lambda: other.session.state is State.UP)
                session._put(b"\0\0\0\x14\x63" + bytes(19))
                if round < 2:
                    await eventually(lambda: len(other.told("up")) == round + 1)  # noqa: B023
            await eventually(lambda: other.told("lost"))
            assert "broke the rules" in str(other.told("lost")[0][2])

    run_async(main)


def test_a_handler_that_raises_costs_its_entry_and_nothing_else(caplog: Any) -> None:
    async def main() -> None:
        def fail(*entry: Any) -> None:
            if entry[-1] == b"bad":
                raise RuntimeError("on purpose")

        one, other = End(), End(on_entry=fail)
        try:
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            for data in (b"good", b"bad", b"good again"):
                session.send(5, 1, 1, data)
            await eventually(lambda: len(other.got) == 3)
            assert not other.told("down")
            assert "this is a bug in discoro" in caplog.text
        finally:
            await one.endpoint.close()
            await other.endpoint.close()

    run_async(main)


def test_the_window_holds_a_sender_back_and_lets_it_go() -> None:
    async def main() -> None:
        limits = Limits(window=300_000)
        async with (
            ends(limits=limits) as (one, other),
            CuttingProxy("127.0.0.1", await other.listen()) as proxy,
        ):
            session = await one.endpoint.connect("127.0.0.1", proxy.port, timeout=5)
            proxy.stall(True)
            sent = 0
            while not session.congested:
                session.send(1, 1, 1, bytes(1000))
                sent += 1
            waiting = asyncio.ensure_future(session.room())
            await asyncio.sleep(0.01)
            assert not waiting.done() and session.outbox.kept_bytes < 300_000 + 70_000
            proxy.stall(False)
            await waiting
            await eventually(lambda: len(other.got) == sent)

    run_async(main)


def test_a_forked_child_lets_go_of_links_and_listeners() -> None:
    """A child that kept them would keep a dead server looking alive."""

    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            transfer = one.session.bulk.send([b"x"])
            await other.session.bulk.expect(transfer.number, 1, bytearray(1))
            numbers = list(other.endpoint.descriptors())
            assert len(numbers) == 3, "listener, link, bulk connection"
            child = os.fork()
            if not child:
                left = [n for n in numbers if os.readlink(f"/proc/self/fd/{n}") != "/dev/null"]
                os._exit(len(left))
            assert os.waitpid(child, 0)[1] == 0
            one.session.send(1, 1, 1, b"still here")
            await eventually(lambda: other.got)
            assert not one.told("down")

    run_async(main)


def test_ten_listeners_on_one_port_or_none() -> None:
    async def main() -> None:
        async with ends(1) as (one,):
            addresses = await one.endpoint.listen(["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0)
            assert len({port for _, port in addresses}) == 1 and len(addresses) == 3
            with pytest.raises(OSError):
                await one.endpoint.listen(["127.0.0.4", "127.0.0.1"], addresses[0][1])
            with socket.create_server(("127.0.0.4", addresses[0][1])):
                pass  # the one that could be bound was let go again

    run_async(main)


def test_a_bulk_connection_needs_the_sessions_key() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            data = bytearray(os.urandom(3_000_000))
            into = bytearray(len(data))
            transfer = session.bulk.send([data])
            await other.session.bulk.expect(transfer.number, transfer.size, into)
            await transfer.done
            assert into == data

            session.key = bytes(32)
            session.bulk._link.close()
            with pytest.raises(SessionLost, match="BAD_PROOF"):
                await one.endpoint._dial_bulk(session)

    run_async(main)


def test_the_loop_of_the_standard_library_does_as_well() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            session = await one.endpoint.connect("127.0.0.1", await other.listen(), timeout=5)
            for number in range(100):
                session.send(1, 7, 9, b"%d" % number * 1000)
                other.session.send(5, 7, 9, b"%d" % number * 10_000)
                if number == 50:
                    await asyncio.sleep(0)
                    one.endpoint.cut(session, None)
            await eventually(lambda: len(other.got) == len(one.got) == 100)
            assert [data for *_, data in other.got] == [b"%d" % n * 1000 for n in range(100)]

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())

"""Finding each other and failing to: discovery, peers by hand, and errors that say what to type."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from discoro import Computation, Coro, Location, Scheduler
from discoro.errors import (
    AuthenticationFailed,
    DiscoroError,
    PeerError,
    PeerUnreachable,
)
from discoro.peers.meeting import _told_once
from discoro.transport.beacon import Beacon
from tests.functional import jobs
from tests.kit import eventually
from tests.processes import ServerProgram, World, free_port, until


def test_the_wrong_secret_is_authentication_failed_at_every_call_with_an_address(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        where = server.location
        scheduler: Scheduler = coro.scheduler
        with pytest.raises(AuthenticationFailed, match="secret") as caught:
            await Computation(jobs.add).setup(where)
        assert caught.value.location == where
        assert "(secret=, --secret-file)" in str(caught.value)
        assert "DISCORO_SECRET" not in str(caught.value)  # which would change nothing
        with pytest.raises(AuthenticationFailed):
            await scheduler.peer("127.0.0.1", tcp_port=server.port)
        with pytest.raises(AuthenticationFailed):
            await Coro.locate("discoro_server", where, timeout=10)
        assert await Computation(jobs.add).ping(where) == -1
        assert scheduler.peers() == []

    shared.run(main, secret="another secret than that")


def test_guesses_are_slowed_down_and_those_with_the_secret_are_not(own: World) -> None:
    server = own.server()

    async def main(coro: Any = None) -> None:
        run = await Computation(jobs.add).setup(server.location)
        assert run == 0
        for number in range(8):
            async with own.scheduler(secret=f"a guess with number {number}") as guesser:
                try:
                    async with asyncio.timeout(0.5):
                        with pytest.raises(DiscoroError):
                            await guesser.peer("127.0.0.1", tcp_port=server.port, timeout=None)
                except TimeoutError:
                    break
        else:
            raise AssertionError("eight guesses without a wait")
        async with own.scheduler() as friend:
            assert await friend.peer("127.0.0.1", tcp_port=server.port) == 0

    own.run(main)


def test_nobody_there_is_peer_unreachable(shared: World) -> None:
    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        where = Location("127.0.0.1", free_port())
        with pytest.raises(PeerUnreachable, match=f"{where.port}"):
            await Computation(jobs.add).setup(where)
        with pytest.raises(PeerUnreachable, match="refused"):
            await scheduler.peer("127.0.0.1", tcp_port=where.port)
        assert await Computation(jobs.add).ping(where) == -1
        with pytest.raises(PeerUnreachable, match="no-such-host"):
            await scheduler.peer("no-such-host.invalid", tcp_port=1)
        assert await Coro.locate("discoro_server", timeout=0.3) is None
        assert await scheduler.locate("nobody", timeout=0.1) is None

    shared.run(main, udp_port=free_port(socket.SOCK_DGRAM))


def test_a_port_of_something_else_is_told_apart(shared: World) -> None:
    async def silent(reader: Any, writer: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            writer.close()

    async def web(reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        http = await asyncio.start_server(web, "127.0.0.1", 0)
        port = http.sockets[0].getsockname()[1]
        with pytest.raises(PeerUnreachable, match="TLS"):
            await scheduler.peer("127.0.0.1", tcp_port=port)
        nothing = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = nothing.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            await scheduler.peer("127.0.0.1", tcp_port=port, timeout=0.3)
        http.close()
        nothing.close()

    shared.run(main)


def test_another_cluster_is_told_by_name(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        with pytest.raises(PeerError, match=re.compile("cluster", re.IGNORECASE)):
            await coro.scheduler.peer("127.0.0.1", tcp_port=server.port)

    shared.run(main, cluster="elsewhere")


def test_a_port_that_is_taken_is_an_error_with_its_number(own: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        async def main(coro: Any = None) -> None:
            raise AssertionError("it should not run")

        with pytest.raises((DiscoroError, OSError), match=str(port)):
            own.run(main, tcp_port=port)


def test_a_reference_into_a_process_that_nobody_can_reach_says_so(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(server.location)
        run: Any = await echo.run(server.location, coro)
        run.process = bytes(16)
        run.hint = None
        run._peer = None
        with pytest.raises(PeerUnreachable, match="does not listen"):
            await run.deliver("lost", timeout=5)

    shared.run(main)


def test_peer_by_hand_takes_a_host_a_location_and_a_port(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        assert await scheduler.peer("127.0.0.1", tcp_port=server.port) == 0
        assert await scheduler.peer("localhost", tcp_port=server.port) == 0
        assert await scheduler.peer(server.location) == 0
        assert await scheduler.peer(f"127.0.0.1:{server.port}") == 0
        (where,) = scheduler.peers()
        assert where.id == bytes.fromhex(server.where[1]) and where.name == "first"
        assert await scheduler.ping(where) == 0
        assert await scheduler.locate("first") == where
        found = await Coro.locate("discoro_server")
        assert found is not None and found.location == where
        for wrong in (5, None, object()):
            with pytest.raises((TypeError, ValueError)):
                await scheduler.peer(wrong)  # type: ignore[arg-type]
        for port in (-1, 70000, "x"):
            with pytest.raises((TypeError, ValueError)):
                await scheduler.peer("127.0.0.1", tcp_port=port)  # type: ignore[arg-type]

    shared.run(main)


def test_schedulers_of_one_machine_find_each_other_by_udp(own: World) -> None:
    one = own.server(name="one", node="127.0.0.1")
    assert one.port

    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        seen: list[Any] = []
        scheduler.peer_status(lambda name, location, status: seen.append((name, status)))
        found = await Coro.locate("discoro_server", timeout=15)
        assert found is not None and found.location.name == "one"
        assert seen == [("one", 1)]
        where = await scheduler.locate("one", timeout=5)
        assert where == found.location
        computation: Computation[Any, Any] = Computation(jobs.add)
        await computation.setup(found)
        assert await (await computation.run(found, 1, 2)) == 3
        # One that comes later is found as well.
        two = own.server(name="two")
        assert two.port
        there = await scheduler.locate("two", timeout=15)
        assert there is not None and there.name == "two"
        two.kill()
        limit = asyncio.get_running_loop().time() + 10
        while ("two", 0) not in seen and asyncio.get_running_loop().time() < limit:
            await asyncio.sleep(0.01)
        assert seen == [("one", 1), ("two", 1), ("two", 0)]

    own.run(main, limits={"refused_timeout": 0.3})


def test_a_new_search_asks_anew_while_an_old_one_goes_on(own: World) -> None:
    one = own.server(name="one")
    assert one.port

    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        scheduler.peer_status(lambda name, location, status: None)
        assert await scheduler.locate("one", timeout=15) is not None
        two = own.server(name="two")
        assert two.port
        there = None
        for _ in range(5):  # a datagram may be lost, and each search sends one
            there = there or await scheduler.locate("two", timeout=3)
        assert there is not None and there.name == "two"

    # The first search asks once in this time.
    own.run(main, limits={"ask_first": 600.0, "ask_every": 600.0})


def test_a_hint_that_came_too_early_is_followed_as_soon_as_somebody_is_there(own: World) -> None:
    """The process behind it is being started, or restarted."""
    port = free_port()
    beacon = Beacon(os.urandom(16), "late", "default", (port,), "")

    async def main(coro: Any = None) -> None:
        meeting = coro.scheduler.network.meeting

        async def hinted(until: Callable[[], Any]) -> None:
            async with asyncio.timeout(30):
                while not until():
                    meeting._beacon_came(beacon, ("127.0.0.1", own.udp_port))
                    await asyncio.sleep(0.02)

        await hinted(lambda: meeting._refused)
        assert own.server(name="late", tcp_port=port).port == port
        await hinted(coro.scheduler.peers)
        assert [peer.name for peer in coro.scheduler.peers()] == ["late"]

    own.run(main, guard=40)


def test_who_asks_one_machine_does_not_go_on_asking_everybody(own: World) -> None:
    async def main(coro: Any = None) -> None:
        meeting = coro.scheduler.network.meeting
        with pytest.raises(TimeoutError):
            await coro.scheduler.peer("127.0.0.1", udp_port=own.udp_port, timeout=0.5)
        assert meeting._asker is not None and meeting._asker._timer is None
        assert await coro.scheduler.locate("nobody", timeout=0.3) is None  # a search asks everybody
        await eventually(lambda: meeting._asker._timer is None)

    own.run(main)


def test_peer_status_tells_a_coroutine(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler

        async def listen(coro: Any = None) -> Any:
            return [await coro.receive() for _ in range(1)]

        listener: Coro[Any] = Coro(listen)
        assert scheduler.peer_status(listener) == 0
        await scheduler.peer(server.location)
        ((name, location, status),) = await listener
        assert (name, status, location.port) == ("first", 1, server.port)
        # It has ended; a second one is told at once of who is there.
        second: Coro[Any] = Coro(listen)
        scheduler.peer_status(second)
        assert (await second)[0][0] == "first"

    shared.run(main)


def test_a_peer_status_callback_that_fails_costs_nothing_else(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        scheduler: Scheduler = coro.scheduler
        seen: list[Any] = []

        def broken(*args: Any) -> None:
            raise RuntimeError("broken callback")

        scheduler.peer_status(broken)
        scheduler.peer_status(lambda *args: seen.append(args))
        await scheduler.peer(server.location)
        assert len(seen) == 1

    shared.run(main)


def test_wrong_options_are_refused(own: World) -> None:
    for wrong in (
        {"udp_port": -1},
        {"udp_port": 70000},
        {"udp_port": "51350"},
        {"tcp_port": 70000},
        {"tcp_port": "x"},
        {"max_file_size": -5},
        {"secret": 5},
        {"name": 5},
        {"cluster": ""},
        {"cluster": 5},
        {"node": 5},
        {"certfile": "/no/such/file"},
        {"max_mailbox": 0},
        {"unheard_of": 1},
    ):
        with pytest.raises((ValueError, TypeError, OSError)) as caught:
            Scheduler(**wrong)
        text = str(caught.value)
        assert next(iter(wrong)) in text or str(next(iter(wrong.values()))) in text, text


def test_a_stranger_is_never_unpickled(own: World) -> None:
    """Bytes that would run code when unpickled do nothing, and the server lives on."""
    server = own.server()
    marker = own.folder / "owned"
    attack = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for data in (attack, b"\x00\x00\x00\x10" + attack, bytes(100_000)):
        for plain in (True, False):
            with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
                try:
                    with raw if plain else context.wrap_socket(raw) as connection:
                        connection.sendall(data)
                        connection.settimeout(6)
                        while connection.recv(1000):
                            pass
                except OSError:
                    pass
    assert not marker.exists()

    async def main(coro: Any = None) -> None:
        assert await Computation(jobs.add).setup(server.location) == 0

    own.run(main)
    until(lambda: not marker.exists())


def test_the_secret_is_nowhere_to_be_read(own: World) -> None:
    scheduler = own.scheduler(secret="a very secret text")
    assert "very secret" not in repr(scheduler)
    assert "very secret" not in repr(scheduler.network.options)
    assert "very secret" not in str(vars(scheduler))
    scheduler.close()


def test_one_reason_of_many_is_said_once() -> None:
    places = [Location("127.0.0.1", port) for port in (1, 2, 3)]
    refused = [
        AuthenticationFailed(f"{place} has another secret. Type it.", place) for place in places
    ]
    gone: list[DiscoroError] = [PeerUnreachable("127.0.0.1:9 answers nothing", None)]
    assert list(_told_once([*refused, *gone])) == [
        f"{places[0]} has another secret. Type it. (The same at {places[1]}, {places[2]}.)",
        "127.0.0.1:9 answers nothing",
    ]

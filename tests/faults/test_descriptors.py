"""No descriptors left: in a server, in a client, in a node's parent. What there is goes on; what is new waits, or is told."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from discoro import Computation
from discoro.errors import FileRefused, NodeSilent
from tests.faults import faultjobs
from tests.faults.test_kills import node, place, set_up
from tests.functional.nodes import NodeProcess
from tests.kit import eventually, run_async
from tests.processes import World
from tests.transport.ends import End

__all__ = ["node"]
RECOVERY = 5.0
"""Seconds after which all is as before, once there are descriptors again."""


def test_a_server_without_descriptors_serves_whom_it_has_and_then_everybody_again(
    own: World, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    server = own.server(dest_path=str(dest))
    process = psutil.Process(server.process.pid)
    server.port  # noqa: B018  # it is ready
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (200, 200))
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3 << 20))

    async def main(coro: Any = None) -> None:
        echoing: Computation[Any, Any] = Computation(faultjobs.echo)
        taking: Computation[Any, Any] = Computation(faultjobs.take_descriptors)
        for one in (echoing, taking):
            await one.setup(server.location)
        echo = await echoing.run(server.location, coro)
        taker = await taking.run(server.location, coro)
        assert await coro.receive(timeout=10) == "Too many open files"
        used = sum(process.cpu_times()[:2])
        async with own.scheduler(name="new") as other:
            with pytest.raises(TimeoutError):
                await other.peer(server.location, timeout=1.5)
        used = sum(process.cpu_times()[:2]) - used
        print(f"{used:.2f} s of CPU in 1.5 s without descriptors")
        assert used < 0.5
        echo.send("still there")
        assert await coro.receive(timeout=10) == "still there"
        with pytest.raises(FileRefused, match=r"(?i)too many open files"):
            await coro.scheduler.send_file(server.location, sent, timeout=20)
        assert not [path for path in dest.rglob("*") if path.is_file() and path.name != ".lock"]
        waiting = asyncio.ensure_future(own_peer(own, server.location))
        await asyncio.sleep(0.3)
        taker.send("release")
        assert await taker == "released"
        async with asyncio.timeout(RECOVERY):
            await waiting
            assert await coro.scheduler.send_file(server.location, sent, timeout=20) == 0
        assert next(dest.rglob("sent")).read_bytes() == sent.read_bytes()

    own.scheduler().run(main)
    lines = [line for line in server.err.splitlines() if line.strip()]
    print("\n".join(lines))
    assert len([line for line in lines if "cannot take connections for now" in line]) == 1
    assert "Traceback" not in server.err and len(lines) <= 3, server.err


async def own_peer(own: World, location: Any) -> None:
    async with own.scheduler(name="waits") as other:
        await other.peer(location, timeout=20)


@pytest.mark.slow
def test_sixty_clients_of_a_server_with_twenty_descriptors_all_get_their_turn(own: World) -> None:
    server = own.server()
    process = psutil.Process(server.process.pid)
    assert server.port
    most = process.num_fds() + 20
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))

    async def main() -> None:
        clients = [End(secret=own.secret) for _ in range(60)]
        served: list[End] = []

        async def one(client: End) -> None:
            await client.endpoint.connect("127.0.0.1", server.port, timeout=None)
            served.append(client)

        tasks = [asyncio.ensure_future(one(client)) for client in clients]
        try:
            await eventually(lambda: len(served) >= 15)
            await asyncio.sleep(1.0)
            print(f"{len(served)} of 60 served")
            assert 15 <= len(served) <= 20
            waits = []
            gone = 0
            while len(served) < 60:
                start, before = time.monotonic(), len(served)
                for client in served[gone:before]:
                    await client.endpoint.close()
                gone = before
                await eventually(lambda: len(served) >= min(60, before + 10), guard=RECOVERY)  # noqa: B023
                waits.append(time.monotonic() - start)
            print("the next ones after", [f"{wait:.2f} s" for wait in waits])
        finally:
            for task in tasks:
                task.cancel()
            for client in clients:
                await client.endpoint.close()

    run_async(main, guard=60.0)
    lines = [line for line in server.err.splitlines() if line.strip()]
    assert len(lines) <= 10 and "Traceback" not in server.err, server.err


CLIENT = """
import asyncio, os, resource, sys
from discoro import Computation, Location, Scheduler
from discoro.errors import DiscoroError
from tests.faults import faultjobs

async def main(coro=None):
    where = Location("127.0.0.1", int(sys.argv[1]))
    sent = sys.argv[2]
    echoing = Computation(faultjobs.echo)
    await echoing.setup(where)
    echo = await echoing.run(where, coro)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    held = []
    try:
        while True:
            held.append(open(os.devnull))
    except OSError:
        pass
    echo.send("still there")
    print(await coro.receive(timeout=10), flush=True)
    for what in ("peer", "file"):
        try:
            if what == "peer":
                await coro.scheduler.peer("127.0.0.1", tcp_port=int(sys.argv[3]), timeout=5)
            else:
                await coro.scheduler.send_file(where, sent, timeout=5)
        except (DiscoroError, OSError) as error:
            print(type(error).__name__, error, flush=True)
    big = asyncio.ensure_future(echo.deliver(bytes(3 << 20), timeout=30))  # needs another connection
    await asyncio.sleep(1)
    print("waits" if not big.done() else repr(big), flush=True)
    for file in held:
        file.close()
    async with asyncio.timeout(5):
        print(await big, len(await coro.receive(timeout=10)), flush=True)
        print(await coro.scheduler.send_file(where, sent), flush=True)
        print(await coro.scheduler.peer("127.0.0.1", tcp_port=int(sys.argv[3])) is not None)

Scheduler(node="127.0.0.1", udp_port=int(os.environ["DISCORO_TEST_UDP_PORT"])).run(main)
"""


@pytest.mark.slow
def test_a_client_without_descriptors_is_told_and_goes_on_afterwards(
    own: World, tmp_path: Path
) -> None:
    server, second = own.server(dest_path=str(tmp_path / "dest")), own.server()
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3 << 20))
    client = own.program(CLIENT, server.port, sent, second.port)
    out = client.ends(None, guard=60)
    print(out, client.err)
    lines = out.splitlines()
    assert lines[0] == "still there"
    assert "oo many open files" in lines[1] and "oo many open files" in lines[2]
    assert lines[3] == "waits"
    assert lines[4:] == [f"1 {3 << 20}", "0", "True"], out
    assert "Traceback" not in client.err


@pytest.mark.slow
def test_a_file_that_a_computation_needs_is_refused_by_its_name_and_comes_afterwards(
    own: World, node: NodeProcess, tmp_path: Path
) -> None:
    resource.prlimit(node.server()["pid"], resource.RLIMIT_NOFILE, (200, 200))
    needed = tmp_path / "needed.bin"
    needed.write_bytes(os.urandom(3 << 20))

    async def main(coro: Any = None) -> None:
        where = place(node, 0)
        taking: Computation[Any, Any] = Computation(faultjobs.take_descriptors)
        reading: Computation[Any, Any] = Computation(faultjobs.hang, depends=[str(needed)])
        plain: Computation[Any, Any] = Computation(faultjobs.own_pid)
        await taking.setup(where)
        taker = await taking.run(where, coro)
        assert await coro.receive(timeout=10) == "Too many open files"
        with pytest.raises(FileRefused, match=r"'needed.bin': not taken .*: Too many open files"):
            await reading.setup(where, timeout=20)
        await plain.setup(where, timeout=20)  # what needs no file is at home here
        taker.send("release")
        assert await taker == "released"
        async with asyncio.timeout(RECOVERY):
            await reading.setup(where)

    own.scheduler().run(main)
    folder = own.folder / "state" / "discoro"
    assert not [path for path in folder.rglob("*") if ".part" in path.name]


@pytest.mark.slow
def test_a_nodes_parent_without_descriptors_restarts_its_server_afterwards(
    own: World, node: NodeProcess
) -> None:
    pid = node.server()["pid"]
    parent = psutil.Process(node.process.pid)
    _, most = resource.prlimit(parent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (3, most))
    os.kill(pid, signal.SIGKILL)
    node.says("cannot be started: Too many open files")
    used = sum(parent.cpu_times()[:2])
    with pytest.raises(
        NodeSilent
    ):  # it takes five seconds, in which the parent tries again and again
        node.status()
    used = sum(parent.cpu_times()[:2]) - used
    print(f"{used:.2f} s of CPU in 5 s without descriptors")
    assert used < 1.0
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (most, most))

    async def main(coro: Any = None) -> None:
        hanging: Computation[Any, Any] = Computation(faultjobs.hang)
        async with asyncio.timeout(RECOVERY):
            await set_up(hanging, place(node, 0))

    own.scheduler().run(main)
    print(node.text)
    assert node.text.count("cannot be started") == 1 and "Traceback" not in node.text
    assert node.text.count("not answered for now") == 1
    assert node.server()["restarts"] == 1

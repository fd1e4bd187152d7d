"""Discovery with real datagrams: over the loopback, and between two network namespaces of our own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discoro.transport.beacon import ASK_BYTES, Ask, Beacon, encode_ask, encode_beacon
from discoro.transport.discovery import Discovery, DiscoveryUnavailable
from discoro.transport.interfaces import interfaces_of
from discoro.transport.limits import Limits
from tests.hosts import two_machines, why_no_namespaces
from tests.kit import eventually, run_async

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = ["127.0.0.1"]
# 127.255.255.255 reaches all who bound it on Linux; elsewhere the loopback has no broadcast.
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="loopback broadcast is Linux's")


def beacon(number: int, cluster: str = "default") -> Beacon:
    return Beacon(bytes((number,)) * 16, f"node-{number}", cluster, (9000 + number,))


class Node:
    """Somebody who wants to be found, and remembers who asked."""

    def __init__(self, number: int, cluster: str = "default", limits: Limits | None = None) -> None:
        self.beacons: Sequence[Beacon] = [beacon(number, cluster)]
        self.asks: list[Ask] = []
        self.heard: list[Beacon] = []
        self.discovery = Discovery(cluster, limits=limits)

    async def start(self, port: int, interfaces: Sequence[str] | None = LOOPBACK) -> int:
        await self.discovery.start(
            port, interfaces, self.answer, lambda beacon, _: self.heard.append(beacon)
        )
        return self.discovery.udp_port

    def answer(self, ask: Ask) -> Sequence[Beacon]:
        self.asks.append(ask)
        return self.beacons


class Asker:
    """Somebody who looks for others."""

    def __init__(self, cluster: str = "default", limits: Limits | None = None) -> None:
        self.found: list[tuple[Beacon, tuple[str, int]]] = []
        self.discovery = Discovery(cluster, limits=limits)

    async def start(self, port: int, interfaces: Sequence[str] | None = LOOPBACK) -> None:
        await self.discovery.start(
            port, interfaces, None, lambda beacon, source: self.found.append((beacon, source))
        )

    def names(self) -> set[str]:
        return {beacon.name for beacon, _ in self.found}


@asynccontextmanager
async def network(
    *nodes: Node, asker: Asker | None = None, interfaces: Sequence[str] | None = LOOPBACK
) -> AsyncIterator[Asker]:
    asker = asker or Asker()
    port = 0
    try:
        for node in nodes:
            port = await node.start(port, interfaces)
        await asker.start(port, interfaces)
        yield asker
    finally:
        for each in (*nodes, asker):
            each.discovery.close()


async def settled() -> None:
    """Let everything arrive that was sent over the loopback so far."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def plain_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


# --- over the loopback -----------------------------------------------------------------------------------------------


@on_linux
def test_one_ask_finds_everybody_on_the_machine() -> None:
    async def main() -> None:
        async with network(Node(1), Node(2), Node(3)) as asker:
            asker.discovery.ask()
            await eventually(lambda: asker.names() == {"node-1", "node-2", "node-3"})
            found, source = asker.found[0]
            assert found.nonce != bytes(8)
            assert source == ("127.0.0.1", asker.discovery.udp_port)
            assert found.addresses(source[0])[0][0] == "127.0.0.1"

    run_async(main)


@on_linux
def test_all_interfaces_are_asked_and_listened_on_unless_some_are_chosen() -> None:
    async def main() -> None:
        node = Node(1)
        async with network(node, interfaces=None) as asker:
            asker.discovery.ask()
            addresses = {
                each.address for each in interfaces_of(None) if each.family == socket.AF_INET
            }
            assert "127.0.0.1" in addresses
            await eventually(lambda: {source[0] for _, source in asker.found} >= addresses)

    run_async(main)


def test_a_unicast_ask_reaches_one_who_answers_for_its_neighbours() -> None:
    async def main() -> None:
        node = Node(1)
        node.beacons = [beacon(n) for n in range(1, 6)]
        async with network(node) as asker:
            await asker.discovery.ask_host("127.0.0.1")
            await eventually(lambda: len(asker.names()) == 5)

    run_async(main)


def test_the_name_that_is_looked_for_reaches_who_answers() -> None:
    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            await asker.discovery.ask_host("127.0.0.1", name="node-7")
            await eventually(lambda: bool(node.asks))
            assert (node.asks[0].cluster, node.asks[0].name) == ("default", "node-7")

    run_async(main)


@on_linux
def test_nothing_of_another_cluster_gets_through() -> None:
    async def main() -> None:
        ours, theirs = Node(1), Node(2, cluster="other")
        async with network(ours, theirs) as asker:
            asker.discovery.ask()
            await eventually(lambda: bool(asker.found))
            await settled()
            assert asker.names() == {"node-1"}
            assert theirs.asks == []
            # A node that answers our ask with a beacon of another cluster is dropped by us.
            ours.beacons = [beacon(3, cluster="other")]
            asked = len(ours.asks)
            asker.discovery.ask()
            await eventually(lambda: len(ours.asks) > asked)
            await settled()
            assert asker.names() == {"node-1"}

    run_async(main)


@on_linux
def test_who_starts_can_say_so_to_those_who_listen() -> None:
    async def main() -> None:
        one, other = Node(1), Node(2)
        async with network(one, other):
            other.discovery.announce(other.beacons)
            await eventually(lambda: [said.name for said in one.heard] == ["node-2"])

    run_async(main)


def test_an_answer_to_no_ask_of_ours_is_dropped() -> None:
    """Whoever has not seen our ask does not know what to answer."""

    async def main() -> None:
        async with network(Node(1)) as asker:
            port = next(iter(asker.discovery._askers.values())).getsockname()[1]
            with plain_socket() as stranger:
                for nonce in (bytes(8), os.urandom(8)):
                    forged = Beacon(b"f" * 16, "forged", "default", (1,), nonce=nonce)
                    stranger.sendto(encode_beacon(forged), ("127.0.0.1", port))
            await eventually(lambda: asker.discovery.dropped == 2)
            assert asker.found == []

    run_async(main)


def test_what_is_malformed_is_dropped_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            with plain_socket() as stranger:
                for data in (
                    b"",
                    b"\x80\x04.",
                    b"x" * 2000,
                    os.urandom(ASK_BYTES),
                    b"DSCD\x01\x01",
                ):
                    stranger.sendto(data, ("127.0.0.1", asker.discovery.udp_port))
                await eventually(lambda: node.discovery.dropped == 5)
            await asker.discovery.ask_host("127.0.0.1")
            await eventually(lambda: asker.names() == {"node-1"})

    run_async(main)
    assert caplog.records == []


def test_an_ask_that_comes_by_several_ways_is_answered_once() -> None:
    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            with plain_socket() as stranger:
                for _ in range(5):
                    ask = encode_ask(Ask("default", "", b"same one"))
                    stranger.sendto(ask, ("127.0.0.1", asker.discovery.udp_port))
                await eventually(lambda: node.discovery.dropped == 4)
                assert len(node.asks) == 1

    run_async(main)


def test_the_answers_are_never_longer_than_the_ask() -> None:
    """Otherwise a forged sender would have us shoot at somebody."""

    async def main() -> None:
        node = Node(1)
        node.beacons = [beacon(n) for n in range(1, 200)]
        async with network(node) as asker:
            with plain_socket() as stranger:
                ask = encode_ask(Ask("default", "", b"12345678"))
                stranger.sendto(ask, ("127.0.0.1", asker.discovery.udp_port))
                await eventually(lambda: bool(node.asks))
                await settled()
                received = 0
                while True:
                    try:
                        received += len(stranger.recv(2048))
                    except BlockingIOError:
                        break
            assert 0 < received <= len(ask)

    run_async(main)


def test_a_flood_of_asks_is_answered_at_a_bounded_rate() -> None:
    async def main() -> None:
        node = Node(1, limits=Limits(beacon_rate=3.0))
        async with network(node) as asker:
            with plain_socket() as stranger:
                for n in range(50):
                    ask = encode_ask(Ask("default", "", n.to_bytes(8, "big")))
                    stranger.sendto(ask, ("127.0.0.1", asker.discovery.udp_port))
                await eventually(lambda: len(node.asks) + node.discovery.dropped == 50)
            assert 3 <= len(node.asks) < 10

    run_async(main)


def test_a_callback_that_raises_is_logged_and_the_next_one_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            good, node.discovery._answer = node.discovery._answer, lambda ask: [1 / 0]  # type: ignore[list-item]
            await asker.discovery.ask_host("127.0.0.1")
            await eventually(lambda: bool(caplog.records))
            node.discovery._answer = good
            await asker.discovery.ask_host("127.0.0.1")
            await eventually(lambda: asker.names() == {"node-1"})

    run_async(main)
    assert "callback of discovery" in caplog.text


@on_linux
def test_asking_goes_on_until_somebody_is_there_and_ends_when_told() -> None:
    async def main() -> None:
        limits = Limits(ask_first=0.001, ask_every=0.004)
        asker, late = Asker(limits=limits), Node(2)
        first = Node(1)
        async with network(first, asker=asker):
            asker.discovery.keep_asking()
            await eventually(lambda: len(first.asks) > 5)
            try:
                await late.start(asker.discovery.udp_port)
                await eventually(lambda: "node-2" in asker.names())
            finally:
                late.discovery.close()
            asker.discovery.stop_asking()
            await settled()
            asked = len(first.asks)
            await settled()
            assert len(first.asks) == asked

    run_async(main)


# --- what is bound ---------------------------------------------------------------------------------------------------


def bound_addresses() -> set[str]:
    """IPv4 addresses of this process's UDP sockets."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with sock:
            if sock.type == socket.SOCK_DGRAM and sock.family == socket.AF_INET:
                found.add(f"{sock.getsockname()[0]}:{sock.getsockname()[1]}")
    return found


@on_linux
def test_who_listens_on_the_loopback_listens_nowhere_else() -> None:
    async def main() -> None:
        node = Node(1)
        before = bound_addresses()
        port = await node.start(0, ["127.0.0.1", "::1"])
        try:
            listening = {
                address for address in bound_addresses() - before if address.endswith(f":{port}")
            }
            assert listening == {f"127.0.0.1:{port}", f"127.255.255.255:{port}"}
        finally:
            node.discovery.close()

    run_async(main)


@on_linux
def test_who_only_asks_listens_nowhere() -> None:
    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            assert all(heard.sock.getsockname()[1] for heard in node.discovery._listeners)
            assert asker.discovery._listeners == []

    run_async(main)


@on_linux
def test_nothing_is_left_open() -> None:
    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        for interfaces in (None, LOOPBACK, ["0.0.0.0", "::"]):
            async with network(Node(1), Node(2), interfaces=interfaces) as asker:
                asker.discovery.keep_asking()
        asker.discovery.close()
        assert set(os.listdir("/proc/self/fd")) == before

    run_async(main)


def test_a_port_that_somebody_keeps_for_himself_is_told_and_asking_still_works() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
            selfish.bind(("0.0.0.0", 0))
            port = selfish.getsockname()[1]
            node = Node(1)
            try:
                with pytest.raises(DiscoveryUnavailable, match="--udp_port") as caught:
                    await node.start(port, LOOPBACK)
                assert caught.value.port == port
                await node.discovery.ask_host("127.0.0.1")
                selfish.setblocking(False)
                await eventually(lambda: received(selfish) is not None)
            finally:
                node.discovery.close()

    run_async(main)


def received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(2048)
    except BlockingIOError:
        return None


@on_linux
def test_a_forked_child_closes_its_copies_and_the_parent_goes_on() -> None:
    """A child of user code that keeps the port would answer for a dead node."""

    async def main() -> None:
        node = Node(1)
        async with network(node) as asker:
            descriptors = [sock.fileno() for sock in node.discovery._sockets()]
            assert len(descriptors) >= 3
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
                child = os.fork()
            if not child:
                closed = sum(not is_open(descriptor) for descriptor in descriptors)
                os._exit(0 if closed == len(descriptors) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            await asker.discovery.ask_host("127.0.0.1")
            await eventually(lambda: asker.names() == {"node-1"})

    run_async(main)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


# --- between two machines --------------------------------------------------------------------------------------------


NODE = """
import asyncio, sys
from discoro.transport.beacon import Beacon
from discoro.transport.discovery import Discovery
async def main():
    started = []
    for number, interfaces in enumerate([None, ["10.77.0.1"], ["127.0.0.1"]], 1):
        node = Discovery("default")
        beacon = Beacon(bytes([number]) * 16, f"node-{number}", "default", (9000 + number,))
        await node.start(51351, interfaces, lambda ask, beacon=beacon: [beacon], None)
        started.append(node)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for node in started:
        node.close()
asyncio.run(main())
"""

ASKER = """
import asyncio, json
from discoro.transport.discovery import Discovery
async def main():
    found = set()
    asker = Discovery("default")
    await asker.start(51351, None, None, lambda beacon, source: found.add((beacon.name, source[0])))
    asker.keep_asking()
    async with asyncio.timeout(20):
        while not {("node-1", "10.77.0.1"), ("node-2", "10.77.0.1")} <= found or not any(":" in a for _, a in found):
            await asyncio.sleep(0.01)
    asker.close()
    print(json.dumps(sorted(found)))
asyncio.run(main())
"""


def in_namespace(name: str, script: str) -> list[str]:
    return ["ip", "netns", "exec", name, sys.executable, "-c", script]


def test_an_ask_crosses_the_network_by_ipv4_and_ipv6() -> None:
    """Node 1 listens everywhere, node 2 on its IPv4 address only, node 3 on the loopback of the other machine."""
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)
    with two_machines() as (here, there):
        node = subprocess.Popen(
            in_namespace(here, NODE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            assert node.stdin is not None and node.stdout is not None
            assert node.stdout.readline() == "ready\n"
            asker = subprocess.run(
                in_namespace(there, ASKER), capture_output=True, text=True, cwd=ROOT, timeout=40
            )
            assert asker.returncode == 0, asker.stderr
            found = {(name, address) for name, address in json.loads(asker.stdout)}
            assert {address for name, address in found if name == "node-2"} == {"10.77.0.1"}
            by_ipv6 = [address for name, address in found if ":" in address]
            assert all(
                address.startswith("fe80::") and address.endswith("%cable") for address in by_ipv6
            )
            assert "node-3" not in {name for name, _ in found}
        finally:
            node.stdin.close() if node.stdin else None
            node.wait(10)
            node.stdout.close() if node.stdout else None


def test_interfaces_are_those_that_were_asked_for() -> None:
    everything = interfaces_of(None)

    assert [each.address for each in interfaces_of(LOOPBACK)] == LOOPBACK
    assert all(each.family == socket.AF_INET for each in interfaces_of(["0.0.0.0"]))
    assert {each.address for each in interfaces_of(["0.0.0.0", "::"])} == {
        each.address for each in everything
    }
    assert interfaces_of(["192.0.2.77"]) == []

"""How cost grows: with the number of peers, and of coroutines that are alive; what a handshake and what memory each takes.

The floor of each question is its smallest case, so the ratios say what growing costs. Times are CPU time of all
processes together, which a busy machine changes least.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import psutil

from benchmarks.contest import Contestant, Question
from benchmarks.floor import tls
from benchmarks.floor.local import grown, resident
from benchmarks.ours import Ours, free_udp_port
from benchmarks.serving import ServerProcess
from discoro import Coro, Location, Scheduler
from discoro.node.serving import _introduce
from discoro.node.settings import ServerSettings
from discoro.transport.credentials import Credentials
from discoro.transport.endpoint import Endpoint
from discoro.transport.frames import KINDS, Hello
from discoro.transport.limits import Limits
from discoro.transport.memory import MemoryNetwork
from discoro.transport.secret import Secret, generate

_SECRET = "DISCORO_SECRET"
#: Messages that one sender sends before the others have their turn.
TURN = 2048


def _here(*names: str) -> list[str]:
    return [f"benchmarks.growth:{name}" for name in names]


QUESTIONS = [
    Question(
        name="growth-peers",
        title="a message to one of many peers in turn, CPU of both ends",
        unit="us",
        lower_is_better=True,
        size=50_000,
        quick_size=1_000,
        floor="benchmarks.growth:OnePeer",
        others=_here("TenPeers", "HundredPeers", "ThousandPeers"),
    ),
    Question(
        name="growth-bursts",
        title="the same, 64 messages to each peer in its turn",
        unit="us",
        lower_is_better=True,
        size=50_000,
        quick_size=1_000,
        floor="benchmarks.growth:OnePeerBurst",
        others=_here("TenPeersBurst", "HundredPeersBurst", "ThousandPeersBurst"),
    ),
    Question(
        name="growth-runs",
        title="a run and its result while others are alive at the server, CPU of both ends",
        unit="us",
        lower_is_better=True,
        size=10_000,
        quick_size=100,
        floor="benchmarks.growth:OneAlive",
        others=_here("ThousandAlive", "HundredThousandAlive"),
    ),
    Question(
        name="growth-handshake",
        title="a session with one more peer, CPU of both ends",
        unit="ms",
        lower_is_better=True,
        size=100,
        quick_size=5,
        floor="benchmarks.growth:Tls",
        others=_here("WithoutTls", "Sessions"),
    ),
    Question(
        name="growth-meeting",
        title="until all servers are peers, of one server per node told; 16 on each node",
        unit="ms",
        lower_is_better=True,
        size=16,
        quick_size=2,
        rounds=3,
        floor="benchmarks.growth:OneNode",
        others=_here("SixNodes", "SixtyNodes"),
    ),
    Question(
        name="growth-memory",
        title="memory of one more",
        unit="bytes",
        lower_is_better=True,
        size=20_000,
        quick_size=500,
        rounds=1,
        floor="benchmarks.floor.local:Waiting",
        others=_here("Session", "Monitored", "Queued"),
    ),
]


def cpu() -> float:
    """CPU time of this process and those below it, in seconds."""
    below = psutil.Process().children(recursive=True)
    times = [process.cpu_times() for process in below]
    return process_time() + sum(one.user + one.system for one in times)


# --- many peers ------------------------------------------------------------------------------------------------------


async def crowd(count: str, port: str) -> int:
    """So many schedulers in this process, each with a session to the one at ``port`` and a coroutine that counts."""
    gate = asyncio.Semaphore(8)
    left = int(count)
    secret = Secret(os.environ[_SECRET])  # one for all: to stretch it takes 60 ms
    all_in = asyncio.get_running_loop().create_future()

    async def reader(hub: Any, coro: Any = None) -> None:
        await hub.deliver(coro)
        while True:
            for _ in range(await coro.receive()):
                await coro.receive()
            hub.send("done")

    async def member() -> None:
        nonlocal left
        async with Scheduler(udp_port=free_udp_port(), outbound_only=True, secret=secret):
            async with gate:
                hub = await Coro.locate("hub", Location("127.0.0.1", int(port)), timeout=60)
                reading = Coro(reader, hub)
                await asyncio.sleep(0)
            left -= 1
            if not left:
                all_in.set_result(None)
            await reading

    crowd.members = [asyncio.ensure_future(member()) for _ in range(left)]  # type: ignore[attr-defined]
    await all_in
    return 0


class _Peers(Contestant):
    """One scheduler here and many in another process, each with a session of its own."""

    count = 1
    in_a_row = 1

    async def start(self) -> None:
        os.environ.setdefault(_SECRET, generate())
        self._scheduler = await Scheduler(
            node="127.0.0.1", tcp_port=0, udp_port=free_udp_port()
        ).__aenter__()
        self._hub: Any = Coro(self._work)
        self._wanted: asyncio.Queue[asyncio.Future[float]] = asyncio.Queue()
        self._hub.register("hub")
        while not (location := self._hub.location).port:
            await asyncio.sleep(0.01)
        self._server = await asyncio.to_thread(
            ServerProcess, "benchmarks.growth:crowd", self.count, location.port
        )

    async def _work(self, coro: Any = None) -> None:
        peers = [await coro.receive() for _ in range(self.count)]
        each = max(self.in_a_row, self.size // self.count)
        while True:
            wanted = await self._wanted.get()
            begun = cpu()
            for peer in peers:
                peer.send(each)
            sent = 0
            for _ in range(each // self.in_a_row):
                for peer in peers:
                    for _ in range(self.in_a_row):
                        peer.send({"i": 1, "x": "abc"})
                    sent += self.in_a_row
                    if sent >= TURN:
                        sent = 0
                        await asyncio.sleep(0)
            for peer in peers:
                for _ in range(each % self.in_a_row):
                    peer.send(None)
            for _ in peers:
                await coro.receive()
            wanted.set_result((cpu() - begun) / (each * self.count) * 1e6)

    async def round(self) -> float:
        wanted = asyncio.get_running_loop().create_future()
        self._wanted.put_nowait(wanted)
        figure: float = await wanted
        return figure

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.close)
        self._hub.terminate()
        await self._scheduler.__aexit__(None, None, None)


class OnePeer(_Peers):
    label = "1 peer"


class TenPeers(_Peers):
    label = "10 peers"
    count = 10


class HundredPeers(_Peers):
    label = "100 peers"
    count = 100


class ThousandPeers(_Peers):
    label = "1,000 peers"
    count = 1000


class OnePeerBurst(OnePeer):
    in_a_row = 64


class TenPeersBurst(TenPeers):
    in_a_row = 64


class HundredPeersBurst(HundredPeers):
    in_a_row = 64


class ThousandPeersBurst(ThousandPeers):
    in_a_row = 64


# --- many coroutines alive -------------------------------------------------------------------------------------------


def work(value: int, coro: Any = None) -> Any:
    """Return at once; or wait for a message."""
    if value < 0:
        yield coro.receive()
    return value


class OneAlive(Ours):
    label = "1 alive"
    function = staticmethod(work)
    alive = 1

    async def start(self) -> None:
        await super().start()
        run, server = self.computation.run, self.server
        self._waiting: list[Any] = []
        while len(self._waiting) < self.alive:
            some = min(5_000, self.alive - len(self._waiting))
            self._waiting += [await each for each in [run(server, -1) for _ in range(some)]]

    async def measure(self, coro: Any) -> float:
        run, server = self.computation.run, self.server
        begun = cpu()
        for each in [run(server, value) for value in range(self.size)]:
            await (await each)
        return (cpu() - begun) / self.size * 1e6


class ThousandAlive(OneAlive):
    label = "1,000 alive"
    alive = 1_000


class HundredThousandAlive(OneAlive):
    label = "100,000 alive"
    alive = 100_000


# --- handshakes ------------------------------------------------------------------------------------------------------


class Tls(Contestant):
    """TLS 1.3 alone, with a self-signed certificate that is not looked at."""

    label = "TLS alone"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            asyncio.Protocol, "127.0.0.1", 0, ssl=tls.server_context()
        )

    async def round(self) -> float:
        loop = asyncio.get_running_loop()
        port, context = self._server.sockets[0].getsockname()[1], tls.client_context()
        begun = process_time()
        for _ in range(self.size):
            made, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port, ssl=context)
            made.close()
        return (process_time() - begun) / self.size * 1e3

    async def stop(self) -> None:
        self._server.close()


class _Nobody:
    """Hears of sessions, and does nothing."""

    def session_opened(self, session: Any) -> None:
        """Nothing."""

    def session_lost(self, session: Any, error: Any) -> None:
        """Nothing."""

    def session_busy(self, session: Any, busy: bool) -> None:
        """Nothing."""

    session_down = session_up = session_opened


def _endpoint(secret: Secret, network: MemoryNetwork | None) -> Endpoint:
    process, limits = os.urandom(16), Limits()
    handlers: list[Callable[..., None]] = [lambda *entry: None] * KINDS
    return Endpoint(
        hello=lambda: Hello(process_id=process),
        credentials=Credentials(secret),
        limits=limits,
        handlers=handlers,
        observer=_Nobody(),
        flush_later=lambda session: asyncio.get_running_loop().call_soon(session.flush),
        network=network,
    )


class Sessions(Contestant):
    """Sessions of one endpoint with so many others: TLS, CPace, and the opening."""

    label = "session (TLS, CPace, opening)"
    network: MemoryNetwork | None = None

    async def start(self) -> None:
        secret = Secret(generate())
        _ = secret.prs  # stretched now: it takes 60 ms, once per process
        self._server = _endpoint(secret, self.network)
        _, self._port = (await self._server.listen(["127.0.0.1"], 0))[0]
        self._others = [_endpoint(secret, self.network) for _ in range(self.size)]

    async def round(self) -> float:
        begun = process_time()
        for other in self._others:
            await other.connect("127.0.0.1", self._port, timeout=10)
        taken = process_time() - begun
        for other in self._others:
            for session in list(other.sessions.values()):
                await other.close_session(session)
        return taken / self.size * 1e3

    async def stop(self) -> None:
        for endpoint in [*self._others, self._server]:
            await endpoint.close()


class WithoutTls(Sessions):
    label = "CPace and the opening alone"
    encrypted = False

    async def start(self) -> None:
        self.network = MemoryNetwork()
        await super().start()


# --- many servers ----------------------------------------------------------------------------------------------------


async def cluster(nodes: str, servers: str) -> str:
    """So many nodes in this process, each with so many servers which tell whoever comes of each other."""
    secret = Secret(os.environ[_SECRET])
    told = []
    for _ in range(int(nodes)):
        node = [
            await Scheduler(node="127.0.0.1", tcp_port=0, role="server", secret=secret).__aenter__()
            for _ in range(int(servers))
        ]
        ports = [scheduler.network.location.port for scheduler in node]
        for number, scheduler in enumerate(node, 1):
            settings = ServerSettings(
                name="", node="", number=number, key="", dest_path="", siblings=tuple(ports)
            )
            _introduce(scheduler, settings)
        told.append(str(ports[0]))
    return " ".join(told)


class OneNode(Contestant):
    """A program that meets all servers of some nodes."""

    label = "1 node"
    nodes = 1

    async def start(self) -> None:
        os.environ.setdefault(_SECRET, generate())
        self._secret = Secret(os.environ[_SECRET])
        _ = self._secret.prs
        self._server = await asyncio.to_thread(
            ServerProcess, "benchmarks.growth:cluster", self.nodes, self.size
        )

    async def round(self) -> float:
        there: set[Any] = set()
        all_there = asyncio.get_running_loop().create_future()

        def heard(name: str, location: Location, status: int) -> None:
            there.add(location)
            if len(there) == self.nodes * self.size and not all_there.done():
                all_there.set_result(None)

        options: Any = {"udp_port": free_udp_port(), "secret": self._secret}
        async with Scheduler(outbound_only=True, **options) as scheduler:
            begun = perf_counter()
            scheduler.peer_status(heard)
            for port in self._server.ports:
                await scheduler.peer("127.0.0.1", tcp_port=port)
            await asyncio.wait_for(all_there, 100)
            return (perf_counter() - begun) * 1e3

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.close)


class SixNodes(OneNode):
    label = "6 nodes"
    nodes = 6


class SixtyNodes(OneNode):
    label = "60 nodes"
    nodes = 60


# --- memory ----------------------------------------------------------------------------------------------------------


class Session(_Peers):
    """Sessions over TLS with peers in another process."""

    label = "a session, with its connection"
    count = 300

    async def start(self) -> None:
        self.count = max(10, min(self.count, self.size // 10))
        before = resident()
        await super().start()
        self._before = before

    async def round(self) -> float:
        return grown(self._before, self.count)


class Monitored(OneAlive):
    """Runs at a server that a coroutine here has started, refers to and monitors."""

    label = "a remote coroutine, referred to and monitored"

    async def start(self) -> None:
        await super().start()
        self._before = resident()
        self.alive = self.size

    async def measure(self, coro: Any) -> float:
        run, server = self.computation.run, self.server
        for _ in range(self.size // 1000 or 1):
            some = [await each for each in [run(server, -1) for _ in range(min(self.size, 1000))]]
            for one in some:
                await coro.monitor(one)
            self._waiting += some
        return grown(self._before, len(self._waiting))


class Queued(Contestant):
    """Messages that wait: small dicts, each with an int and a text of its own."""

    label = "a queued message, a small dict"

    async def round(self) -> float:
        async with Scheduler(local=True):

            async def idle(coro: Any = None) -> None:
                await coro.suspend()

            waiting: Any = Coro(idle)
            await asyncio.sleep(0)
            before = resident()
            for number in range(1000, 1000 + self.size):
                waiting.send({"i": number, "x": f"abc{number}"})
            figure = grown(before, self.size)
            waiting.terminate()
            return figure

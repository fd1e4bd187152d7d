"""Carries a chaos plan out: a real node, clients as real processes, a fault proxy between each two; and collects the history."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import psutil

from discoro import Computation, Location
from discoro.errors import DiscoroError
from tests.chaos import plan as plans
from tests.chaos.checker import left
from tests.chaos.history import Event, Recorder, read
from tests.chaos.plan import Fault
from tests.faults import faultjobs
from tests.functional.nodes import REAL, NodeProcess
from tests.kit import eventually
from tests.processes import Program, World, free_port, memory
from tests.proxy import CuttingProxy

#: Where the proxies listen, and nobody else: servers tell of their neighbours, which is another way to them.
PROXIES = "127.1.0.1"
SERVERS = 4
CLIENTS = 2


class Chaos:
    """One plan, carried out once.

    Args:
        world: Whose folder, secret and port it uses.
        plan: What goes wrong.
        seed: Of the plan; also for what the clients do, and for where connections are cut beside the plan.
    """

    def __init__(self, world: World, plan: list[Fault], seed: int) -> None:
        self.world = world
        self.plan = plan
        self.seed = seed
        self.folder = world.folder / "history"
        self.folder.mkdir()
        (self.folder / "depends.bin").write_bytes(os.urandom(300_000))
        (self.folder / "plan.json").write_text(
            json.dumps({"seed": seed, "plan": [fault.facts for fault in plan]}, indent=1)
        )
        self.record = Recorder(self.folder, "driver")
        self.dest = world.folder / "dest"
        # Several faults may follow each other; an overlong one may cost the session.
        longest = min(20.0, max((fault.seconds for fault in plan), default=0.0))
        self.stuck = str(30.0 + 4 * longest)
        self.node: NodeProcess
        self.proxies: dict[tuple[int, int], CuttingProxy] = {}
        self.clients: list[Program] = []
        self.begun = 0  # clients, with those that were killed
        self.refused: dict[tuple[int, int], int] = {}
        self.changing: dict[tuple[int, int], asyncio.Lock] = {}
        self.silenced: dict[tuple[int, int], int] = {}
        self.stopped: dict[int, int] = {}
        self.memories: dict[str, list[int]] = {}

    def history(self) -> list[Event]:
        """What everybody has written down."""
        return read(self.folder)

    async def run(self, node: NodeProcess) -> None:
        """Carry it out, and wait until everybody has come to rest."""
        self.node = node
        async with AsyncExitStack() as stack:
            await self.census("before")
            for client in range(CLIENTS):
                for server in range(SERVERS):
                    await self.connect(stack, client, server)
            for client in range(CLIENTS):
                self.start(client)
            watching = asyncio.ensure_future(self.watch_memory())
            loop = asyncio.get_running_loop()
            begin = loop.time()
            async with asyncio.TaskGroup() as faults:
                for fault in self.plan:
                    await asyncio.sleep(max(0.0, begin + fault.at - loop.time()))
                    faults.create_task(self.befall(fault))
            await self.come_to_rest()
            watching.cancel()
            await (
                self.leave()
            )  # before the proxies: servers may have reached each other through them

    # --- the scene

    def port(self, server: int) -> int:
        return int(self.node.server(server)["addresses"][0][1])

    def pid(self, server: int) -> int:
        """Of its process; 0 while there is none."""
        return int(self.node.server(server)["pid"] or 0)

    async def connect(self, stack: AsyncExitStack, client: int, server: int) -> None:
        """Put a proxy between two, which also cuts each connection after some bytes."""
        proxy = CuttingProxy(
            *("127.0.0.1", self.port(server)),
            seed=self.seed * 100 + client * 10 + server,
            listen=PROXIES,
        )
        chance = proxy.random
        proxy.budget = lambda: 3_000 + int(chance.expovariate(1 / 20_000_000))
        self.proxies[client, server] = await stack.enter_async_context(proxy)

    def start(self, client: int) -> None:
        """Start a client, the first or another one in its place."""
        name = f"client-{client}.{self.begun}"
        self.begun += 1
        ports = [str(self.proxies[client, server].port) for server in range(SERVERS)]
        # A state folder and a discovery port of its own: there is no way to the servers but through the proxies.
        arguments = [
            str(self.folder),
            name,
            str(self.seed),
            str(free_port(2)),
            self.stuck,
            PROXIES,
            *ports,
        ]
        state = str(self.world.folder / f"state-{name}")
        program = self.world.module("tests.chaos.client", name, *arguments, XDG_STATE_HOME=state)
        self.clients[client:] = [program, *self.clients[client + 1 :]]

    # --- faults

    async def befall(self, fault: Fault) -> None:
        """Let one thing go wrong, and put it right again."""
        pids = self.pids(fault)
        self.record("fault", "", {**fault.facts, "pids": pids})
        pairs = [(client, server) for client in fault.clients for server in fault.servers]
        what = fault.kind.partition(" ")[0]
        if what == "kill":
            for pid in pids:
                self.signal(pid, signal.SIGKILL)
            for client in fault.clients:
                self.clients[client].process.wait(10)
                self.start(client)
        elif what == "cut":
            for pair in pairs:
                self.proxies[pair].cut()
        elif what == "stop":
            await self.stop(pids, fault.seconds)
        elif what == "partition":
            await self.partition(pairs, fault.seconds)
        else:
            await self.silence(pairs, fault.seconds)
        self.record("healed", "", fault.facts)

    def pids(self, fault: Fault) -> list[int]:
        """The processes that a fault befalls."""
        if fault.kind.endswith("server"):
            return [pid for pid in map(self.pid, fault.servers) if pid]
        if fault.kind.endswith("client"):
            return [self.clients[client].process.pid for client in fault.clients]
        return []

    def signal(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it was killed meanwhile

    async def stop(self, pids: list[int], seconds: float) -> None:
        for pid in pids:
            self.stopped[pid] = self.stopped.get(pid, 0) + 1
            self.signal(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in pids:
            self.stopped[pid] -= 1
            if not self.stopped[pid]:
                self.signal(pid, signal.SIGCONT)

    async def partition(self, pairs: list[tuple[int, int]], seconds: float) -> None:
        for pair in pairs:
            self.refused[pair] = self.refused.get(pair, 0) + 1
            await self.listen_or_refuse(pair)
        await asyncio.sleep(seconds)
        for pair in pairs:
            self.refused[pair] -= 1
            await self.listen_or_refuse(pair)

    async def listen_or_refuse(self, pair: tuple[int, int]) -> None:
        """Make it so; another partition may begin, or end, meanwhile."""
        proxy = self.proxies[pair]
        async with self.changing.setdefault(pair, asyncio.Lock()):
            if self.refused[pair]:
                await proxy.stop_listening()
                proxy.cut()
            elif not proxy.listening:
                await proxy.start()

    async def silence(self, pairs: list[tuple[int, int]], seconds: float) -> None:
        for pair in pairs:
            self.silenced[pair] = self.silenced.get(pair, 0) + 1
            self.proxies[pair].stall(True)
        await asyncio.sleep(seconds)
        for pair in pairs:
            self.silenced[pair] -= 1
            if not self.silenced[pair]:
                self.proxies[pair].stall(False)

    # --- the end

    async def come_to_rest(self) -> None:
        """Let the clients end."""
        (self.folder / "stop").touch()
        await eventually(
            lambda: all(client.process.poll() is not None for client in self.clients),
            guard=180,
            what="the clients to end: " + str([client.name for client in self.clients]),
        )
        for client in self.clients:
            client.ends(0)

    async def leave(self) -> None:
        """See what is left, until it is what was there before; or write down what it is."""
        killed = any(fault.kind == "kill client" for fault in self.plan)
        before = {e.detail[0]: e.detail[2] for e in self.history() if e.kind == "census"}
        limit = asyncio.get_running_loop().time() + (100 if killed else 10)
        while True:
            found = await self.holdings()
            remains = [text for n, held in found.items() for text in left(before[n], held)]
            if not remains or asyncio.get_running_loop().time() > limit:
                break
            await asyncio.sleep(0.5)
        for server, held in found.items():
            self.record("census", "", [server, "after", held])

    async def census(self, when: str) -> None:
        """Write down what each server holds. Each has been killed once, so that those that take its place are like it."""
        for server in range(SERVERS):
            self.signal(self.pid(server), signal.SIGKILL)
        await self.holdings()
        for server, held in (await self.holdings()).items():
            self.record("census", "", [server, when, held])

    async def holdings(self) -> dict[int, dict[str, int]]:
        """What each server holds, asked by a client of our own; and the files it has kept."""
        async with self.world.scheduler(), asyncio.timeout(60):
            found = await asyncio.gather(*map(self.held_by, range(SERVERS)))
        return dict(enumerate(found))

    async def held_by(self, server: int) -> dict[str, int]:
        where = Location("127.0.0.1", self.port(server))
        counting: Computation[Any, Any] = Computation(faultjobs.census)
        while True:
            try:
                await counting.setup(where)
                found: dict[str, int] = await (await counting.run(where))
                break
            except DiscoroError:  # it is being started again
                await asyncio.sleep(0.05)
        await counting.close(where)
        folder = self.dest / f"node-{server + 1}"
        kept = [path.name for path in folder.rglob("*") if path.is_file()]
        found["files"] = sum(".part" in name or name == "depends.bin" for name in kept)
        return found

    async def watch_memory(self) -> None:
        """Note the memory of everybody, once a second."""
        while True:
            everybody = {f"server {n}": self.pid(n) for n in range(SERVERS)}
            everybody |= {f"client {n}": c.process.pid for n, c in enumerate(self.clients)}
            for name, pid in everybody.items():
                try:
                    self.memories.setdefault(name, []).append(memory(pid))
                except psutil.NoSuchProcess:
                    pass
            await asyncio.sleep(1.0)


def begin(world: World, seconds: float, seed: int, **options: Any) -> tuple[Chaos, NodeProcess]:
    """Make a plan, and start the node that it is for."""
    state = world.folder / "state"
    state.mkdir(exist_ok=True)
    node = NodeProcess(
        state,
        *("-u", str(world.udp_port), "-i", "127.0.0.1", "-c", str(SERVERS), "--force"),
        *("-n", "node", "--dest_path", str(world.folder / "dest")),
        command=REAL,
        environment={"DISCORO_SECRET": world.secret},
    )
    return Chaos(world, plans.make(seed, seconds, **options), seed), node

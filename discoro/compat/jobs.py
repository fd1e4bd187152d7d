"""The discoro module of 2015 to 2018: a computation of several functions, whose jobs go to whatever server is free.

It was the work of a scheduler process; here the program's own process does it, for itself alone.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, ClassVar

from discoro.compat import asyncoro, cluster, references
from discoro.compat.cluster import Cluster, Server
from discoro.compat.computations import Computation as _Of2014
from discoro.compat.nodes import DiscoroCoroInfo, DiscoroNodeAllocate, DiscoroStatus
from discoro.compat.places import host_address
from discoro.compat.start import home
from discoro.computation import Computation as _Computation
from discoro.coro import Coro
from discoro.errors import DiscoroError, Terminated
from discoro.hostedruns import HostedCoro
from discoro.remotecoro import RemoteCoro, Word
from discoro.scheduler.entry import is_entry
from discoro.scheduler.outcome import MonitorException
from discoro.transport.addresses import Location

log = logging.getLogger("discoro.compat")

MEANINGLESS = (
    "pulse_interval",
    "ping_interval",
    "zombie_period",
    "timeout",
    "peers_communicate",
    "discoronode_port",
)
"""Options that are taken, and mean nothing."""

MinPulseInterval = 10
MaxPulseInterval = 10 * MinPulseInterval


class Hosted(asyncoro.Coro, HostedCoro):  # type: ignore[misc]  # awaitables all
    """The coroutine of a job, at its server, with its old face."""

    __slots__ = ()


def job(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], coro: Any = None) -> Any:
    """Runs at a server: the function that was asked for, in the place of the computation's own."""
    return (yield begun(coro, Hosted, "coro", function, args, kwargs))


def begun(
    coro: Any, face: type, word: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The first frame of a job, whose coroutine gets the old face, and is given to the parameter of that name."""
    coro.set_name(function.__name__)
    coro.__class__ = face
    if word in inspect.signature(function).parameters:
        kwargs = {**kwargs, word: coro}
    return function(*args, **kwargs)


class Scheduler:
    """Names of what happens; ``Scheduler(**options)`` takes those of AsynCoro, and ``nodes``, where to look for servers."""

    NodeDiscovered = cluster.NODE_DISCOVERED
    NodeInitialized = cluster.NODE_INITIALIZED
    NodeClosed = cluster.NODE_CLOSED
    NodeIgnore = cluster.NODE_IGNORE
    NodeDisconnected = cluster.NODE_DISCONNECTED
    ServerDiscovered = cluster.SERVER_DISCOVERED
    ServerInitialized = cluster.SERVER_INITIALIZED
    ServerClosed = cluster.SERVER_CLOSED
    ServerIgnore = cluster.SERVER_IGNORE
    ServerDisconnected = cluster.SERVER_DISCONNECTED
    CoroCreated = 20
    ComputationScheduled = 23
    ComputationClosed = 25

    def __init__(self, nodes: Iterable[Any] = (), **options: Any) -> None:
        for name in (*MEANINGLESS, "clean"):
            options.pop(name, None)
        scheduler = asyncoro.AsynCoro(**options)
        for node in nodes:
            asyncoro.Coro(scheduler.peer, node)


class Computation(_Of2014):
    """Functions, classes, modules and files for servers; ``run`` starts one of the functions at a server that is free.

    Args:
        components: A list of them, or one; what is not in it comes along when it is used.
        depends: As in 2014, with one function as ``components``.
        cleanup: The same.
        node_allocations: Which nodes are used: DiscoroNodeAllocate, or hosts.
        status_coro: Coroutine that gets a DiscoroStatus of each node, server and coroutine, and word of their ends.
        node_setup: Generator function that runs in each server before the others do.
        server_setup: The same, with the arguments of ``enable_server``.
        disable_nodes: Whether nodes wait for ``enable_node``.
        disable_servers: Whether servers wait for ``enable_server``.
        **options: ``pulse_interval``, ``ping_interval``, ``zombie_period``, ``timeout``, ``peers_communicate``: they mean nothing.

    Raises:
        TypeError: If one of them is something else.
    """

    family: ClassVar[str] = "asyncoro"
    job = staticmethod(job)

    def __init__(
        self,
        components: Any,
        depends: Any = (),
        cleanup: Any = True,
        status_coro: Any = None,
        node_setup: Any = None,
        server_setup: Any = None,
        disable_nodes: bool = False,
        disable_servers: bool = False,
        node_allocations: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        if isinstance(depends, Real):  # pulse_interval stood here
            depends = ()
        elif isinstance(depends, Coro):  # status_coro, before that
            depends, status_coro = (), depends
        for name in MEANINGLESS:
            options.pop(name, None)
        if options:
            raise TypeError(f"Computation has no option {next(iter(options))!r}")
        listed = components if isinstance(components, list) else [components, *depends]
        if is_entry(components):
            super().__init__(components, depends, cleanup)
        elif isinstance(components, list) or inspect.isclass(components):
            super().__init__(self.job, listed)
        else:
            raise TypeError(
                f"components is a list of functions, classes, modules and files, not {components!r}"
            )
        for setup in (node_setup, server_setup):
            if setup is not None and not is_entry(setup):
                raise TypeError(f"{setup!r} is no generator function")
        self._components = [*listed, *(setup for setup in (node_setup, server_setup) if setup)]
        self._setups = (node_setup, server_setup)
        self._waits = (bool(disable_nodes), bool(disable_servers))
        self._allocations = [
            each if hasattr(each, "allocate") else DiscoroNodeAllocate(each)
            for each in node_allocations
        ]
        self._cluster: Cluster | None = None
        self._jobs: _Computation[..., Any] | None = None
        self.status_coro = status_coro

    @staticmethod
    def failure(coro: Any, error: Exception) -> Any:
        """What stands in the place of the result of a job that failed."""
        return MonitorException(coro, (type(error), error))

    # --- from the beginning to the end

    async def schedule(self, location: Any = None, timeout: float | None = None) -> int:
        """Look for servers, and use each that comes: 0; -1 where the status coroutine is none, or the code cannot be sent."""
        if self._cluster is not None:
            return 0
        if self.status_coro is not None and not isinstance(self.status_coro, Coro):
            log.warning("schedule: status_coro is no coroutine: %r", self.status_coro)
            return -1
        try:
            self._jobs = _Computation(self.job, self._components)
        except (DiscoroError, TypeError) as error:
            log.warning("schedule: %s", error)
            return -1
        self._cluster = Cluster(
            home(), self._jobs, self._tell, self._allocations, *self._setups, *self._waits
        )
        self._cluster.open()
        self._tell(DiscoroStatus(Scheduler.ComputationScheduled, id(self)))
        return 0

    def _tell(self, status: DiscoroStatus) -> None:
        if self.status_coro is not None:
            self.status_coro.send(status)

    async def close(
        self,
        peer: Any = None,
        func: Any = None,
        args: Any = (),
        kwargs: Any = None,
        await_async: bool = False,
    ) -> int:
        """Wait for the jobs and leave the servers: 0. With a server, as in 2014: end it there, 0 or -1."""
        if isinstance(peer, Coro | Location):
            return await super().close(peer, func, args, kwargs)
        return await self._close(bool(await_async or peer))

    async def _close(
        self, everything: bool, at_once: bool = False, timeout: float | None = None
    ) -> int:
        if self._cluster is not None:
            await self._cluster.close(everything, at_once, timeout)
            self._cluster = None
            self._tell(DiscoroStatus(Scheduler.ComputationClosed, id(self)))
        return 0

    async def wait(self) -> int:
        """Wait until no server has a job: 0."""
        if self._cluster is not None:
            await self._cluster.wait(False)
        return 0

    async def nodes(self) -> list[str]:
        """Addresses of the nodes that are used."""
        return sorted({server.location.addr for server in self._ready()})

    async def servers(self) -> list[Location]:
        """Locations of the servers that are used."""
        return [server.location for server in self._ready()]

    def _ready(self) -> list[Server]:
        return [] if self._cluster is None else self._cluster.ready()

    def enable_node(self, ip_addr: Any, *setup_args: Any) -> int:
        """Use a node that was disabled: 0 or -1."""
        return -1 if self._cluster is None else self._cluster.enable_node(ip_addr, setup_args)

    def enable_server(self, location: Location, *setup_args: Any) -> int:
        """Use a server that was disabled: 0 or -1."""
        return -1 if self._cluster is None else self._cluster.enable_server(location, setup_args)

    # --- jobs

    async def run(self, peer: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a function at a server where no other runs, once there is one: a reference, or None. With a server, as in 2014."""
        if isinstance(peer, Coro | Location):
            return await super().run(peer, *args, **kwargs)
        return await self._start(None, True, peer, args, kwargs)

    async def run_at(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """The same at a server, by Location, or at one of a node, by host; None where that is none of them."""
        return await self._start(where, True, gen, args, kwargs)

    async def run_async(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a function beside others: a reference, or None."""
        return await self._start(None, False, gen, args, kwargs)

    async def run_async_at(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """The same at a server, or at one of a node."""
        return await self._start(where, False, gen, args, kwargs)

    async def run_each(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Start a function at each "node", each "server", or each server of a host: the references."""
        places: list[Any] = await self.nodes() if where == "node" else await self.servers()
        if where not in ("node", "server"):
            host = host_address(where)
            places = [place for place in places if place.addr == host]
        return [await self.run_async_at(place, gen, *args, **kwargs) for place in places]

    async def run_nodes(self, gen: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Start a function at each node."""
        return await self.run_each("node", gen, *args, **kwargs)

    async def run_servers(self, gen: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Start a function at each server."""
        return await self.run_each("server", gen, *args, **kwargs)

    async def run_node_servers(self, host: Any, gen: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Start a function at each server of a host."""
        return await self.run_each(host, gen, *args, **kwargs)

    async def run_result(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function at a server that is free: its result; a MonitorException if it failed; None if it did not start."""
        return await self._result(None, gen, args, kwargs)

    async def run_result_at(self, where: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """The same at a server, or at one of a node."""
        return await self._result(where, gen, args, kwargs)

    async def run_results(self, gen: Any, iter: Iterable[Any]) -> list[Any]:
        """Run a function once for each element, a tuple of arguments or one argument: the results, in that order."""
        each = [args if isinstance(args, tuple) else _spread(args) for args in iter]
        return list(await asyncio.gather(*(self._result(None, gen, args, {}) for args in each)))

    async def _result(self, where: Any, gen: Any, args: Any, kwargs: Any) -> Any:
        coro = await self._start(where, True, gen, args, kwargs)
        if coro is None:
            return None
        try:
            return await RemoteCoro.finish(coro)
        except asyncio.CancelledError:
            raise
        except Terminated:
            return None
        except Exception as error:
            return self.failure(coro, error)

    async def _start(self, where: Any, cpu: bool, gen: Any, args: Any, kwargs: Any) -> Any:
        servers, native = self._cluster, self._jobs
        if servers is None or native is None:
            log.warning("run: the computation is not scheduled: yield computation.schedule()")
            return None
        function = self._named(gen)
        if function is None:
            log.warning("run: %r is no generator function", gen)
            return None
        server = await servers.take(where, cpu)
        if server is None:
            log.warning("run: no server is used at %s", where)
            return None
        coro: Any = None
        try:
            coro = await native.run(server.coro, function, args, kwargs)
        except (DiscoroError, TimeoutError, TypeError) as error:
            log.warning("run: %s", error)
            return None
        finally:
            if coro is None:  # also when who asked for it is ended meanwhile
                servers.give_back(server, cpu)
        servers.task(_until_end(servers, server, coro, cpu))
        coro.name = function.__name__
        coro = references.faced(self.family, coro)
        self._tell(
            DiscoroStatus(Scheduler.CoroCreated, DiscoroCoroInfo(coro, args, kwargs, time.time()))
        )
        if self.status_coro is not None:
            await self.status_coro.monitor(coro)
        return coro

    def _named(self, gen: Any) -> Any:
        """The function, which may be given by its name; None for what is none."""
        found = [each for each in self._components if getattr(each, "__name__", None) == gen]
        return gen if is_entry(gen) else next(iter(found), None)


async def _until_end(servers: Cluster, server: Server, coro: Any, cpu: bool) -> None:
    try:
        while coro.outcome is None:
            await Word(coro)  # not finish(): that nobody has asked about a failure shall be said
    finally:
        servers.give_back(server, cpu)


def _spread(args: Any) -> tuple[Any, ...]:
    return tuple(args) if hasattr(args, "__iter__") else (args,)

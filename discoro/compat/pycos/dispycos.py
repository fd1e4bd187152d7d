"""pycos.dispycos: a client of several functions, whose tasks go to whatever server is free; see :mod:`discoro.compat.jobs`."""

from __future__ import annotations

import time
from typing import Any

from discoro.compat import cluster, jobs, nodes, pycos
from discoro.compat.coros import trace_text
from discoro.compat.nodes import DiscoroStatus
from discoro.compat.pycos.config import MaxPulseInterval, MinPulseInterval
from discoro.hostedruns import HostedCoro
from discoro.transport.addresses import Location

DispycosNodeInfo = nodes.DiscoroNodeInfo
DispycosNodeAvailInfo = nodes.DiscoroNodeAvailInfo


class DispycosStatus:
    """Word of a node, a server or a task: one of the names of Scheduler, and what it is about."""

    def __init__(self, status: int, info: Any) -> None:
        self.status = status
        self.info = info

    def __repr__(self) -> str:
        return f"DispycosStatus({self.status}, {self.info})"


class DispycosTaskInfo:
    """A task that was started at a server."""

    def __init__(self, task: Any, args: Any, kwargs: Any) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.start_time = time.time()


class DispycosNodeAllocate(nodes.DiscoroNodeAllocate):
    """How many servers of a node are used: ``cpus``, or where that is None all. ``port`` means nothing."""

    def __init__(
        self,
        node: str,
        port: int | None = None,
        platform: str = "",
        cpus: int | None = None,
        memory: Any = None,
        disk: Any = None,
    ) -> None:
        super().__init__(node, platform, 0 if cpus is None else cpus, memory, disk)
        self.port = port
        self._all = cpus is None

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: Any, disk: Any
    ) -> int:
        """How many servers of this node to use; below 0: ask the next one."""
        count = super().allocate(ip_addr, name, platform, cpus, memory, disk)
        return cpus if self._all and count >= 0 else count


class Scheduler:
    """Names of what happens; ``Scheduler(**options)`` takes those of Pycos, and ``nodes``, where to look for servers."""

    NodeIgnore = 1
    NodeDiscovered = 2
    NodeInitialized = 3
    NodeSuspended = 4
    NodeResumed = 5
    NodeClosed = 6
    NodeDisconnected = 7
    NodeAbandoned = 8
    ServerDiscovered = 12
    ServerInitialized = 13
    ServerSuspended = 14
    ServerResumed = 15
    ServerClosed = 16
    ServerDisconnected = 17
    ServerAbandoned = 18
    TaskCreated = TaskStarted = 21
    TaskFinished = 22
    TaskAbandoned = 23
    TaskTerminated = 24
    ClientScheduled = ComputationScheduled = 31
    ClientClosed = ComputationClosed = 32

    def __init__(self, nodes: Any = (), **options: Any) -> None:
        for name in (*jobs.MEANINGLESS, "dispycosnode_port", "scheduler_port", "clean"):
            options.pop(name, None)
        scheduler = pycos.Pycos(**options)
        for node in nodes:
            pycos.Task(scheduler.peer, node)


_NUMBERS = {
    cluster.NODE_DISCOVERED: Scheduler.NodeDiscovered,
    cluster.NODE_INITIALIZED: Scheduler.NodeInitialized,
    cluster.NODE_CLOSED: Scheduler.NodeClosed,
    cluster.NODE_DISCONNECTED: Scheduler.NodeDisconnected,
    cluster.SERVER_DISCOVERED: Scheduler.ServerDiscovered,
    cluster.SERVER_INITIALIZED: Scheduler.ServerInitialized,
    cluster.SERVER_CLOSED: Scheduler.ServerClosed,
    cluster.SERVER_DISCONNECTED: Scheduler.ServerDisconnected,
    jobs.Scheduler.CoroCreated: Scheduler.TaskCreated,
    jobs.Scheduler.ComputationScheduled: Scheduler.ClientScheduled,
    jobs.Scheduler.ComputationClosed: Scheduler.ClientClosed,
}


class Hosted(pycos.Task, HostedCoro):  # type: ignore[misc]  # awaitables all
    """The coroutine of a task, at its server, with its old face."""

    __slots__ = ()


def job(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], coro: Any = None) -> Any:
    """Runs at a server: the function that was asked for, in the place of the client's own."""
    return (yield jobs.begun(coro, Hosted, "task", function, args, kwargs))


class Client(jobs.Computation):
    """Functions, classes, modules and files for servers; ``rtask`` starts one of the functions at a server that is free.

    Args:
        components: A list of them, or one; what is not in it comes along when it is used.
        nodes: Which nodes are used: DispycosNodeAllocate, or hosts. ``node_allocations`` is the same.
        status_task: Task that gets a DispycosStatus of each node, server and task, and word of their ends.
        node_setup: Generator function that runs in each server before the others do.
        server_setup: The same, with the arguments of ``enable_server``.
        disable_nodes: Whether nodes wait for ``enable_node``.
        disable_servers: Whether servers wait for ``enable_server``.
        **options: ``pulse_interval`` and others, which mean nothing.

    Raises:
        TypeError: If one of them is something else.
    """

    family = "pycos"
    job = staticmethod(job)

    def __init__(
        self,
        components: Any,
        nodes: Any = (),
        status_task: Any = None,
        node_setup: Any = None,
        server_setup: Any = None,
        disable_nodes: bool = False,
        disable_servers: bool = False,
        node_allocations: Any = (),
        **options: Any,
    ) -> None:
        for name in ("restart_servers", "abandon_zombie_nodes"):
            options.pop(name, None)
        listed = components if isinstance(components, list) else [components]
        wanted = [*([] if isinstance(nodes, int | float) else nodes), *node_allocations]
        super().__init__(
            listed,
            status_coro=status_task,
            node_setup=node_setup,
            server_setup=server_setup,
            disable_nodes=disable_nodes,
            disable_servers=disable_servers,
            node_allocations=[
                each if hasattr(each, "allocate") else DispycosNodeAllocate(each) for each in wanted
            ],
            **options,
        )

    @staticmethod
    def failure(coro: Any, error: Exception) -> Any:
        """What stands in the place of the result of a task that failed."""
        return pycos.MonitorStatus(coro, type(error), trace_text(error))

    @property
    def status_task(self) -> Any:
        """The task that is told."""
        return self.status_coro

    @status_task.setter
    def status_task(self, task: Any) -> None:
        self.status_coro = task

    def _tell(self, status: DiscoroStatus) -> None:
        if self.status_coro is None or status.status not in _NUMBERS:
            return
        info = status.info
        if status.status == jobs.Scheduler.CoroCreated:
            info = DispycosTaskInfo(info.coro, info.args, info.kwargs)
        self.status_coro.send(DispycosStatus(_NUMBERS[status.status], info))

    rtask = jobs.Computation.run
    rtask_at = jobs.Computation.run_at
    io_rtask = jobs.Computation.run_async
    io_rtask_at = jobs.Computation.run_async_at

    async def close(  # type: ignore[override]  # there is no server to be named
        self, await_io: bool = False, terminate: bool = False, timeout: float | None = None
    ) -> int:
        """Wait for the tasks of ``rtask``, with ``await_io`` for all, and leave the servers; with ``terminate`` at once: 0."""
        return await self._close(await_io, terminate, timeout)

    def suspend_node(self, node: Any) -> int:
        """Give no more tasks to a node: 0 or -1."""
        return self._suspend(node.addr if isinstance(node, Location) else node, True)

    def resume_node(self, node: Any) -> int:
        """Give it tasks again: 0 or -1."""
        return self._suspend(node.addr if isinstance(node, Location) else node, False)

    def suspend_server(self, location: Location) -> int:
        """Give no more tasks to a server: 0 or -1."""
        return self._suspend(location, True)

    def resume_server(self, location: Location) -> int:
        """Give it tasks again: 0 or -1."""
        return self._suspend(location, False)

    def _suspend(self, where: Any, flag: bool) -> int:
        return -1 if self._cluster is None else self._cluster.suspend(where, flag)


Computation = Client

__all__ = [
    "Client",
    "Computation",
    "DispycosNodeAllocate",
    "DispycosNodeAvailInfo",
    "DispycosNodeInfo",
    "DispycosStatus",
    "DispycosTaskInfo",
    "MaxPulseInterval",
    "MinPulseInterval",
    "Scheduler",
]

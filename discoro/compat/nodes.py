"""What programs of 2015 to 2018 are told of nodes and servers, and how they choose among them."""

from __future__ import annotations

import logging
import re
from typing import Any, NamedTuple

from discoro.compat.places import host_address

log = logging.getLogger("discoro.compat")


class DiscoroStatus(NamedTuple):
    """Word of a node, a server or a coroutine: one of the names of Scheduler, and what it is about."""

    status: int
    info: Any


class DiscoroCoroInfo(NamedTuple):
    """A coroutine that was started at a server."""

    coro: Any
    args: Any
    kwargs: Any
    start_time: float


class DiscoroNodeAvailInfo:
    """How much of a node is free; only ``location``, that of its first server, is known here."""

    def __init__(
        self, location: Any, cpu: Any = None, memory: Any = None, disk: Any = None, swap: Any = None
    ) -> None:
        self.location = location
        self.cpu = cpu
        self.memory = memory
        self.disk = disk
        self.swap = swap


class DiscoroNodeInfo(NamedTuple):
    """A node: the servers at one address."""

    name: str
    addr: str
    cpus: int
    platform: str
    avail_info: DiscoroNodeAvailInfo


class DiscoroNodeAllocate:
    """How many servers of a node are used.

    Args:
        node: Host, or address in which ``*`` stands for anything.
        platform: Regular expression that has to be found in the platform's name, which is ``linux``.
        cpus: How many are used, and must be there; negative: leave so many; 0: none of them.
        memory: Taken, and means nothing: it is not known here.
        disk: The same.
    """

    def __init__(
        self, node: str, platform: str = "", cpus: int = 0, memory: int = 0, disk: int = 0
    ) -> None:
        pattern = node if "*" in node else host_address(node)
        self.ip_rex = re.escape(pattern).replace(r"\*", ".*")
        self.platform = platform.lower()
        self.cpus = cpus
        self.memory = memory
        self.disk = disk

    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: Any, disk: Any
    ) -> int:
        """How many servers of this node to use; below 0: ask the next one."""
        if not re.fullmatch(self.ip_rex, ip_addr) or not re.search(self.platform, platform):
            return -1
        if self.cpus < 0:
            return max(cpus + self.cpus, 0)
        return self.cpus if self.cpus <= cpus else 0

"""How many CPUs this process may use, and why: affinity, cgroup quota, Slurm; the smallest of them.

The kernel's formats: ``cpu.max`` of cgroup v2 ("<quota or max> <period>"), ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of v1
(-1: none); ``/proc/self/cgroup`` says which group, ``/proc/self/mountinfo`` where the groups are mounted. A quota also holds for
all groups below, so every one on the way up is asked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from discoro.scheduler.errors import DiscoroError


@dataclass(frozen=True)
class Usable:
    """CPUs that this process may use.

    Attributes:
        count: So many, at least 1.
        installed: So many has the machine.
        limits: What limits them, as text, in the order asked ("affinity 8", "cgroup 1.5").
    """

    count: int
    installed: int
    limits: tuple[str, ...]

    def why(self) -> str:
        """Say in brackets where the number comes from."""
        return f"({self.installed} installed; {', '.join(self.limits)})"


class TooManyServers(DiscoroError):
    """``-c`` asks for more servers than there are usable CPUs, or leaves none.

    Attributes:
        asked: The number given.
        usable: What is there.
    """

    __module__ = "discoro.errors"

    def __init__(self, asked: int, usable: Usable) -> None:
        cpus = f"{usable.count} CPU{'s' if usable.count != 1 else ''} usable here {usable.why()}"
        if asked > 0:
            text = f"-c {asked} asks for more servers than the {cpus}.\n"
            last = f"    To overcommit on purpose: -c {asked} --force"
        else:
            text = f"-c {asked} leaves none of the {cpus}.\n"
            last = "    One server at least: -c 1"
        super().__init__(f"{text}    0 = all usable, N = exactly N, -N = all but N.\n{last}")
        self.asked = asked
        self.usable = usable


def how_many(asked: int, usable: Usable, *, force: bool = False) -> int:
    """Turn the number given with ``-c`` into a number of servers.

    Raises:
        TooManyServers: If it is more than usable and not ``force``, or leaves none.
    """
    if asked > 0:
        if asked > usable.count and not force:
            raise TooManyServers(asked, usable)
        return asked
    count = usable.count + asked
    if count < 1:
        raise TooManyServers(asked, usable)
    return count


def usable_cpus(environment: Mapping[str, str] = os.environ, root: str = "/") -> Usable:
    """Ask the kernel and Slurm. ``root`` stands before ``/proc``, for tests."""
    installed = os.cpu_count() or 1
    limits = []
    if hasattr(os, "sched_getaffinity"):
        limits.append(("affinity", float(len(os.sched_getaffinity(0)))))
    quota = cgroup_quota(root)
    if quota is not None:
        limits.append(("cgroup", quota))
    slurm = environment.get("SLURM_CPUS_ON_NODE", "")
    if slurm.isdecimal() and int(slurm) > 0:
        limits.append(("Slurm", float(slurm)))
    # A quota of 1.5 CPUs is used up by two processes, not by one.
    count = min([installed, *(max(1, math.ceil(number)) for _, number in limits)])
    return Usable(count, installed, tuple(f"{what} {number:g}" for what, number in limits))


def cgroup_quota(root: str = "/") -> float | None:
    """Return the smallest CPU quota of this process's control groups, in CPUs; None without one."""
    quotas = []
    for mount, group in _groups(root):
        for folder in _up(mount, group):
            quota = _quota_v2(folder) or _quota_v1(folder)
            if quota:
                quotas.append(quota)
    return min(quotas, default=None)


def _groups(root: str) -> Iterator[tuple[str, str]]:
    """Give (mount point, path of our group below it) of the hierarchies that can hold a CPU quota."""
    own: dict[str, str] = {}  # controller ("" for v2) -> path of the group
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            own[controller] = path
    for line in _read(os.path.join(root, "proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        words, kinds = left.split(" "), right.split(" ")
        if len(words) < 5 or len(kinds) < 3:
            continue
        inside, mount = words[3], os.path.join(root, words[4].lstrip("/"))
        if kinds[0] == "cgroup2" and "" in own:
            yield mount, _below(own[""], inside)
        elif kinds[0] == "cgroup" and "cpu" in kinds[2].split(",") and "cpu" in own:
            yield mount, _below(own["cpu"], inside)


def _below(path: str, inside: str) -> str:
    """Return the group's path below a mount that shows only what is under ``inside`` (containers)."""
    if inside != "/" and (path + "/").startswith(inside + "/"):
        path = path[len(inside) :]
    return path


def _up(mount: str, group: str) -> Iterator[str]:
    """Give the folder of the group and of each group above it, as far as they are visible."""
    parts = [part for part in group.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        yield os.path.join(mount, *parts[:length])


def _quota_v2(folder: str) -> float | None:
    words = _read(os.path.join(folder, "cpu.max")).split()
    return _ratio(*words) if len(words) == 2 else None


def _quota_v1(folder: str) -> float | None:
    quota = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
    period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None  # "max", "-1", or no such file


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""

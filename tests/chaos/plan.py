"""What goes wrong when: a plan of faults, made from a seed. Pure."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "kill server": 3,
    "kill client": 1,
    "stop server": 4,
    "stop client": 2,
    "cut": 10,
    "partition": 4,
    "silence": 3,
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: Seconds after the beginning of the plan.
        kind: Of KINDS. "partition": connections are cut, and refused. "silence": they stay, and nothing passes.
        servers: Whom it befalls; between these servers ..
        clients: ... and these clients, where it befalls connections.
        seconds: For how long; 0 for what happens once.
    """

    at: float
    kind: str
    servers: tuple[int, ...] = ()
    clients: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def make(
    seed: int,
    seconds: float,
    *,
    servers: int = 4,
    clients: int = 2,
    every: float = 1.0,
    longest: float = 3.0,
    kill_clients: bool = True,
    overlong: float = 0.0,
) -> list[Fault]:
    """Make a plan.

    Args:
        seconds: No fault begins, or lasts, beyond this.
        every: Mean seconds between two faults.
        longest: No fault lasts longer ..
        overlong: ... but for one partition or silence in ten, which lasts so long, if that is not 0.
    """
    chance = random.Random(seed)
    weights = {kind: n for kind, n in KINDS.items() if kill_clients or kind != "kill client"}
    plan = []
    at = 0.0
    while (at := at + chance.expovariate(1 / every)) < seconds:
        kind = chance.choices(list(weights), list(weights.values()))[0]
        lasts = 0.0
        if kind not in ("kill server", "kill client", "cut"):
            lasts = chance.uniform(0.1, longest)
            if overlong and kind in ("partition", "silence") and chance.random() < 0.1:
                lasts = overlong
            lasts = min(lasts, seconds - at)
        some_servers = tuple(
            sorted(chance.sample(range(servers), chance.choice([1, 1, servers // 2])))
        )
        some_clients = tuple(sorted(chance.sample(range(clients), chance.choice([1, clients]))))
        if kind.endswith("server"):
            some_servers, some_clients = some_servers[:1], ()
        elif kind.endswith("client"):
            some_servers, some_clients = (), some_clients[:1]
        plan.append(Fault(round(at, 3), kind, some_servers, some_clients, round(lasts, 3)))
    return plan

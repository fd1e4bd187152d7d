"""What a node and each of its servers are told. Pure: values, and their way through a line of JSON.

The settings of a server travel over its channel to the parent and nowhere else: they hold the key derived from the secret.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

UDP_PORT = 51350
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What a node is told and hands on to each of its servers as it is.

    Attributes:
        local: The secret was given by nobody: loopback only.
        max_rss: Resident memory in bytes beyond which a server is ended; None: none.
        max_stall: Seconds of a blocked loop after which a server is ended; None: none.
    """

    local: bool = False
    ext_ip_addr: str | None = None
    udp_port: int = UDP_PORT
    max_file_size: int = GIB
    certfile: str | None = None
    keyfile: str | None = None
    cluster: str = "default"
    peers: tuple[str, ...] = ()
    join: str | None = None
    max_rss: int | None = None
    max_stall: float | None = None
    debug: bool = False
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeSettings(_Settings):
    """One node, as the command line asks for it.

    Attributes:
        servers: Number of server processes.
        secret: The secret's text.
        secret_source: Where it came from, in words.
        secret_shown: It has just been generated, so the banner shows it, this once.
        addresses: Exactly these are bound; empty: all, or loopback.
        tcp_port: Port of the first server; 0: any.
        lifeline: Descriptor whose end of file ends the node; it is told there when all servers are ready.
    """

    name: str
    servers: int
    secret: str = field(repr=False)
    secret_source: str
    secret_shown: bool = False
    addresses: tuple[str, ...] = ()
    tcp_port: int = 0
    dest_path: str = ""
    lifeline: int | None = None

    @property
    def loopback(self) -> bool:
        """Whether it is reached from this machine only."""
        return self.local and not self.addresses

    def server_name(self, number: int) -> str:
        """Return the name of the server with that number, counted from 1."""
        return f"{self.name}-{number}"

    @property
    def shared(self) -> dict[str, Any]:
        """What each of its servers is told as well."""
        return {one.name: getattr(self, one.name) for one in fields(_Settings)}


@dataclass(frozen=True, kw_only=True)
class ServerSettings(_Settings):
    """One server of a node.

    Attributes:
        number: Counted from 1.
        key: The stretched secret (PRS), as hex digits.
        siblings: Ports of all servers of the node, this one included.
        last_end: How the process before this one ended, in words; empty for the first.
    """

    name: str
    node: str
    number: int
    key: str = field(repr=False)
    dest_path: str
    siblings: tuple[int, ...] = ()
    last_end: str = ""

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> ServerSettings:
        """Read one back."""
        data: dict[str, Any] = json.loads(text)
        data["peers"] = tuple(data["peers"])
        data["siblings"] = tuple(data["siblings"])
        return cls(**{f.name: data[f.name] for f in fields(cls)})

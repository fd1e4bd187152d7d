"""What a scheduler was told about the network: one frozen value, with the old names of its fields at the door.

Where no secret is given, ``DISCORO_SECRET`` counts, else the one that the user's state folder keeps; and then only this
machine is listened to.
"""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass, field, replace

from discoro.scheduler.checks import check_name
from discoro.statefolder import StateFolder
from discoro.transport.addresses import is_loopback, normal_host
from discoro.transport.credentials import DEFAULT_CLUSTER, Credentials
from discoro.transport.interfaces import interfaces_of
from discoro.transport.limits import Limits
from discoro.transport.secret import Secret, generate
from discoro.transport.tls import Certificate
from discoro.transport.workdir import Workdir

UDP_PORT = 51350


@dataclass(frozen=True, kw_only=True)
class Options:
    """The network options of one scheduler.

    Attributes:
        name: Name by which peers find it.
        hosts: Addresses to bind, exactly these; empty: all with a secret, loopback without.
        tcp_port: Port to listen on from the start; None: any, and only once something is published.
        secret: The shared secret; None: see the module.
        sockets: Listening sockets that somebody else opened.
        role: "program", "server" or "parent".
        local: Nobody asked for the network yet: registering a name does not open it.
        outbound_only: Never listen (``--join``).
        predecessor: How the process ended that listened on ``sockets`` before, in words; empty: there was none.
        workdir: The folder that this server works in; None for everybody else.
        python: Version and implementation, which code must match.
    """

    name: str = ""
    hosts: tuple[str, ...] = field(default=(), metadata={"option": "node"})
    udp_port: int = UDP_PORT
    tcp_port: int | None = None
    ext_ip_addr: str | None = None
    dest_path: str | None = None
    max_file_size: int | None = None
    secret: Secret | None = field(default=None, repr=False)
    certfile: str | None = None
    keyfile: str | None = None
    cluster: str = DEFAULT_CLUSTER
    sockets: tuple[socket.socket, ...] = ()
    role: str = "program"
    local: bool = field(default=False, compare=False)
    outbound_only: bool = False
    predecessor: str = ""
    workdir: Workdir | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for option in ("name", "cluster"):
            check_name(getattr(self, option), option)
        for option in ("udp_port", "tcp_port"):
            port = getattr(self, option)
            if port is not None and (type(port) is not int or not 0 <= port <= 65535):
                raise ValueError(f"{option} is a number from 0 to 65535, not {port!r}")
        for option in ("ext_ip_addr", "dest_path", "certfile", "keyfile"):
            value = getattr(self, option)
            if value is not None and not isinstance(value, (str, os.PathLike)):
                raise TypeError(f"{option} is a text, not {value!r}")
        for host in self.hosts:
            if not isinstance(host, str):
                raise TypeError(f"node is an address, or a list of them, not {host!r}")
        size = self.max_file_size
        if size is not None and (type(size) is not int or size < 0):
            raise ValueError(f"max_file_size is a number of bytes, not {size!r}")
        if self.secret is not None and not isinstance(self.secret, Secret):
            raise TypeError("secret is a text")
        if self.keyfile is not None and self.certfile is None:
            raise ValueError("keyfile goes with a certfile")
        for option in ("certfile", "keyfile"):
            path = getattr(self, option)
            if path is not None and not os.path.isfile(path):
                raise FileNotFoundError(2, f"{option}: there is no such file", os.fspath(path))

    @property
    def python(self) -> str:
        """Version and implementation of this Python: code crosses only where they are equal."""
        major, minor, _ = platform.python_version_tuple()
        return f"{platform.python_implementation().lower()}-{major}.{minor}"

    @property
    def published(self) -> bool:
        """Whether to listen from the start."""
        return self.tcp_port is not None or bool(self.sockets) or self.outbound_only

    @property
    def has_secret(self) -> bool:
        """Whether somebody gave a secret, so that others can prove it."""
        return self.secret is not None or bool(os.environ.get("DISCORO_SECRET"))

    @property
    def secret_source(self) -> str:
        """Where our secret comes from, in words."""
        if self.secret is not None:
            return "the one given to Scheduler or run"
        if os.environ.get("DISCORO_SECRET"):
            return "that of DISCORO_SECRET"
        return f"this user's own, {StateFolder().secret_path} (DISCORO_SECRET is not set)"

    @property
    def secret_remedy(self) -> str:
        """What to type, where the other side has another."""
        if self.secret is not None:
            return "Give there (secret=, --secret-file) the secret that the other side was started with"
        return (
            "Type DISCORO_SECRET=... before the command, with the secret that the other side was "
            "started with (in a file: DISCORO_SECRET=$(cat FILE))"
        )

    def credentials(self) -> Credentials:
        """What we prove ourselves with. May take a while: run it in a thread."""
        certificate = None
        if self.certfile is not None:
            certificate = Certificate.from_files(self.certfile, self.keyfile)
        secret = self.secret or default_secret()
        secret.prs  # noqa: B018  # stretch it here, not on the loop
        return Credentials(secret, self.cluster, certificate)

    def announced(self, host: str) -> str:
        """The address that others are told for one that we listen on."""
        if self.ext_ip_addr:
            return normal_host(self.ext_ip_addr)
        if host in ("0.0.0.0", "::", ""):
            return _own_address()
        return host

    def but(self, **changes: object) -> Options:
        """The same options with some changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the names are the fields'


def default_secret() -> Secret:
    """The secret of the environment, else the user's own, generated when there is none."""
    text = os.environ.get("DISCORO_SECRET")
    if not text:
        text, _ = StateFolder().make().secret(generate)
    return Secret(text)


def _own_address() -> str:
    """The address of the interface that leads outwards, else of the first one that is not loopback. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737): connecting a datagram socket only looks up the route.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            pass  # a network without a way out
    own = [one.address for one in interfaces_of(None) if not is_loopback(one.address)]
    return next((address for address in own if ":" not in address), "127.0.0.1")

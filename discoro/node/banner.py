"""What a node says of itself when it is ready: what runs, where it listens, how to connect. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from discoro.node.guard import Bounds
from discoro.node.settings import UDP_PORT, NodeSettings
from discoro.transport.credentials import DEFAULT_CLUSTER
from discoro.version import __version__

MOST_PORTS = 6


def banner(
    settings: NodeSettings,
    hosts: Sequence[str],
    ports: Sequence[int],
    *,
    pid: int,
    python: str,
    terminal: bool,
) -> str:
    """Return the lines.

    Args:
        settings: The node's.
        hosts: Addresses that each server listens on.
        ports: TCP port of each server; empty with ``--join``.
        pid: Process id of the node's parent.
        python: Version of Python.
        terminal: Somebody can type at it.
    """
    count = settings.servers
    lines = [
        f"discoro {__version__}: node {settings.name}, {count} server{'s' if count != 1 else ''}, "
        f"Python {python}, cluster {settings.cluster}, pid {pid}"
    ]
    if settings.join is not None:
        lines.append(f"    listens nowhere; joins {settings.join} and ends with it")
    else:
        only = " (this machine only: no secret was given)" if settings.loopback else ""
        lines.append(
            f"    listens on {', '.join(hosts)}{only}, TCP {_ports(ports)}, UDP {settings.udp_port}; TLS 1.3"
        )
        lines += _how_to_connect(settings) + _what_the_program_says(settings)
    bounds = Bounds(settings.max_rss, settings.max_stall)
    if bounds:
        lines.append(f"    ends, and starts again, a server that {bounds}")
    if terminal:
        lines.append("    type quit to end it when its work is done; Ctrl-C gives the work 5 s")
    return "\n".join(lines) + "\n"


def _how_to_connect(settings: NodeSettings) -> list[str]:
    source = settings.secret_source
    if settings.secret_shown:
        return [
            f"    connect with:  DISCORO_SECRET={settings.secret} python your_program.py",
            f"        (generated just now and kept in {source}: your own programs here find it by themselves)",
        ]
    if settings.local:
        return [
            "    connect with:  python your_program.py",
            f"        (as this user, here; elsewhere DISCORO_SECRET=... with what stands in {source})",
        ]
    return [
        "    connect with:  DISCORO_SECRET=... python your_program.py",
        f"        (the secret that this node has from {source})",
    ]


def _what_the_program_says(settings: NodeSettings) -> list[str]:
    """Return what a program has to say where this node is not found by the defaults."""
    options = []
    if settings.udp_port != UDP_PORT:
        options.append(f"udp_port={settings.udp_port}")
    if settings.cluster != DEFAULT_CLUSTER:
        options.append(f"cluster={settings.cluster!r}")
    if not options:
        return []
    return [f"        and in the program:  run(main, {', '.join(options)})"]


def _ports(ports: Sequence[int]) -> str:
    """Return ports as people write them: a range, or the first few."""
    if len(ports) > 2 and list(ports) == list(range(ports[0], ports[0] + len(ports))):
        return f"{ports[0]} to {ports[-1]}"
    shown = ", ".join(map(str, ports[:MOST_PORTS]))
    more = len(ports) - MOST_PORTS
    return shown if more <= 0 else f"{shown} and {more} more (python -m discoro status)"

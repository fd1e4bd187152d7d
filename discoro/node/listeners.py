"""The listening sockets of a node's servers, opened by its parent and kept while servers come and go."""

from __future__ import annotations

import errno
import socket
import time

from discoro.scheduler.errors import DiscoroError
from discoro.transport.addresses import format_address, listen_hosts
from discoro.transport.limits import Limits

ATTEMPTS = 50
"""Tries to find a port that is free on every address at once."""


class PortTaken(DiscoroError):
    """Somebody else listens on that port.

    Attributes:
        host: Address that was to be bound.
        port: Its port.
        owner: Who has it, in words.
    """

    __module__ = "discoro.errors"

    def __init__(self, host: str, port: int, owner: str) -> None:
        super().__init__(
            f"TCP port {port} on {host} is taken by {owner}.\n"
            "    A node already runs here? Use it (python -m discoro status), stop it (python -m discoro stop),\n"
            "    or take another port: --tcp_port N (without the option: any free one)."
        )
        self.host = host
        self.port = port
        self.owner = owner


class AddressUnusable(DiscoroError):
    """An address given with ``-i`` is none of this machine.

    Attributes:
        host: The address.
    """

    __module__ = "discoro.errors"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"cannot listen on {host}: {reason}.\n"
            f"    -i takes addresses of this machine: {', '.join(_own_addresses()) or 'none is known'}"
        )
        self.host = host


def open_listeners(given: tuple[str, ...], port: int, *, has_secret: bool) -> list[socket.socket]:
    """Open one server's sockets: the same port on each address that the rules give.

    Args:
        given: Exactly these addresses; empty: all, or loopback without a secret.
        port: 0 takes any that is free on all of them.
        has_secret: Somebody gave a secret.

    Raises:
        PortTaken: If another process has it.
        AddressUnusable: If an address given is not ours.
    """
    hosts = listen_hosts(given, has_secret)
    for attempt in range(ATTEMPTS):
        opened: list[socket.socket] = []
        try:
            for host in hosts:
                at = port or (opened[0].getsockname()[1] if opened else 0)
                listener = _open(host, at, optional=not given and ":" in host)
                if listener is not None:
                    opened.append(listener)
        except BaseException as error:
            for listener in opened:
                listener.close()
            if isinstance(error, PortTaken) and not port and attempt < ATTEMPTS - 1:
                continue
            raise
        return opened
    raise AssertionError("unreachable")


def _open(host: str, port: int, *, optional: bool) -> socket.socket | None:
    """Open one; None when it is ``optional`` (IPv6 by our own choice) and this machine has no such addresses."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise AddressUnusable(host, error.strerror or str(error)) from error
    family, kind, protocol, _, address = found[0]
    listener = None
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(Limits().handshake_backlog)
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, port_owner(port) if port else "others") from error
        if optional:
            return None
        reason = error.strerror or str(error)
        if error.errno == errno.EACCES:
            reason += " (ports below 1024 are the superuser's)"
        raise AddressUnusable(format_address(host, port) if port else host, reason) from error
    return listener


def _own_addresses() -> list[str]:
    """Return the addresses of this machine, as far as they are known."""
    import psutil  # on the error path only

    try:
        found = [address for of_one in psutil.net_if_addrs().values() for address in of_one]
    except (psutil.Error, OSError):
        return []
    return [a.address for a in found if a.family in (socket.AF_INET, socket.AF_INET6)]


def port_owner(port: int) -> str:
    """Say who listens on a TCP port, as far as the kernel tells us."""
    import psutil  # on the error path only

    try:
        for found in psutil.net_connections(kind="tcp"):
            if found.status != psutil.CONN_LISTEN or found.laddr.port != port or not found.pid:
                continue
            process = psutil.Process(found.pid)
            with process.oneshot():
                since = time.strftime("%H:%M", time.localtime(process.create_time()))
                command = " ".join(process.cmdline()) or process.name()
                if len(command) > 60:
                    command = command[:57] + "..."
                return f"pid {found.pid} ({command}, user {process.username()}, since {since})"
    except (psutil.Error, OSError, PermissionError):
        pass
    return "another user's process"

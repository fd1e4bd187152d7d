"""UDP sockets for discovery: the options that each system wants. Shell."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from dataclasses import replace
from typing import Any

from .interfaces import Interface

GROUP4 = "239.255.51.35"
"""IPv4 multicast group: administratively scoped, site-local (RFC 2365)."""
GROUP6 = "ff02::d15c:c090"
"""IPv6 multicast group: link-local scope."""

_log = logging.getLogger("discoro.discovery")
# linux/in.h and linux/in6.h; the socket module does not name them
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_RECEIVE_BUFFER = 1 << 20


def asking_socket(family: socket.AddressFamily) -> socket.socket:
    """Return a socket with an ephemeral port, allowed to broadcast."""
    sock = _datagram_socket(family)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        with contextlib.suppress(OSError):
            # A thousand nodes answer at once; what does not fit answers the next ask.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
    except OSError:
        sock.close()
        raise
    return sock


def listening_socket(bind: Interface, port: int) -> socket.socket:
    """Return a socket bound to the address of ``bind``, which others may bind as well.

    Raises:
        OSError: If another program holds the port for itself, or the address is not ours.
    """
    sock = _datagram_socket(bind.family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux":
            # Linux shares a UDP port by SO_REUSEADDR alone, even between users; BSD needs this one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            # Only groups that this very socket has joined, on the interface where it has.
            with contextlib.suppress(OSError):
                if bind.family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
                else:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        if bind.family == socket.AF_INET6:
            scope = bind.index if bind.address.startswith(("fe80:", "ff02:")) else 0
            sock.bind((bind.address.partition("%")[0], port, 0, scope))
        else:
            sock.bind((bind.address, port))
        if bind.address in (GROUP4, GROUP6):
            join(sock, replace(bind, address=bind.joins))
    except OSError:
        sock.close()
        raise
    return sock


def _datagram_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def join(sock: socket.socket, interface: Interface) -> None:
    """Join the group on one interface. Linux allows 20 per socket; broadcast reaches us on the others."""
    if interface.family == socket.AF_INET6:
        membership = socket.inet_pton(socket.AF_INET6, GROUP6)
        membership += interface.index.to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        membership = socket.inet_aton(GROUP4) + socket.inet_aton(interface.address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def send(sock: socket.socket, datagram: bytes, address: tuple[Any, ...]) -> None:
    """Send a datagram, or leave it: discovery asks again."""
    try:
        sock.sendto(datagram, address)
    except OSError as error:
        # An interface that is down or has no route, or a full buffer: the next ask tries again.
        _log.debug("cannot send a datagram to %s: %s", address[0], error)

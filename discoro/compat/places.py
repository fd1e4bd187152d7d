"""Where peers are, and word of them, under their old names."""

from __future__ import annotations

import socket
from typing import Any

from discoro.transport.addresses import Location as _Location


class LocationType(type):
    """Makes every location an instance."""

    def __instancecheck__(cls, thing: Any) -> bool:
        return isinstance(thing, _Location)

    def __call__(cls, host: str, tcp_port: int = 0) -> _Location:
        """The location of a host, whose name is looked up, and a TCP port."""
        return _Location(host_address(host), int(tcp_port))


class Location(metaclass=LocationType):
    """Where a peer is: ``Location(host, tcp_port)`` makes one of discoro's."""


def host_address(host: str) -> str:
    """The IP address of a host; the name itself where it has none."""
    try:
        return str(socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return host


class PeerStatus:
    """Word of a peer that has come or gone."""

    Online = 1
    Offline = 0

    def __init__(self, location: _Location, name: str, status: int) -> None:
        self.location = location
        self.name = name
        self.status = status

    def __repr__(self) -> str:
        return f"{self.name}@{self.location}: {'online' if self.status else 'offline'}"

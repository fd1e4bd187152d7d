"""Addresses: where a peer is, parsed, written and compared. Pure: nothing here asks a name server."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

_LOOPBACK = ("127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0", "::")


class Location:
    """Where a process is. Immutable; may be a key, and be sent.

    Two locations with an id are equal when the ids are; two without one when address and port are; one of each
    kind never. The name and the address of a location with an id are hints: there are NATs, proxies and several
    processes of one name.

    Args:
        addr: Host name or IP address.
        port: TCP port.
        name: Name of the scheduler there, or None.
        id: The 16 bytes that the process has drawn at its start; None in one made by hand.

    Attributes:
        addr: Host name or IP address, in its shortest form.
        port: TCP port.
        name: Name of the scheduler there, or None.
        id: The 16 bytes that the process has drawn at its start, or None where they are not known.

    Raises:
        TypeError, ValueError: If one of them is not that.
    """

    __slots__ = ("addr", "id", "name", "port")

    addr: str
    port: int
    name: str | None
    id: bytes | None

    def __init__(
        self, addr: str, port: int, name: str | None = None, id: bytes | None = None
    ) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
        if not isinstance(addr, str):
            raise TypeError(f"an address is a text, a host name or an IP address, not {addr!r}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name of a peer is a text, not {name!r}")
        if id is not None and not isinstance(id, bytes):
            raise TypeError(f"a process id is 16 bytes, as a Location of ours has it, not {id!r}")
        if id is not None and len(id) != 16:
            raise ValueError(f"a process id has 16 bytes, not {len(id)}")
        set_ = object.__setattr__
        set_(self, "addr", normal_host(addr))
        set_(self, "port", int(port))
        set_(self, "name", name)
        set_(self, "id", id)

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> Location:
        """Give the location that ``"host"``, ``"host:port"`` or ``"[ipv6]:port"`` means.

        Args:
            text: The text.
            default_port: Port where the text has none.

        Raises:
            ValueError: If it is no address, or no port is given anywhere.
        """
        return cls(*parse_address(text, default_port))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Location is immutable, {name} stays what it is")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Location is immutable, {name} stays")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Location):
            return NotImplemented
        if self.id is not None or other.id is not None:
            return self.id == other.id
        return (self.addr, self.port) == (other.addr, other.port)

    def __hash__(self) -> int:
        return hash(self.id) if self.id is not None else hash((self.addr, self.port))

    def __str__(self) -> str:
        at = format_address(self.addr, self.port)
        return f"{self.name}@{at}" if self.name else at

    def __repr__(self) -> str:
        parts = [repr(self.addr), repr(self.port)]
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        if self.id is not None:
            parts.append(f"id={self.id.hex()[:8]}...")
        return f"Location({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return location, (self.addr, self.port, self.name, self.id)


Location.__module__ = "discoro"  # the name that users type


def location(addr: str, port: int, name: str | None, id: bytes | None) -> Location:
    """Return a :class:`Location`; what a pickled one calls, in every version."""
    return Location(addr, port, name, id)


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Return host and port of ``"host:port"``, ``"[ipv6]:port"``, and, with a default port, of the host alone.

    Raises:
        ValueError: If it is none of these; the text says what was expected.
    """
    stripped = text.strip()
    host, port = _split(stripped)
    if port is None:
        if default_port is None:
            raise ValueError(f"{text!r} names no port; expected HOST:PORT or [IPV6]:PORT")
        number = default_port
    elif port.isascii() and port.isdigit() and 1 <= int(port) <= 65535:
        number = int(port)
    else:
        raise ValueError(f"{port!r} in {text!r} is no port; expected a number from 1 to 65535")
    try:
        return normal_host(host), number
    except ValueError as error:
        raise ValueError(f"{text!r} is no address: {error}; expected HOST:PORT") from None


def format_address(host: str, port: int) -> str:
    """Return ``"host:port"``, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def normal_host(host: str) -> str:
    """Return the one form of a host: IP addresses at their shortest, names in small letters.

    An IPv4 address in IPv6 clothes (``::ffff:10.0.0.1``, what a socket for both shows) becomes the IPv4 address.

    Raises:
        ValueError: If it can be neither an address nor a name.
    """
    address = _ip(host)
    if address is not None:
        mapped = getattr(address, "ipv4_mapped", None)
        return str(mapped or address)
    host = host[:-1] if host.endswith(".") else host
    words = "" not in host.split(".") and host.isprintable()
    if not words or len(host) > 253 or set(host) & set(" /@?#[]:%\"'\\"):
        raise ValueError(f"{host!r} is neither an IP address nor a host name")
    return host.lower()


def is_loopback(host: str) -> bool:
    """Return True if ``host`` is an address of this machine's loopback, or its usual name."""
    address = _ip(host)
    if address is None:
        return host.lower().rstrip(".") == "localhost"
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def source_of(host: str) -> str:
    """Return what counts as one source for limits: the address; of IPv6 its /64, which one customer has."""
    address = _ip(host)
    if address is None:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    if isinstance(address, ipaddress.IPv4Address) or mapped or address.is_loopback:
        return str(mapped or address)
    network = int(address) >> 64 << 64
    return f"{ipaddress.IPv6Address(network)}/64"


def listen_hosts(given: Sequence[str], has_secret: bool) -> list[str]:
    """Return the addresses to listen on: the one place that decides it.

    Args:
        given: What the user named (``-i``, ``node=``); exactly these are taken.
        has_secret: Whether the user gave a secret. Without one nobody else can prove it: loopback only.
    """
    if given:
        return [normal_host(host) for host in given]
    return list(_EVERYWHERE if has_secret else _LOOPBACK)


def _split(text: str) -> tuple[str, str | None]:
    """Return host and port as text; the port is None where there is none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or _ip(host) is None:
            raise ValueError(f"{text!r} is no address; expected [IPV6]:PORT")
        return host, rest[1:] if rest else None
    if _ip(text) is not None:
        return text, None
    host, colon, port = text.rpartition(":")
    return (host, port) if colon else (text, None)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

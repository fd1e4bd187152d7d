"""Network interfaces of this machine, as discovery needs them. Shell (asks the system)."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from .addresses import is_loopback, normal_host

_log = logging.getLogger("discoro.discovery")


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of one interface.

    Attributes:
        name: Name of the interface, as the system has it.
        family: ``AF_INET`` or ``AF_INET6``.
        address: The address.
        broadcast: IPv4 broadcast address of its network, or empty.
        index: Number of the interface; 0 where it is not known.
        joins: Address that names the interface when its group is joined.
    """

    name: str
    family: socket.AddressFamily
    address: str
    broadcast: str = ""
    index: int = 0
    joins: str = ""

    @property
    def loopback(self) -> bool:
        """Whether nothing from another machine can arrive here."""
        return is_loopback(self.address)


def interfaces_of(wanted: Sequence[str] | None) -> list[Interface]:
    """Return the IPv4 addresses, and one IPv6 address per interface, that are up and usable for discovery.

    Args:
        wanted: Our addresses to take; "0.0.0.0" and "::" mean all of their family; None: all.
    """
    found = []
    seen: set[str] = set()
    for interface in _all_interfaces():
        if wanted is not None and not _is_wanted(interface, wanted):
            continue
        if interface.family == socket.AF_INET6:
            # IPv6 asks go to a group on an interface, whatever address it has; loopback has no groups.
            if interface.loopback or interface.name in seen:
                continue
            seen.add(interface.name)
        found.append(interface)
    return found


def _is_wanted(interface: Interface, wanted: Sequence[str]) -> bool:
    everything = "::" if interface.family == socket.AF_INET6 else "0.0.0.0"
    return everything in wanted or interface.address in wanted


def _all_interfaces() -> list[Interface]:
    # Imported here: programs that never discover anything need none of it.
    import psutil

    try:
        states, named = psutil.net_if_stats(), psutil.net_if_addrs()
    except OSError as error:
        # Some sandboxes do not let us look; peers named by the user and the state folder remain.
        _log.debug("cannot list the network interfaces: %s", error)
        return []
    found = []
    for name, addresses in named.items():
        if name in states and not states[name].isup:
            continue
        for entry in addresses:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                found.append(_interface(name, entry.family, entry.address, entry.netmask))
    return found


def _interface(
    name: str, family: socket.AddressFamily, address: str, netmask: str | None
) -> Interface:
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        index = 0  # gone since
    broadcast = ""
    if family == socket.AF_INET and netmask:
        broadcast = _broadcast(address, netmask)
    return Interface(name, family, normal_host(address), broadcast, index, normal_host(address))


def _broadcast(address: str, netmask: str) -> str:
    """Return the broadcast address, or nothing where there is none (point to point, or an odd mask)."""
    with contextlib.suppress(ValueError):
        network = ipaddress.IPv4Network(f"{address}/{netmask}", strict=False)
        if network.prefixlen < 31:
            return str(network.broadcast_address)
    return ""

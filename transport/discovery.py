"""Discovery: the UDP sockets around ``beacon.py``. Shell, bound to the running event loop.

Whoever wants to be found binds the UDP port with address reuse (so several programs of one machine can) and joins
a multicast group; asks come by multicast and broadcast, which reach all of them, and answers go back by
unicast to the ephemeral port of the asker. Both IPv4 and IPv6 are used where they are there; an interface that does
not let us send is passed over. Datagrams are hints (see ``beacon.py``): what is malformed, of another cluster, or
answers none of our asks is dropped without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .addresses import normal_host
from .beacon import (
    ASK_BYTES,
    NO_NONCE,
    Ask,
    Beacon,
    ask_delay,
    encode_ask,
    encode_beacon,
    parse_untrusted,
)
from .errors import ProtocolError, TransportError
from .interfaces import Interface, interfaces_of
from .limits import Limits
from .throttle import Bucket
from .udp import GROUP4, GROUP6, asking_socket, join, listening_socket, send

_log = logging.getLogger("discoro.discovery")
_AT_ONCE = 64  # datagrams read before the loop's other work has its turn
_REMEMBERED = 16  # asks of ours whose answers are still welcome
_ANSWERED = 1_024  # asks of others remembered, to answer once what came by several ways

Answer = Callable[[Ask], Sequence[Beacon]]
OnBeacon = Callable[[Beacon, tuple[str, int]], None]


class DiscoveryUnavailable(TransportError):
    """The UDP port cannot be listened on; asking still works.

    Attributes:
        port: The port.
        reason: What the operating system said.
    """

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen on UDP port {port}: {reason}; nobody finds us by asking. "
            "Another program may hold it: choose another one with --udp_port on all machines"
        )
        self.port = port
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Heard:
    """A socket that listens, and where; to know what is still to be joined."""

    sock: socket.socket
    everywhere: bool


class Discovery:
    """Asks who is there and answers who asks, within one cluster.

    Args:
        cluster: Name of the cluster; nothing of another one gets through, in either direction.
        limits: For the rates.
        random_bytes: For the nonces of asks.
    """

    def __init__(
        self,
        cluster: str,
        *,
        limits: Limits | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.cluster = cluster
        self.udp_port = 0
        self._limits = limits or Limits()
        self._random_bytes = random_bytes
        self._wanted: list[str] | None = None
        self._answer: Answer | None = None
        self._on_beacon: OnBeacon | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._askers: dict[socket.AddressFamily, socket.socket] = {}
        self._listeners: list[_Heard] = []
        # (family, interface) pairs whose group the listening sockets have joined.
        self._joined: set[tuple[int, str]] = set()
        self._nonces: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._answered: OrderedDict[tuple[bytes, Any], None] = OrderedDict()
        self._rate = Bucket(self._limits.beacon_rate, self._limits.beacon_rate)
        self._timer: asyncio.TimerHandle | None = None
        self._asks = 0
        #: Datagrams dropped, for the curious.
        self.dropped = 0

    async def start(
        self,
        udp_port: int,
        interfaces: Sequence[str] | None,
        answer: Answer | None,
        on_beacon: OnBeacon | None,
    ) -> None:
        """Open the sockets.

        Args:
            udp_port: Port to ask at, and to listen on where ``answer`` is given.
            interfaces: Our addresses to use, as :func:`listen_hosts` gives them ("0.0.0.0" and "::" mean all
                of their family); None: all.
            answer: Called for each ask of our cluster; returns what to say. None: do not listen.
            on_beacon: Called with each beacon and the address and port that it came from.

        Raises:
            DiscoveryUnavailable: If nothing could be bound to listen on; asking works all the same.
        """
        self._loop = asyncio.get_running_loop()
        self._wanted = None if interfaces is None else [normal_host(host) for host in interfaces]
        self._answer, self._on_beacon = answer, on_beacon
        self.udp_port = udp_port
        _open.add(self)
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                self._askers[family] = self._watched(asking_socket(family))
        if answer is not None:
            self._listen()

    def ask(self, name: str | None = None) -> None:
        """Ask on every interface, once; answers come to ``on_beacon``. Never waits, never raises."""
        datagram = self._new_ask(name)
        if self._listeners:
            self.refresh()
        self._spread(datagram)

    async def ask_host(self, host: str, port: int | None = None, name: str | None = None) -> None:
        """Ask one machine, by unicast: the one process that it reaches answers for its neighbours too.

        Raises:
            OSError: If the name of the host has no address.
        """
        assert self._loop is not None
        found = await self._loop.getaddrinfo(
            host, port or self.udp_port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP
        )
        datagram = self._new_ask(name)
        for family, _, _, _, address in found:
            asker = self._askers.get(socket.AddressFamily(family))
            if asker is not None:
                send(asker, datagram, address)

    def keep_asking(self, name: str | None = None) -> None:
        """Ask now, often at first and every 10 s after, until :meth:`stop_asking` or :meth:`close`."""
        self.stop_asking()
        self._asks = 0
        self._ask_again(name)

    def stop_asking(self) -> None:
        """End what :meth:`keep_asking` began."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def announce(self, beacons: Sequence[Beacon]) -> None:
        """Tell everybody who listens that we are here, without being asked."""
        for beacon in beacons:
            self._spread(encode_beacon(replace(beacon, nonce=NO_NONCE)))

    def refresh(self) -> None:
        """Join the group on interfaces that have come up since."""
        for heard in self._listeners:
            if heard.everywhere:
                self._join_all(heard.sock)

    def close(self) -> None:
        """Close all sockets. May be called twice."""
        self.stop_asking()
        for sock in self._sockets():
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(sock)
            sock.close()
        self._forget()

    # --- asking ----------------------------------------------------------------------------------------------------

    def _new_ask(self, name: str | None) -> bytes:
        nonce = self._random_bytes(8)
        self._nonces.append(nonce)
        return encode_ask(Ask(self.cluster, name or "", nonce))

    def _ask_again(self, name: str | None) -> None:
        assert self._loop is not None
        self._asks += 1
        self.ask(name)
        delay = ask_delay(self._asks, self._limits)
        self._timer = self._loop.call_later(delay, self._ask_again, name)

    def _spread(self, datagram: bytes) -> None:
        """Send to the group and the broadcast address of each interface."""
        for interface in interfaces_of(self._wanted):
            asker = self._askers.get(interface.family)
            if asker is not None:
                for address in self._targets(asker, interface):
                    send(asker, datagram, address)

    def _targets(self, asker: socket.socket, interface: Interface) -> list[tuple[Any, ...]]:
        try:
            if interface.family == socket.AF_INET6:
                asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
                return [(GROUP6, self.udp_port, 0, interface.index)]
            asker.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.address)
            )
            group: list[tuple[Any, ...]] = [(GROUP4, self.udp_port)]
        except OSError:
            group = []
        if interface.broadcast:
            group.append((interface.broadcast, self.udp_port))
        return group

    # --- listening -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        reason: OSError | None = None
        for bind, everywhere in self._binds():
            try:
                sock = listening_socket(bind, self.udp_port)
            except OSError as error:
                reason = error
                _log.debug("cannot bind UDP %s: %s", bind, error)
                continue
            self.udp_port = sock.getsockname()[1]
            self._watched(sock)
            self._listeners.append(_Heard(sock, everywhere))
            if everywhere:
                self._join_all(sock)
        if not self._listeners:
            said = getattr(reason, "strerror", None) or str(reason or "no such interface")
            raise DiscoveryUnavailable(self.udp_port, said)

    def _binds(self) -> list[tuple[Interface, bool]]:
        """Return what to bind, each as an interface whose address is the one to bind, and whether it means all.

        A program that listens on chosen addresses only must not be reachable by UDP on others: there the
        address, its broadcast address and the group are bound one by one.
        """
        wanted = ["0.0.0.0", "::"] if self._wanted is None else self._wanted
        binds = []
        if "0.0.0.0" in wanted:
            binds.append((Interface("", socket.AF_INET, "0.0.0.0"), True))
        if "::" in wanted:
            binds.append((Interface("", socket.AF_INET6, "::"), True))
        chosen = [host for host in wanted if host not in ("0.0.0.0", "::")]
        for interface in interfaces_of(chosen) if chosen else []:
            if any(b.family == interface.family for b, everywhere in binds if everywhere):
                continue
            group = GROUP6 if interface.family == socket.AF_INET6 else GROUP4
            for address in (interface.address, interface.broadcast, group):
                if address and not (address == group and interface.loopback):
                    binds.append(
                        (replace(interface, address=address, joins=interface.address), False)
                    )
        return binds

    def _join_all(self, sock: socket.socket) -> None:
        for interface in interfaces_of(None):
            key = (sock.fileno(), f"{interface.address}%{interface.index}")
            if interface.family == sock.family and key not in self._joined:
                self._joined.add(key)
                with contextlib.suppress(OSError):
                    join(sock, interface)

    # --- receiving -------------------------------------------------------------------------------------------------

    def _watched(self, sock: socket.socket) -> socket.socket:
        assert self._loop is not None
        self._loop.add_reader(sock, self._readable, sock)
        return sock

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, source = sock.recvfrom(ASK_BYTES + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # "connection refused" of an earlier answer
            try:
                self._received(sock, parse_untrusted(data), source)
            except ProtocolError:
                self.dropped += 1
            except Exception:
                _log.exception("a callback of discovery failed")

    def _received(self, sock: socket.socket, said: Ask | Beacon, source: tuple[Any, ...]) -> None:
        if said.cluster != self.cluster:
            self.dropped += 1
        elif isinstance(said, Ask):
            self._asked(sock, said, source)
        elif said.nonce in self._nonces or (
            said.nonce == NO_NONCE and sock not in self._askers.values()
        ):
            if self._on_beacon is not None:
                self._on_beacon(said, _host_and_port(source))
        else:
            self.dropped += 1

    def _asked(self, sock: socket.socket, ask: Ask, source: tuple[Any, ...]) -> None:
        assert self._loop is not None
        key = (ask.nonce, source)
        now = self._loop.time()
        if self._answer is None or key in self._answered or self._rate.wait(now) is not None:
            self.dropped += 1
            return
        self._rate.take(now)
        self._answered[key] = None
        if len(self._answered) > _ANSWERED:
            self._answered.popitem(last=False)
        left = ASK_BYTES
        for beacon in self._answer(ask):
            datagram = encode_beacon(replace(beacon, nonce=ask.nonce))
            left -= len(datagram)
            if left < 0:
                return
            send(sock, datagram, source)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _sockets(self) -> list[socket.socket]:
        return [*self._askers.values(), *(heard.sock for heard in self._listeners)]

    def _forget(self) -> None:
        self._askers.clear()
        self._listeners.clear()
        self._joined.clear()
        _open.discard(self)

    def _close_in_child(self) -> None:
        # Not remove_reader: the child shares the parent's epoll, and would make the parent deaf.
        # Not sock.close() either: uvloop counts itself as a user of the socket, which then stays open.
        for sock in self._sockets():
            os.close(sock.detach())
        self._forget()


_open: weakref.WeakSet[Discovery] = weakref.WeakSet()


def _close_all_in_child() -> None:
    for discovery in list(_open):
        discovery._close_in_child()


os.register_at_fork(after_in_child=_close_all_in_child)


def _host_and_port(source: tuple[Any, ...]) -> tuple[str, int]:
    host, port = str(source[0]), int(source[1])
    if len(source) == 4 and source[3] and "%" not in host:
        with contextlib.suppress(OSError):
            host = f"{host}%{socket.if_indextoname(source[3])}"
    return normal_host(host), port

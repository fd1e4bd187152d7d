"""Scheduler as users see it: coroutines of one process, and the network behind them.

Composes :class:`discoro.scheduler.Scheduler` with a :class:`discoro.peers.network.Network`; everything about coroutines is
there, everything about other processes here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Self, cast

from discoro import logs, registry
from discoro import scheduler as _local
from discoro.coro import Coro
from discoro.localcoro import LocalCoro
from discoro.peers.names import SAY_WHY_AFTER
from discoro.peers.network import Network
from discoro.peers.options import UDP_PORT, Options
from discoro.scheduler.checks import check_name, check_timeout
from discoro.transport.addresses import Location, format_address
from discoro.transport.credentials import DEFAULT_CLUSTER
from discoro.transport.limits import Limits
from discoro.transport.secret import Secret
from discoro.transport.workdir import Workdir
from discoro.within import found_within, within

log = logging.getLogger("discoro.network")


def _limits(limits: Limits, max_file_size: int | None) -> Limits:
    """The limits with the one that has an option of its own."""
    return limits if not max_file_size else replace(limits, max_file_size=max_file_size)


def _addresses(given: Any) -> tuple[Any, ...]:
    """The addresses of ``node``: none, one, or several."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return () if given is None else (given,)
    return tuple(given)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's loop where there is one (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast(asyncio.AbstractEventLoop, uvloop.new_event_loop())


class Scheduler(_local.Scheduler):
    """Runs coroutines, and knows other processes that do.

    Use it as ``with Scheduler():`` in scripts (its loop runs in a thread; the end waits for the coroutines),
    ``async with Scheduler():`` in asyncio programs (the end cancels them), or :meth:`start` and :meth:`close` by hand;
    ``discoro.run`` does all that for one function. A plain ``Scheduler(...)`` becomes the default one.
    It opens no socket before something needs one.

    Args:
        udp_port: Discovery port, the same on all machines.
        tcp_port: Listen on this port from the start; None: on any, once something is registered.
        node: Address, or addresses, to bind; None: all when there is a secret, else loopback. ``host`` is the same.
        ext_ip_addr: Address that others are told, for those behind NAT.
        name: Name by which peers find this scheduler; default: that of the machine, and the process id.
        dest_path: Folder for files that others send; without it files are refused.
        max_file_size: Longest such file, in bytes; None, or 0: 1 GiB.
        secret: Shared by all that may run code here; None: ``DISCORO_SECRET``, else this user's own on this machine.
        certfile: Certificate (PEM) instead of one made for this process.
        keyfile: Its private key (PEM), where ``certfile`` does not hold it.
        cluster: Only schedulers of the same cluster meet.
        max_mailbox: Messages that the mailbox of a coroutine here holds at most; None: no limit within this process.

    The other options are for the servers of a node.

    Raises:
        TypeError, ValueError: If an option is not what it should be; FileNotFoundError if a file is not there.
        SchedulerConflict: If a plain one with other options is the default already; that stays.
        CannotListen: When it is opened, if ``tcp_port`` or ``node`` cannot be listened on; it is closed then.
    """

    __module__ = "discoro"

    new_loop = staticmethod(_new_loop)

    def __init__(
        self,
        udp_port: int = UDP_PORT,
        tcp_port: int | None = None,
        node: str | Sequence[str] | None = None,
        ext_ip_addr: str | None = None,
        name: str | None = None,
        dest_path: str | None = None,
        max_file_size: int | None = None,
        secret: str | Secret | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        cluster: str = DEFAULT_CLUSTER,
        *,
        host: str | Sequence[str] | None = None,
        max_mailbox: int | None = None,
        sockets: Sequence[socket.socket] = (),
        role: str = "program",
        local: bool = False,
        outbound_only: bool = False,
        predecessor: str = "",
        workdir: Workdir | None = None,
        limits: Limits | None = None,
    ) -> None:
        logs.set_up_program()
        bound = _addresses(node) if host is None else _addresses(host)
        if host is not None and node is not None and _addresses(node) != bound:
            raise TypeError(f"host is the same as node: {host!r} and {node!r} cannot both be meant")
        self.name = f"{socket.gethostname()}-{os.getpid()}" if name is None else name
        options = Options(
            name=self.name,
            hosts=bound,
            udp_port=UDP_PORT if udp_port is None else udp_port or UDP_PORT,
            tcp_port=tcp_port,
            ext_ip_addr=ext_ip_addr,
            dest_path=dest_path,
            max_file_size=max_file_size,
            secret=Secret(secret) if isinstance(secret, str) and secret else secret or None,
            certfile=certfile,
            keyfile=keyfile,
            cluster=cluster,
            sockets=tuple(sockets),
            role=role,
            local=local,
            outbound_only=outbound_only,
            predecessor=predecessor,
            workdir=workdir,
            limits=_limits(limits or Limits(), max_file_size),
        )
        super().__init__(
            max_mailbox=max_mailbox, coro_class=LocalCoro, options={"network": options}
        )
        self.network = self.elsewhere = Network(self, options)
        registry.enter(self.network)

    @classmethod
    def unasked(cls) -> Self:
        """The default scheduler that nobody has constructed: local until a network verb is used."""
        return cls(local=True)

    @classmethod
    def cur_coro(cls) -> Coro[Any] | None:  # type: ignore[override]  # ours are both kinds of Coro
        """The coroutine that runs this code, or None outside of one."""
        return cast("Coro[Any] | None", super().cur_coro())

    def __repr__(self) -> str:
        return f"<discoro.Scheduler {self.name} with {len(self.network.live_peers())} peers>"

    # --- this process

    @property
    def location(self) -> Location:
        """Where this scheduler is, as others are told, with the id of its process."""
        return self.network.location

    def counts(self) -> dict[str, int]:
        """How many coroutines (daemons left out), computations, runs and peers there are."""
        counts = {"coroutines": len(self.waited_for()), "peers": len(self.network.live_peers())}
        if self.network.server is not None:
            counts.update(self.network.server.counts())
        return counts

    def export(self, thing: Any) -> int:
        """Make a coroutine or channel reachable by number; how a coroutine ends is then remembered."""
        if isinstance(thing, LocalCoro):
            return self.network.export(thing)
        return super().export(thing)

    # --- other processes

    def peers(self) -> list[Location]:
        """Give the locations of the processes that this one has a session with, servers and programs."""
        network = self.network
        return [network.location_of(peer.process, peer.hint) for peer in network.live_peers()]

    def peer_status(self, listener: Callable[..., Any] | Coro[Any], busy: bool = False) -> int:
        """Tell ``listener`` of every peer that is here, comes or goes, and look for peers from now on; gives 0.

        First it hears of those that are here. Among the peers are programs: only a server has a coroutine ``"discoro_server"``. A
        listener that raises is logged and not called again; a coroutine is told until it ends.

        Args:
            listener: Called as ``listener(name, location, status)`` in the scheduler's thread, or a Coro that gets the three as
                a message; status is 1 (here) or 0 (gone).
            busy: Also tell ``"busy"``, for one that computes and does not answer, and 1 when it answers again.

        Raises:
            TypeError: If ``listener`` is neither.
        """
        if not callable(listener) and not isinstance(listener, Coro):
            raise TypeError(
                f"who hears of peers is a function of (name, location, status) or a Coro, not {listener!r}"
            )
        network = self.network
        network.call(lambda: network.status.add(listener, busy))
        network.call(lambda: network.task(self._look_for_peers(), "look for peers"))
        return 0

    async def _look_for_peers(self) -> None:
        network = self.network
        await network.start()
        saying = network.loop.call_later(SAY_WHY_AFTER, self._say_why_alone)
        try:
            await network.meeting.search(lambda: not network.status)
        finally:
            saying.cancel()

    def _say_why_alone(self) -> None:
        """Somebody waits for peers, and there is none yet: the program may be silent for ever."""
        if self.network.status and not self.network.live_peers():
            log.warning("still looking for peers: %s", self.network.meeting.why())

    async def locate(self, name: str, timeout: float | None = None) -> Location | None:
        """Await: find the peer scheduler of a name. A cancelled wait leaves nothing behind.

        Args:
            name: Its name; the servers of a node are ``NODE-1``, ``NODE-2`` ...
            timeout: Seconds to look; None: until there is one.

        Returns:
            Its location; None after ``timeout`` seconds.
        """
        self.check_thread("locate")
        check_name(name)
        check_timeout(timeout)
        if name == self.name:
            return self.location
        network = self.network
        found: asyncio.Future[Location] = network.loop.create_future()

        def look(peer_name: str, location: Location, status: int | str) -> None:
            if peer_name == name and status == 1 and not found.done():
                found.set_result(location)

        await network.start()
        network.status.add(look, busy=False)
        searching = network.task(network.meeting.search(found.done), f"look for {name}")
        saying = network.loop.call_later(
            SAY_WHY_AFTER,
            lambda: log.warning("still looking for peer %r: %s", name, network.meeting.why()),
        )
        try:
            return await found_within(timeout, found)
        finally:
            saying.cancel()
            searching.cancel()
            network.status.remove(look)

    async def peer(
        self,
        where: str | Location,
        udp_port: int | None = None,
        tcp_port: int | None = None,
        timeout: float | None = 10.0,
    ) -> int:
        """Await: add a peer by hand, where discovery does not reach; gives 0 once there is a session.

        Args:
            where: Host name or address, or a Location. The address given is the one that is dialled, and redialled.
            udp_port: Ask that machine by UDP who is there, when no TCP port is known.
            tcp_port: Port that the peer listens on.
            timeout: Seconds to wait for an answer; None: without end.

        Raises:
            PeerUnreachable: If nobody answers there; nothing was sent.
            AuthenticationFailed: If the secret differs there; nothing was sent.
            WrongCluster, PeerBusy, ProtocolVersionMismatch: If it answers, and does not let us in; the text says why.
            TimeoutError: If there is no answer in time.
        """
        self.check_thread("peer")
        network = self.network
        for option, number in (("udp_port", udp_port), ("tcp_port", tcp_port)):
            if number is not None and (type(number) is not int or not 0 <= number <= 65535):
                raise ValueError(f"{option} is a number from 0 to 65535, not {number!r}")
        if isinstance(where, Location):
            host, port = where.addr, tcp_port or where.port
        elif isinstance(where, str):
            location = Location.parse(where, tcp_port or 0)
            host, port = location.addr, location.port
        else:
            raise TypeError(f"a peer is a host name, an address or a Location, not {where!r}")
        if isinstance(where, Location) and where.id == network.process:
            return 0
        asked = udp_port or network.options.udp_port

        def silent() -> str:
            if port:
                return f"{format_address(host, port)} has not answered after {timeout} s"
            why = network.meeting.why()
            return f"nobody at {host} has become a peer after {timeout} s (UDP port {asked}): {why}"

        async with within(timeout, silent):
            if port:
                await network.dial(host, port, None, given=True)
            else:
                await network.start()
                await network.meeting.meet_host(host, asked)
        return 0

    async def send_file(
        self,
        location: Location | Coro[Any],
        path: str | os.PathLike[str],
        dir: str | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Await: send a file into a peer's ``dest_path``; gives 0, also when the same content is there already.

        It is written beside its place and renamed when it is whole: there is never a half file. One that is written to while it
        is sent is refused. A cancelled wait ends the transfer.

        Args:
            location: The peer, or a coroutine there.
            path: The file here; its last part is its name there.
            dir: Folder below the peer's ``dest_path``; made if it is not there.
            overwrite: Whether it may replace other content under that name.
            timeout: Seconds for all of it; None: without end.

        Raises:
            FileRefused: If the peer does not take it, or it cannot be read here or has changed meanwhile: the text says why.
            PeerError: If the peer cannot be reached, or is lost meanwhile.
            TimeoutError: After ``timeout`` seconds; the file is not there.
        """
        self.check_thread("send_file")
        late = f"{path} is not at {location} after {timeout} s; nothing of it is"
        async with within(timeout, lambda: late):
            await self.network.files.send(location, os.fspath(path), dir, overwrite)
        return 0

    async def del_file(
        self,
        location: Location | Coro[Any],
        path: str | os.PathLike[str],
        dir: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Await: remove a file below a peer's ``dest_path``; gives 0.

        Args:
            location: The peer, or a coroutine there.
            path: Its name there.
            dir: Folder below the peer's ``dest_path``.
            timeout: Seconds for all of it; None: without end.

        Raises:
            FileRefused: If it is not there, or a computation holds it.
            PeerError: If the peer cannot be reached, or is lost meanwhile.
            TimeoutError: After ``timeout`` seconds; the file may be removed.
        """
        self.check_thread("del_file")
        late = f"{location} has not said after {timeout} s whether {path} is removed"
        async with within(timeout, lambda: late):
            await self.network.files.delete(location, os.fspath(path), dir)
        return 0

    async def ping(self, where: Location | Coro[Any], timeout: float | None = 2) -> int:
        """Await: ask a peer for a sign of life; gives 0, or -1 when there is none in time: it computes, or is gone.

        Args:
            where: The peer, or a coroutine there.
            timeout: Seconds to wait; None: without end.

        Raises:
            PeerError: If there is no session with it, and none can be made.
        """
        self.check_thread("ping")
        check_timeout(timeout)
        peer = await self.network.peer_at(where)
        assert peer.session is not None
        return 0 if await peer.session.ping(timeout) else -1


AsynCoro = Scheduler
registry.provide(Scheduler)

__all__ = ["AsynCoro", "Coro", "Scheduler"]

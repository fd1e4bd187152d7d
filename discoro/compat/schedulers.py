"""AsynCoro and Pycos: one object per scheduler, whose calls give codes.

It stands beside a :class:`discoro.Scheduler`; the first one constructed is the one, as it was. Given any option it listens at
once, as old programs expect to be found; without one, when something is registered or peers are wanted.
"""

from __future__ import annotations

import asyncio
import atexit
import difflib
import inspect
import logging
import os
import socket
import threading
import weakref
from bisect import insort
from collections.abc import Callable
from typing import Any, ClassVar

from discoro.compat.coros import Family
from discoro.compat.inloop import in_loop
from discoro.compat.places import PeerStatus
from discoro.compat.start import home, is_there, received
from discoro.coro import Coro
from discoro.errors import DiscoroError
from discoro.schedulers import Scheduler
from discoro.transport.addresses import Location as _Location
from discoro.transport.secret import Secret

log = logging.getLogger("discoro.compat")

MSG_TIMEOUT = 10.0
"""Seconds that a call to another process may take where none are given."""


class OneOfAKind(type):
    """Makes a call of the class give the scheduler there is, or construct it."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """The scheduler there is; one with these options where there is none."""
        cls._check_names(kwargs)
        options = cls.options(*args, **kwargs)  # type: ignore[attr-defined]  # a Facade
        there = is_there()
        native = home(options)
        if there:
            cls._tell_ignored(native, options)
        return facade(cls, native)

    def _check_names(cls, given: dict[str, Any]) -> None:
        """Refuse an option that there is not, with the name that may have been meant."""
        known = list(inspect.signature(cls.options).parameters)  # type: ignore[attr-defined]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"; {near[0]!r} may have been meant" if near else ""
                raise TypeError(
                    f"{cls.__name__} has no option {name!r}{meant}. It has: {', '.join(known)}"
                )

    def _tell_ignored(cls, native: Scheduler, options: dict[str, Any]) -> None:
        """Say which of these options mean nothing, because another construction, or a coroutine, was first."""
        have = native.network.options
        ignored = [
            name
            for name in ("name", "udp_port", "tcp_port", "ext_ip_addr", "certfile", "max_file_size")
            if options[name] and options[name] != getattr(have, name)
        ]
        secret = options["secret"]
        if secret and (have.secret is None or have.secret.prs != Secret(secret).prs):
            ignored.append("secret")
        if ignored:
            log.warning(
                "%s: %s without effect: the scheduler %r was there before, and its options stay. "
                "Construct it with them before the first coroutine",
                cls.__name__,
                ", ".join(ignored),
                native.name,
            )


_facades: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def facade(cls: Any, native: Scheduler) -> Any:
    """The object that stands beside a scheduler."""
    with _lock:
        found = _facades.get(native)
        if found is None:
            found = _facades[native] = object.__new__(cls)
            found._begin(native)
        return found


class Facade(metaclass=OneOfAKind):
    """What AsynCoro and Pycos have in common."""

    family: ClassVar[Family]

    _native: Scheduler

    def _begin(self, native: Scheduler) -> None:
        self._native = native
        self._listener: Any = None
        self._at_exit: list[tuple[Any, int, Callable[..., Any], Any, Any]] = []
        self._count = 0

    @classmethod
    def options(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The options of :class:`discoro.Scheduler` for those of old; each family has its own order."""
        raise NotImplementedError

    @classmethod
    def translated(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The same, by name."""
        asked = {name: value for name, value in given.items() if value not in (None, 0, "", False)}
        listens = bool(asked) or given.get("tcp_port") is not None
        hosts = asked.get("node") or asked.get("host")
        outside = asked.get("ext_ip_addr") or asked.get("ext_host")
        return {
            "udp_port": asked.get("udp_port", 0),
            "tcp_port": asked.get("tcp_port", 0) if listens else None,
            "node": hosts,
            "ext_ip_addr": outside[0] if isinstance(outside, list | tuple) else outside,
            "name": asked.get("name"),
            "secret": asked.get("secret"),
            "certfile": asked.get("certfile"),
            "keyfile": asked.get("keyfile"),
            "dest_path": asked.get("dest_path") or received(),
            "max_file_size": asked.get("max_file_size"),
        }

    @classmethod
    def instance(cls, *args: Any, **kwargs: Any) -> Any:
        """The scheduler there is; constructed with these options where there is none."""
        return cls(*args, **kwargs)

    @classmethod
    def scheduler(cls) -> Any:
        """The scheduler there is."""
        return cls()

    @staticmethod
    def cur_coro(scheduler: Any = None) -> Any:
        """The coroutine that runs this code, or None."""
        return Scheduler.cur_coro()

    cur_task = cur_coro

    # --- who and where

    @property
    def name(self) -> str:
        """Name by which peers find this scheduler."""
        return self._native.name

    @property
    def location(self) -> _Location:
        """Where this scheduler is."""
        return self._native.location

    @property
    def locations(self) -> list[_Location]:
        """Where this scheduler can be reached."""
        network = self._native.network
        if not network.addresses:
            return [self.location]
        return [
            _Location(host, port, self.name, network.process) for host, port in network.addresses
        ]

    def __repr__(self) -> str:
        return str(self.location)

    # --- files

    @property
    def dest_path(self) -> str:
        """The folder for files that others send; it is there."""
        options = self._native.network.options
        path = options.dest_path if options.workdir is None else str(options.workdir.path)
        if path is None:
            path = received()
            self.dest_path = path
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    @dest_path.setter
    def dest_path(self, path: str) -> None:
        network = self._native.network
        if network.options.workdir is not None:
            log.warning("a server keeps its folder %s", network.options.workdir.path)
            return
        network.options = network.options.but(dest_path=os.path.abspath(path))
        network.files._workdir = None  # the next file opens the new one

    @property
    def dest_path_prefix(self) -> str:
        """The same, under its name of 2014."""
        return self.dest_path

    @property
    def max_file_size(self) -> int:
        """Longest file that is taken, in bytes."""
        return self._native.network.limits.max_file_size

    async def send_file(
        self,
        location: Any,
        file: str,
        dir: str | None = None,
        overwrite: bool = False,
        timeout: float | None = MSG_TIMEOUT,
    ) -> int:
        """Send a file: 0, also when the same is there already; else -1."""
        return await self._code(self._native.send_file(location, file, dir, overwrite, timeout))

    async def del_file(
        self,
        location: Any,
        file: str,
        dir: str | None = None,
        timeout: float | None = MSG_TIMEOUT,
    ) -> int:
        """Remove a file that was sent: 0 or -1."""
        name = os.path.basename(file)
        return await self._code(self._native.del_file(location, name, dir, timeout))

    # --- peers

    async def locate(self, name: str, timeout: float | None = None) -> _Location | None:
        """Where the peer scheduler of that name is; None when there is none in time."""
        try:
            return await self._native.locate(name, timeout)
        except DiscoroError as error:
            log.warning("locate %s: %s", name, error)
            return None

    async def peer(
        self,
        loc: Any = None,
        udp_port: int = 0,
        tcp_port: int = 0,
        stream_send: bool = False,
        broadcast: bool = False,
        relay: bool = False,
        *,
        node: Any = None,
        coro: Any = None,
        task: Any = None,
    ) -> int:
        """Add a peer: 0; -1 when it has no address or, with its TCP port given, does not answer.

        Without a TCP port its machine is asked, in the background. ``stream_send``, ``broadcast`` and ``relay`` are taken,
        and mean nothing: there is one connection, whatever it carries.
        """
        where = loc if loc is not None else node
        if isinstance(where, _Location):
            tcp_port = tcp_port or where.port
            where = where.addr
        try:
            socket.inet_aton(where)
        except (OSError, TypeError):
            if not isinstance(where, str):
                return -1
            try:
                await asyncio.get_running_loop().getaddrinfo(where, None)
            except OSError as error:
                log.warning("peer %s: %s", where, error)
                return -1
        if tcp_port:
            return await self._code(self._native.peer(where, tcp_port=tcp_port))
        asking = self._native.peer(where, udp_port=udp_port or None, timeout=MSG_TIMEOUT)
        self._native.network.task(self._code(asking), f"look for peers at {where}")
        return 0

    def peer_status(self, listener: Any) -> int:
        """Tell a callable ``(name, location, status)``, or send a coroutine PeerStatus messages, of peers; None: no more."""
        network = self._native.network
        if self._listener is not None:
            network.call(network.status.remove, self._listener)
            self._listener = None
        if listener is None:
            return 0
        if not isinstance(listener, Coro) and not callable(listener):
            log.warning("%r is no listener for peers", listener)
            return -1

        def tell(name: str, location: _Location, status: int) -> None:
            if isinstance(listener, Coro):
                listener.send(PeerStatus(location, name, status))
            else:
                listener(name, location, status)

        self._listener = tell
        self._native.peer_status(tell)
        network.call(lambda: network.task(network.publish(), "listen"))
        return 0

    def peers(self) -> list[_Location]:
        """Where the peers are."""
        return self._native.peers()

    async def close_peer(self, location: _Location, timeout: float | None = MSG_TIMEOUT) -> int:
        """Say goodbye to a peer: 0, or -1 when there is none. It comes back with the next message to it."""
        for peer in self._native.network.live_peers():
            if self._native.network.location_of(peer.process, peer.hint) == location:
                endpoint = await self._native.network.start()
                assert peer.session is not None
                await endpoint.close_session(peer.session)
                return 0
        return -1

    def discover_peers(self, port: int | None = None) -> int:
        """Look for peers: 0."""
        network = self._native.network
        network.call(lambda: network.task(self._look(), "look for peers"))
        return 0

    async def _look(self) -> None:
        network = self._native.network
        await network.start()
        end = network.loop.time() + MSG_TIMEOUT
        await network.meeting.search(lambda: network.loop.time() > end)

    # --- the end

    def join(self, show_running: bool = False, timeout: float | None = None) -> bool:
        """Wait until every coroutine that is no daemon has ended; False at the timeout. From an ordinary thread."""
        native = self._native
        done = threading.Event()

        async def wait() -> None:
            while native.waited_for():
                await asyncio.wait(native.waited_for())
            done.set()

        if not native.is_open:
            return True
        if native.thread_id == threading.get_ident():
            native.refuse_blocking("join")
        if show_running:
            for coro in in_loop(native, native.waited_for):
                print(f"waiting for {coro!r}")
        waiting = asyncio.run_coroutine_threadsafe(wait(), native.loop)
        if done.wait(timeout):
            return True
        waiting.cancel()
        return False

    def finish(self) -> None:
        """Wait for every coroutine that is no daemon, and close."""
        self._native.close()
        self._run_at_exit()

    def terminate(self) -> None:
        """End every coroutine, and close."""
        self._native.close(cancel=True)
        self._run_at_exit()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._native.is_open

    def atexit(self, priority: Any, func: Any = None, *args: Any, **kwargs: Any) -> None:
        """Call ``func(*args, **kwargs)`` after the scheduler has ended, those of lower priority last.

        Programs of 2014 give no priority: ``atexit(func, *args)``.
        """
        if callable(priority):
            args = args if func is None else (func, *args)
            priority, func = 10, priority
        if not self._at_exit:
            atexit.register(self._run_at_exit)
        self._count += 1
        insort(
            self._at_exit, (-priority, self._count, func, args, kwargs), key=lambda item: item[:2]
        )

    def drop_atexit(self, priority: int, func: Callable[..., Any]) -> None:
        """Take :meth:`atexit` back."""
        self._at_exit = [item for item in self._at_exit if (item[0], item[2]) != (-priority, func)]

    def _run_at_exit(self) -> None:
        self._native.close()
        todo, self._at_exit = self._at_exit, []
        for _, _, func, args, kwargs in todo:
            try:
                func(*args, **kwargs)
            except Exception:
                log.exception("%r, called at the end, failed", func)

    async def _code(self, work: Any) -> int:
        try:
            return int(await work)
        except (DiscoroError, TimeoutError, OSError, ValueError, TypeError) as error:
            log.warning("%s", error)
            return -1

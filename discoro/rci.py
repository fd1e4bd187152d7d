"""RCI: a function that other processes may call; each call is a coroutine here, and a reference there.

::

    here    rci = RCI(function); rci.register()
    there   rci = await RCI.locate("function"); coro = await rci(1, b=2); result = await coro

No code travels: the function is the one registered. A call is one request, :class:`~discoro.messages.CallService`, that
names the service and the number under which its coroutine is known; its end comes back as the end of any run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from discoro import registry
from discoro.codeplace import names_for
from discoro.coro import Coro
from discoro.errors import DiscoroError, RunRefused
from discoro.localcoro import LocalCoro
from discoro.messages import CallService, Located, Message
from discoro.outcomes import RETURNED, encode_outcome
from discoro.reference import Reference
from discoro.remotecoro import RemoteCoro
from discoro.scheduler import default
from discoro.scheduler.checks import check_name
from discoro.scheduler.entry import is_entry, name_of
from discoro.scheduler.errors import NotACoroutine
from discoro.scheduler.outcome import Outcome, Returned
from discoro.shipping.values import dumps, loads
from discoro.transport.addresses import Location
from discoro.transport.frames import Kind

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.schedulers import Scheduler

T = TypeVar("T")

log = logging.getLogger("discoro.rci")


class RCI(Generic[T]):
    """A service: a generator function or coroutine function that other processes call by its name.

    No code travels. Each call is a coroutine in the process of the service, and a reference for the caller::

        here    RCI(add).register()
        there   add = await RCI.locate("add"); coro = await add(1, b=2); result = await coro

    Args:
        func: The function; a method will do. A parameter ``coro`` gets the coroutine of the call.
        name: Name under which :meth:`register` enters it; default: that of the function.
        coro_class: What its coroutines are; for the layer for old programs.

    Raises:
        NotACoroutine: If ``func`` is something else; it is a TypeError.
    """

    __module__ = "discoro"

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        *,
        coro_class: type[LocalCoro[Any]] = LocalCoro,
    ) -> None:
        if not is_entry(func):
            raise NotACoroutine(func)
        self._func = func
        self._coro_class = coro_class
        if name is not None:
            check_name(name, "the name of a service")
        self.name = name_of(func) if name is None else name
        self._scheduler: Scheduler = LocalCoro.home()
        # Its coroutines belong to the computation, if any, whose code made the service.
        inside = threading.get_ident() == self._scheduler.thread_id
        self._context = copy_context() if inside else self._scheduler.context.copy()
        self._number = 0
        self._monitors: list[Coro[Any]] = []
        self._running: set[Coro[Any]] = set()
        self._closed = False
        _answer_calls(self.network)

    def __repr__(self) -> str:
        return f"<discoro.RCI {self.name} at {self.location}>"

    @property
    def number(self) -> int:
        """Its number, unique in its process."""
        if not self._number:
            self._number = self._scheduler.next_number()
        return self._number

    @property
    def network(self) -> Network:
        """The network that carries calls to it."""
        return self._scheduler.network

    @property
    def location(self) -> Location:
        """Where its coroutines run."""
        return self.network.location

    # --- names

    def register(self, name: str | None = None) -> int:
        """Let others find and call it under ``name`` (default: its own); gives 0.

        Raises:
            NameTaken: If another service of this process has that name; it keeps it.
        """
        self._check("register")
        self._scheduler.register("rci", self.name if name is None else name, self)
        return 0

    def unregister(self, name: str | None = None) -> int:
        """Take :meth:`register`, with the same ``name``, back; gives 0. References that others have go on working."""
        self._scheduler.check_thread("unregister")
        self._scheduler.unregister("rci", self.name if name is None else name, self)
        return 0

    @staticmethod
    async def locate(
        name: str, location: Location | None = None, timeout: float | None = None
    ) -> RCI[Any] | None:
        """Await: find the service registered under a name, here or in any process that is there, or comes.

        A cancelled wait leaves nothing behind.

        Args:
            name: The name.
            location: Look only there; None: here first, then everywhere, and the first to answer is given.
            timeout: Seconds to look; None: until there is one.

        Returns:
            The service, or a reference to it; None after ``timeout`` seconds.

        Raises:
            PeerError: If ``location`` refuses us; the text says why. One where nobody answers is tried again.
        """
        found = await default.awaited("locate").find("rci", name, location, timeout)
        if isinstance(found, RemoteCoro):
            network, hint = found.network, found.hint
            return RemoteRCI(network, found.process, found.number, found.name, hint)
        return cast("RCI[Any] | None", found)

    # --- calls

    async def __call__(self, *args: Any, **kwargs: Any) -> Coro[T]:
        """Await: start a coroutine of it where it is registered; gives a reference to that, a :class:`Coro`.

        It ends with the caller's session. Cancelling the wait cancels the start.

        Args:
            args: Positional arguments of the function.
            kwargs: Its keyword arguments.

        Raises:
            RunRefused: If the arguments do not fit, or there is no room; it has not started.
            NotPicklable: If an argument cannot be sent.
            PeerLost: If its process is gone; the coroutine may have run.
        """
        self._check("a call of the service")
        coro = self._start(args, kwargs, None)
        await self._watch(coro)
        return coro

    async def monitor(self, coro: Coro[Any]) -> int:
        """Await: let ``coro`` get one :class:`MonitorException` message for the end of each coroutine started from now on; gives 0.

        Of a service of this process these are all its coroutines, whoever calls; of a reference, those that are
        called through it.

        Raises:
            TypeError: If ``coro`` is no coroutine.
        """
        if not isinstance(coro, Coro):
            raise TypeError(f"a monitor is a coroutine, not {coro!r}")
        self.add_monitor(coro)
        return 0

    def add_monitor(self, coro: Coro[Any]) -> None:
        """Do what :meth:`monitor` does; there is nothing to wait for."""
        if coro not in self._monitors:
            self._monitors.append(coro)

    def close(self) -> int:
        """Terminate the coroutines called through this object, and take no further calls; gives 0."""
        self._scheduler.check_thread("close")
        self._closed = True
        for coro in list(self._running):
            coro.terminate()
        for kind, name in self._scheduler.names.of(self):
            self._scheduler.unregister(kind, name, self)
        self._scheduler.by_number.pop(self._number, None)
        return 0

    def _check(self, call: str) -> None:
        self._scheduler.check_thread(call)
        if self._closed:
            raise DiscoroError(f"the service {self.name!r} was closed")

    def _start(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], number: int | None
    ) -> LocalCoro[T]:
        limit = self.network.limits.max_runs
        if len(self._running) >= limit:
            raise RunRefused(f"{self.name}: {limit} of its coroutines run already")
        try:
            coro: LocalCoro[T] = self._coro_class._start(
                self._scheduler,
                self._func,
                args,
                kwargs,
                number=number,
                name=self.name,
                context=self._context.copy(),
            )
        except TypeError as error:
            raise RunRefused(f"{self.name}: {error}") from error
        self._note(coro)
        self._scheduler.begin(coro)
        return coro

    def _note(self, coro: LocalCoro[Any]) -> None:
        self._running.add(coro)
        coro.watch(self, lambda ended, outcome: self._running.discard(ended))

    async def _watch(self, coro: Coro[Any]) -> None:
        """Tell each monitor when ``coro`` ends."""
        for monitor in list(self._monitors):
            if not monitor.is_alive():
                self._monitors.remove(monitor)
                continue
            try:
                await monitor.monitor(coro)
            except DiscoroError as error:
                log.warning("%r cannot monitor %r: %s", monitor, coro, error)

    def called(
        self, peer: Peer, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coro[T]:
        """Start the coroutine of a call that came from a peer.

        Raises:
            RunRefused: If the arguments do not fit, or there is no room.
        """
        self._check("a call of the service")
        coro = self._start(args, kwargs, number)
        coro.watch("run", partial(_tell, self.network, peer))
        if self._monitors:
            self.network.task(self._watch(coro), f"monitor {self.name}")
        return coro

    def __reduce__(self) -> tuple[Any, ...]:
        network = self.network
        number = self._scheduler.export(self)
        return resolve_rci, (network.process, number, self.name, *network.address())


class RemoteRCI(Reference, RCI[T]):
    """A reference to a service of another process."""

    __module__ = "discoro"

    def __init__(
        self,
        network: Network | None,
        process: bytes,
        number: int,
        name: str,
        hint: tuple[str, int] | None,
    ) -> None:
        Reference.__init__(self, network, process, number, name, hint)
        self._monitors = []
        self._running = set()
        self._closed = False

    def register(self, name: str | None = None) -> int:
        """Refuse: a service is registered where it is."""
        raise DiscoroError(f"{self.name!r} is a service of {self.location}: it is registered there")

    def unregister(self, name: str | None = None) -> int:
        """Refuse: a service is registered where it is."""
        return self.register(name)

    async def __call__(self, *args: Any, **kwargs: Any) -> Coro[T]:
        """Start a coroutine of it in its process; see :meth:`RCI.__call__`."""
        network = self.network
        network.check_thread("a call of the service")
        if self._closed:
            raise DiscoroError(f"this reference to the service {self.name!r} was closed")
        peer = self.peer()
        await peer.wait_open()
        number = peer.next_run()
        call = CallService(self.number, number, dumps((args, kwargs), self.name))
        run: RemoteCoro[T] = RemoteCoro(network, peer.process, number, self.name, peer.hint)
        peer.runs[number] = run
        try:
            await network.requests.ask(peer, call)
        except BaseException as error:
            peer.runs.pop(number, None)
            if isinstance(error, asyncio.CancelledError) and peer.ended is None:
                peer.terminate(number)
            raise
        self._running = {one for one in self._running if one.is_alive()}
        self._running.add(run)
        await self._watch(run)
        return run

    def close(self) -> int:
        """Terminate the coroutines called through this reference, and make no further calls; gives 0."""
        self.network.check_thread("close")
        self._closed = True
        for coro in self._running:
            if coro.is_alive():
                coro.terminate()
        self._running.clear()
        return 0


def resolve_rci(process: bytes, number: int, name: str, host: str, port: int) -> RCI[Any]:
    """The service (process, number): itself, if it lives here, else a reference.

    Pickles name this function: its name and arguments are part of the protocol.
    """
    home = registry.home(process)
    if home is not None:
        service = home.scheduler.by_number.get(number)
        if isinstance(service, RCI):
            return service
    return RemoteRCI(home, process, number, name, (host, port) if port else None)


RemoteRCI.resolve = staticmethod(resolve_rci)


# --- where services live


def _answer_calls(network: Network) -> None:
    """Let a process that has a service answer the calls of others."""
    if not network.requests.answers(CallService):
        network.requests.on(CallService, _Calls(network).came)


class _Calls:
    """The calls that other processes make here."""

    def __init__(self, network: Network) -> None:
        self._network = network
        # The coroutines of each caller: they end with its session.
        self._of: dict[Peer, set[Coro[Any]]] = {}

    def came(self, peer: Peer, call: CallService) -> Message:
        """Start the coroutine of a call; the answer leaves before the coroutine has run."""
        service = self._network.scheduler.by_number.get(call.number)
        if not isinstance(service, RCI):
            raise DiscoroError("there is no such service (any more)")
        args, kwargs = loads(call.arguments, names_for(service))
        peer.check_run(call.run)
        coro = service.called(peer, call.run, args, kwargs)
        running = self._of.get(peer)
        if running is None:
            running = self._of[peer] = set()
            self._when_lost(peer)
        running.add(coro)
        cast("LocalCoro[Any]", coro).watch("caller", lambda ended, outcome: running.discard(ended))
        return Located(call.run, service.name)

    def _when_lost(self, peer: Peer) -> None:
        """End a caller's coroutines with its session: a receipt that never comes fails at that moment."""
        _, lost = peer.expect_receipt()

        def end(receipt: asyncio.Future[None]) -> None:
            if not receipt.cancelled():
                receipt.exception()
            for coro in list(self._of.pop(peer, ())):
                coro.terminate()

        lost.add_done_callback(end)


def _tell(network: Network, peer: Peer, coro: Any, outcome: Outcome) -> None:
    """The coroutine of a call has ended: tell the caller, and remember it for later questions."""
    network.keep_outcome(coro.number, outcome)
    if peer.ended is not None:
        return
    if isinstance(outcome, Returned) and network.big.wants(outcome.value):
        network.big.post_result(peer, coro.number, outcome.value)
        return
    code, payload = encode_outcome(outcome)
    if code == RETURNED:
        peer.post(Kind.RESULT, coro.number, 0, payload)
    else:
        peer.post(Kind.OUTCOME, coro.number, code, payload)

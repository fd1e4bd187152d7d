"""discoro_server: carries out what :mod:`discoro.hosting` decides. One per process that hosts computations.

Setup brings code and files here and calls the client's function; then :mod:`discoro.hostedruns` runs it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from discoro.codeplace import code_space
from discoro.errors import (
    ComputationClosed,
    DiscoroError,
    PythonMismatch,
    SetupFailed,
    SetupRefused,
)
from discoro.hostedruns import HostedRuns, Place
from discoro.hosting import Hosted, Hosting
from discoro.localcoro import LocalCoro
from discoro.logs import in_words
from discoro.messages import (
    Blob,
    CloseComputation,
    Done,
    Message,
    Offer,
    PingComputation,
    Ready,
    Setup,
    Wanted,
)
from discoro.node.console import speaker
from discoro.peers.files import Listed
from discoro.scheduler.entry import is_entry
from discoro.shipping.bundle import Bundle
from discoro.shipping.codespace import CodeSpace
from discoro.shipping.values import loads
from discoro.transport.frames import Kind

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.server")

# A coroutine that was asked to end has so long before it is given up, in seconds.
END_TIMEOUT = 10.0

_REFUSED = 3
# A plain number: see the peer's.
_RESULT = int(Kind.RESULT)


async def discoro_server(name: str = "discoro_server", coro: Any = None) -> None:
    """Host computations in this process, until terminated: ``Coro(discoro_server)`` makes a server of a program.

    Such a server works in the folder where it was started, and takes no files. When it ends, so do the computations.

    Args:
        name: Name under which the coroutine is registered; clients say ``Coro.locate("discoro_server", location)``.
        coro: Filled by the scheduler.

    Raises:
        DiscoroError: If this process hosts computations already.
    """
    network = cast("Network", coro.scheduler.elsewhere)
    if network.server is not None:
        raise DiscoroError("this process hosts computations already: one discoro_server is enough")
    server = network.server = Server(network)
    coro.register(name)
    coro.set_daemon()
    try:
        while True:
            await (
                coro.suspend()
            )  # again: whoever resumes it by mistake must not end the work of all
    finally:
        network.server = None
        await server.close()


class Server:
    """What hosts computations in one process."""

    def __init__(self, network: Network) -> None:
        self._network = network
        limits = network.limits
        self._hosting = Hosting(max_runs=limits.max_runs, max_computations=limits.max_computations)
        # By computation: equal code of two clients has one digest, and each takes its own away.
        self._bundles: dict[bytes, bytes] = {}
        self.runs = HostedRuns(network, self._hosting, self._discard_later)
        self._places = self.runs.places
        requests = network.requests
        if not requests.answers(Offer):
            requests.on(Offer, _to_server(network, "_offer"))
            requests.on(Blob, _to_server(network, "_blob"))
            requests.on(Setup, _to_server(network, "_setup"))
            requests.on(CloseComputation, _to_server(network, "_close"))
            requests.on(PingComputation, _to_server(network, "_ping"))

    def counts(self) -> dict[str, int]:
        """How many computations and runs there are."""
        return self._hosting.counts()

    def computations(self) -> list[Hosted]:
        """The computations, for people to look at."""
        return list(self._hosting)

    # --- setup

    async def _offer(self, peer: Peer, offer: Offer) -> Message:
        if self._hosting.draining:
            raise SetupRefused("this server is about to end and takes no new computations")
        ours = self._network.options.python
        if offer.python != ours:
            raise PythonMismatch(ours, offer.python)
        files = _listed(offer.files)
        hosted = self._hosting.offer(
            offer.computation, peer.process, offer.name, offer.digest, files, offer.cleanup
        )
        hosted.since = hosted.since or time.time()
        if hosted.handle:
            return Wanted([])
        try:
            wanted: list[Any] = []
            if files:
                title = f"{hosted.name} of {peer.name}"
                wanted += await self._network.files.admit(hosted.computation.hex(), title, files)
            if offer.bundle is not None:
                self._bundles[offer.computation] = offer.bundle
            elif await self._network.files.missing(offer.digest, offer.size):
                wanted.append(offer.digest)
        except BaseException:
            await self._discard(hosted)
            raise
        return Wanted(wanted)

    async def _blob(self, peer: Peer, blob: Blob) -> Message:
        self._hosting.find(blob.computation, peer.process)
        return Done(1 if await self._network.files.receive(peer, blob) else 0)

    async def _setup(self, peer: Peer, setup: Setup) -> Message:
        hosted = self._hosting.find(setup.computation, peer.process)
        if hosted.handle:
            return Ready(hosted.handle)
        self._hosting.begin(hosted)
        try:
            await self._make_ready(hosted)
            if setup.func is not None:
                await self._call(hosted, setup.func, "setup")
            seconds = time.time() - hosted.since
            log.info("%s of %s: set up in %.2f s", hosted.name, peer.name, seconds)
            return Ready(self._hosting.ready(hosted))
        except BaseException as error:
            log.info("%s of %s: set-up failed: %s", hosted.name, peer.name, in_words(error))
            for number in self._hosting.close(hosted):
                self._terminate(number)
            await self._discard(hosted)
            raise

    async def _make_ready(self, hosted: Hosted) -> None:
        data = self._bundles.pop(hosted.computation, None)
        if data is None:
            data = await self._network.files.read(hosted.digest)
        bundle = Bundle.decode(data, hosted.computation)
        if hosted.files:
            await self._network.files.place(hosted.computation.hex(), hosted.files)
        space = CodeSpace(bundle, server=self._network.scheduler.name)
        context = self._network.scheduler.context.copy()
        context.run(code_space.set, space)
        context.run(speaker.set, hosted.name)
        self._places[hosted.computation] = Place(space, context)
        context.copy().run(space.load)

    async def _call(self, hosted: Hosted, call: bytes, when: str) -> None:
        """Call the client's function: a plain one, or as a coroutine of the computation."""
        func, args, kwargs = loads(call, self._places[hosted.computation].space)
        what, name = getattr(func, "__name__", func), f"{when} of {hosted.name}"
        scheduler = self._network.scheduler
        coro: LocalCoro[Any] | None = None
        if not is_entry(func):
            func, args, kwargs = _call_plainly, (func, args, kwargs), {}
        try:
            coro = LocalCoro._start(
                scheduler, func, args, kwargs, name=name, context=self._context(hosted)
            )
            scheduler.begin(coro)
            await coro
        except DiscoroError:
            raise
        except Exception as error:
            failed = SetupFailed(
                f"{what}() raised at {when} of {hosted.name} at "
                f"{self._network.scheduler.name}: {type(error).__name__}: {error}"
            )
            raise failed from error
        finally:
            if coro is not None and not coro.done():
                coro.terminate()

    def _context(self, hosted: Hosted) -> Context:
        return self._places[hosted.computation].context.copy()

    def _ping(self, peer: Peer, ping: PingComputation) -> Message:
        try:
            return Done(1 if self._hosting.find(ping.computation, peer.process).handle else 0)
        except ComputationClosed:
            return Done(0)

    # --- close

    async def _close(self, peer: Peer, close: CloseComputation) -> Message:
        hosted = self._hosting.find(close.computation, peer.process)
        numbers = self._hosting.close(hosted)
        try:
            await self._end_runs(hosted, numbers)
            if close.func is not None:
                await self._call(hosted, close.func, "close")
        finally:
            if self._hosting.abandon(hosted):
                await self._discard(hosted)
        log.info("%s of %s: closed", hosted.name, peer.name)
        return Done(0)

    async def _end_runs(self, hosted: Hosted, numbers: list[int]) -> None:
        """Terminate coroutines and wait for their end; what does not end in time is given up and said."""
        for number in numbers:
            self._terminate(number)
        coros = [self._network.scheduler.by_number.get(number) for number in numbers]
        waiting = [coro for coro in coros if isinstance(coro, LocalCoro)]
        if not waiting:
            return
        _, pending = await asyncio.wait(waiting, timeout=END_TIMEOUT)
        for coro in pending:
            log.error(
                "%s was asked to end and did not within %s s; its computation is closed without it",
                coro,
                END_TIMEOUT,
            )
            self._hosting.ended(cast(Any, coro).number)

    def _terminate(self, number: int) -> None:
        coro = self._network.scheduler.by_number.get(number)
        if coro is not None:
            coro.terminate()

    def _discard_later(self, hosted: Hosted) -> None:
        self._network.task(self._discard(hosted), f"close {hosted.name}")

    async def _discard(self, hosted: Hosted) -> None:
        """Remove what a computation has here: its code, and its files where it asked for that."""
        place = self._places.pop(hosted.computation, None)
        self._bundles.pop(hosted.computation, None)
        self._hosting.forget(hosted)
        if place is not None:
            place.space.close()
        if hosted.files:
            await self._network.files.release(hosted.computation.hex(), keep=not hosted.cleanup)

    def peer_lost(self, peer: Peer) -> None:
        """A client is gone: its coroutines end, save the detached, and its computations with them."""
        gone, doomed = self._hosting.owner_lost(peer.process)
        for number in doomed:
            self._terminate(number)
        for hosted in gone:
            kept = len(hosted.runs) - len(set(hosted.runs) & set(doomed))
            more = f"; {kept} detached runs go on" if kept else ""
            log.info("%s of %s: its client is gone, closed%s", hosted.name, peer.name, more)
            if self._hosting.abandon(hosted):
                self._discard_later(hosted)

    async def close(self) -> None:
        """End everything that is hosted here."""
        for hosted in list(self._hosting):
            numbers = self._hosting.close(hosted)
            await self._end_runs(hosted, numbers)
            if hosted.computation in self._places:
                await self._discard(hosted)

    # --- the end of the process

    def drain(self) -> None:
        """Take no new computations and no new runs; what runs here goes on."""
        self._hosting.draining = True

    @property
    def idle(self) -> bool:
        """Whether nothing runs here."""
        return self._hosting.counts()["runs"] == 0


def _listed(files: list[Any]) -> tuple[Listed, ...]:
    """The files of an offer, checked: what came is only known to be a list."""
    listed: list[Listed] = []
    for item in files:
        if type(item) is not list or [type(part) for part in item] != [str, int, bytes, int]:
            raise SetupRefused("an offer lists its files as [name, size, sha256, mode]")
        name, size, sha256, mode = item
        if size < 0 or len(sha256) != 32:
            raise SetupRefused(f"an offer lists {name!r} with {size} bytes")
        listed.append((name, size, sha256, mode))
    return tuple(listed)


async def _call_plainly(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a plain function; one that gives an awaitable is awaited."""
    result = func(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def _to_server(network: Network, method: str) -> Any:
    """A handler that finds the present server, or says that there is none."""

    def handle(peer: Peer, message: Any) -> Any:
        if network.server is None:
            raise ComputationClosed(
                f"{network.scheduler.name} hosts no computations: it runs no discoro_server"
            )
        return getattr(network.server, method)(peer, message)

    return handle

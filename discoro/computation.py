"""Computation: a function with everything it needs, set up at servers and run there."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from discoro.coro import Coro
from discoro.errors import (
    ComputationClosed,
    DiscoroError,
    FileRefused,
    NotACoroutine,
    PeerLost,
    SchedulerClosed,
    WrongThread,
)
from discoro.messages import (
    CloseComputation,
    Done,
    Offer,
    PingComputation,
    Ready,
    Setup,
    Wanted,
)
from discoro.remotecoro import RemoteCoro, Start
from discoro.scheduler import default
from discoro.scheduler.checks import check_timeout
from discoro.scheduler.default import HERE
from discoro.scheduler.entry import is_entry, name_of
from discoro.shipping.collecting import collect
from discoro.shipping.unpicklable import arguments_of
from discoro.shipping.values import dumps, packed_arguments, pickled
from discoro.transport.addresses import Location
from discoro.transport.frames import Kind
from discoro.within import within

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.shipping.bundle import Bundle

log = logging.getLogger("discoro.computation")

P = ParamSpec("P")
T = TypeVar("T")

Where = Coro[Any] | Location

# A bundle up to this length travels inside the offer.
_INLINE = 256 << 10


@dataclass(frozen=True, slots=True)
class _SetUp:
    """A computation at one server.

    Attributes:
        peer: The server.
        target: What run entries name: its handle there, shifted for the bit of detached ones.
        code: Key of the bundle.
    """

    peer: Peer
    target: int
    code: str


class Computation(Generic[P, T]):
    """A generator function or coroutine function, and what it needs, to be run at servers.

    What the function uses of the program's own code (functions, classes, modules beside it) comes along by itself.
    Installed packages do not travel: the server has to have them. The code is collected with the first :meth:`setup`, and then
    kept: after a change make a new Computation.

    Args:
        computation: The function.
        depends: A list of what else to bring: functions, classes, instances (their class is shipped), modules, packages
            (with their data files), and paths of files, which lie in the server's working folder then.
        cleanup: Whether ``close`` removes those files there.

    Raises:
        NotACoroutine: If ``computation`` is something else; it is a TypeError.
        TypeError: If ``depends`` is no list.
    """

    __module__ = "discoro"

    def __init__(
        self,
        computation: Callable[P, Any],
        depends: Iterable[Any] = (),
        cleanup: bool = True,
    ) -> None:
        if not is_entry(computation):
            raise NotACoroutine(computation)
        if isinstance(depends, (str, bytes, os.PathLike)) or not isinstance(depends, Iterable):
            raise TypeError(f"depends is a list: depends=[{depends!r}]")
        self._function = computation
        self._depends = list(depends)
        self._cleanup = cleanup
        self._name = name_of(computation)
        self._arguments = arguments_of(self._name)
        self._bundle: Bundle | None = None
        self._at: dict[bytes, _SetUp] = {}
        self._collecting = asyncio.Lock()
        self._setting_up: dict[bytes, asyncio.Lock] = {}
        self._closed: set[bytes] = set()
        self._detach = False
        self._timeout: float | None = None

    def __repr__(self) -> str:
        return f"<discoro.Computation {self._name} at {len(self._at)} servers>"

    def options(
        self, *, detach: bool | None = None, timeout: float | None = None
    ) -> Computation[P, T]:
        """Give a light copy whose :meth:`run` has these options; it shares everything else, ``setup`` included.

        Args:
            detach: Whether what it runs outlives this client; otherwise it ends with the session.
            timeout: Seconds that ``run`` waits for the start; then it raises TimeoutError and cancels it.
        """
        check_timeout(timeout)
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        if detach is not None:
            copy._detach = detach
        if timeout is not None:
            copy._timeout = timeout
        return copy

    # --- setup and close

    async def setup(
        self,
        peer: Where,
        timeout: float | None = None,
        func: Callable[..., Any] | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> int:
        """Await: transfer the computation to a server; gives 0. Once per server; a second time it gives 0 at once.

        Contents that the server has had before are not sent again. It is closed there by :meth:`close`, and when the session ends. A
        cancelled wait closes it, too.

        Args:
            peer: The server: what ``Coro.locate("discoro_server", ...)`` gives, or a Location.
            timeout: Seconds for all of it; None: without end.
            func: Called at the server with ``args`` and ``kwargs`` before anything runs; a plain function, a generator
                function or a coroutine function. Name it in ``depends`` if it shares globals with the computation.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            NotPicklable: If something that the code needs cannot be sent; the text has the way to it. Nothing was sent.
            MissingCode: If the server lacks modules that the code imports; nothing of it has run there.
            PythonMismatch: If the server runs another version of Python; nothing was loaded.
            FileRefused: If it does not take a file; the text says why, and who holds the name.
            SetupFailed: If a shipped module or ``func`` raised; ``__cause__`` has the traceback there, as text.
            SetupRefused: If it does not take this code; nothing of it has run.
            PeerError: If the server cannot be reached.
            TimeoutError: After ``timeout`` seconds; nothing of it is set up.
        """
        network = self._network("setup")
        _check_call(func, args, kwargs)
        late = f"{self._name} is not set up at {_told(peer)} after {timeout} s; nothing of it is"
        async with within(timeout, lambda: late):
            there = await network.peer_at(peer)
            lock = self._setting_up.setdefault(there.process, asyncio.Lock())
            async with lock:
                known = self._at.get(there.process)
                if known is None or known.peer is not there:
                    handle = await self._set_up(there, func, args, kwargs)
                    assert self._bundle is not None
                    self._at[there.process] = _SetUp(there, handle << 1, self._bundle.key)
                    self._closed.discard(there.process)
        return 0

    async def _set_up(
        self, peer: Peer, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None
    ) -> int:
        bundle = await self._collected()
        requests = peer.network.requests
        encoded = bundle.encode()
        offer = Offer(
            computation=bundle.id,
            name=self._name,
            python=bundle.python,
            digest=bundle.digest,
            size=len(encoded),
            files=[[item.name, item.size, item.sha256, item.mode] for item in bundle.files],
            cleanup=self._cleanup,
            bundle=encoded if len(encoded) <= _INLINE else None,
        )
        call = self._call(func, args, kwargs)
        try:
            wanted = await requests.ask(peer, offer)
            assert isinstance(wanted, Wanted)
            sources: dict[bytes, tuple[Any, int]] = {bundle.digest: ([encoded], len(encoded))}
            sources.update({item.sha256: (item.path, item.size) for item in bundle.files})
            sent = len(offer.bundle or b"")
            names = {item.sha256: item.name for item in bundle.files}
            for digest in wanted.digests:
                try:
                    sent += await peer.network.files.send_blob(
                        peer, bundle.id, digest, *sources[digest]
                    )
                except FileRefused as error:  # the server knows it by its digest alone
                    name = names.get(digest, f"the code of {self._name}")
                    raise FileRefused(name, f"not taken by {peer.name}: {error.reason}") from error
            ready = await requests.ask(peer, Setup(bundle.id, call))
        except asyncio.CancelledError:
            if peer.ended is None:
                notice = CloseComputation(bundle.id, None)
                peer.post(Kind.NOTICE, 0, 0, notice.encode())
            raise
        assert isinstance(ready, Ready)
        log.info("%s: set up at %s, %d bytes of code and files sent", self._name, peer.name, sent)
        return ready.handle

    def _call(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None
    ) -> bytes | None:
        """The function for setup or close with its arguments, as bytes; code that is not in the bundle goes along."""
        if func is None:
            return None
        assert self._bundle is not None
        what = f"{getattr(func, '__name__', func)}() for {self._name}"
        return dumps((func, tuple(args), dict(kwargs or {})), what, self._bundle.key)

    async def _collected(self) -> Bundle:
        if self._bundle is None:
            # Hashing files takes a while; another setup at the same time waits for it.
            async with self._collecting:
                if self._bundle is None:
                    self._bundle = await asyncio.to_thread(collect, self._function, self._depends)
        return self._bundle

    async def close(
        self,
        peer: Where,
        func: Callable[..., Any] | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Await: end the computation at a server; gives 0. What still runs of it is terminated, then its files are removed.

        A cancelled wait, like a timeout, does not stop the server from closing it.

        Args:
            peer: The server, as for :meth:`setup`.
            func: Called at the server with ``args`` and ``kwargs`` after its coroutines have ended, before the files go.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            timeout: Seconds for all of it; None: without end.

        Raises:
            ComputationClosed: If it is not set up there.
            SetupFailed: If ``func`` raised; it is closed all the same.
            PeerError: If the server cannot be reached: then it is closed there when the session ends.
            TimeoutError: After ``timeout`` seconds; the server goes on closing it.
        """
        network = self._network("close")
        _check_call(func, args, kwargs)
        late = f"{self._name} is not closed at {_told(peer)} after {timeout} s; the server goes on closing it"
        async with within(timeout, lambda: late):
            there = await network.peer_at(peer)
            known = self._at.pop(there.process, None)
            if known is None or known.peer is not there:
                raise ComputationClosed(f"{self._name} is not set up at {there.name}")
            assert self._bundle is not None
            self._closed.add(there.process)
            call = self._call(func, args, kwargs)
            await network.requests.ask(there, CloseComputation(self._bundle.id, call))
        return 0

    async def ping(self, peer: Where, timeout: float | None = 2) -> int:
        """Await: tell whether the computation is set up at ``peer``, and that answers within ``timeout`` seconds: 0, else -1."""
        network = self._network("ping")
        check_timeout(timeout)
        try:
            async with asyncio.timeout(timeout):
                there = await network.peer_at(peer)
                known = self._at.get(there.process)
                if known is None or known.peer is not there or self._bundle is None:
                    return -1
                done = await network.requests.ask(there, PingComputation(self._bundle.id))
        except (TimeoutError, DiscoroError) as error:
            why = str(error) or f"no answer within {timeout} s: it computes, or is gone"
            log.info("ping of %s at %s: %s", self._name, peer, why)
            return -1
        return 0 if isinstance(done, Done) and done.value == 1 else -1

    # --- run

    def run(
        self, peer: Where, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Coro[T]]:
        """Await: start a coroutine of the computation at a server; gives a reference to it, a :class:`Coro`.

        It is on its way with the call where nothing has to be waited for; so many can be started before the first
        of them is awaited. Cancelling the wait cancels the start. Await the reference for the result.

        Args:
            peer: The server, as for :meth:`setup`.
            args: Positional arguments of the function; coroutines and channels among them arrive as references.
            kwargs: Its keyword arguments.

        Raises:
            ComputationClosed: If it is not set up there, or the session was lost since: set it up again.
            RunRefused: If the arguments do not fit, or the server has no room; it has not started.
            NotPicklable: If an argument cannot be sent; nothing was sent.
            PeerLost: If the server is gone; the coroutine may have run.
            TimeoutError: After the ``timeout`` of :meth:`options`; the start is cancelled.
        """
        here = HERE.get()
        if here is not None and here.thread_id == get_ident():  # the frequent case of what follows
            network = cast("Network", here.elsewhere)
        else:
            try:
                network = self._network("run")
            except (WrongThread, SchedulerClosed):
                return self._run(peer, args, kwargs)  # for the loop that it is handed to
        known = self._ready_at(network, peer)
        if known is None or self._timeout is not None:
            return self._run(peer, args, kwargs)
        data = packed_arguments(args, kwargs)
        if data is None:
            wants = network.big.wants
            if wants(args) or (kwargs and wants(kwargs)):
                return self._run(peer, args, kwargs)
            data = self._pickled(known, args, kwargs)
        return Start(self._begin_small(known, data), known.peer)

    async def _run(self, peer: Where, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coro[T]:
        """Run where something has to be waited for first, or borrowed: nothing happens before this is awaited."""
        network = self._network("run")
        late = f"{self._name} has not begun at {_told(peer)} after {self._timeout} s; its start is cancelled"
        async with within(self._timeout, lambda: late):
            known = self._ready_at(network, peer) or await self._find_ready(network, peer)
            wants = network.big.wants
            if wants(args) or (kwargs and wants(kwargs)):
                run = self._begin_big(known, args, kwargs)
            else:
                run = self._begin_small(known, self._pickled(known, args, kwargs))
            return cast("Coro[T]", await Start(run, known.peer))

    def _pickled(self, known: _SetUp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        return pickled((args, kwargs) if kwargs else (args,), self._arguments, known.code)

    def _begin_small(self, known: _SetUp, data: bytes) -> RemoteCoro[T]:
        there = known.peer
        number = there.next_run()
        run: RemoteCoro[T] = RemoteCoro(
            there.network, there.process, number, self._name, there.hint
        )
        run.code = known.code
        there.start(known.target | self._detach, data, run)
        return run

    def _begin_big(
        self, known: _SetUp, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RemoteCoro[T]:
        there = known.peer
        number = there.next_run()
        run: RemoteCoro[T] = RemoteCoro(
            there.network, there.process, number, self._name, there.hint
        )
        run.code = known.code
        there.runs[number] = run
        try:
            target = known.target | self._detach
            there.network.big.post_run(there, target, number, (args, kwargs), self._arguments)
        except BaseException:
            del there.runs[number]
            raise
        return run

    def _ready_at(self, network: Network, where: Where) -> _SetUp | None:
        """What is set up at ``where``, without waiting, where that is possible."""
        kind = type(where)
        process: bytes | None
        if kind is Location:
            process = where.id or network.reached(where)  # type: ignore[union-attr, arg-type]
        elif kind is RemoteCoro:
            process = where.process  # type: ignore[union-attr]
        else:
            return None
        known = self._at.get(process)  # type: ignore[arg-type]
        if known is None:
            return None
        there = known.peer
        if there.ended is not None or there.session is None or there.session.congested:
            return None
        return known

    async def _find_ready(self, network: Network, where: Where) -> _SetUp:
        there = await network.peer_at(where)
        known = self._at.get(there.process)
        if known is None:
            how = "closed" if there.process in self._closed else "not set up"
            raise ComputationClosed(
                f"{self._name} is {how} at {there.name}: yield computation.setup(peer) first"
            )
        if known.peer is not there:
            del self._at[there.process]
            lost = known.peer.ended or PeerLost("its session was lost")
            raise ComputationClosed(
                f"{self._name} was closed at {there.name} when the session was lost: set it up again"
            ) from lost
        assert there.session is not None
        await there.session.room()
        return known

    @staticmethod
    def _network(call: str) -> Network:
        """The network of the running loop's scheduler, which alone can carry out what is awaited here."""
        return cast("Network", default.awaited(call).elsewhere)


def _told(where: Any) -> str:
    """The name, or the address, of a server, for people."""
    location = getattr(where, "location", where)
    return getattr(location, "name", None) or str(location)


def _check_call(func: Any, args: Any, kwargs: Any) -> None:
    """See that a function for setup or close can be called with these arguments, before anything is sent."""
    if func is not None and not callable(func):
        raise TypeError(f"func is a function that is called at the server, not {func!r}")
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args is a tuple of arguments: args=({args!r},)")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs is a dict of arguments, not {kwargs!r}")

"""What runs in one server process just now, as plain values for ``python -m discoro status``.

A snapshot is taken in the loop's thread, or, while some coroutine blocks that, in another one. The second way reads lists
and numbers that the blocked thread may be changing: each is copied in one step, and a copy that fails is tried again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from discoro.codeplace import names_for
from discoro.logs import run_number
from discoro.node.watchdog import is_users
from discoro.scheduler.waits import (
    RUNNING,
    Deliver,
    Ending,
    Join,
    Pause,
    Receive,
    State,
    TimedReceive,
    Wait,
)
from discoro.shipping.privatenames import plain_file
from discoro.transport.session import State as SessionState

if TYPE_CHECKING:
    from discoro.hosting import Hosted
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer
    from discoro.schedulers import Scheduler

EXAMINED = 10_000
"""Coroutines that are looked at to find those to show: the loop of a server with more must not stand still for this."""
ATTEMPTS = 5
MOST_NAMED = 3
"""Computations that are named in one line."""


def snapshot(scheduler: Scheduler, most: int) -> dict[str, Any]:
    """Return computations, coroutines (at most ``most``, longest mailboxes first) and peers."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _snapshot(scheduler, most)
        except RuntimeError:  # a dictionary has changed while another thread went through it
            pass
    return _snapshot(scheduler, most)


def _snapshot(scheduler: Scheduler, most: int) -> dict[str, Any]:
    network = scheduler.network
    hosted = network.server.computations() if network.server is not None else []
    owners = {computation.computation.hex(): computation for computation in hosted}
    coros = islice(list(scheduler.coros), EXAMINED)
    found = [coro for coro in coros if _is_users(coro)]
    shown = heapq.nsmallest(most, found, key=lambda coro: (-coro.waiting, coro._number))
    counts = scheduler.counts()
    return {
        "counts": counts,
        "computations": [_computation(network, computation) for computation in hosted],
        "coroutines": [_coroutine(network, coro, owners) for coro in shown],
        "more_coroutines": max(len(found), counts["coroutines"]) - len(shown),
        "peers": [_peer(peer) for peer in network.live_peers()],
    }


def whose_turn(scheduler: Scheduler) -> str:
    """Say whose coroutine runs, or, where none does, which computations have runs here; also from another thread."""
    network, running = scheduler.network, scheduler.running
    hosted = network.server.computations() if network.server is not None else []
    if running is not None:
        owner = _owner(running, {one.computation.hex(): one for one in hosted})
        name = f"{running.name} {run_number(running._number) or ''}".rstrip()
        return f"coroutine {name}{_of(network, owner)}" if _is_users(running) else ""
    busy = [one for one in hosted if one.runs]
    parts = [
        f"with {len(one.runs)} run{'s'[: len(one.runs) > 1]}{_of(network, one)}" for one in busy
    ]
    return ", ".join(parts[:MOST_NAMED]) + (", and others" if len(parts) > MOST_NAMED else "")


def _of(network: Network, owner: Hosted | None) -> str:
    if owner is None:
        return ""
    return f" of computation {owner.name} of client {_client(network, owner.owner)}"


def _is_users(coro: Any) -> bool:
    """Whether it is of the user's making: what hosts computations is a daemon that belongs to none."""
    return not coro.daemon or names_for(coro) is not None


def _client(network: Network, process: bytes) -> str:
    peer = network.peers.get(process)
    return peer.name if peer is not None and peer.name else process.hex()[:8]


def _computation(network: Network, hosted: Hosted) -> dict[str, Any]:
    return {
        "id": hosted.computation.hex(),
        "name": hosted.name,
        "client": _client(network, hosted.owner),
        "since": hosted.since,
        "state": hosted.state.value,
        "runs": len(hosted.runs),
    }


def _peer(peer: Peer) -> dict[str, Any]:
    session = peer.session
    assert session is not None
    host, port = session.address
    if session.busy:
        state = "busy"
    elif session.state is SessionState.UP:
        state = "connected"
    else:
        state = "cut off, expected back"
    return {
        "id": peer.process.hex(),
        "name": peer.name,
        "role": session.peer.role,
        "address": [host, port],
        "state": state,
    }


def _owner(coro: Any, owners: dict[str, Hosted]) -> Hosted | None:
    owner = next((o for o in owners.values() if coro._number in o.runs), None)
    if owner is None:  # started by a coroutine of a computation, perhaps
        owner = owners.get(getattr(names_for(coro), "key", ""))
    return owner


def _coroutine(network: Network, coro: Any, owners: dict[str, Hosted]) -> dict[str, Any]:
    owner = _owner(coro, owners)
    file, line, function, callee = place(coro)
    return {
        "name": coro.name,
        "number": coro._number,
        "file": file,
        "line": line,
        "function": function,
        "waits_in": waits_in(coro._wait, callee),
        "mailbox": coro.waiting,
        "computation": owner.name if owner is not None else None,
        "client": _client(network, owner.owner) if owner is not None else None,
    }


def place(coro: Any) -> tuple[str | None, int | None, str, str]:
    """Return (file, line, function, what that called) of the innermost frame of the user's; what was called may be empty."""
    frames = list(_frames(coro))
    users = [number for number, frame in enumerate(frames) if is_users(frame.f_code.co_filename)]
    if not frames:
        return None, None, "", ""
    chosen = users[-1] if users else len(frames) - 1
    frame = frames[chosen]
    names = [inner.f_code.co_name for inner in frames[chosen + 1 :]]
    callee = next((name for name in names if not name.startswith("_")), "")
    code = frame.f_code
    return plain_file(code.co_filename), frame.f_lineno, code.co_qualname, callee


def _frames(coro: Any) -> Iterator[Any]:
    """Give its frames, the oldest first, with what the newest awaits."""
    for thing in [*(coro._stack or ()), coro._top]:
        yield from _frames_of(thing)


def _frames_of(thing: Any) -> Iterator[Any]:
    for _ in range(1000):  # awaits cannot go in circles; whoever can fake one shall not stop us
        frame = getattr(thing, "cr_frame", None) or getattr(thing, "gi_frame", None)
        if frame is None:
            return
        yield frame
        thing = getattr(thing, "cr_await", None) or getattr(thing, "gi_yieldfrom", None)


def waits_in(wait: object, callee: str) -> str:
    """Say in a word what a coroutine waits in; ``callee`` is what its innermost frame has called."""
    if isinstance(wait, State):
        return "running" if wait is RUNNING else "ready to run"
    if isinstance(wait, (Receive, TimedReceive)):
        return "receive"
    if isinstance(wait, Pause):
        return "suspend" if wait.timeout is None else "sleep"
    if isinstance(wait, (Ending, Join)):
        return f"finish of {wait.target.name}"
    if isinstance(wait, Deliver):
        return f"deliver to {wait.target.name}"
    return callee or (type(wait).__name__.lower() if isinstance(wait, Wait) else "a future")

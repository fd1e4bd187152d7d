"""The networks of this Python process by process id, so that a reference that comes home finds its own.

Also the class of the default scheduler, which coroutines have to start without importing what stands above them.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discoro.peers.network import Network

_networks: weakref.WeakValueDictionary[bytes, Network] = weakref.WeakValueDictionary()
_scheduler_class: Any = None


def enter(network: Network) -> None:
    """From now on references to this network's coroutines resolve to the coroutines."""
    _networks[network.process] = network


def home(process: bytes) -> Network | None:
    """The network that ``process`` names, if it is one of this thread."""
    network = _networks.get(process)
    if network is None or network.thread != threading.get_ident():
        return None
    return network


def provide(scheduler_class: Any) -> None:
    """Say which class the default scheduler is of."""
    global _scheduler_class
    _scheduler_class = scheduler_class


def scheduler_class() -> Any:
    """The class of the default scheduler."""
    assert _scheduler_class is not None, "import Coro from discoro, which brings the scheduler"
    return _scheduler_class

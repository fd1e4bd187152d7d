"""discoro: run coroutines on every core of every machine you have, and talk to them while they run.

Names are looked up when they are first used, so that ``python -m discoro --version`` and a program of local coroutines
import only what they need.
"""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from discoro.version import __version__

_beside = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if not _os.path.isdir(_os.path.join(__path__[0], "scheduler")) and _os.path.isfile(
    _os.path.join(_beside, "setup.cfg")
):
    # A checkout keeps scheduler/ and transport/ beside this folder; an installed package inside it.
    __path__.append(_beside)

if _TYPE_CHECKING:
    from discoro.channels import Channel as Channel
    from discoro.computation import Computation as Computation
    from discoro.node.handle import Node as Node
    from discoro.rci import RCI as RCI
    from discoro.running import run as run
    from discoro.scheduler import (
        OWN as OWN,
    )
    from discoro.scheduler import (
        AsyncFile as AsyncFile,
    )
    from discoro.scheduler import (
        AsyncPipe as AsyncPipe,
    )
    from discoro.scheduler import (
        CategorizeMessages as CategorizeMessages,
    )
    from discoro.scheduler import (
        Condition as Condition,
    )
    from discoro.scheduler import (
        Event as Event,
    )
    from discoro.scheduler import (
        Lock as Lock,
    )
    from discoro.scheduler import (
        MonitorException as MonitorException,
    )
    from discoro.scheduler import (
        RLock as RLock,
    )
    from discoro.scheduler import (
        Semaphore as Semaphore,
    )
    from discoro.scheduler import (
        to_thread as to_thread,
    )
    from discoro.schedulers import Coro as Coro
    from discoro.schedulers import Scheduler as Scheduler
    from discoro.server import discoro_server as discoro_server
    from discoro.transport.addresses import Location as Location

# Every public name and the module that holds it.
_HOMES = {
    "AsynCoro": "schedulers",
    "AsyncFile": "scheduler",
    "AsyncPipe": "scheduler",
    "CategorizeMessages": "scheduler",
    "Channel": "channels",
    "Computation": "computation",
    "Condition": "scheduler",
    "Coro": "schedulers",
    "Event": "scheduler",
    "Location": "transport.addresses",
    "Lock": "scheduler",
    "MonitorException": "scheduler",
    "Node": "node.handle",
    "OWN": "scheduler",
    "RCI": "rci",
    "RLock": "scheduler",
    "Scheduler": "schedulers",
    "Semaphore": "scheduler",
    "discoro_server": "server",
    "run": "running",
    "to_thread": "scheduler",
}

__all__ = ["__version__", "errors", *_HOMES]  # the keys are the names


def __getattr__(name: str) -> _Any:
    if name == "errors":
        return _importlib.import_module("discoro.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'discoro' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"discoro.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

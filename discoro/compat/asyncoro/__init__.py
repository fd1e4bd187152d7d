"""asyncoro and asyncoro.disasyncoro, of 2014 to 2018: every public name."""

from __future__ import annotations

from typing import Any

from discoro.compat import channels as _channels
from discoro.compat import coros as _coros
from discoro.compat import face as _face
from discoro.compat import parts as _parts
from discoro.compat import schedulers as _schedulers
from discoro.compat import services as _services
from discoro.compat.asyncoro import asyncfile as asyncfile
from discoro.compat.places import Location, PeerStatus
from discoro.compat.sockets import AsyncSocket
from discoro.compat.toolkit import (
    AsyncDBCursor,
    AsyncThreadPool,
    CategorizeMessages,
    Condition,
    Logger,
    Singleton,
    deserialize,
    serialize,
)
from discoro.scheduler import Event, HotSwapException, Lock, MonitorException, RLock, Semaphore
from discoro.scheduler.outcome import Failed
from discoro.version import __version__ as __version__

MaxConnectionErrors = 10
MsgTimeout = 10

AsynCoroSocket = AsyncSocket
AsynCoroThreadPool = AsyncThreadPool
AsynCoroDBCursor = AsyncDBCursor
MetaSingleton = Singleton
unserialize = deserialize
logger = Logger("asyncoro")


def _failure(coro: Any, outcome: Failed) -> None:
    """What ``value`` and ``finish`` give of a coroutine that failed."""
    error = outcome.exception
    logger.warning("%s failed with %s: %s", coro, type(error).__name__, error)


def _message(message: MonitorException) -> MonitorException:
    """Word of an end, as monitors know it: being terminated was a normal end."""
    if _coros.terminated(message):
        return MonitorException(message.coro, (StopIteration, StopIteration(None)))
    return message


_FAMILY = _coros.Family("asyncoro", "coro", _failure, _message)


class Coro(_coros.Local):
    """A coroutine; ``Coro(func, *args, **kwargs)`` starts one."""

    family = _FAMILY
    any_coro = True
    last_counts = True


SysCoro = Coro


class RemoteCoro(_coros.Remote):
    """A reference to a coroutine of another process."""

    __slots__ = ()
    family = _FAMILY


class Channel(_channels.LocalFace):
    """One message to everybody who has subscribed."""

    family = _FAMILY
    any_channel = True


class RemoteChannel(_channels.RemoteFace):
    """A reference to a channel of another process."""

    __slots__ = ()
    family = _FAMILY


class RCI(_services.Service):
    """A generator function that others may call by name."""

    family = _FAMILY
    coro_class = Coro


class AsynCoro(_schedulers.Facade):
    """The scheduler: the first one constructed is the one."""

    family = _FAMILY

    @classmethod
    def options(
        cls,
        udp_port: int = 0,
        tcp_port: int | None = None,
        node: Any = None,
        ext_ip_addr: Any = None,
        name: str | None = None,
        secret: str = "",
        certfile: str | None = None,
        keyfile: str | None = None,
        notifier: Any = None,
        dest_path: str | None = None,
        max_file_size: int | None = None,
        *,
        socket_family: Any = None,
        discover_peers: bool = True,
    ) -> dict[str, Any]:
        """The options of :class:`discoro.Scheduler`. ``notifier``, ``socket_family`` and ``discover_peers`` mean nothing."""
        return cls.translated(
            {
                "udp_port": udp_port,
                "tcp_port": tcp_port,
                "node": node,
                "ext_ip_addr": ext_ip_addr,
                "name": name,
                "secret": secret,
                "certfile": certfile,
                "keyfile": keyfile,
                "dest_path": dest_path,
                "max_file_size": max_file_size,
            }
        )

    def ignore_peers(self, ignore: bool) -> None:
        """Do nothing: who meets is decided by the secret and the cluster."""


_face.enter("asyncoro", RemoteCoro, RemoteChannel)


def __getattr__(name: str) -> Any:
    """A module inside, under the name that it has after ``import asyncoro.disasyncoro``."""
    return _parts.part(__name__, name)


__all__ = [
    "AsynCoro",
    "AsynCoroDBCursor",
    "AsynCoroSocket",
    "AsynCoroThreadPool",
    "AsyncDBCursor",
    "AsyncSocket",
    "AsyncThreadPool",
    "CategorizeMessages",
    "Channel",
    "Condition",
    "Coro",
    "Event",
    "HotSwapException",
    "Location",
    "Lock",
    "Logger",
    "MetaSingleton",
    "MonitorException",
    "PeerStatus",
    "RCI",
    "RLock",
    "Semaphore",
    "Singleton",
    "deserialize",
    "logger",
    "serialize",
    "unserialize",
]

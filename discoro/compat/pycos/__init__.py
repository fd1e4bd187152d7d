"""pycos and pycos.netpycos, of 2018 to 2022: every public name."""

from __future__ import annotations

import socket
from typing import Any

from discoro.compat import channels as _channels
from discoro.compat import coros as _coros
from discoro.compat import face as _face
from discoro.compat import parts as _parts
from discoro.compat import schedulers as _schedulers
from discoro.compat import services as _services
from discoro.compat.places import Location, PeerStatus
from discoro.compat.pycos import asyncfile as asyncfile
from discoro.compat.pycos import config as config
from discoro.compat.sockets import AsyncSocket
from discoro.compat.toolkit import (
    AsyncDBCursor,
    AsyncThreadPool,
    CategorizeMessages,
    Condition,
    Logger,
    Singleton,
    Struct,
    deserialize,
    serialize,
)
from discoro.scheduler import Event, HotSwapException, Lock, MonitorException, RLock, Semaphore
from discoro.scheduler.outcome import Failed
from discoro.version import __version__ as __version__

MsgTimeout = config.MsgTimeout
PickleProtocolVersion = config.PickleProtocolVersion

logger = Logger("pycos")


class MonitorStatus:
    """Word of a task that has ended.

    Attributes:
        info: The task.
        type: StopIteration, or the type of its exception.
        value: Its result, or the traceback as text.
    """

    def __init__(self, info: Any, type: Any, value: Any = None) -> None:
        self.info = info
        self.type = type
        self.value = value

    def __repr__(self) -> str:
        return f"{self.info} / {getattr(self.type, '__name__', self.type)} / {self.value}"


def _failure(task: Any, outcome: Failed) -> MonitorStatus:
    """What ``value`` and ``finish`` give of a task that failed."""
    error = outcome.exception
    return MonitorStatus(task, type(error), outcome.traceback_text or _coros.trace_text(error))


def _message(message: MonitorException) -> MonitorStatus:
    """Word of an end, as monitors know it: being terminated was a normal end."""
    if _coros.terminated(message):
        return MonitorStatus(message.coro, StopIteration, None)
    if message.type is StopIteration:
        return MonitorStatus(message.coro, StopIteration, message.value.value)
    return MonitorStatus(message.coro, message.type, _coros.trace_text(message.value))


_FAMILY = _coros.Family("pycos", "task", _failure, _message)


class Task(_coros.Local):
    """A task; ``Task(func, *args, **kwargs)`` starts one."""

    family = _FAMILY
    any_coro = True


class RemoteTask(_coros.Remote):
    """A reference to a task of another process."""

    __slots__ = ()
    family = _FAMILY


SysTask = Task


class Channel(_channels.LocalFace):
    """One message to everybody who has subscribed."""

    family = _FAMILY
    any_channel = True


class RemoteChannel(_channels.RemoteFace):
    """A reference to a channel of another process."""

    __slots__ = ()
    family = _FAMILY


class RPS(_services.Service):
    """A generator function that others may call by name."""

    family = _FAMILY
    coro_class = Task


RTI = RPS


class Pycos(_schedulers.Facade):
    """The scheduler: the first one constructed is the one."""

    family = _FAMILY
    ignore_peers = False
    """Taken, and means nothing: who meets is decided by the secret and the cluster."""

    @classmethod
    def options(
        cls,
        udp_port: int = 0,
        tcp_port: int | None = None,
        host: Any = None,
        ext_host: Any = None,
        socket_family: Any = None,
        ipv4_udp_multicast: bool = False,
        name: str | None = None,
        discover_peers: bool = True,
        secret: str = "",
        certfile: str | None = None,
        keyfile: str | None = None,
        notifier: Any = None,
        dest_path: str | None = None,
        max_file_size: int | None = None,
        *,
        node: Any = None,
        ext_ip_addr: Any = None,
    ) -> dict[str, Any]:
        """The options of :class:`discoro.Scheduler`.

        ``socket_family``, ``ipv4_udp_multicast``, ``discover_peers`` and ``notifier`` mean nothing.
        """
        return cls.translated(
            {
                "udp_port": udp_port,
                "tcp_port": tcp_port,
                "host": host or node,
                "ext_host": ext_host or ext_ip_addr,
                "name": name,
                "secret": secret,
                "certfile": certfile,
                "keyfile": keyfile,
                "dest_path": dest_path,
                "max_file_size": max_file_size,
            }
        )

    @staticmethod
    def host_ipaddr(host: str) -> str | None:
        """The IP address of a host; None where it has none."""
        try:
            return str(socket.getaddrinfo(host, None)[0][4][0])
        except OSError:
            return None

    @staticmethod
    def host_addrinfo(
        host: str | None = None, socket_family: Any = None, ipv4_multicast: bool = False
    ) -> Any:
        """Family and IP address of a host, or of this one, as a Struct; None where it has none."""
        try:
            found = socket.getaddrinfo(host or socket.gethostname(), None, socket_family or 0)
        except OSError:
            return None
        return Struct(family=found[0][0], ip=str(found[0][4][0]))


_face.enter("pycos", RemoteTask, RemoteChannel)


def __getattr__(name: str) -> Any:
    """A module inside, under the name that it has after ``import pycos.netpycos``."""
    return _parts.part(__name__, name)


__all__ = [
    "AsyncDBCursor",
    "AsyncSocket",
    "AsyncThreadPool",
    "CategorizeMessages",
    "Channel",
    "Condition",
    "Event",
    "HotSwapException",
    "Location",
    "Lock",
    "Logger",
    "MonitorStatus",
    "PeerStatus",
    "Pycos",
    "RLock",
    "RPS",
    "RTI",
    "Semaphore",
    "Singleton",
    "Task",
    "deserialize",
    "logger",
    "serialize",
]

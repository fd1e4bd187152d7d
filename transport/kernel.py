"""What the kernel knows about a connection, and what it must be told. Shell.

A process that computes, or is stopped, does not answer; its kernel does. ``TCP_INFO`` tells the two apart: a kernel that
acknowledges our bytes and probes is there, whatever its process does. TCP_USER_TIMEOUT is not set: it kills exactly
those connections whose peer is alive and does not read.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

from .limits import Limits

_TCP_INFO = getattr(socket, "TCP_INFO", None) if hasattr(os, "sched_getaffinity") else None
# struct tcp_info of linux/tcp.h: eight bytes, 24 u32, two u64, then bytes_acked and bytes_received.
_COUNTS = struct.Struct("=8B24I4Q")
_PROBES, _UNACKED, _LAST_ACK = 3, 8 + 4, 8 + 12
_RECEIVED = 8 + 24 + 3


def prepare(sock: socket.socket, limits: Limits) -> None:
    """Set what every connection needs: no delay, and probes while it is quiet."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # macOS names the first one TCP_KEEPALIVE.
        idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
        if idle is not None:
            sock.setsockopt(socket.IPPROTO_TCP, idle, limits.probe_idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.probe_interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.probe_count)


class Answering(Protocol):
    """A socket, or what transports give for one."""

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As that of a socket."""


def _info(sock: Any) -> tuple[int, ...] | None:
    """Return the fields of ``TCP_INFO``, or None where there is none."""
    if _TCP_INFO is None or sock is None:
        return None
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _COUNTS.size)
    except (OSError, AttributeError):
        return None
    return _COUNTS.unpack(data) if len(data) == _COUNTS.size else None


def answers(sock: Any, patience: float) -> bool:
    """Return whether the other kernel answers: what we sent, and our probes, are acknowledged.

    The age of the last ack alone says little: probes of a closed window back off to minutes. So data that has waited
    ``patience`` seconds for an ack counts, and probes that were not answered.

    Args:
        sock: The connection's socket.
        patience: Seconds that an answer may take.
    """
    info = _info(sock)
    if info is None:
        return False
    if info[_UNACKED]:
        return info[_LAST_ACK] < patience * 1000
    return info[_PROBES] < 2


def bytes_heard(sock: Any) -> int | None:
    """Return how many bytes have arrived on this connection, read or not; None where the kernel does not say."""
    info = _info(sock)
    return None if info is None else info[_RECEIVED]


class Holder(Protocol):
    """Something whose descriptors a forked child must not keep."""

    def descriptors(self) -> Iterable[int]:
        """Return the file descriptors of its connections and listeners."""


# A child that holds a copy of our sockets would keep a dead server looking alive. os.register_at_fork cannot be undone,
# hence one registration per process and a weak set.
_holders: weakref.WeakSet[Any] = weakref.WeakSet()
_registered = False


def let_go_in_children(holder: Holder) -> None:
    """See that forked children do not keep the descriptors of ``holder``."""
    global _registered
    _holders.add(holder)
    if not _registered and hasattr(os, "register_at_fork"):
        _registered = True
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    """Replace the descriptors by ``/dev/null``: closed numbers would be given out again, and closed a second time."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    for holder in list(_holders):
        for number in holder.descriptors():
            with contextlib.suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
    _holders.clear()
    os.close(nothing)

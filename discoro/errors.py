"""Every error that discoro raises: who is at fault, what is true now, what to type.

The tree::

    DiscoroError
      CannotListen               a port is taken; attributes ``host``, ``port``, ``reason``
      WrongThread, MailboxFull, Terminated, NameTaken, ...   about coroutines in one process
      PeerError                  about another process, or the way to it (attribute ``location``)
        PeerUnreachable          nobody answers there; nothing was sent
        PeerLost                 the session is over; attribute ``reason``
          ServerKilled           the process at the other end ended; attributes ``signal``, ``exit_code``, ``why``
        AuthenticationFailed     another secret, or somebody in between
        ProtocolVersionMismatch  another version of discoro; also a VersionMismatch
        WrongCluster             it belongs to another cluster
        ProtocolViolation        the peer broke the rules
        PeerBusy                 it answers, and has no room now
      NoSuchCoro                 nothing (any more) behind that reference
      MessageRefused             the other side could not decode a message
      MessageTooBig              a message is longer than the limit; attributes ``size``, ``limit``
      ComputationError           about a computation
        NotPicklable, MissingCode, SetupRefused               before anything runs
        PythonMismatch           code cannot cross between these two Pythons; also a VersionMismatch
        SetupFailed              a shipped module, or the setup function, raised
        ComputationClosed        it is not, or no longer, set up there
        RunRefused               a run did not start
      FileRefused                a file was not taken; attributes ``name``, ``reason``
      RemoteError                an exception from over there that cannot be rebuilt here
      NodeFailed                 a Node did not start; attributes ``exit_code``, ``said``
      NodeSilent                 a node does not answer; attribute ``record``
      PortTaken, AddressUnusable, TooManyServers, SecretUnusable, StateFolderUnusable
                                 why a node cannot start here as it was told

``transport`` has a tree of its own; :func:`from_transport` translates it at the boundary. Old return codes
(0, 1, -1) are made from these in ``discoro.compat`` alone.
"""

from __future__ import annotations

import errno
import importlib
import signal as _signal
from typing import TYPE_CHECKING, Any

from discoro.scheduler.errors import (
    DiscoroError,
    ForgottenWait,
    HotSwapException,
    HotSwapRefused,
    MailboxBusy,
    MailboxFull,
    NameTaken,
    NoSuchCoro,
    NotACoroutine,
    NotTheCoroutine,
    SchedulerClosed,
    SchedulerConflict,
    Terminated,
    WrongThread,
)
from discoro.shipping.errors import (
    ComputationError,
    MissingCode,
    NotPicklable,
    PythonMismatch,
    RemoteError,
    SetupRefused,
    UndecodableValue,
    VersionMismatch,
)
from discoro.transport import errors as _transport
from discoro.transport.handshake import OtherCluster, ShuttingDown

if TYPE_CHECKING:
    from discoro.transport.addresses import Location


class PeerError(DiscoroError):
    """Something about another process, or the way to it.

    Attributes:
        location: Where, as far as known; else None.
    """

    def __init__(self, text: str, location: Location | None = None) -> None:
        super().__init__(text)
        self.location = location


class CannotListen(DiscoroError):
    """A port cannot be listened on: somebody else does, or the address is none of this machine.

    Attributes:
        host: Address, or addresses.
        port: Number of the port; 0 for any.
        reason: What the system said.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            what = (
                f"another program listens on port {port} already: choose another tcp_port, or none"
            )
        else:
            what = f"cannot listen on {host} port {port}: {reason}"
        super().__init__(what)
        self.host = host
        self.port = port
        self.reason = reason


class PeerUnreachable(PeerError):
    """Nobody answers there; nothing was sent.

    Does the node run, at that port, and does no firewall stand between? ``python -m discoro status`` there says where it listens.
    """


class PeerLost(PeerError):
    """The session with a process is over. What was unacknowledged may or may not have arrived.

    Coroutines there may have run, or half of them: only the program knows whether they can be run again.

    Attributes:
        reason: Why, in words.
    """

    def __init__(self, reason: str, location: Location | None = None) -> None:
        super().__init__(f"lost {location or 'the peer'}: {reason}", location)
        self.reason = reason


class ServerKilled(PeerLost):
    """The process at the other end has ended; its coroutines are gone.

    Attributes:
        signal: Number of the signal that ended it, or None.
        exit_code: Its exit code, or None.
        why: What its node knows beyond that, in words, such as that it took more memory than it may; or None.
    """

    def __init__(
        self,
        signal: int | None = None,
        exit_code: int | None = None,
        location: Location | None = None,
        why: str | None = None,
    ) -> None:
        if signal is not None:
            try:
                how = f"its process was ended by {_signal.Signals(signal).name} ({signal})"
            except ValueError:
                how = f"its process was ended by signal {signal}"
        else:
            how = f"its process ended with exit code {exit_code}"
        super().__init__(f"{how}: {why}" if why else how, location)
        self.signal = signal
        self.exit_code = exit_code
        self.why = why

    def once_more(self) -> ServerKilled:
        """The same, for somebody who calls that process later: it tells what to do where another one has taken its place."""
        now = "where its node has started it again, that is another process: locate it, and set up there"
        why = f"{self.why}; {now}" if self.why else now
        return ServerKilled(self.signal, self.exit_code, self.location, why)


class AuthenticationFailed(PeerError):
    """The two ends could not prove the same secret to each other; nothing was sent.

    Give both ends the same secret: ``--secret-file``, ``DISCORO_SECRET`` or ``secret=``.
    """


class ProtocolVersionMismatch(PeerError, VersionMismatch):
    """The two ends run versions of discoro that do not understand each other; nothing was sent.

    Install the same version of discoro at both ends.
    """

    def __init__(self, text: str, ours: str, theirs: str, location: Location | None = None) -> None:
        PeerError.__init__(self, text, location)
        self.ours = ours
        self.theirs = theirs


class WrongCluster(PeerError):
    """The peer belongs to another cluster; nothing was sent.

    Give both ends the same ``--cluster``, or ``cluster=``, or none.
    """


class ProtocolViolation(PeerError):
    """The peer broke the rules of the protocol; the connection was dropped.

    Its program is no discoro, or was changed; or it is a bug, which is worth a report with the log (``DISCORO_LOG=debug``).
    """


class PeerBusy(PeerError):
    """The peer answers, and has no room now.

    After many wrong secrets, or with too many callers at a time; try again later.

    Attributes:
        retry_in: Seconds after which a new attempt makes sense.
    """

    def __init__(self, text: str, retry_in: float, location: Location | None = None) -> None:
        super().__init__(text, location)
        self.retry_in = retry_in


class MessageRefused(DiscoroError):
    """The receiving process could not decode a message; nothing was queued there.

    Most often it lacks the class of the value: name that in ``depends=[...]``.
    """


class SetupFailed(ComputationError):
    """A shipped module, or the setup or close function, raised; the text says what.

    ``__cause__`` has the traceback there, as text. Nothing of the computation is set up, or it is closed all the same.
    """


class ComputationClosed(ComputationError):
    """A computation is not, or no longer, set up at a server.

    ``computation.setup(server)`` comes first, and again after the session was lost.
    """


class RunRefused(ComputationError):
    """A run did not start: wrong arguments, or no room.

    Nothing of it has run.
    """


class FileRefused(DiscoroError):
    """A file was not taken, or not removed; there is no half file.

    The reason says what to do: another name, ``overwrite=True``, a larger ``max_file_size``, a ``dest_path``.

    Attributes:
        name: Name of the file.
        reason: Why, in words.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"file {name!r}: {reason}")
        self.name = name
        self.reason = reason


def from_transport(error: BaseException, location: Location | None = None) -> DiscoroError:
    """The error that users see for one of the transport's; keeps its text and data."""
    text = str(error)
    if isinstance(error, DiscoroError):
        return error
    if isinstance(error, _transport.PeerUnreachable):
        hint = "nothing was sent. Is a node running there (python -m discoro)? It says where it listens"
        return PeerUnreachable(f"{text}; {hint}", location)
    if isinstance(error, (_transport.NotTLS, _transport.WrongPeer, ShuttingDown)):
        return PeerUnreachable(text, location)
    if isinstance(error, OtherCluster):
        return WrongCluster(text, location)
    if isinstance(error, _transport.AuthenticationFailed):
        return AuthenticationFailed(text, location)
    if isinstance(error, _transport.VersionMismatch):
        return ProtocolVersionMismatch(text, error.ours, error.theirs, location)
    if isinstance(error, _transport.Busy):
        return PeerBusy(text, error.retry_in, location)
    if isinstance(error, _transport.SessionLost):
        return _lost(error, location)
    if isinstance(error, _transport.ProtocolError):
        return ProtocolViolation(text, location)
    if isinstance(error, _transport.FileError):
        return FileRefused(error.name, error.reason)
    return PeerError(text, location)


def _lost(error: _transport.SessionLost, location: Location | None) -> PeerLost:
    how = error.ended or ""
    end, _, why = how.partition(": ")
    kind, _, number = end.rpartition(" ")
    if number.isdigit() and kind == "ended by signal":
        return ServerKilled(signal=int(number), location=location, why=why or None)
    if number.isdigit() and kind == "ended with exit code":
        return ServerKilled(exit_code=int(number), location=location, why=why or None)
    return PeerLost(f"{error.reason}{f' ({how})' if how else ''}", location)


# Errors that stand beside what raises them, which this module cannot import: looked up when asked for.
_ELSEWHERE = {
    "AddressUnusable": "discoro.node.listeners",
    "MessageTooBig": "discoro.peers.big",
    "NodeFailed": "discoro.node.handle",
    "NodeSilent": "discoro.node.control",
    "PortTaken": "discoro.node.listeners",
    "SecretUnusable": "discoro.cli.secretsource",
    "StateFolderUnusable": "discoro.statefolder",
    "TooManyServers": "discoro.node.cpus",
}

if TYPE_CHECKING:
    from discoro.cli.secretsource import SecretUnusable as SecretUnusable
    from discoro.node.control import NodeSilent as NodeSilent
    from discoro.node.cpus import TooManyServers as TooManyServers
    from discoro.node.handle import NodeFailed as NodeFailed
    from discoro.node.listeners import AddressUnusable as AddressUnusable
    from discoro.node.listeners import PortTaken as PortTaken
    from discoro.peers.big import MessageTooBig as MessageTooBig
    from discoro.statefolder import StateFolderUnusable as StateFolderUnusable


def __getattr__(name: str) -> Any:
    home = _ELSEWHERE.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    error = globals()[name] = getattr(importlib.import_module(home), name)
    return error


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})


__all__ = [
    "AddressUnusable",
    "AuthenticationFailed",
    "CannotListen",
    "ComputationClosed",
    "ComputationError",
    "DiscoroError",
    "FileRefused",
    "ForgottenWait",
    "HotSwapException",
    "HotSwapRefused",
    "MailboxBusy",
    "MailboxFull",
    "MessageRefused",
    "MessageTooBig",
    "MissingCode",
    "NameTaken",
    "NoSuchCoro",
    "NodeFailed",
    "NodeSilent",
    "NotACoroutine",
    "NotPicklable",
    "NotTheCoroutine",
    "PeerBusy",
    "PeerError",
    "PeerLost",
    "PeerUnreachable",
    "PortTaken",
    "ProtocolVersionMismatch",
    "ProtocolViolation",
    "PythonMismatch",
    "RemoteError",
    "RunRefused",
    "SchedulerClosed",
    "SchedulerConflict",
    "SecretUnusable",
    "ServerKilled",
    "SetupFailed",
    "SetupRefused",
    "StateFolderUnusable",
    "Terminated",
    "TooManyServers",
    "UndecodableValue",
    "VersionMismatch",
    "WrongCluster",
    "WrongThread",
    "from_transport",
]

"""Errors of the transport: who is at fault, what is true now, what to type. Each carries its data.

The tree::

    TransportError
      PeerUnreachable            nobody answered there; nothing was sent
      NotTLS                     somebody answered who does not speak TLS 1.3
      AuthenticationFailed       another secret, or somebody in between
      VersionMismatch            two versions that do not understand each other
      Busy                       come back in ``retry_in`` seconds
      ProtocolError              the peer broke the rules; the link is dropped
        FrameTooBig
        ControlError             control data outside the vocabulary or its limits
      SessionLost                no link came back in time, or the other process has ended
      SessionClosed              closed on purpose, by one side or the other
      WrongPeer                  another process answers at that address
      OwnProcess                 this process itself answers there
      LaneFull                   too much waits for one receiver already; nothing was queued
      TransferFailed             a big message or file did not get through
      FileError
        UnsafePath               a name that leads, or could lead, outside the folder
        FileRefused              the receiver does not want this file
          QuotaExceeded
          NameHeld               the name is taken by somebody else's other content

``discoro`` translates them at its boundary; nothing here knows of coroutines.
"""

from __future__ import annotations


class TransportError(Exception):
    """Root of everything that the transport raises on purpose."""


class PeerUnreachable(TransportError):
    """No connection could be made; nothing was sent.

    Attributes:
        host: Address that was dialled.
        port: Its port.
        reason: What the operating system, or the clock, said.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"nobody answers at {host}:{port}: {reason}")
        self.host = host
        self.port = port
        self.reason = reason


class NotTLS(TransportError):
    """The other end of the connection does not speak TLS 1.3.

    Attributes:
        host: Address that was dialled, or that called.
        port: Its port.
        reason: What the TLS library said.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"what answers at {host}:{port} does not speak TLS 1.3: {reason}")
        self.host = host
        self.port = port
        self.reason = reason


class AuthenticationFailed(TransportError):
    """The two ends could not prove the same secret to each other.

    Attributes:
        who: ``"host:port"`` of the other end, or an empty string where it is not known.
    """

    def __init__(self, who: str = "", detail: str = "") -> None:
        at = f" at {who}" if who else ""
        super().__init__(
            f"the peer{at} could not prove our secret{': ' + detail if detail else ''}; "
            "start both sides with the same secret (-s, --secret-file or DISCORO_SECRET) and the same --cluster"
        )
        self.who = who
        self.detail = detail


class VersionMismatch(TransportError):
    """Two versions that do not understand each other.

    Attributes:
        ours: Version of this process.
        theirs: Version of the peer.
        what: What is versioned: the protocol, or Python where code is to cross.
    """

    def __init__(self, ours: str, theirs: str, what: str = "protocol") -> None:
        super().__init__(
            f"{what} {ours} here, {theirs} at the peer: install the same on both sides"
        )
        self.ours = ours
        self.theirs = theirs
        self.what = what


class Busy(TransportError):
    """The peer has no room or no patience now; nothing is wrong with the secret.

    Attributes:
        retry_in: Seconds after which a new attempt makes sense.
    """

    def __init__(self, retry_in: float, what: str = "the peer") -> None:
        super().__init__(f"{what} is busy, try again in {retry_in:g} s")
        self.retry_in = retry_in
        self.what = what


class ProtocolError(TransportError):
    """The peer broke the rules of the protocol. The link is dropped; the session may resume."""


class FrameTooBig(ProtocolError):
    """A frame header announces more bytes than the limit.

    Attributes:
        size: Announced length, in bytes.
        max_size: Limit, in bytes.
    """

    def __init__(self, size: int, max_size: int) -> None:
        super().__init__(f"frame of {size} bytes, expected at most {max_size}")
        self.size = size
        self.max_size = max_size


class ControlError(ProtocolError):
    """Control data outside the closed vocabulary, or beyond its limits."""


class SessionLost(TransportError):
    """The session is over: no link came back in time, or the process at the other end has ended.

    Attributes:
        reason: Why, in words.
        ended: How the other process ended, where somebody knows ("ended by signal 11"); else None.
    """

    def __init__(self, reason: str, ended: str | None = None) -> None:
        super().__init__(f"session lost: {reason}{f' ({ended})' if ended else ''}")
        self.reason = reason
        self.ended = ended


class SessionClosed(SessionLost):
    """The session was closed on purpose.

    Attributes:
        by_peer: True when the other side closed it.
    """

    def __init__(self, by_peer: bool) -> None:
        super().__init__("closed by the peer" if by_peer else "closed here")
        self.by_peer = by_peer


class WrongPeer(TransportError):
    """Another process than the expected one answers at an address.

    Attributes:
        expected: Process id that was asked for.
        found: Process id that answered.
    """

    def __init__(self, expected: bytes, found: bytes) -> None:
        super().__init__(
            f"process {found.hex()[:8]} answers where {expected.hex()[:8]} was: it was restarted, or another one took its port"
        )
        self.expected = expected
        self.found = found


class OwnProcess(TransportError):
    """An address was dialled at which this very process listens. There are no sessions with oneself.

    Attributes:
        host: Address that was dialled.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is this process itself")
        self.host = host
        self.port = port


class LaneFull(TransportError):
    """Too much waits for one receiver already; nothing was queued.

    Attributes:
        waiting: Bytes that wait.
        limit: How many may, in bytes.
    """

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(
            f"{waiting} bytes wait for this receiver, at most {limit} may: it takes too slowly, or use deliver"
        )
        self.waiting = waiting
        self.limit = limit


class TransferFailed(TransportError):
    """A big message or file did not get through.

    Attributes:
        transfer: Number of the transfer.
        reason: Why, in words.
    """

    def __init__(self, transfer: int, reason: str) -> None:
        super().__init__(f"transfer {transfer} failed: {reason}")
        self.transfer = transfer
        self.reason = reason


class FileError(TransportError):
    """Something about a file.

    Attributes:
        name: Name of the file, as the sender gave it.
        reason: What is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"file {name!r}: {reason}")
        self.name = name
        self.reason = reason


class UnsafePath(FileError):
    """A file name that leads, or could lead, outside the folder it is meant for."""


class FileRefused(FileError):
    """The receiver does not take this file."""


class QuotaExceeded(FileRefused):
    """A file that goes beyond a quota; refused before its first byte.

    Attributes:
        limit: What is allowed, in the unit of the quota (bytes, or files).
        needed: What this file would have come to.
    """

    def __init__(self, name: str, reason: str, limit: int, needed: int) -> None:
        super().__init__(name, f"{reason}: {needed}, allowed are {limit}")
        self.limit = limit
        self.needed = needed


class NameHeld(FileRefused):
    """The name is taken by other content.

    Attributes:
        holder: Who holds it.
    """

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            name, f"is held with other content by {holder}: close that first, or use another name"
        )
        self.holder = holder

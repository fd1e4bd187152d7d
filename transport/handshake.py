"""The handshake: both ends prove the shared secret, bound to the server's certificate. Pure: bytes in, bytes out.

It runs inside TLS 1.3, before anything else, on every connection: new session, resume, bulk, sibling server.
The proof is CPace (draft-irtf-cfrg-cpace, CPACE-X25519-SHA512) followed by key confirmation, client first: so
the *server* sees and counts every wrong guess, and whoever merely listens, relays or pretends to be a server
learns nothing to guess against offline.

Every frame, network byte order; type and length must match the table exactly, decided from four bytes::

    0x00  B  1  type
    0x01  B  1  zero
    0x02  H  2  length of the body
    0x04     n  body

    1     C->S  CLIENT_HELLO    "DSC1" | lowest version B | highest version B | flags H, zero | cluster tag 8 | nonce 32 | share 32
    2     S->C  SERVER_HELLO    "DSC1" | version B | version B | flags H, zero | cluster tag 8 | nonce 32 | share 32
    3     C->S  CLIENT_CONFIRM  tag 32
    4     S->C  SERVER_CONFIRM  tag 32
    0x7f  S->C  FAIL            code I | detail I      (BUSY: milliseconds to wait; VERSION: lowest << 8 | highest)

The keys, and what they are bound to, are those of ``proofs.py``. The version that the server chose is under both
proofs, so nobody talks two ends down to an older one.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

from cpace import CPace, CPaceError, CPaceRole

from .errors import (
    AuthenticationFailed,
    Busy,
    FrameTooBig,
    ProtocolError,
    TransportError,
    VersionMismatch,
)
from .limits import Limits
from .proofs import (
    Keys,
    bulk_answer_proof,
    bulk_proof,
    channel_identifier,
    client_tag,
    cluster_tag,
    open_proof,
    resume_proof,
    resumed_proof,
    same_proof,
    server_tag,
    transcript,
)

__all__ = [
    "VERSIONS",
    "Accepted",
    "ClientHandshake",
    "FailCode",
    "FrameType",
    "OtherCluster",
    "ServerHandshake",
    "ShuttingDown",
    "bulk_answer_proof",
    "bulk_proof",
    "open_proof",
    "resume_proof",
    "resumed_proof",
    "same_proof",
]

MAGIC = b"DSC1"
VERSIONS = (1, 1)
"""Lowest and highest version of the protocol that this program speaks."""

_HEADER = struct.Struct(">BBH")
_HELLO = struct.Struct(">4sBBH8s32s32s")
_FAIL = struct.Struct(">II")
_ASSOCIATED_BYTES = 48
_LONGEST_WAIT = 60.0  # what a server may tell us to wait; a false one could say 49 days


class FrameType(IntEnum):
    """Frames of the handshake."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CLIENT_CONFIRM = 3
    SERVER_CONFIRM = 4
    FAIL = 0x7F


_BODY_BYTES = {
    FrameType.CLIENT_HELLO: _HELLO.size,
    FrameType.SERVER_HELLO: _HELLO.size,
    FrameType.CLIENT_CONFIRM: 32,
    FrameType.SERVER_CONFIRM: 32,
    FrameType.FAIL: _FAIL.size,
}


class FailCode(IntEnum):
    """Why a server refuses. Unauthenticated: it never ends a session."""

    WRONG_SECRET = 1
    VERSION = 2
    BUSY = 3
    SHUTTING_DOWN = 4
    OTHER_CLUSTER = 5


class OtherCluster(TransportError):
    """The peer belongs to another cluster. Says nothing about its secret.

    Attributes:
        ours: Name of our cluster.
        who: ``"host:port"`` of the peer, or an empty string where it is not known.
    """

    def __init__(self, ours: str, who: str = "") -> None:
        at = f" at {who}" if who else ""
        super().__init__(
            f"the peer{at} is not of our cluster, {ours!r}; start both sides with the same --cluster"
        )
        self.ours = ours
        self.who = who


class ShuttingDown(TransportError):
    """The peer is ending and takes no new connections.

    Attributes:
        who: ``"host:port"`` of the peer, or an empty string where it is not known.
    """

    def __init__(self, who: str = "") -> None:
        super().__init__(f"the peer{f' at {who}' if who else ''} is shutting down")
        self.who = who


@dataclass(frozen=True, slots=True)
class Accepted:
    """What both ends hold after the handshake.

    Attributes:
        key: The session's key, 32 bytes: what :func:`resume_proof` and the like prove later.
        transcript: Hash of this handshake, 32 bytes; ties a proof to this connection.
        version: Version of the protocol that both speak.
        leftover: Bytes of the peer that stood behind its last frame (client only; the server refuses them).
    """

    key: bytes
    transcript: bytes
    version: int
    leftover: bytes = b""

    def __repr__(self) -> str:
        return f"<Accepted version {self.version}>"


class _State(Enum):
    HELLO = "waiting for the hello"
    CONFIRM = "waiting for the confirmation"
    ENDED = "over"


class _Refused(Exception):
    """Leaves the arithmetic with the error to report and the FAIL to send, if any."""

    def __init__(self, error: TransportError, fail: bytes = b"") -> None:
        super().__init__(error)
        self.error = error
        self.fail = fail


class _Handshake:
    """What both roles share: framing, keys, the end.

    After :meth:`receive_data`, :meth:`receive_eof` and :meth:`handle_deadline` the caller sends
    :meth:`data_to_send`, then looks at :attr:`done` and :attr:`failed`. None of them ever raises because of what
    a peer has sent, and never more than one frame (84 bytes) is kept.
    """

    _takes: ClassVar[dict[_State, tuple[FrameType, ...]]]

    def __init__(
        self,
        prs: bytes,
        fingerprint: bytes,
        cluster: str,
        random_bytes: Callable[[int], bytes],
        now: float,
        limits: Limits | None,
        who: str,
        versions: tuple[int, int],
    ) -> None:
        self._prs: bytes = prs
        self._fingerprint = fingerprint
        self._cluster = cluster
        self._tag = cluster_tag(cluster)
        self._nonce = random_bytes(32)
        self._who = who
        self._versions = versions
        self._state = _State.HELLO
        # The frame that is arriving, never more.
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._cpace: CPace | None = None
        self._hello = b""
        self._keys = Keys()
        self._transcript = b""
        self._version = 0
        #: When the handshake must be over. A server holds it; a client may wait longer (busy is not dead).
        self.deadline = now + (limits or Limits()).handshake_timeout
        #: Set once both ends have proved the secret.
        self.done: Accepted | None = None
        #: Set once the handshake has failed; the connection is of no use any more, except to send what is left.
        self.failed: TransportError | None = None

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the peer. After the end of the handshake they belong to the session."""
        if self.done is not None:
            raise RuntimeError("the handshake is over, these bytes belong to the session")
        rest = memoryview(data)
        try:
            while rest and self._state is not _State.ENDED:
                rest = self._take(rest)
        except _Refused as refused:
            self._fail(refused.error, refused.fail)

    def receive_eof(self) -> None:
        """Note that the peer has closed the connection."""
        self._fail(ProtocolError(f"the connection ended in the handshake, {self._state.value}"))

    def handle_deadline(self, now: float) -> None:
        """Fail if the deadline has passed."""
        if now >= self.deadline:
            self._fail(ProtocolError(f"the handshake took too long, {self._state.value}"))

    def data_to_send(self) -> bytes:
        """Return what has to be written to the peer, once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def _take(self, rest: memoryview) -> memoryview:
        """Take from ``rest`` what the frame at hand still needs; handle it when it is whole."""
        wanted = _HEADER.size
        if len(self._buffer) >= wanted:
            wanted += _HEADER.unpack_from(self._buffer)[2]
        part = rest[: wanted - len(self._buffer)]
        rest = rest[len(part) :]
        self._buffer += part
        if len(self._buffer) == _HEADER.size:
            self._check_header()
        elif len(self._buffer) == wanted:
            kind, body = FrameType(self._buffer[0]), bytes(self._buffer[_HEADER.size :])
            self._buffer.clear()
            self._frame(kind, body, rest)
        return rest

    def _check_header(self) -> None:
        kind, zero, length = _HEADER.unpack(self._buffer)
        if kind not in self._takes[self._state] or zero:
            raise _Refused(ProtocolError(f"not a discoro handshake, {self._state.value}"))
        wanted = _BODY_BYTES[FrameType(kind)]
        if length > wanted:
            raise _Refused(FrameTooBig(length, wanted))
        if length != wanted:
            raise _Refused(ProtocolError(f"handshake frame of {length} bytes instead of {wanted}"))

    def _frame(self, kind: FrameType, body: bytes, rest: memoryview) -> None:
        raise NotImplementedError

    def _parse_hello(self, body: bytes) -> tuple[int, int, int, bytes, bytes]:
        """Return lowest version, highest version, flags, cluster tag, share."""
        magic, lowest, highest, flags, tag, nonce, share = _HELLO.unpack(body)
        if magic != MAGIC or not 1 <= lowest <= highest:
            raise _Refused(ProtocolError("not a discoro hello"))
        if nonce == self._nonce:
            raise _Refused(ProtocolError("the peer sends our own hello back"))
        return lowest, highest, flags, tag, share

    def _start(self, role: CPaceRole, sid: bytes, versions: tuple[int, int], offer: bytes) -> None:
        """Begin CPace and make our hello; ``offer`` is the pair of version bytes in it."""
        associated = MAGIC + offer + bytes(2) + self._tag + self._nonce
        channel = channel_identifier(self._fingerprint, versions, self._cluster)
        self._cpace = CPace.start(role=role, prs=self._prs, sid=sid, ci=channel, ad=associated)
        self._prs = b""
        self._hello = associated + self._cpace.public_share

    def _derive(self, share: bytes, peer_hello: bytes, client: bytes, server: bytes) -> None:
        assert self._cpace is not None
        try:
            self._cpace.derive(share, peer_hello[:_ASSOCIATED_BYTES])
        except CPaceError:
            raise _Refused(ProtocolError("the peer's share is a point of low order")) from None
        self._keys = Keys.derived(self._cpace.isk)
        self._cpace = None
        self._transcript = transcript(client, server, self._fingerprint)

    def _accept(self, leftover: bytes = b"") -> None:
        self._state = _State.ENDED
        key, self._keys = self._keys.resume, Keys()
        self.done = Accepted(key, self._transcript, self._version, leftover)

    def _fail(self, error: TransportError, fail: bytes = b"") -> None:
        if self._state is _State.ENDED:
            return
        self._state = _State.ENDED
        self._buffer.clear()
        self._outgoing += fail
        self._prs, self._cpace, self._keys = b"", None, Keys()
        self.failed = error


class ClientHandshake(_Handshake):
    """The side that dialled.

    Args:
        prs: :attr:`Secret.prs`, 32 bytes.
        fingerprint: SHA-256 of the certificate that the server has shown, 32 bytes.
        cluster: Name of our cluster.
        random_bytes: ``os.urandom``, or something known in a test.
        now: Seconds; only :attr:`deadline` depends on it.
        limits: For ``handshake_timeout``.
        who: ``"host:port"`` that was dialled, for the errors.
        versions: Lowest and highest version that we speak.

    Errors in :attr:`failed`: AuthenticationFailed, OtherCluster, VersionMismatch, Busy (with ``retry_in``),
    ShuttingDown, ProtocolError.
    """

    _takes: ClassVar = {
        _State.HELLO: (FrameType.SERVER_HELLO, FrameType.FAIL),
        _State.CONFIRM: (FrameType.SERVER_CONFIRM, FrameType.FAIL),
    }

    def __init__(
        self,
        prs: bytes,
        fingerprint: bytes,
        cluster: str,
        random_bytes: Callable[[int], bytes],
        now: float,
        limits: Limits | None = None,
        *,
        who: str = "",
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        super().__init__(prs, fingerprint, cluster, random_bytes, now, limits, who, versions)
        self._start(CPaceRole.INITIATOR, self._nonce, versions, bytes(versions))
        self._outgoing += _frame(FrameType.CLIENT_HELLO, self._hello)
        self._expected_tag = b""

    def _frame(self, kind: FrameType, body: bytes, rest: memoryview) -> None:
        if kind is FrameType.FAIL:
            raise _Refused(self._refusal(*_FAIL.unpack(body)))
        if kind is FrameType.SERVER_HELLO:
            if rest:
                raise _Refused(ProtocolError("the server speaks before our proof"))
            self._server_hello(body)
        elif hmac.compare_digest(body, self._expected_tag):
            self._accept(bytes(rest))
        else:
            raise _Refused(
                AuthenticationFailed(self._who, "its own proof is wrong, so it may be an impostor")
            )

    def _server_hello(self, body: bytes) -> None:
        version, again, flags, tag, share = self._parse_hello(body)
        if version != again or flags or not self._versions[0] <= version <= self._versions[1]:
            raise _Refused(ProtocolError("the server chose what we did not offer"))
        if not hmac.compare_digest(tag, self._tag):
            raise _Refused(OtherCluster(self._cluster, self._who))
        self._version = version
        self._derive(share, body, self._hello, body)
        tag = client_tag(self._keys, self._transcript)
        self._expected_tag = server_tag(self._keys, self._transcript, tag)
        self._outgoing += _frame(FrameType.CLIENT_CONFIRM, tag)
        self._state = _State.CONFIRM

    def _refusal(self, code: int, detail: int) -> TransportError:
        """Return the error that a FAIL stands for."""
        if code == FailCode.WRONG_SECRET:
            return AuthenticationFailed(self._who)
        if code == FailCode.VERSION:
            theirs = _version_text((detail >> 8) & 0xFF, detail & 0xFF)
            return VersionMismatch(_version_text(*self._versions), theirs)
        if code == FailCode.BUSY:
            return Busy(min(detail / 1000, _LONGEST_WAIT), self._who or "the peer")
        if code == FailCode.SHUTTING_DOWN:
            return ShuttingDown(self._who)
        if code == FailCode.OTHER_CLUSTER:
            return OtherCluster(self._cluster, self._who)
        return ProtocolError(f"the server refuses with the unknown code {code}")


class ServerHandshake(_Handshake):
    """The side that was called. It stays silent until a whole hello is there: no banner for scanners.

    Args:
        prs: :attr:`Secret.prs`, 32 bytes.
        fingerprint: SHA-256 of our certificate, 32 bytes.
        cluster: Name of our cluster.
        random_bytes: ``os.urandom``, or something known in a test.
        now: Seconds; :attr:`deadline` depends on it.
        limits: For ``handshake_timeout``.
        who: Where the client calls from, for the errors.
        versions: Lowest and highest version that we speak.
        admit: Asked once the hello is there and before any arithmetic; seconds that the client has to wait,
            or None to go on (:meth:`Throttle.admit`).

    Errors in :attr:`failed`: AuthenticationFailed (the one to count as a guess), OtherCluster,
    VersionMismatch, Busy, ShuttingDown, ProtocolError.
    """

    _takes: ClassVar = {
        _State.HELLO: (FrameType.CLIENT_HELLO,),
        _State.CONFIRM: (FrameType.CLIENT_CONFIRM,),
    }

    def __init__(
        self,
        prs: bytes,
        fingerprint: bytes,
        cluster: str,
        random_bytes: Callable[[int], bytes],
        now: float,
        limits: Limits | None = None,
        *,
        who: str = "",
        versions: tuple[int, int] = VERSIONS,
        admit: Callable[[], float | None] | None = None,
    ) -> None:
        super().__init__(prs, fingerprint, cluster, random_bytes, now, limits, who, versions)
        self._admit = admit

    def refuse_busy(self, retry_in: float) -> None:
        """Send FAIL "busy" now, whatever has arrived; for connections beyond the number allowed."""
        self._fail(Busy(retry_in, "this process"), _busy(retry_in))

    def refuse_closing(self) -> None:
        """Send FAIL "shutting down" now, whatever has arrived."""
        self._fail(ShuttingDown(), _fail_frame(FailCode.SHUTTING_DOWN))

    def _frame(self, kind: FrameType, body: bytes, rest: memoryview) -> None:
        if rest:
            # A client waits for our answer after each of its frames; before our proof it may not say more.
            raise _Refused(ProtocolError("the client sends ahead of the handshake"))
        if kind is FrameType.CLIENT_HELLO:
            self._client_hello(body)
        else:
            self._client_confirm(body)

    def _client_hello(self, body: bytes) -> None:
        lowest, highest, flags, tag, share = self._parse_hello(body)
        self._version = min(highest, self._versions[1])
        if self._version < max(lowest, self._versions[0]):
            ours, theirs = _version_text(*self._versions), _version_text(lowest, highest)
            detail = self._versions[0] << 8 | self._versions[1]
            raise _Refused(VersionMismatch(ours, theirs), _fail_frame(FailCode.VERSION, detail))
        if flags:
            raise _Refused(ProtocolError("unknown flags in the client's hello"))
        if not hmac.compare_digest(tag, self._tag):
            raise _Refused(
                OtherCluster(self._cluster, self._who), _fail_frame(FailCode.OTHER_CLUSTER)
            )
        wait = self._admit() if self._admit is not None else None
        if wait is not None:
            raise _Refused(Busy(wait, "this process"), _busy(wait))
        nonce = body[_ASSOCIATED_BYTES - 32 : _ASSOCIATED_BYTES]
        offer = bytes((self._version, self._version))
        self._start(CPaceRole.RESPONDER, nonce, (lowest, highest), offer)
        self._derive(share, body, body, self._hello)
        self._outgoing += _frame(FrameType.SERVER_HELLO, self._hello)
        self._state = _State.CONFIRM

    def _client_confirm(self, tag: bytes) -> None:
        if not hmac.compare_digest(tag, client_tag(self._keys, self._transcript)):
            raise _Refused(AuthenticationFailed(self._who), _fail_frame(FailCode.WRONG_SECRET))
        ours = server_tag(self._keys, self._transcript, tag)
        self._outgoing += _frame(FrameType.SERVER_CONFIRM, ours)
        self._accept()


def _version_text(lowest: int, highest: int) -> str:
    return str(highest) if lowest == highest else f"{lowest} to {highest}"


def _frame(kind: FrameType, body: bytes) -> bytes:
    return _HEADER.pack(kind, 0, len(body)) + body


def _fail_frame(code: FailCode, detail: int = 0) -> bytes:
    return _frame(FrameType.FAIL, _FAIL.pack(code, detail))


def _busy(retry_in: float) -> bytes:
    return _fail_frame(FailCode.BUSY, max(1, min(round(retry_in * 1000), 0xFFFFFFFF)))

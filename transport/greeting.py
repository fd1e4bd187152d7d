"""The first frames of a connection: OPEN and OPENED, RESUME and RESUMED, BULK and BULKED, RESET. Pure.

Values in, bytes out, and back; what is wrong raises :class:`~.errors.ProtocolError`.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import codec
from .errors import ControlError, ProtocolError, SessionClosed, SessionLost
from .frames import ID_BYTES, PROOF_BYTES, FrameType, Hello, ResetCode, bare
from .limits import Limits

MOST_PROOFS = 16
"""Proofs in one OPEN; more than :data:`.formerkeys.KEYS` for each of the two sessions it may name cannot be."""


@dataclass(frozen=True, slots=True)
class Open:
    """Wish for a new session.

    Attributes:
        session: Id of the session, chosen by the side that dials: a repeated OPEN is recognised by it.
        hello: What that side says about itself.
        expect: Process id that must answer, or empty.
        instead: Session of the same two processes that is over for that side, or empty.
        fresh: Sessions that others have opened with that side, and of which it has heard nothing since. When one of them is
            the peer's own, whose OPENED is still on its way, the two dials have crossed.
        proofs: That ``session``, or ``instead``, was opened by that side: with each key by which the peer may know it.
    """

    session: bytes
    hello: Hello
    expect: bytes = b""
    instead: bytes = b""
    fresh: tuple[bytes, ...] = ()
    proofs: tuple[bytes, ...] = ()

    def encode(self, epoch: int, limits: Limits) -> bytes:
        """Return the frame."""
        body = {
            "session": self.session,
            "expect": self.expect,
            "instead": self.instead,
            "fresh": list(self.fresh),
            "proofs": list(self.proofs),
            "hello": self.hello.to_control(),
        }
        return bare(FrameType.OPEN, epoch, 0, codec.encode(body, limits))

    @classmethod
    def decode(cls, body: bytes, limits: Limits) -> Open:
        """Read the body of the frame."""
        data = codec.decode(body, limits)
        session = codec.field(data, "session", bytes)
        expect, instead = (codec.field(data, name, bytes, b"") for name in ("expect", "instead"))
        if len(session) != ID_BYTES or not {len(expect), len(instead)} <= {0, ID_BYTES}:
            raise ControlError("an id of the wrong length in OPEN")
        fresh = codec.field(data, "fresh", list, [])
        if not all(type(one) is bytes for one in fresh):
            raise ControlError("a session id that is not bytes in OPEN")
        proofs = codec.field(data, "proofs", list, [])
        if len(proofs) > MOST_PROOFS or not all(
            type(one) is bytes and len(one) == PROOF_BYTES for one in proofs
        ):
            raise ControlError("no proofs in the field for them in OPEN")
        hello = Hello.from_control(data.get("hello"))
        return cls(session, hello, expect, instead, tuple(fresh), tuple(proofs))


def opened(epoch: int, last: int, hello: Hello, limits: Limits) -> bytes:
    """Return the answer to OPEN."""
    return bare(FrameType.OPENED, epoch, last, codec.encode({"hello": hello.to_control()}, limits))


def read_opened(body: bytes, limits: Limits) -> Hello:
    """Return what the other side says about itself."""
    return Hello.from_control(codec.field(codec.decode(body, limits), "hello", dict))


def claim(kind: FrameType, epoch: int, last: int, session: bytes, proof: bytes) -> bytes:
    """Return RESUME or BULK: a claim to a session, with its proof."""
    return bare(kind, epoch, last, session + proof)


def read_claim(body: bytes) -> tuple[bytes, bytes]:
    """Return session id and proof of RESUME or BULK."""
    if len(body) != ID_BYTES + PROOF_BYTES:
        raise ProtocolError(f"a claim to a session of {len(body)} bytes")
    return body[:ID_BYTES], body[ID_BYTES:]


def read_proof(body: bytes) -> bytes:
    """Return the proof of RESUMED or BULKED."""
    if len(body) != PROOF_BYTES:
        raise ProtocolError(f"a proof of {len(body)} bytes")
    return body


@dataclass(frozen=True, slots=True)
class Reset:
    """An authenticated refusal.

    Attributes:
        code: Why.
        process: Process id of who refuses, or of who has ended.
        session: The session that there is already (HAVE_ONE).
        text: How the process ended (ENDED), or the one before it (UNKNOWN), or words for the log.
        retry_in: Seconds (BUSY).
    """

    code: ResetCode
    process: bytes = b""
    session: bytes = b""
    text: str = ""
    retry_in: float = 0.0

    def encode(self, limits: Limits) -> bytes:
        """Return the frame."""
        body = {
            "process": self.process,
            "session": self.session,
            "text": self.text[:1000],
            "retry_in": self.retry_in,
        }
        return bare(FrameType.RESET, self.code, 0, codec.encode(body, limits))

    @classmethod
    def decode(cls, number: int, body: bytes, limits: Limits) -> Reset:
        """Read number and body of the frame."""
        try:
            code = ResetCode(number)
        except ValueError:
            raise ProtocolError(f"a refusal with code {number}") from None
        data = codec.decode(body, limits)
        return cls(
            code,
            codec.field(data, "process", bytes, b""),
            codec.field(data, "session", bytes, b""),
            codec.field(data, "text", str, ""),
            min(60.0, max(0.0, codec.field(data, "retry_in", float, 0.0))),
        )

    def as_loss(self, theirs: bytes = b"") -> SessionLost:
        """Return what it means for a session with the process ``theirs`` that wanted to resume."""
        if self.code is ResetCode.CLOSED:
            return SessionClosed(by_peer=True)
        if self.code is ResetCode.ENDED:
            return SessionLost("the process at the other end has ended", self.text or "ended")
        if self.code is ResetCode.UNKNOWN:
            if self.process == theirs:
                return SessionLost("the process at the other end has given the session up")
            return SessionLost("the process at the other end was restarted", self.text or None)
        return SessionLost(f"the peer does not resume it: {self.text or self.code.name}")

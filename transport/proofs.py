"""Proofs: the key schedule of the handshake, and the proofs that a session makes with its key later. Pure.

Key schedule, lv() being the draft's LEB128 length prefix::

    fp   = SHA-256(certificate of the server, DER)                        (tls-server-end-point, RFC 5929)
    CI   = lv("discoro/1") lv("tls-server-end-point") lv(fp) lv(lowest and highest version of the client) lv(cluster name)
    sid  = nonce of the client;  ADc, ADs = first 48 bytes of each hello
    ISK  = CPace(PRS, CI, sid, ADc, ADs)
    prk  = HMAC-SHA256("discoro/1 hkdf", ISK)
    kc, ks, kr = HKDF-Expand(prk, "discoro/1 client confirm" | "... server confirm" | "... session resume", 32)
    th   = SHA-256(CLIENT_HELLO body | SERVER_HELLO body | fp)
    tags = HMAC-SHA256(kc, th) | HMAC-SHA256(ks, th | client's tag)

**The cluster tag** is the first 8 bytes of SHA-256("discoro/1 cluster" | cluster name). It is there so that
another cluster is told as such and not as a wrong secret: a server answers another tag with FAIL, before any
arithmetic. It reveals to whoever we dial a hash of our cluster's name, and to whoever dials us whether that
person has guessed the name. Neither is a secret: discovery sends the name in clear.

Proofs of a session on another connection, th being that connection's::

    RESUME   HMAC-SHA256(kr, lv("discoro/1 resume") | th | epoch Q | rx Q)
    RESUMED  HMAC-SHA256(kr, lv("discoro/1 resumed") | th | epoch Q | rx Q)
    BULK     HMAC-SHA256(kr, lv("discoro/1 bulk") | th | session id), its answer with "discoro/1 bulk answer"
    OPEN     HMAC-SHA256(kr, lv("discoro/1 open") | th | session id), of a session that it repeats or replaces
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What follows from one run of CPace: keys of the two confirmations, and the session's.

    Empty where they are not known yet, or no longer needed.
    """

    client: bytes = b""
    server: bytes = b""
    resume: bytes = b""

    @classmethod
    def derived(cls, isk: bytes) -> Keys:
        """Return the keys that follow from CPace's ISK."""
        prk = hmac.digest(b"discoro/1 hkdf", isk, "sha256")
        # One block of HKDF-Expand (RFC 5869, 2.3): HMAC(prk, info | 0x01).
        return cls(
            *(
                hmac.digest(prk, b"discoro/1 " + use + b"\x01", "sha256")
                for use in (b"client confirm", b"server confirm", b"session resume")
            )
        )


def cluster_tag(cluster: str) -> bytes:
    """Return the 8 bytes by which two ends tell whether they belong to one cluster."""
    return hashlib.sha256(b"discoro/1 cluster" + _cluster_bytes(cluster)).digest()[:8]


def channel_identifier(fingerprint: bytes, versions: tuple[int, int], cluster: str) -> bytes:
    """Return CPace's CI: what the proof is bound to beside the secret. ``versions``: the client's pair."""
    parts = (b"discoro/1", b"tls-server-end-point", fingerprint, bytes(versions))
    return b"".join(_length_value(part) for part in (*parts, _cluster_bytes(cluster)))


def resume_proof(key: bytes, transcript: bytes, epoch: int, rx: int) -> bytes:
    """Return the proof of RESUME, 32 bytes.

    Args:
        key: ``key`` of the session's first handshake: only who opened the session can take it over.
        transcript: ``transcript`` of this connection's handshake: a recorded proof is worth nothing.
        epoch: Number of this link of the session.
        rx: Number of the next batch expected.
    """
    return _proof(key, b"discoro/1 resume", transcript, struct.pack(">QQ", epoch, rx))


def resumed_proof(key: bytes, transcript: bytes, epoch: int, rx: int) -> bytes:
    """Return the proof of RESUMED, the answer; arguments as for :func:`resume_proof`."""
    return _proof(key, b"discoro/1 resumed", transcript, struct.pack(">QQ", epoch, rx))


def bulk_proof(key: bytes, transcript: bytes, session: bytes) -> bytes:
    """Return the proof of the side that dials a bulk connection for ``session``."""
    return _proof(key, b"discoro/1 bulk", transcript, session)


def bulk_answer_proof(key: bytes, transcript: bytes, session: bytes) -> bytes:
    """Return the proof of the side that takes a bulk connection for ``session``."""
    return _proof(key, b"discoro/1 bulk answer", transcript, session)


def open_proof(key: bytes, transcript: bytes, session: bytes) -> bytes:
    """Return the proof of who opens ``session`` again, or another one in its place."""
    return _proof(key, b"discoro/1 open", transcript, session)


def same_proof(one: bytes, other: bytes) -> bool:
    """Compare two proofs in constant time."""
    return hmac.compare_digest(one, other)


def transcript(client_hello: bytes, server_hello: bytes, fingerprint: bytes) -> bytes:
    """Return the hash of one handshake; the hellos are their bodies."""
    return hashlib.sha256(client_hello + server_hello + fingerprint).digest()


def client_tag(keys: Keys, transcript: bytes) -> bytes:
    """Return the client's proof, 32 bytes."""
    return hmac.digest(keys.client, transcript, "sha256")


def server_tag(keys: Keys, transcript: bytes, client: bytes) -> bytes:
    """Return the server's proof, which covers the client's."""
    return hmac.digest(keys.server, transcript + client, "sha256")


def _proof(key: bytes, label: bytes, transcript: bytes, data: bytes) -> bytes:
    return hmac.digest(key, _length_value(label) + transcript + data, "sha256")


def _length_value(data: bytes) -> bytes:
    """Return ``data`` behind its length in LEB128 (draft-irtf-cfrg-cpace, prepend_len)."""
    length, prefix = len(data), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + data


def _cluster_bytes(cluster: str) -> bytes:
    return unicodedata.normalize("NFC", cluster).encode()

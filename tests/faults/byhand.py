"""A peer that speaks the protocol by hand, over a blocking socket: a stranger, or a member who knows the secret and cheats.

It uses the project's own coders for bytes and nothing of its sessions, so it can say what no session would.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import msgpack

from discoro.transport.frames import (
    HEADER,
    ONE_HEADER,
    BatchCoder,
    Entry,
    FrameType,
    Hello,
    Kind,
    bare,
)
from discoro.transport.greeting import Open, Reset, claim
from discoro.transport.handshake import (
    Accepted,
    ClientHandshake,
    bulk_proof,
    open_proof,
    resume_proof,
)
from discoro.transport.limits import Limits
from discoro.transport.secret import Secret
from discoro.transport.tls import client_context

LIMITS = Limits()


@cache
def stretched(secret: str) -> bytes:
    """What a secret stands for; made once, it takes 60 ms."""
    return Secret(secret).prs


def tls_to(
    port: int,
    source: str | None = None,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Any:
    """A TLS connection to a local port, from one of the many addresses of this machine."""
    raw = socket.create_connection((host, port), 10, source_address=(source, 0) if source else None)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return (context or client_context()).wrap_socket(raw, server_hostname="discoro")
    except BaseException:
        raw.close()
        raise


def fingerprint(sock: ssl.SSLSocket) -> bytes:
    der = sock.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).digest()


def shake(
    sock: Any, secret: str, cluster: str = "default", seen: bytes | None = None
) -> ClientHandshake:
    """Run the client's handshake to its end, good or bad; ``seen`` is what the certificate's hash is said to be."""
    hand = ClientHandshake(
        stretched(secret), seen or fingerprint(sock), cluster, os.urandom, 0.0, LIMITS
    )
    while hand.done is None and hand.failed is None:
        sock.sendall(hand.data_to_send())
        data = sock.recv(4096)
        if data:
            hand.receive_data(data)
        else:
            hand.receive_eof()
    return hand


class Member:
    """Somebody who knows the secret, over one connection at a time.

    Attributes:
        proof: What the handshake gave.
        process: The process id it claims.
        entries: What came in, decoded.
    """

    def __init__(self, port: int, secret: str, *, process: bytes | None = None) -> None:
        self.port = port
        self.secret = secret
        self.process = process or os.urandom(16)
        self.session = os.urandom(16)
        self.epoch = 0
        self.key = b""
        self.number = 0
        self.got = 0
        self._asked = 0
        self.entries: list[Entry] = []
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.ours: Hello | None = None
        self.sock: Any = None
        self._coder = BatchCoder(LIMITS)
        self._buffer = b""
        self._reader: threading.Thread | None = None
        self.over = threading.Event()
        try:
            self.prove()
        except BaseException:
            self.hang_up()
            raise

    # --- connections

    def prove(self) -> Accepted:
        """Make a new connection and prove the secret on it."""
        if self.sock is not None:
            self.hang_up()
        self.sock = tls_to(self.port)
        hand = shake(self.sock, self.secret)
        assert hand.done is not None, hand.failed
        self.proof = hand.done
        self._buffer = hand.done.leftover
        return hand.done

    def say(self, data: bytes) -> bool:
        """Write; False when the other side has hung up."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def frame(self, timeout: float = 10.0) -> tuple[int, int, int, bytes]:
        """Read one frame: type, number, ack, body. Raises EOFError at the end."""
        self.sock.settimeout(timeout)
        while True:
            if len(self._buffer) >= HEADER.size:
                length, kind, _, _, number, ack = HEADER.unpack_from(self._buffer)
                end = 4 + length
                if len(self._buffer) >= end:
                    whole, self._buffer = self._buffer[:end], self._buffer[end:]
                    if kind in (FrameType.BATCH, FrameType.ONE):
                        self.got = number
                        self.entries += self._coder.entries_of(whole)
                    return kind, number, ack, whole[HEADER.size :]
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError as error:
                raise EOFError(str(error)) from error
            if not data:
                raise EOFError
            self._buffer += data

    def open(
        self, *, instead: bytes = b"", key: bytes | None = None, **hello: Any
    ) -> tuple[int, Any]:
        """Say OPEN; return the type of the answer and what it said. ``key``: of the session that it names."""
        self.epoch += 1
        self.key = self.proof.key
        who = Hello(process_id=self.process, **{"name": "by hand", "run_base": 1 << 40, **hello})
        proofs = [
            open_proof(key, self.proof.transcript, one)
            for one in (self.session, instead)
            if key is not None and one
        ]
        wish = Open(self.session, who, b"", instead, proofs=tuple(proofs))
        self.say(wish.encode(self.epoch, LIMITS))
        kind, number, _, body = self.frame()
        if kind == FrameType.RESET:
            return kind, Reset.decode(number, body, LIMITS)
        assert kind == FrameType.OPENED, kind
        self.ours = Hello.from_control(msgpack.unpackb(body)["hello"])
        return kind, self.ours

    @classmethod
    def opened(cls, port: int, secret: str, **options: Any) -> Member:
        """A member with a session."""
        made = cls(port, secret)
        kind, _ = made.open(**options)
        assert kind == FrameType.OPENED
        return made

    def resume(
        self,
        *,
        epoch: int | None = None,
        got: int | None = None,
        key: bytes | None = None,
        session: bytes | None = None,
        proof: bytes | None = None,
    ) -> tuple[int, Any]:
        """Make a new connection and claim a session on it."""
        self.prove()
        epoch = self.epoch + 1 if epoch is None else epoch
        got = self.got if got is None else got
        proof = proof or resume_proof(key or self.key, self.proof.transcript, epoch, got)
        self.say(claim(FrameType.RESUME, epoch, got, session or self.session, proof))
        kind, number, ack, body = self.frame()
        if kind == FrameType.RESET:
            return kind, Reset.decode(number, body, LIMITS)
        self.epoch = epoch
        self.number = ack
        return kind, number

    def claim_bulk(self) -> int:
        """Make the connection that was just proved the bulk connection of the session."""
        proof = bulk_proof(self.key, self.proof.transcript, self.session)
        self.say(claim(FrameType.BULK, 1, 0, self.session, proof))
        return self.frame()[0]

    def claim_bulk_again(self) -> int:
        """The same on a new connection."""
        self.prove()
        return self.claim_bulk()

    def drain_raw(self, timeout: float) -> None:
        """Read until the other side hangs up, or says nothing for a while."""
        self.sock.settimeout(timeout)
        while self.sock.recv(1 << 16):
            pass

    def bulk(self, key: bytes | None = None) -> int:
        """Make a bulk connection for the session; return the type of the answer."""
        self.prove()
        proof = bulk_proof(key or self.key, self.proof.transcript, self.session)
        self.say(claim(FrameType.BULK, self.epoch, 0, self.session, proof))
        return self.frame()[0]

    def hang_up(self) -> None:
        """Drop the connection."""
        if self.sock is None:
            return
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.sock.close()

    # --- entries

    def send(self, *entries: list[Any], ack: int | None = None, number: int | None = None) -> bool:
        """Say a batch of entries ``[kind, target, source, payload, ...]``."""
        self.number = self.number + 1 if number is None else number
        ack = self.got if ack is None else ack
        table = msgpack.packb(list(entries), use_bin_type=True)
        head = HEADER.pack(len(table) + 20, FrameType.BATCH, 0, 0, self.number, ack)
        return self.say(head + table)

    def one(self, kind: int, target: int, source: int, payload: bytes) -> bool:
        """Say one entry as a frame of its own."""
        self.number += 1
        length = len(payload) + ONE_HEADER.size - 4
        head = ONE_HEADER.pack(
            length, FrameType.ONE, kind, 0, self.number, self.got, target, source
        )
        return self.say(head + payload)

    def bare(self, kind: FrameType, number: int = 0, ack: int | None = None) -> bool:
        """Say a frame without a body."""
        return self.say(bare(kind, number, self.got if ack is None else ack))

    def wait_for(self, fact: Callable[[Entry], bool], timeout: float = 10.0) -> Entry:
        """Read until an entry fits, acknowledging what comes."""
        limit = time.monotonic() + timeout
        at = 0
        while time.monotonic() < limit:
            for entry in self.entries[at:]:
                at += 1
                if fact(entry):
                    return entry
            self.frame(max(0.01, limit - time.monotonic()))
            self.bare(FrameType.ACK)
        raise AssertionError(f"it never came; there was {self.entries}")

    def wait_for_ack(self) -> None:
        """Read until everything we said is acknowledged."""
        while self.frame()[2] < self.number:
            self.bare(FrameType.ACK)

    def word_of(self, run: int) -> Entry:
        """Return what was said about a run."""
        kinds = (Kind.OUTCOME, Kind.RESULT)
        return self.wait_for(lambda entry: entry.kind in kinds and entry.target == run)

    def request(self, data: bytes, number: int = 0) -> Entry:
        """Ask, and return the REPLY entry."""
        self._asked += 1
        number = number or self._asked
        self.one(Kind.REQUEST, 0, number, data)
        return self.wait_for(lambda entry: entry.kind == Kind.REPLY and entry.target == number)

    def ended(self, timeout: float = 10.0) -> bool:
        """Read until the other side hangs up; False if it does not within the time."""
        limit = time.monotonic() + timeout
        try:
            while time.monotonic() < limit:
                self.frame(max(0.01, limit - time.monotonic()))
        except EOFError:
            return True
        except TimeoutError:
            return False
        return False

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *exc: object) -> None:
        self.hang_up()

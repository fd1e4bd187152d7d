"""Beacons: the datagrams of discovery. Pure.

They are hints and prove nothing: "a node called X of cluster C listens at host:port". Nothing in them is derived
from the secret, since whoever hears one could guess against it; the handshake over TCP decides. Layout, network
byte order, text as UTF-8 behind one byte with its length::

    0x00  4s  "DSCD"
    0x04  B   version, 1
    0x05  B   kind: 1 ask, 2 beacon
    0x06  H   zero
    0x08  8s  ask: random; beacon: the same as in the ask that it answers, or zeros

    ask:     cluster | name that is asked for, or nothing | zeros up to ASK_BYTES
    beacon:  process id 16s | number of ports B | ports H ... | cluster | name | host, or nothing

A beacon without a host means the address that it came from. An ask is as long as all the answers to it may be
together: whoever forges the sender of an ask cannot make us send that victim more than he sends himself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .addresses import normal_host
from .errors import ProtocolError
from .limits import Limits

MAGIC = b"DSCD"
VERSION = 1
ASK_BYTES = 1_024
NO_NONCE = bytes(8)
MOST_PORTS = 64

_ASK, _BEACON = 1, 2
_HEADER = struct.Struct(">4sBBH8s")


@dataclass(frozen=True, slots=True)
class Ask:
    """The question who is there.

    Attributes:
        cluster: Only its nodes answer.
        name: Name of the scheduler or node that is looked for; empty: any.
        nonce: 8 random bytes; comes back with the answer.
    """

    cluster: str
    name: str = ""
    nonce: bytes = NO_NONCE


@dataclass(frozen=True, slots=True)
class Beacon:
    """Where somebody claims to be.

    Attributes:
        process_id: The 16 bytes of the process that listens.
        name: Its scheduler's name.
        cluster: Name of its cluster.
        ports: TCP ports on which it listens, the first is enough.
        host: Where it listens; empty: at the address that the datagram came from.
        nonce: That of the ask, or zeros when nobody asked.
    """

    process_id: bytes
    name: str
    cluster: str
    ports: tuple[int, ...]
    host: str = ""
    nonce: bytes = NO_NONCE

    def addresses(self, source: str) -> list[tuple[str, int]]:
        """Return host and port of each port, ``source`` being where the datagram came from."""
        return [(self.host or source, port) for port in self.ports]


def encode_ask(ask: Ask) -> bytes:
    """Return the datagram of an ask."""
    head = _HEADER.pack(MAGIC, VERSION, _ASK, 0, ask.nonce)
    return (head + _text(ask.cluster) + _text(ask.name)).ljust(ASK_BYTES, b"\0")


def encode_beacon(beacon: Beacon) -> bytes:
    """Return the datagram of a beacon.

    Raises:
        ValueError: If it has no port, too many, or a text of more than 255 bytes.
    """
    if not 1 <= len(beacon.ports) <= MOST_PORTS:
        raise ValueError(f"a beacon has 1 to {MOST_PORTS} ports, not {len(beacon.ports)}")
    if len(beacon.process_id) != 16:
        raise ValueError(f"a process id has 16 bytes, not {len(beacon.process_id)}")
    count = len(beacon.ports)
    return b"".join(
        (
            _HEADER.pack(MAGIC, VERSION, _BEACON, 0, beacon.nonce),
            beacon.process_id,
            struct.pack(f">B{count}H", count, *beacon.ports),
            _text(beacon.cluster),
            _text(beacon.name),
            _text(beacon.host),
        )
    )


def parse_untrusted(data: bytes) -> Ask | Beacon:
    """Return what a datagram says.

    Raises:
        ProtocolError: If it is none of ours; the only error.
    """
    if len(data) > ASK_BYTES:
        raise ProtocolError("a datagram that is too long")
    reader = _Reader(data)
    magic, version, kind, zero, nonce = _HEADER.unpack(reader.take(_HEADER.size))
    if magic != MAGIC or version != VERSION or zero:
        raise ProtocolError("a datagram that is none of ours")
    if kind == _ASK:
        return _parse_ask(reader, nonce)
    if kind == _BEACON:
        return _parse_beacon(reader, nonce)
    raise ProtocolError("a datagram of an unknown kind")


def ask_delay(count: int, limits: Limits) -> float:
    """Return the seconds to wait after the ``count``-th ask (from 1): often at first, rarely later."""
    return float(min(limits.ask_first * 2.0 ** min(count - 1, 32), limits.ask_every))


def _parse_ask(reader: _Reader, nonce: bytes) -> Ask:
    ask = Ask(reader.text(), reader.text(), nonce)
    if len(reader.data) != ASK_BYTES or any(reader.rest()) or not ask.cluster:
        raise ProtocolError("an ask of the wrong length")
    return ask


def _parse_beacon(reader: _Reader, nonce: bytes) -> Beacon:
    process_id = reader.take(16)
    count = reader.take(1)[0]
    if not 1 <= count <= MOST_PORTS:
        raise ProtocolError("a beacon without ports, or with too many")
    ports = struct.unpack(f">{count}H", reader.take(2 * count))
    cluster, name, host = reader.text(), reader.text(), reader.text()
    if reader.rest() or not all(ports) or not cluster:
        raise ProtocolError("a beacon that does not end where it should")
    if host:
        try:
            host = normal_host(host)
        except ValueError:
            raise ProtocolError("a beacon with an impossible host") from None
    return Beacon(process_id, name, cluster, ports, host, nonce)


class _Reader:
    """Takes parts off the front of a datagram."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self.data[self._at : self._at + count]
        if len(part) != count:
            raise ProtocolError("a datagram that is cut short")
        self._at += count
        return part

    def rest(self) -> bytes:
        return self.data[self._at :]

    def text(self) -> str:
        raw = self.take(self.take(1)[0])
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a datagram whose text is not UTF-8") from None
        if not text.isprintable():
            # It ends up in logs and on terminals.
            raise ProtocolError("a datagram with control characters")
        return text


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"takes more than 255 bytes in a datagram: {text!r}")
    return bytes((len(raw),)) + raw

"""The frames of a bulk connection: bytes in, headers out. Pure.

Layout, network byte order, 24 bytes and a payload::

    0  B  type
    1  B  flags, zero          2  H  zero
    4  I  length of the payload
    8  Q  number of the transfer (PING, PONG: a token)
    16 Q  value

    type        from      value      payload
    1 WANT      receiver  offset     size u64, limit u64: send from offset up to limit
    2 MORE      receiver  new limit
    3 DONE      receiver  size       all bytes are stored, and checked
    4 REFUSED   receiver  0          why, UTF-8, at most 1 KiB
    5 DATA      sender    offset     1 byte to 1 MiB
    6 DROPPED   sender    0          why, UTF-8, at most 1 KiB
    7 SETTLED   sender    0          DONE or REFUSED was heard: the receiver may forget the number
    8 PING      both      0
    9 PONG      both      0
    10 HEARD    receiver  0          DROPPED was heard: the sender may forget the number

The connection begins, after the handshake, with one BULK frame of the session protocol; these follow it in both directions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from .errors import ProtocolError

HEADER = struct.Struct(">BBHIQQ")
HEADER_BYTES = HEADER.size
REASON_BYTES = 1024
"""Longest reason of a REFUSED or DROPPED, in bytes."""
MOST_DATA = 1 << 20
"""Longest payload of one DATA frame; so long only while no other transfer waits for its turn."""

_WANT = struct.Struct(">QQ")
_NUMBER_LIMIT = 1 << 63


class FrameType(IntEnum):
    """What a frame of a bulk connection says."""

    WANT = 1
    MORE = 2
    DONE = 3
    REFUSED = 4
    DATA = 5
    DROPPED = 6
    SETTLED = 7
    PING = 8
    PONG = 9
    HEARD = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded header."""

    type: FrameType
    number: int
    value: int
    length: int


def decode_header(data: bytes | bytearray | memoryview, offset: int = 0) -> Frame:
    """Return the header that stands at ``offset``.

    Raises:
        ProtocolError: If the type is unknown, a reserved field is not zero, or the length does not fit the type.
    """
    kind, flags, zero, length, number, value = HEADER.unpack_from(data, offset)
    if flags or zero or not FrameType.WANT <= kind <= FrameType.HEARD:
        raise ProtocolError(f"bulk frame of type {kind}, flags {flags}, {zero}")
    if number >= _NUMBER_LIMIT or value >= _NUMBER_LIMIT:
        raise ProtocolError("a number above 2**63 in a bulk frame")
    if kind == FrameType.DATA:
        fits = 1 <= length <= MOST_DATA
    elif kind == FrameType.WANT:
        fits = length == _WANT.size
    elif kind in (FrameType.REFUSED, FrameType.DROPPED):
        fits = length <= REASON_BYTES
    else:
        fits = length == 0
    if not fits:
        raise ProtocolError(f"bulk frame {FrameType(kind).name} with {length} bytes")
    return Frame(FrameType(kind), number, value, length)


def encode(kind: FrameType, number: int, value: int = 0, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return HEADER.pack(kind, 0, 0, len(payload), number, value) + payload


def data_header(number: int, offset: int, length: int) -> bytes:
    """Return the header of a DATA frame; ``length`` bytes follow it."""
    return HEADER.pack(FrameType.DATA, 0, 0, length, number, offset)


def pack_want(size: int, limit: int) -> bytes:
    """Return the payload of a WANT."""
    return _WANT.pack(size, limit)


def unpack_want(payload: bytes) -> tuple[int, int]:
    """Return size and limit out of the payload of a WANT."""
    size, limit = _WANT.unpack(payload)
    return size, limit


def pack_reason(reason: str) -> bytes:
    """Return a reason as UTF-8, cut at a character to the longest that is allowed."""
    data = reason.encode("utf-8", "replace")[:REASON_BYTES]
    return data.decode("utf-8", "ignore").encode("utf-8")

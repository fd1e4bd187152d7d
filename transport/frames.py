"""Frames: the unit on the wire between two processes that have proved themselves to each other.

Pure: values in, bytes out, and back. Network byte order; every frame begins with the same 24 bytes::

    0   length u32   bytes after this field, 20 .. 1 MiB + 64 KiB; checked before anything is buffered
    4   type u8      a FrameType; anything else is an error
    5   flags u8     BATCH: bit 0 = raw tail. ONE: the kind. Else 0
    6   zero u16     0
    8   number u64   BATCH, ONE: number of the batch, from 1, +1 each. OPEN, OPENED, RESUME, RESUMED, BULK: epoch
                     of the link. PING, PONG: token. RESET: a ResetCode. Else 0
    16  ack u64      last batch received in order (cumulative; may be old, is never above what was sent)
    24  body
        BATCH            [table length u32, if flags bit 0] msgpack array of entries; raw payloads in their order
          entry          array: kind, target u64, source u64, then payloads: bin, or uint = length of a raw one
        ONE              target u64, source u64, payload to the end: a batch of one message, without msgpack
        OPEN             control map: session 16 bytes, instead 0 or 16 bytes, hello
        OPENED           control map: hello
        RESUME, BULK     session id 16, proof 32
        RESUMED, BULKED  proof 32
        RESET            control map: text, process, session, retry_in
        ACK PING PONG CLOSE   empty

Consecutive messages of the kinds SEND, RUN and RESULT with the same target and source share an entry (a *run*);
the run numbers of RUN (source) and RESULT (target) count on by one through it. Other kinds have one payload.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import msgpack

from . import codec
from .errors import ControlError, FrameTooBig, ProtocolError
from .limits import Limits

HEADER = struct.Struct(">IBBHQQ")
ONE_HEADER = struct.Struct(">IBBHQQQQ")
_LENGTH = struct.Struct(">I")
#: What the length field counts in a frame without a body.
BARE = HEADER.size - 4
RAW_TAIL = 1
ID_BYTES = 16
PROOF_BYTES = 32
#: What an entry costs on the wire at most, beside the payload itself; a further payload in a run costs 8.
ENTRY_COST = 24

Payload: TypeAlias = bytes | memoryview
#: ``(kind, target, source, payloads)``, checked.
DecodedEntry: TypeAlias = tuple[int, int, int, list[Payload]]


class FrameType(enum.IntEnum):
    """What a frame is."""

    OPEN = 1
    RESUME = 2
    RESUMED = 3
    RESET = 4
    BATCH = 5
    ACK = 6
    ONE = 7
    PING = 8
    PONG = 9
    CLOSE = 10
    OPENED = 11
    BULK = 12
    BULKED = 13


class Kind(enum.IntEnum):
    """What an entry of a batch is; the table in ``docs/architecture.md`` says what target and source mean."""

    SEND = 1
    RUN = 2
    RESULT = 3
    GRANT = 4
    DELIVER = 5
    RECEIPT = 6
    GONE = 7
    OUTCOME = 8
    STARTED = 9
    TERMINATE = 10
    WAKE = 11
    THROW = 12
    MONITOR = 13
    DOWN = 14
    DEMONITOR = 15
    REQUEST = 16
    REPLY = 17
    CANCEL = 18
    NOTICE = 19
    BIG = 20


KINDS = max(Kind) + 1
#: The last kind of which several in a row share an entry; they stand first for this test.
LAST_RUN_KIND = Kind.RESULT


class ResetCode(enum.IntEnum):
    """Why an authenticated peer will not open or resume a session."""

    UNKNOWN = 1  # no such session here: the process was restarted, or has given it up
    BAD_PROOF = 2
    OLD_EPOCH = 3
    RANGE = 4  # what one side says to have received, the other has not sent or no longer has
    CLOSED = 5
    HAVE_ONE = 6  # the two processes have a session already
    ENDED = 7  # the process behind this address has ended; the text says how
    BUSY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a process says about itself when a session opens.

    Attributes:
        process_id: 16 random bytes made at the start of the process.
        name: Name of the scheduler or server, a hint for people.
        cluster: Cluster name; equal on both sides, because the handshake binds it.
        version: Version of discoro.
        python: ``"3.11"`` and the implementation, ``"3.11 cpython"``.
        host: Address it says it can be dialled at; a hint.
        port: Port it listens on; 0 when it does not listen.
        run_base: First number that the other side may choose for coroutines it starts here.
        first_grant: Bytes that may be in flight on a new lane to it.
        role: "program", "server" or "parent".
    """

    process_id: bytes
    name: str = ""
    cluster: str = "default"
    version: str = ""
    python: str = ""
    host: str = ""
    port: int = 0
    run_base: int = 0
    first_grant: int = 0
    role: str = "program"

    def to_control(self) -> codec.Control:
        """Return it as control data."""
        return asdict(self)

    @classmethod
    def from_control(cls, data: codec.Control) -> Hello:
        """Read what a peer said. Names it does not know are skipped: later versions may say more.

        Raises:
            ControlError: If a field is missing, of another type, or out of range.
        """
        kinds = {"bytes": bytes, "str": str, "int": int}
        values = {
            one.name: codec.field(data, one.name, kinds[str(one.type)]) for one in fields(cls)
        }
        if len(values["process_id"]) != ID_BYTES:
            raise ControlError(f"process id of {len(values['process_id'])} bytes")
        for name, value in values.items():
            if type(value) is str and len(value) > 255:
                raise ControlError(f"{name} of {len(value)} characters")
            if type(value) is int and not 0 <= value < 1 << 64:
                raise ControlError(f"{name} is {value}")
        if values["port"] > 65_535:
            raise ControlError(f"port {values['port']}")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry with one payload, as it was given to ``Session.send``."""

    kind: int
    target: int
    source: int
    payload: bytes


def bare(kind: FrameType, number: int, ack: int, body: bytes = b"") -> bytes:
    """Return a frame of any type but BATCH and ONE."""
    return HEADER.pack(BARE + len(body), kind, 0, 0, number, ack) + body


def split(entries: list[DecodedEntry]) -> list[Entry]:
    """Return one :class:`Entry` per payload; the numbers of runs and results count on."""
    single = []
    for kind, target, source, payloads in entries:
        for payload in payloads:
            single.append(Entry(kind, target, source, bytes(payload)))
            if kind == Kind.RUN:
                source += 1
            elif kind == Kind.RESULT:
                target += 1
    return single


_BYTES = frozenset({bytes})


def _raw_payloads(payloads: list[Any], view: memoryview, raw: int, flags: int) -> int:
    """Put views of the raw payloads in the place of their lengths; return where the next one begins.

    Raises:
        ProtocolError: If there is something else than bytes and such lengths.
    """
    for index, payload in enumerate(payloads):
        if type(payload) is not bytes:
            if type(payload) is not int or not flags or not 0 <= payload <= len(view) - raw:
                raise ProtocolError(f"payload of type {type(payload).__name__}")
            payloads[index] = view[raw : raw + payload]
            raw += payload
    return raw


class BatchCoder:
    """Writes and reads batches. One per loop: its packer and unpacker are reused, which halves the cost of small ones."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # What a table may take: a batch, the last message in it, and what its entries cost.
        self.max_table = limits.batch_bytes + limits.frame_overhead
        self._pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack
        self._renew()

    def _renew(self) -> None:
        """Take a new unpacker; after an error the old one keeps bytes and would read them into the next table."""
        limits = self._limits
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=self.max_table,
            max_array_len=limits.batch_entries,
            max_bin_len=self.max_table,
            max_map_len=0,
            max_str_len=0,
            max_ext_len=0,
            raw=False,
        )
        self._fed = 0

    def encode(self, number: int, ack: int, entries: list[list[Any]], raw: list[bytes]) -> bytes:
        """Return the frame of a batch.

        Args:
            number: Number of the batch.
            ack: Last batch received in order.
            entries: Each ``[kind, target, source, payload, ...]``; a raw payload is its length there.
            raw: The raw payloads in order.
        """
        first = entries[0]
        if len(entries) == 1 and len(first) == 4:
            payload = raw[0] if raw else first[3]
            return (
                ONE_HEADER.pack(len(payload) + 36, 7, first[0], 0, number, ack, first[1], first[2])
                + payload
            )
        table: bytes = self._pack(entries)
        if not raw:
            return HEADER.pack(len(table) + 20, 5, 0, 0, number, ack) + table
        length = len(table) + 24 + sum(map(len, raw))
        head = HEADER.pack(length, 5, RAW_TAIL, 0, number, ack) + _LENGTH.pack(len(table))
        return b"".join((head, table, *raw))

    def decode(self, view: memoryview, flags: int) -> list[DecodedEntry]:
        """Return the entries of a BATCH frame; raw payloads are views into ``view``.

        Raises:
            ProtocolError: If anything about it is not as the module docstring says; then nothing was let through.
        """
        raw = len(view)  # offset of the next raw payload
        table = view
        if flags:
            if flags != RAW_TAIL or len(view) < 4:
                raise ProtocolError(f"flags {flags} on a batch of {len(view)} bytes")
            raw = 4 + _LENGTH.unpack_from(view)[0]
            table = view[4:raw]
        if len(table) > self.max_table or raw > len(view):
            raise ProtocolError(f"table of {raw} bytes in a batch of {len(view)}")
        entries = self._unpack(table)
        checked: list[DecodedEntry] = []
        for entry in entries:
            try:
                kind, target, source, *payloads = entry
            except (TypeError, ValueError) as exc:
                raise ProtocolError(f"an entry that is no array of four or more: {exc}") from None
            if (
                not type(kind) is type(target) is type(source) is int
                or not 0 < kind < KINDS
                or target < 0
                or source < 0
                or len(payloads) != 1
            ):
                _check_entry(kind, target, source, len(payloads))
            if not set(map(type, payloads)) <= _BYTES:  # in C: most entries have many payloads
                raw = _raw_payloads(payloads, view, raw, flags)
            checked.append((kind, target, source, payloads))
        if raw != len(view):
            raise ProtocolError(f"{len(view) - raw} bytes after the last payload")
        return checked

    def _unpack(self, table: memoryview) -> list[Any]:
        """Return the array that ``table`` holds, exactly."""
        unpacker = self._unpacker
        try:
            unpacker.feed(table)
            entries = unpacker.unpack()
        except Exception as exc:  # half a dozen classes; the fault is the peer's in each
            self._renew()
            raise ProtocolError(f"table cannot be read: {type(exc).__name__}: {exc}") from exc
        fed = self._fed + len(table)
        if unpacker.tell() != fed:
            self._renew()
            raise ProtocolError("bytes after the table")
        self._fed = fed
        if type(entries) is not list or not entries:
            raise ProtocolError("a table that is no array, or empty")
        return entries

    def entries_of(self, frame: bytes) -> list[Entry]:
        """Return the entries of one of our own frames, as they were given to ``Session.send``."""
        flags = frame[5]
        if frame[4] == FrameType.ONE:
            *_, target, source = ONE_HEADER.unpack_from(frame)
            return [Entry(flags, target, source, frame[ONE_HEADER.size :])]
        return split(self.decode(memoryview(frame)[HEADER.size :], flags))


def _check_entry(kind: Any, target: Any, source: Any, payloads: int) -> None:
    """Raise :class:`ProtocolError` for an entry that cannot be; what is left is one with several payloads, of a kind that may."""
    if not type(kind) is type(target) is type(source) is int:
        raise ProtocolError("an entry whose numbers are no numbers")
    if not 0 < kind < KINDS or target < 0 or source < 0:
        raise ProtocolError(f"an entry of kind {kind}, target {target}, source {source}")
    if not payloads or (payloads > 1 and kind > LAST_RUN_KIND):
        raise ProtocolError(f"an entry of kind {kind} with {payloads} payloads")


def check_header(length: int, kind: int, flags: int, zero: int, max_frame: int) -> None:
    """Raise :class:`ProtocolError` (or :class:`FrameTooBig`) for a header that cannot be."""
    if length > max_frame:
        raise FrameTooBig(length, max_frame)
    if length < BARE or zero:
        raise ProtocolError(f"frame header with length {length} and reserved field {zero}")
    if flags and kind not in (FrameType.BATCH, FrameType.ONE):
        raise ProtocolError(f"flags {flags} on a frame of type {kind}")

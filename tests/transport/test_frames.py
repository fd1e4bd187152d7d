"""Frames: the bytes of each kind, batches through and back, and what a hostile peer may send."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport import codec
from discoro.transport.errors import ControlError, FrameTooBig, ProtocolError
from discoro.transport.frames import (
    HEADER,
    KINDS,
    RAW_TAIL,
    BatchCoder,
    Entry,
    FrameType,
    Hello,
    Kind,
    bare,
    check_header,
    split,
)
from discoro.transport.limits import Limits

LIMITS = Limits()
HELLO = Hello(
    process_id=bytes(range(16)),
    name="server-1",
    cluster="default",
    version="1.0",
    python="3.11 cpython",
    host="10.0.0.1",
    port=51351,
    run_base=3 << 40,
    first_grant=65536,
    role="server",
)

# The bytes of each frame. Changing them breaks peers already deployed.
WIRE = [
    (bare(FrameType.ACK, 0, 5), "00000014060000000000000000000000" + "0000000000000005"),
    (bare(FrameType.PING, 7, 5), "00000014080000000000000000000007" + "0000000000000005"),
    (bare(FrameType.CLOSE, 0, 1), "000000140a0000000000000000000000" + "0000000000000001"),
    (
        bare(FrameType.RESUME, 2, 1, b"ab"),
        "00000016020000000000000000000002" + "0000000000000001" + "6162",
    ),
    (
        BatchCoder(LIMITS).encode(1, 2, [[1, 7, 9, b"hi"]], []),
        "00000026070100000000000000000001"
        + "0000000000000002"
        + "0000000000000007"
        + "0000000000000009"
        + "6869",
    ),
    (
        BatchCoder(LIMITS).encode(1, 2, [[1, 7, 9, b"a", b"b"]], []),
        "0000001f050000000000000000000001" + "0000000000000002" + "9195010709c40161c40162",
    ),
    (
        BatchCoder(LIMITS).encode(1, 2, [[5, 7, 9, b"a"], [5, 7, 8, 4]], [b"wxyz"]),
        "00000029050100000000000000000001"
        + "0000000000000002"
        + "0000000d"
        + "9294050709c401619405070804"
        + "7778797a",
    ),
]


@pytest.mark.parametrize("frame,wire", WIRE)
def test_bytes_on_the_wire(frame: bytes, wire: str) -> None:
    assert frame.hex() == wire


KIND = st.sampled_from(list(map(int, Kind)))
NUMBER = st.integers(0, 2**64 - 1)
SMALL = st.binary(max_size=30)


@st.composite
def batches(draw: Any) -> tuple[list[list[Any]], list[bytes]]:
    """Entries and raw payloads, as a session builds them."""
    entries, raw = [], []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(KIND)
        payloads: list[Any] = draw(st.lists(SMALL, min_size=1, max_size=4 if kind <= 3 else 1))
        for index in range(len(payloads)):
            if draw(st.booleans()):
                raw.append(payloads[index] * 3)
                payloads[index] = len(raw[-1])
        source = draw(st.integers(0, 2**63))
        target = draw(st.integers(0, 2**63))
        entries.append([kind, target, source, *payloads])
    return entries, raw


def whole(entries: list[list[Any]], raw: list[bytes]) -> list[Entry]:
    tail = iter(raw)
    return split(
        [
            (kind, target, source, [next(tail) if type(p) is int else p for p in payloads])
            for kind, target, source, *payloads in entries
        ]
    )


@given(batches(), st.integers(1, 2**63), st.integers(0, 2**63))
@settings(max_examples=200, deadline=None)
def test_a_batch_comes_back_as_it_went(
    batch: tuple[list[list[Any]], list[bytes]], number: int, ack: int
) -> None:
    coder = BatchCoder(LIMITS)
    frame = coder.encode(number, ack, *batch)
    length, kind, flags, zero, *numbers = HEADER.unpack_from(frame)
    assert length == len(frame) - 4 and zero == 0 and numbers == [number, ack]
    assert coder.entries_of(frame) == whole(*batch)
    check_header(length, kind, flags, zero, LIMITS.max_frame)


def test_runs_and_results_count_on() -> None:
    assert split([(2, 7, 10, [b"a", b"b"]), (3, 5, 0, [b"c", b"d"]), (1, 5, 6, [b"e", b"f"])]) == [
        Entry(2, 7, 10, b"a"),
        Entry(2, 7, 11, b"b"),
        Entry(3, 5, 0, b"c"),
        Entry(3, 6, 0, b"d"),
        Entry(1, 5, 6, b"e"),
        Entry(1, 5, 6, b"f"),
    ]


def pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def raw(table: bytes, tail: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(table) if length is None else length) + table + tail


GOOD = [1, 2, 3, b"x"]
# (flags, body of a BATCH): each must be refused, with ProtocolError and nothing else.
HOSTILE: list[tuple[int, bytes]] = [
    (0, b""),
    (0, b"\xc1"),
    (0, pack([])),
    (0, pack(5)),
    (0, pack({})),
    (0, pack("")),
    (0, pack(b"")),
    (0, pack(None)),
    (0, pack([GOOD]) + b"\x00"),
    (0, pack([GOOD]) + pack([GOOD])),
    (0, pack([GOOD])[:-1]),
    (0, pack([5])),
    (0, pack([[]])),
    (0, pack([[1, 2, 3]])),
    (0, pack([b"abcd"])),
    (0, pack([[0, 2, 3, b"x"]])),
    (0, pack([[KINDS, 2, 3, b"x"]])),
    (0, pack([[-1, 2, 3, b"x"]])),
    (0, pack([[1, -2, 3, b"x"]])),
    (0, pack([[1, 2, -3, b"x"]])),
    (0, pack([[1.0, 2, 3, b"x"]])),
    (0, pack([[True, 2, 3, b"x"]])),
    (0, pack([[1, 2.0, 3, b"x"]])),
    (0, pack([[1, 2, None, b"x"]])),
    (0, pack([[1, 2, 3, "x"]])),
    (0, pack([[1, 2, 3, ""]])),
    (0, pack([[1, 2, 3, {}]])),
    (0, pack([[1, 2, 3, []]])),
    (0, pack([[1, 2, 3, 4]])),  # a raw payload without a raw tail
    (0, pack([[1, 2, 3, None]])),
    (0, pack([[4, 2, 3, b"x", b"y"]])),  # a kind that has one payload
    (0, pack([[1, 2, 3, msgpack.ExtType(1, b"")]])),
    (0, pack([[1, 2, 3, msgpack.Timestamp(0)]])),
    (0, b"\x91" * 2000 + b"\xc0"),
    (0, b"\xdd\xff\xff\xff\xff"),
    (0, b"\x91\x94\x01\x02\x03\xc6\xff\xff\xff\xff"),
    (0, b"\xdc\xff\xff" + b"\x90" * 65535),
    (0, pack([[1, 2, 3, bytes(LIMITS.batch_bytes + LIMITS.frame_overhead)]])),
    (2, pack([GOOD])),
    (0x81, raw(pack([GOOD]), b"")),
    (RAW_TAIL, b""),
    (RAW_TAIL, b"\0\0\0"),
    (RAW_TAIL, raw(pack([GOOD]), b"", 0)),
    (RAW_TAIL, raw(pack([GOOD]), b"", 2**32 - 1)),
    (RAW_TAIL, raw(pack([GOOD]), b"", 6)),
    (RAW_TAIL, raw(pack([GOOD]), b"left over")),
    (RAW_TAIL, raw(pack([[1, 2, 3, 5]]), b"abcd")),
    (RAW_TAIL, raw(pack([[1, 2, 3, 3]]), b"abcd")),
    (RAW_TAIL, raw(pack([[1, 2, 3, -1]]), b"")),
    (RAW_TAIL, raw(pack([[1, 2, 3, 2**64 - 1]]), b"abcd")),
    (RAW_TAIL, raw(pack([[1, 2, 3, True]]), b"a")),
    (RAW_TAIL, raw(pack([[1, 2, 3, 1.0]]), b"a")),
]


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_a_malformed_batch_is_refused_and_the_next_good_one_is_read(index: int) -> None:
    """The unpacker is shared: what an error leaves behind must not show up in the next table."""
    flags, body = HOSTILE[index]
    coder = BatchCoder(LIMITS)
    assert coder.decode(memoryview(pack([GOOD])), 0) == [(1, 2, 3, [b"x"])]
    with pytest.raises(ProtocolError):
        coder.decode(memoryview(body), flags)
    assert coder.decode(memoryview(pack([GOOD])), 0) == [(1, 2, 3, [b"x"])]


@pytest.mark.parametrize("seed", range(20))
def test_a_mutated_batch_is_read_or_refused_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    coder = BatchCoder(LIMITS)
    frame = coder.encode(1, 0, [[1, 2, 3, b"abc", 40], [5, 6, 7, b"x"]], [rng.randbytes(40)])
    for _ in range(500):
        body = bytearray(frame[HEADER.size :])
        for _ in range(rng.randint(1, 3)):
            match rng.randrange(3):
                case 0:
                    body[rng.randrange(len(body))] = rng.randrange(256)
                case 1:
                    del body[rng.randrange(len(body)) :]
                case 2:
                    body[rng.randrange(len(body)) : 0] = rng.randbytes(rng.randint(1, 9))
            body = body or bytearray(b"\0")
        try:
            entries = coder.decode(memoryview(bytes(body)), rng.choice([0, 1, 1, 1]))
        except ProtocolError:
            continue
        for kind, target, source, payloads in entries:
            assert 0 < kind < KINDS and target >= 0 and source >= 0 and payloads


@pytest.mark.parametrize(
    "length,kind,flags,zero,error",
    [
        (19, 5, 0, 0, ProtocolError),
        (0, 5, 0, 0, ProtocolError),
        (20, 5, 0, 1, ProtocolError),
        (20, 8, 1, 0, ProtocolError),
        (LIMITS.max_frame + 1, 5, 0, 0, FrameTooBig),
        (2**32 - 1, 5, 0, 0, FrameTooBig),
    ],
)
def test_a_header_that_cannot_be_is_refused(
    length: int, kind: int, flags: int, zero: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_header(length, kind, flags, zero, LIMITS.max_frame)
    check_header(LIMITS.max_frame, 5, 1, 0, LIMITS.max_frame)


def test_a_hello_comes_back_as_it_went_and_later_ones_may_say_more() -> None:
    data = codec.decode(codec.encode(HELLO.to_control(), LIMITS), LIMITS)
    assert Hello.from_control(data) == HELLO
    assert Hello.from_control({**data, "colour": "blue"}) == HELLO


@pytest.mark.parametrize(
    "change",
    [
        {"process_id": b"short"},
        {"process_id": "x" * 16},
        {"port": -1},
        {"port": 65536},
        {"port": True},
        {"run_base": -1},
        {"name": "x" * 256},
        {"name": None},
        {"role": b"server"},
    ],
)
def test_a_hello_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ControlError):
        Hello.from_control({**HELLO.to_control(), **change})
    with pytest.raises(ControlError):
        Hello.from_control([])

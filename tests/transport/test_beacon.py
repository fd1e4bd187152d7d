"""Beacons: the datagrams, byte by byte, and everything that is none."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.beacon import (
    ASK_BYTES,
    Ask,
    Beacon,
    ask_delay,
    encode_ask,
    encode_beacon,
    parse_untrusted,
)
from discoro.transport.credentials import CLUSTER_BYTES
from discoro.transport.errors import ProtocolError
from discoro.transport.limits import Limits

NONCE = b"12345678"
ID = bytes(range(16))
BEACON = Beacon(ID, "node", "default", (9705, 9706), "10.0.0.1", NONCE)
ASK = Ask("default", "node", NONCE)

# Changing these breaks peers already deployed.
BEACON_WIRE = (
    b"DSCD\x01\x02\x00\x00"
    + NONCE
    + ID
    + b"\x02\x25\xe9\x25\xea"
    + b"\x07default\x04node\x0810.0.0.1"
)
ASK_WIRE = (b"DSCD\x01\x01\x00\x00" + NONCE + b"\x07default\x04node").ljust(1024, b"\0")


def test_the_datagrams_are_laid_out_as_documented() -> None:
    assert encode_beacon(BEACON) == BEACON_WIRE
    assert encode_ask(ASK) == ASK_WIRE
    assert parse_untrusted(BEACON_WIRE) == BEACON
    assert parse_untrusted(ASK_WIRE) == ASK


names = st.text(st.characters(categories=["L", "N", "P"]), max_size=40)


@settings(max_examples=200)
@given(
    st.builds(
        Beacon,
        process_id=st.binary(min_size=16, max_size=16),
        name=names,
        cluster=names.filter(bool),
        ports=st.lists(st.integers(1, 65535), min_size=1, max_size=64).map(tuple),
        host=st.sampled_from(["", "10.0.0.1", "2001:db8::1", "host.example"]),
        nonce=st.binary(min_size=8, max_size=8),
    )
)
def test_a_beacon_comes_back_as_it_was(beacon: Beacon) -> None:
    assert parse_untrusted(encode_beacon(beacon)) == beacon


@settings(max_examples=100)
@given(
    st.builds(Ask, cluster=names.filter(bool), name=names, nonce=st.binary(min_size=8, max_size=8))
)
def test_an_ask_comes_back_as_it_was(ask: Ask) -> None:
    assert parse_untrusted(encode_ask(ask)) == ask


@pytest.mark.parametrize("wire", [BEACON_WIRE, ASK_WIRE], ids=["beacon", "ask"])
def test_a_datagram_cut_anywhere_or_with_more_behind_it_is_none(wire: bytes) -> None:
    for length in range(len(wire)):
        with pytest.raises(ProtocolError):
            parse_untrusted(wire[:length])
    for more in (b"\0", b"x", b"x" * 2000):
        with pytest.raises(ProtocolError):
            parse_untrusted(wire + more)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x80\x05K\x01.",
        b"X" + BEACON_WIRE[1:],
        BEACON_WIRE[:4] + b"\x02" + BEACON_WIRE[5:],
        BEACON_WIRE[:5] + b"\x03" + BEACON_WIRE[6:],
        BEACON_WIRE[:6] + b"\x00\x01" + BEACON_WIRE[8:],
        BEACON_WIRE.replace(b"\x02\x25\xe9\x25\xea", b"\x00"),
        BEACON_WIRE.replace(b"\x25\xe9", b"\x00\x00"),
        BEACON_WIRE.replace(b"\x04node", b"\x04no\x1b["),
        BEACON_WIRE.replace(b"\x04node", b"\x04no\nx"),
        BEACON_WIRE.replace(b"\x04node", b"\x04\xff\xfe\xfd\xfc"),
        BEACON_WIRE.replace(b"10.0.0.1", b"a/b@c d!"),
        BEACON_WIRE.replace(b"\x07default", b"\x00"),
        BEACON_WIRE[:32] + b"\xff" + struct.pack(">255H", *[1] * 255) + BEACON_WIRE[37:],
        ASK_WIRE[:-1] + b"\x01",
        ASK_WIRE.replace(b"\x07default", b"\x00" * 8),
    ],
)
def test_what_is_malformed_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_untrusted(wire)


@pytest.mark.parametrize("seed", range(10))
def test_garbage_raises_protocol_error_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        wire = bytearray(rng.choice([BEACON_WIRE, ASK_WIRE, rng.randbytes(rng.randrange(1500))]))
        for _ in range(rng.randrange(4)):
            if wire:
                wire[rng.randrange(len(wire))] = rng.randrange(256)
        try:
            parsed = parse_untrusted(
                bytes(wire[: rng.randrange(len(wire) + 1)] if rng.random() < 0.3 else wire)
            )
        except ProtocolError:
            continue
        assert isinstance(parsed, Ask | Beacon)


def test_every_cluster_name_that_is_allowed_fits() -> None:
    beacon = Beacon(ID, "ü" * 127, "x" * CLUSTER_BYTES, tuple(range(1, 65)), "h" * 253)

    assert parse_untrusted(encode_beacon(beacon)) == beacon
    assert len(encode_beacon(beacon)) <= ASK_BYTES <= Limits().beacon_bytes


@pytest.mark.parametrize(
    "beacon",
    [
        Beacon(ID, "n", "c", ()),
        Beacon(ID, "n", "c", (1,) * 65),
        Beacon(b"short", "n", "c", (1,)),
        Beacon(ID, "x" * 256, "c", (1,)),
    ],
)
def test_a_beacon_that_nobody_would_take_is_not_made(beacon: Beacon) -> None:
    with pytest.raises(ValueError):
        encode_beacon(beacon)


def test_a_beacon_without_a_host_means_where_it_came_from() -> None:
    assert Beacon(ID, "n", "c", (1, 2)).addresses("10.9.9.9") == [("10.9.9.9", 1), ("10.9.9.9", 2)]
    assert BEACON.addresses("10.9.9.9")[0] == ("10.0.0.1", 9705)


def test_asks_are_frequent_at_first_and_every_ten_seconds_later() -> None:
    delays = [ask_delay(count, Limits()) for count in range(1, 50)]

    assert delays[:4] == [0.25, 0.5, 1.0, 2.0]
    assert delays == sorted(delays) and delays[-1] == 10.0
    assert sum(delay < 10 for delay in delays) == 6
    assert ask_delay(10**9, Limits()) == 10.0

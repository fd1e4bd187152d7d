"""Memory that is filled in place."""

from __future__ import annotations

import gc

import pytest

from discoro.peers.freshmemory import new_bytearray, new_bytes

SIZES = [0, 1, 1000, 64 << 10, (64 << 10) + 1, 5 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_a_bytes_filled_in_place_is_one_as_any_other(size: int) -> None:
    data, view = new_bytes(size)
    assert len(data) == len(view) == size
    view[:] = bytes(range(256)) * (size // 256) + bytes(size % 256)
    expected = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert bytes(data) == expected
    if type(data) is bytes:
        assert hash(data) == hash(expected) and data + b"x" == expected + b"x"


@pytest.mark.parametrize("size", SIZES)
def test_a_bytearray_can_be_filled_and_resized(size: int) -> None:
    data = new_bytearray(size)
    assert type(data) is bytearray and len(data) == size
    data[:] = b"a" * size
    data += b"b"
    assert data == b"a" * size + b"b"


def test_the_view_keeps_the_memory() -> None:
    data, view = new_bytes(1 << 20)
    view[:5] = b"12345"
    del data
    gc.collect()
    assert bytes(view[:5]) == b"12345"

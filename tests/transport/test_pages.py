"""Pages: memory that was asked for costs no faults, keeps what is in it, and is not asked for where the kernel refuses."""

from __future__ import annotations

import mmap
import resource
import sys
from collections.abc import Callable

import pytest

from discoro.transport import pages
from discoro.transport.bulkends import MemoryTarget
from discoro.transport.pages import Pages

PIECE = 256 << 10


def faults(function: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def fresh(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def populates() -> bool:
    if sys.platform != "linux":
        return False
    memory = fresh(2 * PIECE)  # kept: nothing is asked of what is gone
    own = Pages(memory)
    own.ask()
    return own.there == PIECE


@pytest.mark.skipif(not populates(), reason="needs Linux 5.14")
def test_memory_that_was_asked_for_costs_no_faults() -> None:
    data = b"x" * (8 << 20)
    pages_of_it = len(data) // mmap.PAGESIZE
    asked, other = fresh(len(data)), fresh(len(data))
    own = Pages(asked)
    while own.there < len(data):
        own.ask()
    assert faults(lambda: asked.__setitem__(slice(None), data)) < pages_of_it // 10
    assert faults(lambda: other.__setitem__(slice(None), data)) > pages_of_it // 10
    own.close()


@pytest.mark.parametrize("start", [0, 1, 4095, 4096])
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_what_is_in_it_stays(start: int, size: int) -> None:
    data = bytearray(b"\xa5") * (start + size + 5000)
    own = Pages(memoryview(data)[start : start + size])
    asked = 0
    while own.there < size:
        own.ask()
        asked += 1
    assert own.there == size and asked <= size // PIECE + 1
    assert data == b"\xa5" * (start + size + 5000)


def test_a_kernel_that_refuses_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(address: int, length: int, advice: int) -> int:
        calls.append(length)
        return -1

    monkeypatch.setattr(pages, "_madvise", refuse)
    memory = bytearray(4 * PIECE)
    done: list[None] = []
    target = MemoryTarget(memory, len(memory), done.append)
    for _ in range(4):
        target.view(PIECE)[:] = b"x" * PIECE
        target.came(PIECE)
    assert len(calls) == 1 and done and memory == b"x" * len(memory)


def test_a_target_that_is_closed_asks_for_nothing() -> None:
    own = Pages(memoryview(bytearray(2 * PIECE)))
    own.close()
    assert own.there == 2 * PIECE
    target = MemoryTarget(bytearray(2 * PIECE), 2 * PIECE, lambda _: None)
    target.close()
    assert not target.view(100)

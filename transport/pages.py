"""Memory that is about to be filled, asked of the kernel in pieces instead of page by page. Shell.

The first byte that is written to a fresh page traps into the kernel: 256 MiB do so 65,536 times, a third of what receiving them costs.
One call for many pages spares the traps (``MADV_POPULATE_WRITE``, Linux 5.14); a kernel that does not know it is asked once.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable

# As much as stays in the processor's cache until it is filled.
_PIECE = 256 * 1024
# linux/mman.h; Python has no name for it.
_MADV_POPULATE_WRITE = 23


def _find_madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise


_madvise = _find_madvise()


class Pages:
    """The pages under a writable buffer, which the caller keeps alive until :meth:`close`.

    Attributes:
        there: Up to which offset nothing is left to ask for.
    """

    __slots__ = ("_address", "_size", "there")

    def __init__(self, buffer: memoryview) -> None:
        self._size = self.there = len(buffer)
        if _madvise is not None and self._size >= _PIECE:
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            self.there = 0

    def ask(self) -> None:
        """Ask for the next piece; what lies in it already stays as it is."""
        assert _madvise is not None
        upto = min(self.there + _PIECE, self._size)
        # Whole pages: the first one may hold the end of something else, which is there already.
        start = (self._address + self.there) // mmap.PAGESIZE * mmap.PAGESIZE
        refused = _madvise(start, self._address + upto - start, _MADV_POPULATE_WRITE)
        self.there = self._size if refused else upto

    def close(self) -> None:
        """Ask for nothing more: the buffer is let go of."""
        self.there = self._size

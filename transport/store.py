"""Store: contents that were received before, by their SHA-256, so that they are not sent again. Shell; every method may block.

One folder per user and node, 0700, shared by all its processes::

    <folder>/ab/ab12...   one content, 64 hex digits, read-only
    <folder>/ab/.part-... being written

Several processes may add, use and remove at once: a content gets its name whole, by a rename, whoever is second replaces it
by the same bytes, and what was removed meanwhile is missing, not wrong. A process hashes a content when it first uses it, and
again when the file is not the same any more (inode, size, time of change): a file in a cache can rot, or be edited by its owner.
The time of access says when it was used last.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .errors import QuotaExceeded
from .folder import FileDamaged, FileFacts, PartFile, describe
from .limits import Limits
from .paths import PART_PREFIX

_FRESH_SECONDS = 600.0
"""What was used so recently is not thrown out: somebody was just told that it is here."""
_COUNT_SECONDS = 60.0
"""So long this process goes by its own count; other processes add too."""
_STALE_SECONDS = 86400.0
"""An unfinished file so old has no writer any more: a transfer is bound to a session, and this process has seen none."""
_DIGEST = re.compile("[0-9a-f]{64}")
_MOST_CHECKED = 65_536
"""So many contents are remembered as checked."""


class Missing(FileDamaged):
    """A content is not in the store, or not any more."""


class Store:
    """A content-addressed cache.

    Args:
        folder: Made when it does not exist.
        limits: Gives ``cache_bytes``, ``max_file_size`` and ``free_space``.
        clock: Seconds since the epoch, as file times have them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(folder)
        self._limits = limits
        self._clock = clock
        # What the store holds, as far as this process knows, and when it last counted.
        self._total = 0
        self._counted = float("-inf")
        # What the files were like when this process hashed them. One assignment at a time: threads may do so at once.
        self._checked: dict[bytes, tuple[int, int, int, int]] = {}
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._top = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(self._top).st_uid != os.geteuid():
            os.close(self._top)
            raise PermissionError(f"{self.path} belongs to another user")
        os.fchmod(self._top, 0o700)

    def close(self) -> None:
        """Let go of the folder."""
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def has(self, sha256: bytes, size: int) -> bool:
        """Whether this content seems to be here; it is then kept for the next minutes. Its bytes are checked when used."""
        path = self._path(sha256)
        try:
            found = os.stat(path, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return False
            os.utime(path, ns=(int(self._clock() * 1e9), found.st_mtime_ns))
        except OSError:
            return False
        return True

    def missing(self, files: Iterable[FileFacts]) -> list[FileFacts]:
        """Return those whose content is not here, each content once."""
        wanted = {facts.sha256: facts for facts in files}
        return [facts for facts in wanted.values() if not self.has(facts.sha256, facts.size)]

    def writer(self, sha256: bytes, size: int) -> PartFile:
        """Return a writer for a content that comes; quotas are checked here, before its first byte.

        Raises:
            QuotaExceeded: If it is too big, or the disk too full.
        """
        name = sha256.hex()
        if size > self._limits.max_file_size:
            raise QuotaExceeded(name, "bytes of one file", self._limits.max_file_size, size)
        self._make_room(size)
        disk = os.fstatvfs(self._top)
        free = disk.f_bavail * disk.f_frsize
        if free - size < self._limits.free_space:
            raise QuotaExceeded(
                name, "bytes on the disk", max(0, free - self._limits.free_space), size
            )
        facts = FileFacts(name=name, size=size, sha256=sha256, mode=0o400)
        return _Storing(self, self._top, (name[:2], name), facts)

    def add_file(self, path: str | os.PathLike[str]) -> FileFacts:
        """Take over a copy of a local file; return its facts, its last part as the name.

        Raises:
            FileDamaged: If it changed while it was read.
        """
        facts = describe(path, os.path.basename(path))
        if not self.has(facts.sha256, facts.size):
            with open(path, "rb") as file:
                part = self.writer(facts.sha256, facts.size)
                try:
                    part.copy_from(file.fileno())
                    part.finish()
                finally:
                    part.abort()
        return facts

    def is_checked(self, sha256: bytes, found: os.stat_result) -> bool:
        """Whether this process has hashed the file that looks so."""
        return self._checked.get(sha256) == _look(found)

    def note_checked(self, sha256: bytes, found: os.stat_result) -> None:
        """A file that looks so has this content: it was hashed just now."""
        if len(self._checked) >= _MOST_CHECKED:
            self._checked = {}
        self._checked[sha256] = _look(found)

    def copy_into(self, part: PartFile, sha256: bytes) -> None:
        """Fill ``part`` with a content and finish it; the bytes are hashed unless this very file was before.

        Raises:
            Missing: If it is not here, or is damaged, and then is removed: let it be sent again.
        """
        name = sha256.hex()
        try:
            fd = os.open(self._path(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            part.abort()
            raise Missing(name, f"is not in the cache: {exc.strerror}") from None
        try:
            found = os.fstat(fd)
            part.copy_from(fd, checked=self.is_checked(sha256, found))
            part.finish()
            self.note_checked(sha256, found)
        except FileDamaged as exc:
            self.discard(sha256)
            raise Missing(name, f"was damaged in the cache: {exc.reason}") from None
        finally:
            part.abort()
            os.close(fd)

    def read(self, sha256: bytes) -> bytes:
        """Return a content, its bytes checked once more.

        Raises:
            Missing: As :meth:`copy_into`.
        """
        try:
            fd = os.open(self._path(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise Missing(sha256.hex(), f"is not in the cache: {exc.strerror}") from None
        with open(fd, "rb") as file:
            data = file.read()
        if hashlib.sha256(data).digest() != sha256:
            self.discard(sha256)
            raise Missing(sha256.hex(), "was damaged in the cache: its bytes have changed")
        return data

    def discard(self, sha256: bytes) -> None:
        """Remove a content, if it is here."""
        try:
            os.unlink(self._path(sha256))
        except FileNotFoundError:
            pass

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        if not _DIGEST.fullmatch(name):
            raise ValueError("a SHA-256 has 32 bytes")
        return self.path / name[:2] / name

    def _make_room(self, size: int) -> None:
        """Remove what was used longest ago until ``size`` more bytes fit."""
        limit, now = self._limits.cache_bytes, self._clock()
        self._total += size
        if self._total <= limit and now - self._counted < _COUNT_SECONDS:
            return
        found = sorted(
            ((facts.st_atime, facts.st_size, path) for path, facts in self._contents()),
            key=lambda entry: entry[0],
        )
        self._counted = now
        self._total = sum(entry[1] for entry in found) + size
        for used, length, path in found:
            if self._total <= limit or now - used < _FRESH_SECONDS:
                return
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            self._total -= length

    def _contents(self) -> Iterable[tuple[Path, os.stat_result]]:
        """Yield the contents; on the way remove unfinished files that nobody writes any more."""
        folders = [entry.path for entry in os.scandir(self.path) if entry.is_dir()]
        for folder in folders:
            try:
                files = list(os.scandir(folder))
            except FileNotFoundError:
                continue  # empty, and removed by another process
            for file in files:
                try:
                    facts = file.stat(follow_symlinks=False)
                    if _DIGEST.fullmatch(file.name):
                        yield Path(file.path), facts
                    elif (
                        file.name.startswith(PART_PREFIX)
                        and self._clock() - facts.st_mtime > _STALE_SECONDS
                    ):
                        os.unlink(file.path)
                except FileNotFoundError:
                    pass  # another process was quicker


class _Storing(PartFile):
    """A content on its way into a store."""

    def __init__(self, store: Store, top: int, parts: tuple[str, str], facts: FileFacts) -> None:
        super().__init__(top, parts, facts, replace=True)
        self._store = store

    def finish(self) -> os.stat_result:
        """Check it, give it its name."""
        found = super().finish()
        self._store.note_checked(self._facts.sha256, found)
        return found


def _look(found: os.stat_result) -> tuple[int, int, int, int]:
    """Return what is different after a file was written to, or replaced."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""Files inside one folder that nobody can lead us out of. Shell; every function may block.

The folder is an open directory descriptor. A name (checked by :mod:`.paths`) is walked part by part with ``openat`` and
``O_NOFOLLOW``, so a link planted at any part, before or while we walk, is an error and never a way out. New files are written
beside their place as ``.part-<16 hex>`` and get their name only when they are whole and their hash is right; a name never holds
half a file. Copies share blocks where the file system can (``FICLONE``), and are never hard links: who writes to its copy
must not write to ours.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import FileError, FileRefused, NameHeld, UnsafePath
from .paths import PART_PREFIX

READ_BYTES = 1 << 20
_WRITE_BYTES = 256 << 10
FILE_MODES = 0o755
"""Mode bits that a file from elsewhere may have: no set-user-id, nothing to write for others."""
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a fifo planted under the name must not hold us for ever.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Somebody may remove an empty folder between our making it and our using it, and again, but hardly so often.
_TRIES = 100
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_PART_NAME = re.compile(re.escape(PART_PREFIX) + "[0-9a-f]{16}")


class FileDamaged(FileError):
    """Bytes do not have the hash or the length that was promised for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What is known of a file before its bytes: they are what both sides compare and check.

    ``sha256`` is empty where it is not known yet; then it comes behind the bytes.
    """

    name: str
    size: int
    sha256: bytes
    mode: int = 0o644
    mtime_ns: int | None = None


def describe(path: str | os.PathLike[str], name: str, *, hashed: bool = True) -> FileFacts:
    """Read a file of the user (links are followed) and return its facts, to be offered as ``name``.

    Args:
        path: Where it is.
        name: What it is to be called.
        hashed: False: only look at it; the facts are then without a hash.

    Raises:
        FileRefused: If it is no regular file.
        OSError: If it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileRefused(os.fspath(path), "is not a regular file")
        digest, size = hash_file(fd) if hashed else (b"", found.st_size)
    finally:
        os.close(fd)
    mode = stat.S_IMODE(found.st_mode) & 0o777
    return FileFacts(name=name, size=size, sha256=digest, mode=mode, mtime_ns=found.st_mtime_ns)


def hash_file(fd: int) -> tuple[bytes, int]:
    """Return the SHA-256 and the length of an open file; its position is not used."""
    digest, size = hashlib.sha256(), 0
    for data in _pieces(fd):
        digest.update(data)
        size += len(data)
    return digest.digest(), size


def _pieces(fd: int) -> Iterator[bytes]:
    """Yield the content of an open file; its position is not used."""
    offset = 0
    while data := os.pread(fd, READ_BYTES, offset):
        yield data
        offset += len(data)


@contextmanager
def open_folder(top: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Walk down from the folder ``top`` without following a link; give the descriptor of the last folder.

    Raises:
        UnsafePath: If one of ``parts`` is a link, or no folder.
        FileNotFoundError: If one is absent and ``create`` is False.
    """
    fd = os.dup(top)
    try:
        for part in parts:
            below = _open_below(fd, part, "/".join(parts), create)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _open_below(fd: int, part: str, name: str, create: bool) -> int:
    for _ in range(_TRIES):
        try:
            return os.open(part, FOLDER_FLAGS, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise UnsafePath(name, f"the part {part!r} is a link, or no folder") from None
            raise
        try:
            os.mkdir(part, 0o755, dir_fd=fd)
        except FileExistsError:
            pass
    raise UnsafePath(name, f"the folder {part!r} keeps being removed")


def look(top: int, parts: Sequence[str]) -> os.stat_result | None:
    """Return what lies under a name, itself and not what it links to; None if nothing does."""
    try:
        with open_folder(top, parts[:-1]) as folder:
            return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def same_content(top: int, parts: Sequence[str], facts: FileFacts) -> bool:
    """Whether the regular file under a name has exactly this content."""
    try:
        with open_folder(top, parts[:-1]) as folder:
            fd = os.open(parts[-1], _READ_FLAGS, dir_fd=folder)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != facts.size:
            return False
        return hash_file(fd) == (facts.sha256, facts.size)
    finally:
        os.close(fd)


def set_mode_and_time(top: int, parts: Sequence[str], facts: FileFacts) -> os.stat_result:
    """Give a file that lies there the mode and time of ``facts``; return what it then is."""
    with open_folder(top, parts[:-1]) as folder:
        fd = os.open(parts[-1], _READ_FLAGS, dir_fd=folder)
    try:
        os.fchmod(fd, facts.mode & FILE_MODES)
        if facts.mtime_ns is not None:
            os.utime(fd, ns=(facts.mtime_ns, facts.mtime_ns))
        return os.fstat(fd)
    finally:
        os.close(fd)


def remove(top: int, parts: Sequence[str]) -> bool:
    """Remove the file (or link) under a name, and then the folders above it that this leaves empty.

    Returns:
        False if there was nothing, or nothing that may be removed (a folder).
    """
    try:
        with open_folder(top, parts[:-1]) as folder:
            os.unlink(parts[-1], dir_fd=folder)
    except (FileNotFoundError, UnsafePath, IsADirectoryError):
        return False
    except PermissionError:
        found = look(top, parts)  # macOS says so of a folder
        if found is not None and stat.S_ISDIR(found.st_mode):
            return False
        raise
    finally:
        prune(top, parts[:-1])
    return True


def prune(top: int, parts: Sequence[str]) -> None:
    """Remove the folder ``parts`` and those above it, as far as they are empty."""
    for length in range(len(parts), 0, -1):
        try:
            with open_folder(top, parts[: length - 1]) as above:
                os.rmdir(parts[length - 1], dir_fd=above)
        except (OSError, UnsafePath):
            return


def remove_unfinished(top: int) -> None:
    """Remove the unfinished files that a process left which was killed. Only for a folder that is locked."""
    for _, _, files, folder in os.fwalk(".", dir_fd=top):
        for name in files:
            if _PART_NAME.fullmatch(name):
                os.unlink(name, dir_fd=folder)


class PartFile:
    """A file on its way into a folder: a :class:`~.bulkends.Writer`.

    It exists as ``.part-<16 hex>`` from here on; :meth:`finish` checks it and gives it its name, :meth:`abort` removes it.

    Args:
        top: Descriptor of the folder; kept open by the caller.
        parts: Where the file goes, from there.
        facts: Size, hash, mode and time that it will have; without a hash, the 32 bytes behind the file's are it.
        replace: Whether it takes the place of a file (or link: itself, not its target) that lies there then.
        modes: Bits that the mode may have.
    """

    def __init__(
        self,
        top: int,
        parts: Sequence[str],
        facts: FileFacts,
        *,
        replace: bool,
        modes: int = FILE_MODES,
    ) -> None:
        self._top = top
        self._parts = tuple(parts)
        self._facts = facts
        self._replace = replace
        self._mode = facts.mode & modes
        self._digest = hashlib.sha256()
        # What the digest has to be, as far as that has been said.
        self._promised = facts.sha256
        # False: the bytes came from where they were checked.
        self._checks = True
        self._size = 0
        self._part = PART_PREFIX + secrets.token_hex(8)
        self._fd, self._folder = self._create()

    def _create(self) -> tuple[int, int]:
        for _ in range(_TRIES):
            with open_folder(self._top, self._parts[:-1], create=True) as folder:
                try:
                    fd = os.open(self._part, _NEW_FILE_FLAGS, 0o600, dir_fd=folder)
                except FileNotFoundError:
                    continue  # the folder was empty, and somebody has removed it since
                return fd, os.dup(folder)
        raise FileRefused(self._facts.name, "its folder keeps being removed")

    @property
    def sha256(self) -> bytes:
        """The hash that its bytes must have, as far as it has come."""
        return self._promised

    def write(self, data: memoryview) -> None:
        """Append bytes, and behind them the hash where it is not known.

        Raises:
            FileDamaged: If there are more than announced.
            OSError: From the disk.
        """
        room = self._facts.size - self._size
        data, behind = data[:room], data[room:]
        if len(self._promised) + len(behind) > self._digest.digest_size:
            raise FileDamaged(
                self._facts.name, f"is longer than the {self._facts.size} bytes announced"
            )
        self._promised += behind
        self._size += len(data)
        while data:
            # In pieces: what was written is still in the processor's cache when it is hashed; and of a long write the
            # kernel (6.18) makes large folios, which can take many times as long where memory is not lying ready for them.
            piece = data[:_WRITE_BYTES]
            written = os.write(self._fd, piece)
            self._digest.update(piece[:written])
            data = data[written:]

    def copy_from(self, source: int, *, checked: bool = False) -> None:
        """Take the whole content of an open file, sharing its blocks where the file system can.

        Args:
            source: Its descriptor.
            checked: Its bytes are known to be right: they are not hashed again.
        """
        self._checks = not checked
        try:
            fcntl.ioctl(self._fd, _FICLONE, source)
        except OSError:
            if checked:
                self._copy_inside(source)
            else:
                for data in _pieces(source):
                    self.write(memoryview(data))
        else:
            if not checked:
                for data in _pieces(self._fd):
                    self._digest.update(data)
            self._size = os.fstat(self._fd).st_size

    def _copy_inside(self, source: int) -> None:
        """Let the kernel copy, where and as far as it can: that is cheaper. Then read and write, which says what is wrong."""
        size = os.fstat(source).st_size
        try:
            while count := os.copy_file_range(source, self._fd, size - self._size, self._size):
                self._size += count
        except (AttributeError, OSError):
            pass
        while data := os.pread(source, READ_BYTES, self._size):
            self.write(memoryview(data))

    def finish(self) -> os.stat_result:
        """Check length and hash, set mode and time, give the file its name.

        Returns:
            What ``fstat`` says of it.

        Raises:
            FileDamaged: If length or hash differ from what was announced.
            NameHeld: If something lies there and may not be replaced.
        """
        facts = self._facts
        right = not self._checks or self._digest.digest() == self._promised
        if not right or self._size != facts.size:
            raise FileDamaged(facts.name, "its bytes are not those that were announced")
        os.fchmod(self._fd, self._mode)
        if facts.mtime_ns is not None:
            os.utime(self._fd, ns=(facts.mtime_ns, facts.mtime_ns))
        found = os.fstat(self._fd)
        if self._replace:
            self._rename()
        else:
            self._link()
        self._close()
        return found

    def _rename(self) -> None:
        last = self._parts[-1]
        try:
            os.rename(self._part, last, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except (IsADirectoryError, NotADirectoryError):
            raise NameHeld(self._facts.name, "a folder of that name") from None

    def _link(self) -> None:
        """Give the name only if it is free: ``link`` fails where ``rename`` would replace."""
        last, name = self._parts[-1], self._facts.name
        try:
            os.link(
                self._part,
                last,
                src_dir_fd=self._folder,
                dst_dir_fd=self._folder,
                follow_symlinks=False,
            )
        except FileExistsError:
            raise NameHeld(name, "something that lies there already") from None
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without links (FAT): not atomic there.
            if look(self._folder, (last,)) is not None:
                raise NameHeld(name, "something that lies there already") from None
            self._rename()
        else:
            os.unlink(self._part, dir_fd=self._folder)

    def abort(self) -> None:
        """Remove what was written. May be called again, and after :meth:`finish`: then nothing happens."""
        if self._folder < 0:
            return
        try:
            os.unlink(self._part, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        self._close()
        prune(self._top, self._parts[:-1])

    def _close(self) -> None:
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1

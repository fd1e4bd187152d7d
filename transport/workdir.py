"""Workdir: the folder that a server works in, or that a program receives files in. Shell; every method may block.

What may lie there is decided in :mod:`.ledger`, how it gets there in :mod:`.folder`. A server's folder is
``<dest_path>/<server name>``, locked as long as it is open (``<dest_path>/.<server name>.lock``, which also holds the journal of the
ledger): two nodes of one name get ``name`` and ``name~2``. A program's ``dest_path`` is used as it is, unlocked: several programs
may receive there, each looks at the disk before it takes a name.

All methods may be called from any thread; none of them belongs into the loop's.
"""

from __future__ import annotations

import fcntl
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import RLock

from .errors import FileRefused, NameHeld
from .folder import (
    FOLDER_FLAGS,
    FileFacts,
    PartFile,
    look,
    remove,
    remove_unfinished,
    same_content,
    set_mode_and_time,
)
from .ledger import FILES, Entry, Ledger, holder_text
from .limits import Limits
from .paths import safe_parts
from .store import Store

_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MOST_NODES = 1000
_MOST_JOURNAL = 4 << 20
"""Bytes after which the journal is written anew; a full ledger takes about as much."""

_open_workdirs: weakref.WeakSet[Workdir] = weakref.WeakSet()
"""Only for the fork below: a lock belongs to all processes that inherited its descriptor, forked children of user code too."""


def _let_go_in_child() -> None:
    for workdir in list(_open_workdirs):
        workdir._let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


class AlreadyThere(FileRefused):
    """The very content lies under that name: nothing needs to be sent."""


class HashNeeded(FileRefused):
    """Something of the same size lies under that name: with the hash it can be said whether it is the same."""


def _fingerprint(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_ino, found.st_mtime_ns


class Workdir:
    """One folder with files of computations and files that were sent there. Made by :meth:`locked` or :meth:`shared`."""

    def __init__(self, path: Path, lock: int, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._guard = RLock()
        self._lock = lock
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A folder that the user named may be a link of the user's; one that we named below it may not.
        flags = FOLDER_FLAGS if lock >= 0 else FOLDER_FLAGS & ~os.O_NOFOLLOW
        self._top = os.open(path, flags)
        self._ledger = Ledger(limits)
        _open_workdirs.add(self)

    def __repr__(self) -> str:
        return f"<Workdir {self.path}, {len(self._ledger)} files>"

    # --- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    def locked(cls, base: str | os.PathLike[str], name: str, limits: Limits) -> Workdir:
        """Open the working directory of the server ``name`` below ``base``, or the next free one of that name.

        What a killed process left unfinished, or had placed for its computations, is removed.

        Raises:
            UnsafePath: If the name of the server is none for a folder.
            OSError: If the folder cannot be made or written.
        """
        parts = safe_parts(name, limits)
        if len(parts) != 1:
            raise FileRefused(name, "is no name for one folder")
        root = Path(base)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, _MOST_NODES + 1):
            candidate = name if number == 1 else f"{name}~{number}"
            lock = _try_lock(root / f".{candidate}.lock")
            if lock is not None:
                workdir = cls(root / candidate, lock, limits)
                workdir._recover()
                return workdir
        raise FileRefused(name, f"{_MOST_NODES} folders of this name are in use below {root}")

    @classmethod
    def shared(cls, path: str | os.PathLike[str], limits: Limits) -> Workdir:
        """Open a folder that others may use too."""
        return cls(Path(path), -1, limits)

    def close(self) -> None:
        """Remove what computations hold, and the folder if it is empty; let go of it."""
        with self._guard:
            if self._top < 0:
                return
            for owner in self._ledger.owners():
                if owner != FILES:
                    self.release(owner)
            if self._lock >= 0:
                try:
                    os.rmdir(self.path)
                except OSError:
                    pass  # something of the user's lies there
                if not len(self._ledger):
                    os.unlink(self.path.parent / f".{self.path.name}.lock")
            self._let_go()

    def _let_go(self) -> None:
        for fd in (self._top, self._lock):
            if fd >= 0:
                os.close(fd)
        self._top = self._lock = -1
        _open_workdirs.discard(self)

    def _recover(self) -> None:
        with open(os.dup(self._lock), encoding="utf-8", errors="replace") as file:
            dead = self._ledger.replay(file.read())
        remove_unfinished(self._top)
        for name in dead:
            remove(self._top, name.split("/"))
        for entry in self._ledger.entries():
            found = look(self._top, entry.name.split("/"))
            if found is not None and found.st_size == entry.size and stat.S_ISREG(found.st_mode):
                entry.placed = _fingerprint(found)
            elif not self._ledger.drop(FILES, entry.name):
                self._ledger.forget(entry.name)
        os.truncate(self._lock, 0)
        os.lseek(self._lock, 0, os.SEEK_SET)
        self._write_journal()

    def _write_journal(self) -> None:
        text = self._ledger.journal()
        if self._lock < 0 or not text:
            return
        if os.fstat(self._lock).st_size > _MOST_JOURNAL:
            text = self._ledger.snapshot()
            os.truncate(self._lock, 0)
            os.lseek(self._lock, 0, os.SEEK_SET)
        data = memoryview(text.encode("utf-8"))
        while data:
            data = data[os.write(self._lock, data) :]

    # --- files of computations -------------------------------------------------------------------------------------

    def admit(self, owner: str, files: Sequence[FileFacts]) -> None:
        """Reserve the names of an owner's files; all of them, or none. Nothing is written yet.

        Args:
            owner: The computation's id, as text.
            files: What it wants to have here.

        Raises:
            UnsafePath: Of a bad name.
            QuotaExceeded: If they are too big, too many, or the disk too full.
            NameHeld: If a name is held with other content; it says by whom.
        """
        with self._guard:
            wanted = [(facts.name, facts.size, facts.sha256) for facts in files]
            self._ledger.check(owner, wanted, self._free())
            for facts in files:
                self._look_before(facts)
            for facts in files:
                self._ledger.take(owner, facts.name, facts.size, facts.sha256)
            self._write_journal()

    def _look_before(self, facts: FileFacts) -> None:
        """Compare what the ledger says of a name with what lies on the disk."""
        parts = facts.name.split("/")
        entry, found = self._ledger.get(facts.name), look(self._top, parts)
        if found is None:
            if entry is not None:
                entry.placed = None  # never there yet, or removed by somebody's code
            return
        if not stat.S_ISREG(found.st_mode):
            raise NameHeld(facts.name, "a link or a folder that lies there already")
        if entry is None:
            # Not ours: it stays when the computation goes.
            if not same_content(self._top, parts, facts):
                raise NameHeld(facts.name, "a file that lies there already")
            entry = self._ledger.take(FILES, facts.name, facts.size, facts.sha256)
            entry.placed = _fingerprint(found)
        elif entry.placed != _fingerprint(found):
            known = FileFacts(name=entry.name, size=entry.size, sha256=entry.sha256)
            if entry.replace:
                return  # left behind by somebody; the present owner's content is on its way
            if not same_content(self._top, parts, known):
                changed = ", which has changed it" if entry.owners else ""
                raise NameHeld(facts.name, holder_text(entry.owners) + changed)
            entry.placed = _fingerprint(found)

    def place(self, owner: str, facts: FileFacts, store: Store) -> None:
        """Put a file that was admitted where it belongs, out of the store.

        Raises:
            Missing: If the store does not have it, or not undamaged: let it be sent again, and call this again.
            NameHeld: If something else has come to lie there since.
            OSError: From the disk.
        """
        with self._guard:
            entry = self._ledger.get(facts.name)
            if entry is None or owner not in entry.owners:
                raise FileRefused(facts.name, "was not admitted")
            if entry.placed is not None and not entry.replace:
                return
            part = PartFile(self._top, facts.name.split("/"), facts, replace=entry.replace)
        try:
            store.copy_into(part, facts.sha256)
        except NameHeld:
            # Another owner of the same content may have been quicker.
            if not same_content(self._top, facts.name.split("/"), facts):
                raise
        self._placed(entry)

    def _placed(self, entry: Entry, sha256: bytes = b"") -> None:
        with self._guard:
            if not entry.sha256:
                self._ledger.identify(entry, sha256)
                self._write_journal()
            found = look(self._top, entry.name.split("/"))
            entry.placed = _fingerprint(found) if found is not None else None
            entry.replace = False

    def release(self, owner: str, *, keep: bool = False) -> None:
        """An owner ends: its files go, and then the folders that this leaves empty; not those that others hold too.

        Args:
            owner: As in :meth:`admit`.
            keep: True: the files stay, and nobody holds them any more.
        """
        with self._guard:
            for entry in self._ledger.of(owner):
                if self._ledger.drop(owner, entry.name, keep=keep):
                    remove(self._top, entry.name.split("/"))
            self._write_journal()

    # --- files that are sent ---------------------------------------------------------------------------------------

    def receive(self, facts: FileFacts, *, overwrite: bool = False) -> Receiving:
        """Prepare to receive a file by ``send_file``; its quotas are checked here, before the first byte.

        Args:
            facts: Name (folder included), size, hash, mode and time of the file; without a hash, that comes behind the bytes.
            overwrite: Whether it may take the place of other content, unless a computation holds that.

        Returns:
            A writer for a transfer.

        Raises:
            AlreadyThere: If the same content lies there; its mode and time are now the given ones.
            HashNeeded: If that cannot be said without the hash: call this again with it.
            UnsafePath: Of a bad name, or a link on the way.
            QuotaExceeded: If it is too big, or the disk too full.
            NameHeld: If a computation holds the name.
            FileRefused: If other content lies there and ``overwrite`` is False.
        """
        parts = safe_parts(facts.name, self._limits)
        with self._guard:
            found = look(self._top, parts)
            if found is not None:
                self._look_at_taken(facts, parts, found, overwrite)
            old = self._ledger.get(facts.name)
            if old is not None and old.name != facts.name:
                raise NameHeld(facts.name, f"{old.name!r}, a name that differs in case only")
            if old is not None:
                self._ledger.check_removable(facts.name)
                self._ledger.drop(FILES, old.name)
                self._ledger.forget(old.name)
            try:
                self._ledger.check(FILES, [(facts.name, facts.size, facts.sha256)], self._free())
                part = PartFile(self._top, parts, facts, replace=overwrite)
            except BaseException:
                self._restore(old)
                raise
            entry = self._ledger.take(FILES, facts.name, facts.size, facts.sha256)
            self._write_journal()
        return Receiving(self, part, entry, old)

    def _look_at_taken(
        self, facts: FileFacts, parts: tuple[str, ...], found: os.stat_result, overwrite: bool
    ) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise FileRefused(facts.name, "is a link or a folder there")
        if found.st_size == facts.size and not facts.sha256:
            raise HashNeeded(facts.name, "may be there already: its hash is needed")
        if found.st_size == facts.size and same_content(self._top, parts, facts):
            entry = self._ledger.get(facts.name)
            if entry is None or entry.owners <= {FILES}:
                again = set_mode_and_time(self._top, parts, facts)
                if entry is not None:
                    entry.placed = _fingerprint(again)
            raise AlreadyThere(facts.name, "is there already, with the same content")
        self._ledger.check_removable(facts.name)
        if not overwrite:
            raise FileRefused(
                facts.name, "is there already with other content: overwrite=True replaces it"
            )

    def _restore(self, old: Entry | None) -> None:
        if old is not None and old.placed is not None:
            again = self._ledger.take(FILES, old.name, old.size, old.sha256)
            again.placed = old.placed
        self._write_journal()

    def delete(self, name: str) -> None:
        """Remove a file by ``del_file``, and the folders that this leaves empty.

        Raises:
            UnsafePath: Of a bad name, or a link on the way.
            NameHeld: If a computation holds it.
            FileRefused: If it is not there, or is a folder.
        """
        parts = safe_parts(name, self._limits)
        with self._guard:
            self._ledger.check_removable(name)
            found = look(self._top, parts)
            if found is None:
                raise FileRefused(name, "is not there")
            if not remove(self._top, parts):
                raise FileRefused(name, "is a folder")
            self._ledger.drop(FILES, name)
            self._ledger.forget(name)
            self._write_journal()

    def holders(self, name: str) -> set[str]:
        """Return who holds a name."""
        with self._guard:
            entry = self._ledger.get(name)
            return set(entry.owners) if entry is not None else set()

    def _free(self) -> int:
        """Return the bytes free on the disk, without those that are promised to files on their way."""
        disk = os.fstatvfs(self._top)
        promised = sum(
            entry.size for entry in self._ledger.entries() if entry.owners and entry.placed is None
        )
        return disk.f_bavail * disk.f_frsize - promised


class Receiving:
    """A file that is being received by ``send_file``: a :class:`~.bulkends.Writer`."""

    def __init__(self, workdir: Workdir, part: PartFile, entry: Entry, old: Entry | None) -> None:
        self._workdir = workdir
        self._part = part
        self._entry = entry
        self._old = old
        self._over = False

    def write(self, data: memoryview) -> None:
        """Append bytes, and behind them the hash where it was not known."""
        self._part.write(data)

    def finish(self) -> None:
        """Check the file and give it its name.

        Raises:
            FileDamaged: If its bytes are not those announced.
            NameHeld: If something else has come to lie there.
        """
        self._part.finish()
        self._over = True
        self._workdir._placed(self._entry, self._part.sha256)

    def abort(self) -> None:
        """Give the name and the space back; what lay there before lies there still."""
        # Both at once: who sees that the part is gone finds the name free.
        with self._workdir._guard:
            self._part.abort()
            if self._over:
                return
            self._over = True
            self._workdir._ledger.drop(FILES, self._entry.name)
            self._workdir._restore(self._old)


def _try_lock(path: Path) -> int | None:
    """Return the descriptor of the locked file, or None if another process, or another of ours, has it."""
    while True:
        fd = os.open(path, _LOCK_FLAGS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        # Whoever had it before may have removed it between our open and our lock.
        try:
            same = os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
        except FileNotFoundError:
            same = False
        if same:
            return fd
        os.close(fd)

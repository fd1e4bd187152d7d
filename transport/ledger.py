"""Ledger: which files lie in a working directory, who holds each of them, and what that counts. Pure.

An owner is a computation (by its id, as text) or :data:`FILES`, under which ``send_file`` puts what it brings. One name has
one content; several owners may hold it together. What its last owner left behind on purpose (``cleanup=False``) stays known,
without an owner, and may be replaced; what lies in the folder and is not in the ledger may not.

The ledger is written down as it changes, one JSON array per line, so that the next process of the same directory can remove
what a killed one had placed for its computations::

    ["+", owner, name, size, sha256 in hex]      owner "" : left behind
    ["-", owner, name]

A file that is sent may be entered before its SHA-256 is known. It then holds its name and counts for the quotas; it is written
down when the hash is known, since before that there is nothing under its name that the next process could know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .errors import FileError, FileRefused, NameHeld, QuotaExceeded
from .limits import Limits
from .paths import check_together, folded, safe_parts

FILES = "files"
"""Owner of what came by ``send_file``."""
LEFT = ""
"""Stands in the journal for the owner of what was left behind."""
_ON_ITS_WAY = "is being sent by somebody else at this moment"


@dataclass(slots=True)
class Entry:
    """One name. ``owners`` is empty for what was left behind, ``sha256`` for what is on its way and not known yet."""

    name: str
    size: int
    sha256: bytes
    owners: set[str] = field(default_factory=set)
    # Size, inode and modification time when it was placed: as long as they are the same, so is the content. None: not placed.
    placed: tuple[int, int, int] | None = None
    # What lies there now was left behind by an earlier owner, and its place may be taken.
    replace: bool = False


@dataclass(slots=True)
class Usage:
    """What an owner's files count."""

    files: int = 0
    size: int = 0


def holder_text(owners: Iterable[str]) -> str:
    """Return who holds a name, in words."""
    names = sorted(owners)
    if not names:
        return "nobody any more, but it was changed since"
    return " and ".join(
        "a file that was sent there" if name == FILES else f"computation {name}" for name in names
    )


def _folders_of(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


class Ledger:
    """Names, contents, owners and quotas of one working directory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: dict[str, Entry] = {}
        # For each folder, how many of the entries lie below it.
        self._folders: Counter[str] = Counter()
        self._usage: dict[str, Usage] = {}
        self._journal: list[str] = []

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry | None:
        """Return the entry that stands under a name, or one that some file systems hold for the same."""
        return self._entries.get(folded(name))

    def of(self, owner: str) -> list[Entry]:
        """Return what an owner holds."""
        return [entry for entry in self._entries.values() if owner in entry.owners]

    def entries(self) -> list[Entry]:
        """Return all."""
        return list(self._entries.values())

    def owners(self) -> list[str]:
        """Return all that hold something."""
        return list(self._usage)

    def usage(self, owner: str) -> Usage:
        """Return what an owner's files count."""
        return self._usage.get(owner, Usage())

    # --- taking ----------------------------------------------------------------------------------------------------

    def check(self, owner: str, files: Sequence[tuple[str, int, bytes]], free: int) -> None:
        """See that an owner may hold these files as well, all of them together; changes nothing.

        Args:
            owner: Who wants them.
            files: Name, size and SHA-256 of each; an empty one is not known yet.
            free: Bytes free on the file system.

        Raises:
            UnsafePath: Of the first bad name.
            QuotaExceeded: If a quota would be exceeded.
            NameHeld: If a name is held with other content; it says by whom.
            FileRefused: If a name is held with content that is not known yet.
        """
        limits, usage = self._limits, self.usage(owner)
        count, size, new = usage.files, usage.size, 0
        for name, length, sha256 in files:
            safe_parts(name, limits)
            if length > limits.max_file_size:
                raise QuotaExceeded(name, "bytes of one file", limits.max_file_size, length)
            self._check_content(name, length, sha256)
            entry = self.get(name)
            if entry is None or owner not in entry.owners:
                count += 1
                size += length
            if entry is None or not entry.owners:
                new += length
            if count > limits.max_files:
                raise QuotaExceeded(name, "files of one owner", limits.max_files, count)
            if size > limits.max_files_bytes:
                raise QuotaExceeded(
                    name, "bytes of all files of one owner", limits.max_files_bytes, size
                )
            if new and free - new < limits.free_space:
                raise QuotaExceeded(
                    name, "bytes on the disk", max(0, free - limits.free_space), new
                )
        check_together(name for name, _, _ in files)
        self._check_folders([name for name, _, _ in files])

    def _check_content(self, name: str, size: int, sha256: bytes) -> None:
        entry = self.get(name)
        if entry is None or not entry.owners:
            return
        if not entry.sha256:
            raise FileRefused(name, _ON_ITS_WAY)
        if entry.name != name or (entry.size, entry.sha256) != (size, sha256):
            raise NameHeld(name, holder_text(entry.owners))

    def _check_folders(self, names: Sequence[str]) -> None:
        """No name may be a folder of another one that is held."""
        for name in names:
            key = folded(name)
            above = [folder for folder in _folders_of(key) if folder in self._entries]
            found = self._entries[above[0]] if above else None
            if self._folders[key] > 0:
                found = next(self._entries[k] for k in self._entries if k.startswith(key + "/"))
            if found is not None:
                raise NameHeld(name, holder_text(found.owners))

    def _enter(self, entry: Entry) -> Entry:
        key = folded(entry.name)
        if key not in self._entries:
            self._folders.update(_folders_of(key))
        self._entries[key] = entry
        return entry

    def _leave(self, name: str) -> None:
        key = folded(name)
        del self._entries[key]
        self._folders.subtract(_folders_of(key))

    def take(self, owner: str, name: str, size: int, sha256: bytes) -> Entry:
        """Enter a file that was checked, before its bytes are there; its hash may be empty, until :meth:`identify`."""
        entry = self.get(name)
        if entry is None or not entry.owners:
            left = entry is not None
            entry = self._enter(Entry(name, size, sha256, replace=left))
        if owner not in entry.owners:
            entry.owners.add(owner)
            usage = self._usage.setdefault(owner, Usage())
            usage.files += 1
            usage.size += size
            self._note_taken(owner, entry)
        return entry

    def identify(self, entry: Entry, sha256: bytes) -> None:
        """The hash of a file that was entered without one is known now."""
        entry.sha256 = sha256
        for owner in entry.owners:
            self._note_taken(owner, entry)

    # --- giving back -----------------------------------------------------------------------------------------------

    def drop(self, owner: str, name: str, *, keep: bool = False) -> bool:
        """An owner lets go of a name.

        Returns:
            True if nobody holds it now and it is to be removed from the disk.
        """
        entry = self.get(name)
        if entry is None or owner not in entry.owners:
            return False
        entry.owners.discard(owner)
        usage = self._usage[owner]
        usage.files -= 1
        usage.size -= entry.size
        if not usage.files:
            del self._usage[owner]
        if entry.sha256:
            self._note("-", owner, name)
        if entry.owners:
            return False
        if keep:
            self._note_taken(LEFT, entry)
        else:
            self._leave(name)
        return not keep

    def forget(self, name: str) -> None:
        """A name that nobody holds is gone from the disk."""
        entry = self.get(name)
        if entry is not None and not entry.owners:
            self._leave(name)
            self._note("-", LEFT, name)

    def check_removable(self, name: str) -> None:
        """See that a name may be removed, or replaced, by ``del_file`` and ``send_file``.

        Raises:
            NameHeld: If a computation holds it.
        """
        entry = self.get(name)
        if entry is not None and entry.owners - {FILES}:
            raise NameHeld(name, holder_text(entry.owners - {FILES}))
        if entry is not None and entry.owners and entry.placed is None:
            raise FileRefused(name, _ON_ITS_WAY)

    # --- the journal -----------------------------------------------------------------------------------------------

    def _note(self, *fields: object) -> None:
        self._journal.append(json.dumps(fields))

    def _note_taken(self, owner: str, entry: Entry) -> None:
        if entry.sha256:
            self._note("+", owner, entry.name, entry.size, entry.sha256.hex())

    def journal(self) -> str:
        """Return what has changed since the last call, as lines to append."""
        text = "".join(f"{line}\n" for line in self._journal)
        self._journal.clear()
        return text

    def snapshot(self) -> str:
        """Return a journal that comes to the present state."""
        self._journal.clear()
        for entry in self._entries.values():
            for owner in entry.owners or {LEFT}:
                self._note_taken(owner, entry)
        return self.journal()

    def replay(self, text: str) -> list[str]:
        """Take over the journal of the process before; what it left unfinished at its end is passed over.

        Returns:
            Names to be removed: a computation held them, and it ended with its process.
        """
        for line in text.splitlines():
            try:
                sign, owner, name, *rest = json.loads(line)
                safe_parts(name, self._limits)
                if sign == "+":
                    self._replay_taken(owner, name, int(rest[0]), bytes.fromhex(rest[1]))
                elif owner == LEFT:
                    self.forget(name)
                else:
                    self.drop(owner, name)
            except (ValueError, TypeError, IndexError, KeyError, FileError):
                continue
        dead = []
        for owner in [owner for owner in self._usage if owner != FILES]:
            dead += [entry.name for entry in self.of(owner) if self.drop(owner, entry.name)]
        self._journal = self.snapshot().splitlines()
        return dead

    def _replay_taken(self, owner: str, name: str, size: int, sha256: bytes) -> None:
        if owner == LEFT:
            if self.get(name) is None:
                self._enter(Entry(name, size, sha256))
        else:
            self.take(owner, name, size, sha256)

r"""Names of files that come from somewhere else: which of them stay inside the folder they are meant for.

Pure. A name on the wire is ``str``, parts joined by ``/``, relative, in Unicode normal form C. What is refused is refused on
every system alike, so that a node on Linux does not take a name that a node on macOS or Windows cannot hold, or would read
as a drive, a stream, a device or a folder above. The rules and their sources:

* empty name, leading ``/``, parts that are empty, ``.`` or ``..``: leave the folder, or mean it itself
* NUL and other control characters, line and paragraph separators, direction marks: lie in terminals and logs
* ``\`` and ``:``: separators, drives and alternate streams on Windows
* lone surrogates: not encodable; another normal form: two names that look the same, one file on macOS
* a trailing dot or space, and device names (``CON``, ``nul.txt``, ``COM1`` ...): Windows drops or redirects them
* parts above 255 bytes, above 16 parts, above 1,024 bytes in all (figures: :class:`~.limits.Limits`)
* parts that begin with ``.part-``: our own unfinished files

Checking the text is half of it: :mod:`.folder` opens what is named here without following a link at any part.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from .errors import NameHeld, UnsafePath
from .limits import Limits

PART_PREFIX = ".part-"
"""How the names of our unfinished files begin."""

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
# Marks that turn the direction of text around: "txt.exe" shown as "exe.txt" (Unicode TR 36, section 2.3).
_DIRECTION_MARKS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_BAD_CATEGORIES = frozenset(["Cc", "Cs", "Zl", "Zp"])


def safe_parts(name: str, limits: Limits) -> tuple[str, ...]:
    """Return the parts of a relative file name that cannot lead outside the folder it is used in.

    Args:
        name: As it came over the wire; any object, of any type, is looked at safely.
        limits: Gives ``path_bytes``, ``path_parts`` and ``path_part_bytes``.

    Raises:
        UnsafePath: If one of the rules of this module is broken; ``reason`` says which.
    """
    if not isinstance(name, str):
        raise UnsafePath(repr(name)[:80], "a file name is text")
    shown = name[: limits.path_bytes]
    if not name:
        raise UnsafePath(shown, "is empty")
    if len(name) > limits.path_bytes:
        raise UnsafePath(shown, f"is longer than {limits.path_bytes} bytes")
    _check_characters(name, shown)
    if len(name.encode("utf-8")) > limits.path_bytes:
        raise UnsafePath(shown, f"is longer than {limits.path_bytes} bytes")
    if name.startswith("/"):
        raise UnsafePath(shown, "is absolute: give a relative one")
    parts = tuple(name.split("/"))
    if len(parts) > limits.path_parts:
        raise UnsafePath(shown, f"has more than {limits.path_parts} parts")
    for part in parts:
        problem = _problem_of_part(part, limits)
        if problem:
            raise UnsafePath(shown, problem)
    return parts


def _check_characters(name: str, shown: str) -> None:
    for char in name:
        if unicodedata.category(char) in _BAD_CATEGORIES or char in _DIRECTION_MARKS:
            raise UnsafePath(shown, f"holds the character U+{ord(char):04X}")
        if char in "\\:":
            raise UnsafePath(shown, f"holds {char!r}: parts are joined by '/'")
    if not unicodedata.is_normalized("NFC", name):
        raise UnsafePath(shown, "is not in Unicode normal form C")


def _problem_of_part(part: str, limits: Limits) -> str | None:
    if not part:
        return "has an empty part"
    if part in (".", ".."):
        return f"has the part {part!r}"
    if part[-1] in ". ":
        return "has a part that ends in a dot or a space"
    if len(part.encode("utf-8")) > limits.path_part_bytes:
        return f"has a part longer than {limits.path_part_bytes} bytes"
    if part.split(".")[0].rstrip(" ").casefold() in _DEVICES:
        return f"has the part {part!r}, a device name on Windows"
    if part.casefold().startswith(PART_PREFIX):
        return f"has a part that begins with {PART_PREFIX!r}, which marks unfinished files"
    return None


def folded(name: str) -> str:
    """Return the key under which names meet that some file systems hold for one (case, normal form)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_together(names: Iterable[str]) -> None:
    """Refuse a set of safe names that cannot all lie in one folder on every system.

    Raises:
        NameHeld: If two names differ in case only, are the same, or one is a folder of another.
    """
    files: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if key in files:
            raise NameHeld(name, f"{files[key]!r} of the same set")
        files[key] = name
    for key, name in files.items():
        parts = key.split("/")
        for length in range(1, len(parts)):
            above = "/".join(parts[:length])
            if above in files:
                raise NameHeld(name, f"{files[above]!r} of the same set, which is a file")


def wire_name(path: str, limits: Limits, *, separator: str = "/") -> str:
    """Return the name under which a file that the user named by ``path`` arrives elsewhere.

    A relative path keeps its folders (``./data/x.csv`` is ``data/x.csv``), an absolute one its last part.

    Args:
        path: What the user wrote.
        limits: As for :func:`safe_parts`.
        separator: ``os.sep`` of this machine.

    Raises:
        UnsafePath: If nothing safe comes out of it, ``../x`` included.
    """
    text = unicodedata.normalize("NFC", path.replace(separator, "/"))
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise UnsafePath(path, "names no file")
    if text.startswith("/") or (separator != "/" and ":" in parts[0]):
        parts = parts[-1:]
    if ".." in parts:
        raise UnsafePath(path, "leads out of the current folder: give its absolute path")
    return "/".join(safe_parts("/".join(parts), limits))


def joined(folder: str | None, name: str, limits: Limits) -> str:
    """Return the safe name of ``name`` in the relative ``folder`` that a user gave (None: the top).

    Raises:
        UnsafePath: If the folder is absolute or leads upwards, or the sum is not safe.
    """
    if not folder:
        return "/".join(safe_parts(name, limits))
    if folder.startswith("/"):
        raise UnsafePath(folder, "is absolute: a folder is relative to the peer's dest_path")
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    return "/".join(safe_parts("/".join([*parts, name]), limits))

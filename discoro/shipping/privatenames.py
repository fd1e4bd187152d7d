"""Private names: what shipped code is called inside a server. Pure.

A computation's modules live in ``sys.modules`` under a package of their own::

    helper            ->  discoro_c_<32 hex digits of the bundle's id>.helper
    __main__          ->  discoro_c_<...>.__main__
    /home/me/work.py  ->  [<folder>/]discoro_c_<...>/home/me/work.py     (file names of code)
    <cell 3>          ->  discoro_c_<...>/./<cell 3>

so that two computations with equal names share nothing. Users never see these names: whatever goes
home in readable form passes through :func:`plain_text`.
"""

from __future__ import annotations

import re

PREFIX = "discoro_c_"
_LENGTH = len(PREFIX) + 32

_NAMES = re.compile(
    # A file name in a traceback may stand in a folder with spaces; elsewhere a blank ends it.
    r'(?<=File ")[^"\n]*?discoro_c_[0-9a-f]{32}(?:/\./|(?=/))'
    # The folder is looked for from the beginning of a word only: from each character, long words take for ever.
    r"|(?:(?<![^\s\"'<>()\[\],])[^\s\"'<>()\[\],]*/)?discoro_c_[0-9a-f]{32}(?:/\./|(?=/))"
    r"|discoro_c_[0-9a-f]{32}\."
)


def package_of(bundle_id: str) -> str:
    """Return the private package of the bundle with this id (32 hex digits)."""
    return PREFIX + bundle_id


def split(module: str) -> tuple[str, str] | None:
    """Return (bundle id, plain module name) of a private module name, else None.

    The plain name is empty for the private package itself.
    """
    if not module.startswith(PREFIX) or len(module) < _LENGTH:
        return None
    if len(module) > _LENGTH and module[_LENGTH] != ".":
        return None
    return module[len(PREFIX) : _LENGTH], module[_LENGTH + 1 :]


def plain_module(module: str) -> str:
    """Return the name that the user gave the module."""
    parts = split(module)
    return module if parts is None or not parts[1] else parts[1]


def private_file(bundle_id: str, filename: str, folder: str = "") -> str:
    """Return the file name that code from ``filename`` carries in a code space."""
    root = PREFIX + bundle_id if not folder else folder.rstrip("/") + "/" + PREFIX + bundle_id
    return root + ("" if filename.startswith("/") else "/./") + filename


def plain_file(filename: str) -> str:
    """Return the user's file name of a private one; others are returned as they are."""
    head, found, tail = filename.partition(PREFIX)
    if not found or not (head == "" or head.endswith("/")) or tail[32:33] != "/":
        return filename
    rest = tail[32:]
    return rest[3:] if rest.startswith("/./") else rest


def plain_text(text: str) -> str:
    """Return ``text`` with every private name in it replaced by what the user knows it as."""
    if PREFIX not in text:
        return text
    return _NAMES.sub("", text)

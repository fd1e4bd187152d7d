"""Logging of the command and its servers: ``-d`` and the environment's ``DISCORO_LOG``.

``DISCORO_LOG`` is a level (``debug``), or a list of loggers with theirs (``info,discoro.transport=debug,mylib=warning``).
"""

from __future__ import annotations

import logging
import os
import sys

VARIABLE = "DISCORO_LOG"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def levels(text: str, *, debug: bool = False) -> dict[str, int]:
    """Read such a list: logger -> level; "" is the root. ``debug`` is the default of our own loggers.

    Raises:
        ValueError: If a level is none; the text says which are.
    """
    found = {"": logging.WARNING, "discoro": logging.DEBUG if debug else logging.WARNING}
    known = logging.getLevelNamesMapping()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, level = part.rpartition("=")
        number = int(level) if level.isdecimal() else known.get(level.upper())
        if number is None or (equals and not name):
            names = ", ".join(sorted((n.lower() for n in known), key=lambda n: known[n.upper()]))
            raise ValueError(f"{VARIABLE}: {part!r} is no level; they are {names}")
        found[name.strip() or "discoro"] = number
    return found


def set_up(text: str | None = None, *, debug: bool = False) -> None:
    """Send log records to stderr with these levels; ``None`` reads the environment."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name, level in levels(
        os.environ.get(VARIABLE, "") if text is None else text, debug=debug
    ).items():
        logging.getLogger(name).setLevel(level)

"""Logging: ``-d`` and the environment's ``DISCORO_LOG``, and how ends and errors read in one line.

What happens to connections and computations is told at level info, each run and each dial at debug. A line says who, what
and why; of what users send only the text of errors.

``DISCORO_LOG`` is a level (``debug``), or a list of loggers with theirs (``info,discoro.transport=debug,mylib=warning``).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from discoro.scheduler.outcome import Outcome

VARIABLE = "DISCORO_LOG"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LONGEST = 200
"""Characters of an error's text."""


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


class _Handler(logging.StreamHandler[TextIO]):
    """Shows our records in a program that has set up no logging of its own."""

    def handle(self, record: logging.LogRecord) -> bool:
        if logging.getLogger().handlers:
            return False  # now it has
        return super().handle(record)


def set_up_program() -> None:
    """Follow ``DISCORO_LOG``, where it is set, in a program that is not ours; a second call changes nothing.

    Only levels are set, and one handler at our own logger that is silent as soon as the program has handlers.
    """
    own = logging.getLogger("discoro")
    text = os.environ.get(VARIABLE, "")
    if not text or any(isinstance(handler, _Handler) for handler in own.handlers):
        return
    try:
        wanted = levels(text)
    except ValueError as error:
        own.warning("%s", error)
        wanted = {}
    handler = _Handler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    own.addHandler(handler)
    for name, level in wanted.items():
        if name:
            logging.getLogger(name).setLevel(level)


def run_number(number: int) -> int:
    """Return what the client itself counts in the number of a run; above it stands which session that was."""
    return number & ((1 << 40) - 1)


def in_words(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST:
        text = text[:LONGEST] + ".."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def end_in_words(outcome: Outcome) -> str:
    """Return how a coroutine has ended; what it returned is nobody's business."""
    from discoro.scheduler.outcome import Failed, Returned

    if isinstance(outcome, Returned):
        return "returned"
    if isinstance(outcome, Failed):
        return f"failed: {in_words(outcome.exception)}"
    return f"was ended: {outcome.reason}" if outcome.reason else "was ended"

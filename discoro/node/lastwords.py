"""What a node says on stderr before it is ready, told also to the program that started it (:class:`discoro.Node`).

What is written goes where it always goes; its last lines are kept, and if the node ends before it was ready they go over the
lifeline, as one line of JSON: ``{"failed": "..."}``. So the error that the program gets says why.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TextIO

LINES, LENGTH = 20, 8000


class _Remembering:
    """A stream that keeps its last lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept: deque[str] = deque(maxlen=LINES)
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        self._kept.extend(lines)
        return self._stream.write(text)

    def last(self) -> str:
        return "\n".join([*self._kept, self._line]).strip()[-LENGTH:]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def remembered(arguments: Sequence[str], command: Callable[[], int]) -> int:
    """Run the command of a node and return its exit status; where it fails, tell the program that waits for it."""
    try:
        lifeline = os.dup(int(arguments[arguments.index("--lifeline") + 1]))
    except (ValueError, IndexError, OSError):
        return command()
    stderr = sys.stderr
    sys.stderr = remembering = _Remembering(stderr)
    status = 1
    try:
        status = command()
        return status
    finally:
        sys.stderr = stderr
        # Where it was ready, nobody reads this any more, and nobody may be left to.
        if status and (said := remembering.last()):
            try:
                os.write(lifeline, json.dumps({"failed": said}).encode() + b"\n")
            except OSError:
                pass
        os.close(lifeline)

"""What a server process writes to its parent: reports, a line of JSON each, and stacks, which faulthandler writes between and into them.

Pure. A report is written in one go, from any thread. A stack is written in C by the main thread, in pieces smaller than a
line, so a report may stand in the middle of a line of it.
"""

from __future__ import annotations

import json
from typing import Any

_BEGIN = b'{"report": '


def report(kind: str, facts: dict[str, Any]) -> bytes:
    """Return a report as it is written."""
    return json.dumps({"report": kind, **facts}).encode() + b"\n"


class Reports:
    """Takes them apart again."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a line
        self._open = b""  # the beginning of a line of a stack, into which a report came

    def feed(self, data: bytes) -> list[tuple[str, dict[str, Any]] | str]:
        """Return what ``data`` completes, in order: reports as (kind, facts), lines of stacks as text."""
        found: list[tuple[str, dict[str, Any]] | str] = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            at = line.find(_BEGIN)
            if at < 0:
                found.append((self._open + line).decode(errors="replace"))
                self._open = b""
                continue
            self._open += line[:at]
            try:
                facts = json.loads(line[at:])
            except ValueError:  # the channel was full in the middle of it, and a stack came there
                continue
            found.append((facts.pop("report"), facts))
        return found

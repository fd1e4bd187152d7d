"""What the processes of a chaos plan write down: one append-only file each, a line of JSON per event.

A line is written with one call of the kernel before, or after, the thing itself happens; so it is there when its process is
killed in the next moment. All processes are on one machine, and the monotonic clock is one for all of them.

==============  ======================  ====================================================================================
event           written by              detail
==============  ======================  ====================================================================================
asked           client, before `run`    index of the server
watched         client                  name of the watching coroutine; a monitor was placed
sent            client, before it; or   number of the message
                who hands it on
delivered       client, after it        number of the message, what `deliver` gave
received        client                  number of the message
down            client                  name of the watching coroutine, how the run ended
outcome         client                  how the run ended: name of a type, value
terminated      client, before it       why: "alone" (who was to speak to it is lost), "stuck" (he has spoken, and it did not come)
started         server                  process id of the server
got             server                  number of the message
answered        server, before it       number of the message
returned        server, before it       how many were answered
raised          server, before it
cancelled       server
usable          client, at last         index of the server
farewell        client, at last
fault, healed   driver                  the fault: kind, servers, clients, seconds, process ids
census          driver                  index of the server, "before" or "after", what it holds
==============  ======================  ====================================================================================
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One line: when, who, what, of which run, and what belongs to it."""

    at: float
    who: str
    kind: str
    run: str = ""
    detail: Any = None


class Recorder:
    """Writes the history of one process. It holds no descriptor: what it is told of is compared with what was there before."""

    def __init__(self, folder: Path | str, who: str) -> None:
        self._path = Path(folder) / f"{who}.history"
        self.who = who

    def __call__(self, kind: str, run: str = "", detail: Any = None) -> None:
        """Write one event."""
        line = json.dumps([time.monotonic(), self.who, kind, run, detail])
        file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, line.encode() + b"\n")
        finally:
            os.close(file)


def read(folder: Path) -> list[Event]:
    """All that was written down in a folder, in the order in which it happened."""
    return sorted(_lines(folder), key=lambda event: event.at)


def _lines(folder: Path) -> Iterator[Event]:
    for path in sorted(folder.glob("*.history")):
        for line in path.read_text().splitlines():
            yield Event(*json.loads(line))

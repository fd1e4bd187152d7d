"""What ``python -m discoro status`` shows, from what the nodes' parents tell, as text of a given width. Pure.

Computations and clients stand once for a node, however many of its servers know them; a server's note that is too long for
its row stands below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

from discoro.logs import run_number
from discoro.node.guard import Bounds
from discoro.quantities import size_text
from discoro.transport.addresses import format_address

Node = dict[str, Any]
Server = dict[str, Any]

WIDTH = 80
MOST_ROWS = 20
"""Rows of each table after the servers'; the rest is counted."""
STALE = 2.0
"""Seconds of age that need not be said."""
_INDENT = "  "
_GAP = "  "
_CUT = ".."


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        right: Numbers stand on the right.
        cut: Which end is left out where there is no room; None: none may be.
    """

    title: str
    right: bool = False
    cut: Literal["start", "end"] | None = None


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table that is at most ``width`` wide, as far as its columns may be cut."""
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(len(column.title), *(len(row[number]) for row in texts))
        for number, column in enumerate(columns)
    ]
    _shrink(columns, widths, width - len(_INDENT) - len(_GAP) * (len(columns) - 1))
    lines = []
    for row in ([column.title for column in columns], *texts):
        cells = []
        for column, size, cell in zip(columns, widths, row, strict=True):
            shown = cut(cell, size, column.cut or "end")
            cells.append(shown.rjust(size) if column.right else shown.ljust(size))
        lines.append((_INDENT + _GAP.join(cells)).rstrip())
    return lines


def _shrink(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Take width from the widest column that can spare it until all of them fit."""
    while sum(widths) > room:
        spare = [
            (widths[number], number)
            for number, column in enumerate(columns)
            if column.cut is not None and widths[number] > len(column.title)
        ]
        if not spare:
            return
        widths[max(spare)[1]] -= 1


def cut(text: str, size: int, end: str = "end") -> str:
    """Return ``text`` in at most ``size`` characters."""
    if len(text) <= size:
        return text
    if size <= len(_CUT):
        return text[:size]
    kept = size - len(_CUT)
    return _CUT + text[-kept:] if end == "start" else text[:kept] + _CUT


def printable(text: str) -> str:
    """Return ``text`` without what would move a terminal's cursor: names come from other people's programs."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def status_text(
    nodes: Sequence[Node], now: float, width: int = WIDTH, most: int = MOST_ROWS
) -> str:
    """Show the nodes of this machine.

    Args:
        nodes: What their parents have told.
        now: Seconds since the epoch.
        width: Characters in a line.
        most: Rows of each table after the servers'.
    """
    return "\n".join("\n".join(_node(node, now, width, most)) + "\n" for node in nodes)


def _node(node: Node, now: float, width: int, most: int) -> list[str]:
    up = duration(node["seconds"])
    lines = [
        f"node {printable(node['name'])}: {node['state']}, up {up}, pid {node['pid']}, "
        f"cluster {printable(node['cluster'])}",
        f"{_INDENT}discoro {node['version']}, Python {node['python']}, UDP port {node['udp_port']}",
        "",
        *_servers(node["servers"], width),
    ]
    for part in (_computations, _coroutines, _peers):
        rows = part(node["servers"], now, width, most)
        if rows:
            lines += ["", *rows]
    return lines


# --- servers ------------------------------------------------------------------------------------------------------------

_SERVERS = (
    Column("server", cut="end"),
    Column("pid", right=True),
    Column("port", right=True),
    Column("computations", right=True),
    Column("coroutines", right=True),
    Column("peers", right=True),
    Column("state", cut="end"),
)


def _servers(servers: Sequence[Server], width: int) -> list[str]:
    heading, *rows = table(_SERVERS, [_server(server) for server in servers], width)
    lines = [heading]
    for server, row in zip(servers, rows, strict=True):
        lines += [row, *(_INDENT * 3 + note for note in _notes(server))]
    return lines


def _server(server: Server) -> tuple[str, ...]:
    counts = server["counts"]
    ports = sorted({port for _, port in server["addresses"]})
    state = server["state"]
    if server["stopped"]:
        state = "stopped (SIGSTOP)"
    elif server["busy"]:
        state = f"busy for {duration(server['busy']['seconds'])}"
    elif server["silent"]:
        state = "busy"
    return (
        server["name"],
        str(server["pid"] or "-"),
        ",".join(map(str, ports)) or "-",
        *(str(counts.get(key, "-")) for key in ("computations", "coroutines", "peers")),
        state,
    )


def _notes(server: Server) -> list[str]:
    """Return what is to be said of a server below its row, whole: places and reasons are copied from there."""
    notes = []
    busy = server["busy"]
    if server["stopped"]:
        notes.append(f"kill -CONT {server['pid']} lets it go on")
    elif busy:
        notes.append(printable(f"at {busy['file']}:{busy['line']} in {busy['function']}"))
    if server["silent"] and not server["stopped"]:
        notes.append("none of its threads runs: C code that keeps Python's lock, perhaps")
    # A node of an older discoro tells of none.
    bounds = Bounds(server.get("max_rss"), server.get("max_stall"))
    if bounds and server["pid"]:
        notes.append(f"has {size_text(server['rss'])} of memory; is ended if it {bounds}")
    if server["restarts"]:
        times = "once" if server["restarts"] == 1 else f"{server['restarts']} times"
        notes.append(f"restarted {times}; the process before {server['last_end']}")
    if server["pid"] and server["state"] != "starting":
        age = server["as_of"]
        if age is None:
            notes.append("it does not say what runs in it")
        elif age > STALE:
            notes.append(
                f"it does not say what runs in it; shown is what it said {duration(age)} ago"
            )
    return notes


# --- what runs in them --------------------------------------------------------------------------------------------------


def _computations(servers: Sequence[Server], now: float, width: int, most: int) -> list[str]:
    found: dict[str, dict[str, Any]] = {}
    for number, server in enumerate(servers, 1):
        for one in server["computations"]:
            known = found.setdefault(one["id"], {**one, "runs": 0, "servers": []})
            known["runs"] += one["runs"]
            known["since"] = min(known["since"], one["since"])
            known["servers"].append(number)
    ordered = sorted(found.values(), key=itemgetter("since"))
    rows = [
        (
            one["name"],
            one["client"],
            numbers(one["servers"]),
            duration(max(0.0, now - one["since"])),
            str(one["runs"]),
            one["state"],
        )
        for one in ordered
    ]
    columns = (
        Column("computation", cut="end"),
        Column("client", cut="end"),
        Column("servers", cut="end"),
        Column("since"),
        Column("runs", right=True),
        Column("state"),
    )
    return _limited(columns, rows, width, most, 0)


def _coroutines(servers: Sequence[Server], now: float, width: int, most: int) -> list[str]:
    found = [
        (number, one) for number, server in enumerate(servers, 1) for one in server["coroutines"]
    ]
    found.sort(key=lambda pair: (-pair[1]["mailbox"], pair[0], pair[1]["number"]))
    rows = [
        (
            f"{one['name']} {run_number(one['number']) or ''}".rstrip(),
            str(number),
            _place(one),
            one["waits_in"],
            str(one["mailbox"]),
            one["client"] or "-",
        )
        for number, one in found
    ]
    columns = (
        Column("coroutine", cut="end"),
        Column("server", right=True),
        Column("stands at", cut="start"),
        Column("waits in", cut="end"),
        Column("mailbox", right=True),
        Column("client", cut="end"),
    )
    more = sum(server["more_coroutines"] for server in servers)
    return _limited(columns, rows, width, most, more)


def _place(coroutine: dict[str, Any]) -> str:
    if coroutine["file"] is None:
        return "-"
    return f"{coroutine['file']}:{coroutine['line']}"


def _peers(servers: Sequence[Server], now: float, width: int, most: int) -> list[str]:
    found: dict[str, dict[str, Any]] = {}
    for number, server in enumerate(servers, 1):
        for one in server["peers"]:
            known = found.setdefault(one["id"], {**one, "states": {}})
            known["states"].setdefault(one["state"], []).append(number)
    ordered = sorted(found.values(), key=itemgetter("role", "name"))
    rows = [
        (
            one["name"],
            one["role"],
            format_address(*one["address"]),
            _states(one["states"]),
        )
        for one in ordered
    ]
    columns = (
        Column("peer", cut="end"),
        Column("role"),
        Column("address", cut="end"),
        Column("state at servers", cut="end"),
    )
    return _limited(columns, rows, width, most, 0)


def _states(states: dict[str, list[int]]) -> str:
    """Say how a peer is to the servers: ``connected 1 to 3, busy 4``."""
    return "; ".join(f"{state}: {numbers(at)}" for state, at in states.items())


def _limited(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, most: int, more: int
) -> list[str]:
    """Return a table of at most ``most`` rows, and how many more there are."""
    more += max(0, len(rows) - most)
    lines = table(columns, rows[:most], width) if rows else []
    if more:
        lines.append(f"{_INDENT}and {more} more")
    return lines


# --- small words --------------------------------------------------------------------------------------------------------


def numbers(found: Sequence[int]) -> str:
    """Return ascending numbers as people write them: ``1-3,5``."""
    parts: list[list[int]] = []
    for number in found:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def duration(seconds: float) -> str:
    """Return a length of time as people write it."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"

"""What stands beside the node itself: ``status``, ``stop`` and ``completion``.

They ask the parents of this user's nodes (:mod:`discoro.node.control`) and show what those say.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from discoro.cli.parsers import SHELLS, completion_parser, status_parser, stop_parser

if TYPE_CHECKING:
    from discoro.statefolder import NodeRecord, StateFolder

FAILED, NO_NODE = 1, 3


def run(verb: str, arguments: list[str]) -> int:
    """Carry out one of them; return the exit status."""
    from discoro.scheduler.errors import DiscoroError

    verbs = {"status": status, "stop": stop, "completion": completion}
    try:
        return verbs[verb](arguments)
    except DiscoroError as error:
        print(f"discoro: {error}", file=sys.stderr)
        return FAILED


def status(arguments: list[str]) -> int:
    """Show the nodes of this machine."""
    options = status_parser().parse(arguments)

    from discoro.cli.statustext import status_text
    from discoro.node.control import NodeSilent, ask
    from discoro.statefolder import StateFolder

    folder = StateFolder()
    folder.check()
    nodes: list[dict[str, Any]] = []
    silent = 0
    for record in folder.nodes():
        try:
            nodes.append(ask(folder, record, "status", options.most))
        except NodeSilent as error:
            silent += 1
            print(f"discoro: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(nodes, indent=2))
    elif nodes:
        print(status_text(nodes, time.time(), _width(), options.most), end="")
    elif not silent:
        print(
            "discoro: no node of yours runs on this machine. Start one: python -m discoro",
            file=sys.stderr,
        )
    if silent:
        return FAILED
    return 0 if nodes or options.json else NO_NODE


def _width() -> int:
    """Return how wide the terminal is; 80 where there is none."""
    from discoro.cli.statustext import WIDTH

    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


def stop(arguments: list[str]) -> int:
    """End a node of this machine, or all of them."""
    parser = stop_parser()
    options = parser.parse(arguments)
    if options.all and options.name is not None:
        parser.error(f"either --all or {options.name!r}, not both")

    from discoro.statefolder import StateFolder

    folder = StateFolder()
    folder.check()
    nodes = folder.nodes()
    chosen = [n for n in nodes if options.name in (None, n.name, str(n.pid))]
    if not chosen:
        print(_no_node(options.name, nodes), file=sys.stderr)
        return NO_NODE
    if len(chosen) > 1 and not options.all:
        print(
            f"discoro: {len(chosen)} nodes {'of that name ' if options.name else ''}run here: {_listed(chosen)}.\n"
            "    Which one? python -m discoro stop NAME, or its pid; all of them: --all",
            file=sys.stderr,
        )
        return FAILED
    return _stop_all(folder, chosen)


def _stop_all(folder: StateFolder, nodes: list[NodeRecord]) -> int:
    """Ask all of them to end, then wait for each: they end side by side."""
    from concurrent.futures import ThreadPoolExecutor

    from discoro.node.control import NodeSilent, ask

    failed = 0
    with ThreadPoolExecutor(len(nodes)) as threads:
        ending = [(node, threads.submit(ask, folder, node, "stop")) for node in nodes]
        for node, ended in ending:
            try:
                ended.result()
            except NodeSilent as error:
                failed = FAILED
                print(f"discoro: {error}", file=sys.stderr)
            else:
                print(f"discoro: node {node.name} has ended", flush=True)
    return failed


def _no_node(name: str | None, nodes: list[NodeRecord]) -> str:
    if name is None:
        return "discoro: no node of yours runs on this machine."
    there = f" There are: {_listed(nodes)}." if nodes else " None runs here at all."
    return f"discoro: no node of yours called {name} runs on this machine.{there}"


def _listed(nodes: list[NodeRecord]) -> str:
    return ", ".join(f"{node.name} (pid {node.pid})" for node in nodes)


def completion(arguments: list[str]) -> int:
    """Print the script for a shell; ``nodes`` gives what that asks for while somebody types."""
    if arguments == ["nodes"]:
        from discoro.statefolder import StateFolder

        print("\n".join(sorted({node.name for node in StateFolder().nodes()})))
        return 0
    parser = completion_parser()
    if not arguments:
        parser.error(f"for which shell? One of {', '.join(SHELLS)}")
    options = parser.parse(arguments)

    from discoro.cli.completion import script

    print(script(options.shell), end="")
    return 0

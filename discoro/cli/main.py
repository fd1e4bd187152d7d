"""The command: ``python -m discoro``, options to settings, errors to one text and an exit status. No logic.

``--help`` and ``--version`` import nothing but the standard library. Exit status: 0 ended as asked, 1 it could not be done,
2 wrong usage, 3 no node runs here, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from discoro.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # not from typing: that is a tenth of the time that --version takes
    import argparse

    from discoro.cli.parsers import Parser
    from discoro.cli.secretsource import FoundSecret
    from discoro.node.serverchild import Program
    from discoro.node.settings import NodeSettings
    from discoro.statefolder import StateFolder

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None, *, program: Program | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: Those after the program's name; None takes this process's.
        program: What server processes run; None is the real one.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given == ["--version"]:
            print(f"discoro {__version__}")
            return 0
        if given and given[0] in ("status", "stop", "completion"):
            from discoro.cli import commands

            return commands.run(given[0], given[1:])
        if "--lifeline" in given:
            from discoro.node.lastwords import remembered

            return remembered(given, lambda: node(given, program))
        return node(given, program)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def node(arguments: list[str], program: Program | None) -> int:
    """Be a node."""
    from discoro.cli.parsers import node_parser

    parser = node_parser()
    options = parser.parse(arguments)
    if options.new_secret:
        from discoro.transport.secret import generate

        print(generate())
        return 0

    from discoro import logs
    from discoro.cli.secretsource import SecretUnusable, hide
    from discoro.node.cpus import TooManyServers
    from discoro.node.parent import Parent
    from discoro.node.serverprocess import ServerProgram
    from discoro.scheduler.errors import DiscoroError
    from discoro.statefolder import StateFolder
    from discoro.transport.errors import TransportError

    folder = StateFolder()
    try:
        settings, warnings = node_settings(parser, options, folder)
        hide(settings.secret)
        logs.set_up(settings.log, debug=settings.debug)
        for warning in warnings:
            print(f"discoro: {warning}", file=sys.stderr)
        return Parent(settings, program or ServerProgram(), folder).run()
    except (TooManyServers, SecretUnusable) as error:
        print(f"discoro: {error}", file=sys.stderr)
        return USAGE
    except (DiscoroError, TransportError) as error:
        print(f"discoro: {error}", file=sys.stderr)
        return FAILED


def node_settings(
    parser: Parser, options: argparse.Namespace, folder: StateFolder
) -> tuple[NodeSettings, tuple[str, ...]]:
    """Turn options into settings and warnings; what is wrong with them exits with status 2 or raises."""
    from discoro.cli.secretsource import find_secret
    from discoro.node.cpus import how_many, usable_cpus
    from discoro.node.settings import GIB, UDP_PORT, NodeSettings

    _check(parser, options)
    servers = how_many(options.cpus, usable_cpus(), force=options.force)
    if options.tcp_port and options.tcp_port + servers - 1 > 65_535:
        parser.error(f"--tcp_port {options.tcp_port}: {servers} servers need ports beyond 65535")
    found: FoundSecret = find_secret(options.secret, options.secret_file, os.environ, folder)
    settings = NodeSettings(
        name=options.name or _host_name(),
        servers=servers,
        secret=found.text,
        secret_source=found.source,
        secret_shown=found.fresh,
        local=not found.given,
        addresses=tuple(options.ip_addr),
        ext_ip_addr=options.ext_ip_addr,
        udp_port=UDP_PORT if options.udp_port is None else options.udp_port,
        tcp_port=options.tcp_port,
        dest_path=os.path.abspath(options.dest_path) if options.dest_path else "",
        max_file_size=options.max_file_size or GIB,
        max_rss=options.max_rss,
        max_stall=options.max_stall,
        certfile=os.path.abspath(options.certfile) if options.certfile else None,
        keyfile=os.path.abspath(options.keyfile) if options.keyfile else None,
        cluster=options.cluster,
        peers=tuple(options.peer),
        join=options.join,
        debug=options.debug,
        log=os.environ.get("DISCORO_LOG", ""),
        lifeline=options.lifeline,
    )
    return settings, found.warnings


def _check(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is made."""
    from discoro import logs
    from discoro.node.guard import checked
    from discoro.transport.addresses import parse_address
    from discoro.transport.credentials import checked_cluster
    from discoro.transport.tls import Certificate

    try:
        logs.levels(os.environ.get(logs.VARIABLE, ""))
        checked_cluster(options.cluster)
        checked(options.max_rss, options.max_stall)
        for peer in options.peer:
            parse_address(peer, 1)
        if options.join is not None:
            parse_address(options.join)
    except ValueError as error:
        parser.error(str(error))
    if options.join is not None and (options.ip_addr or options.tcp_port):
        parser.error("--join listens nowhere: it goes with neither --ip_addr nor --tcp_port")
    if options.keyfile and not options.certfile:
        parser.error("--keyfile needs --certfile")
    if options.certfile:
        Certificate.from_files(options.certfile, options.keyfile)  # raises: said before any start
    name = options.name
    if name is not None and not (
        0 < len(name.encode()) <= 64 and name.isprintable() and "/" not in name and name[0] != "."
    ):
        parser.error(f"--name {name!r}: 1 to 64 printable characters, no '/', no '.' first")


def _host_name() -> str:
    import socket

    return socket.gethostname().partition(".")[0] or "localhost"

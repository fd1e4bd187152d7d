"""The command: ``python -m discoro``, options to settings, errors to one text and an exit status. No logic.

``--help`` and ``--version`` import nothing but the standard library. Exit status: 0 ended as asked, 1 it could not be done,
2 wrong usage, 3 no node runs here, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from discoro.version import __version__

if TYPE_CHECKING:
    from discoro.nodesettings import NodeSettings
    from discoro.secretsource import FoundSecret
    from discoro.serverchild import Program
    from discoro.statefolder import NodeRecord, StateFolder

FAILED, USAGE, NO_NODE, INTERRUPTED = 1, 2, 3, 130

DESCRIPTION = """\
Start a node: servers, one process per CPU, that run coroutines for programs that know the secret.

  python -m discoro status [--json]    what runs on this machine
  python -m discoro stop [NAME]        end a node of this machine
"""
EPILOG = """\
Hyphens work where underscores do. DISCORO_SECRET in the environment is the secret, DISCORO_LOG the level of logging.
Without any secret one is generated and kept for this user, and the node listens on this machine only.

  python -m discoro                                            all usable CPUs, for your own programs here
  DISCORO_SECRET=... python -m discoro -c -1                   all but one, for everybody who knows it
  python -m discoro --secret-file F -i 192.168.1.7 --tcp_port 9700
"""


class Parser(argparse.ArgumentParser):
    """Takes hyphens for underscores in long options, and knows the option that was meant."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; wrong usage exits with status 2."""
        known = {option.replace("-", "_"): option for option in self._option_string_actions}
        spelled = [_spelled(argument, known) for argument in arguments]
        found, extra = self.parse_known_args(spelled)
        if extra:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            near = difflib.get_close_matches(extra[0].partition("=")[0], options, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self.error(f"unknown argument: {extra[0]}{meant}")
        return found

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the pages of usage."""
        self.exit(USAGE, f"discoro: {message}\n    All options: {self.prog} --help\n")


def _spelled(argument: str, known: dict[str, str]) -> str:
    """Return a long option as the parser has it."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return known.get(name.replace("-", "_"), name) + equals + value


def node_parser() -> Parser:
    """Return the parser of the node's options."""
    parser = Parser("python -m discoro", DESCRIPTION, EPILOG)
    add = parser.add_argument
    add(
        "-c",
        "--cpus",
        type=_whole,
        default=0,
        metavar="N",
        help="servers: 0 all usable CPUs (default), N exactly N, -N all but N",
    )
    add(
        "-i",
        "--ip_addr",
        action="append",
        default=[],
        metavar="ADDR",
        help="listen on exactly this address (may be repeated)",
    )
    add("--ext_ip_addr", metavar="ADDR", help="address that others reach this node by, behind NAT")
    add(
        "-u",
        "--udp_port",
        "--urp_port",
        type=_port,
        default=None,
        metavar="PORT",
        help="UDP port of discovery (default 51350)",
    )
    add(
        "--tcp_port",
        type=_port,
        default=0,
        metavar="PORT",
        help="TCP port of the first server, counting on (default: any)",
    )
    add(
        "-n",
        "--name",
        metavar="NAME",
        help="name of the node (default: the host's); servers are NAME-1 ...",
    )
    add("--dest_path", metavar="DIR", help="where servers keep files")
    add(
        "--max_file_size",
        type=_size,
        default=None,
        metavar="N",
        help="longest file taken, in bytes, or 100K, 20M, 4G (default 1G)",
    )
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "-s",
        "--secret",
        metavar="SECRET",
        help="the secret; other users can see it in ps, so rather:",
    )
    secret.add_argument("--secret-file", metavar="F", help="file whose first line is the secret")
    add("--certfile", metavar="F", help="certificate (PEM) instead of one made at start")
    add("--keyfile", metavar="F", help="its private key")
    add("-d", "--debug", action="store_true", help="log what happens")
    add(
        "--cluster",
        default="default",
        metavar="NAME",
        help="name of the cluster; others are not seen",
    )
    add(
        "--peer",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="another node to know (may be repeated)",
    )
    add("--join", metavar="HOST:PORT", help="listen nowhere, dial this one, end when it is gone")
    add("--force", action="store_true", help="allow more servers than usable CPUs")
    add("--new-secret", action="store_true", help="print a new secret and end")
    add("--version", action="version", version=f"discoro {__version__}")
    add("--lifeline", type=int, help=argparse.SUPPRESS)
    return parser


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")


def _size(text: str) -> int:
    """Read a number of bytes, with a K, M, G or T after it perhaps."""
    factors = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    upper = text.upper().removesuffix("B").removesuffix("I")
    number, factor = (upper[:-1], factors[upper[-1]]) if upper[-1:] in factors else (upper, 1)
    if number.isdecimal():
        return int(number) * factor
    raise argparse.ArgumentTypeError(f"{text!r} is no size; 500000, 100K, 20M, 4G are")


def main(arguments: Sequence[str] | None = None, *, program: Program | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: Those after the program's name; None takes this process's.
        program: What server processes run; None is the real one.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbs: dict[str, Callable[[list[str]], int]] = {"status": status, "stop": stop}
    try:
        if given and given[0] in verbs:
            return verbs[given[0]](given[1:])
        return node(given, program)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def node(arguments: list[str], program: Program | None) -> int:
    """Be a node."""
    parser = node_parser()
    options = parser.parse(arguments)
    if options.new_secret:
        from discoro.transport.secret import generate

        print(generate())
        return 0

    from discoro import logs
    from discoro.cpus import TooManyServers
    from discoro.parent import Parent
    from discoro.scheduler.errors import DiscoroError
    from discoro.secretsource import SecretUnusable, hide
    from discoro.serverprocess import ServerProgram
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
    from discoro.cpus import how_many, usable_cpus
    from discoro.nodesettings import GIB, UDP_PORT, NodeSettings
    from discoro.secretsource import find_secret

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
        max_file_size=GIB if options.max_file_size is None else options.max_file_size,
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
    from discoro.transport.addresses import parse_address
    from discoro.transport.credentials import checked_cluster
    from discoro.transport.tls import Certificate

    try:
        logs.levels(os.environ.get(logs.VARIABLE, ""))
        checked_cluster(options.cluster)
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


def status(arguments: list[str]) -> int:
    """Show the nodes of this machine."""
    parser = Parser("python -m discoro status", "Show the nodes that run on this machine.")
    parser.add_argument("--json", action="store_true", help="as JSON: a list of nodes")
    options = parser.parse(arguments)

    from discoro.control import NodeSilent, ask, status_text
    from discoro.statefolder import StateFolder

    folder = StateFolder()
    nodes = []
    silent = 0
    for record in folder.nodes():
        try:
            nodes.append(ask(folder, record, "status"))
        except NodeSilent as error:
            silent += 1
            print(f"discoro: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(nodes, indent=2))
    elif nodes:
        print(status_text(nodes), end="")
    elif not silent:
        print(
            "discoro: no node of yours runs on this machine. Start one: python -m discoro",
            file=sys.stderr,
        )
    if silent:
        return FAILED
    return 0 if nodes or options.json else NO_NODE


def stop(arguments: list[str]) -> int:
    """End a node of this machine."""
    parser = Parser("python -m discoro stop", "End a node of this machine: its work gets 5 s.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one, if there are several")
    options = parser.parse(arguments)

    from discoro.control import NodeSilent, ask
    from discoro.statefolder import StateFolder

    folder = StateFolder()
    nodes = folder.nodes()
    chosen: list[NodeRecord] = [n for n in nodes if options.name in (None, n.name, str(n.pid))]
    if not chosen:
        which = f"called {options.name} " if options.name else ""
        there = f" There are: {', '.join(n.name for n in nodes)}." if nodes else ""
        print(f"discoro: no node of yours {which}runs on this machine.{there}", file=sys.stderr)
        return NO_NODE
    if len(chosen) > 1:
        listed = ", ".join(f"{n.name} (pid {n.pid})" for n in chosen)
        print(
            f"discoro: {len(chosen)} nodes run here: {listed}.\n    Which one? python -m discoro stop NAME or PID",
            file=sys.stderr,
        )
        return FAILED
    try:
        ask(folder, chosen[0], "stop")
    except NodeSilent as error:
        print(f"discoro: {error}", file=sys.stderr)
        return FAILED
    print(f"discoro: node {chosen[0].name} has ended")
    return 0

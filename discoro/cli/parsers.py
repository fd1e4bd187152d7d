"""The parsers of all commands: what options there are, and what is said of them. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from discoro.quantities import parse_seconds, parse_size
from discoro.version import __version__

USAGE = 2

DESCRIPTION = """\
Start a node: servers, one process per CPU, that run coroutines for programs that know the secret.

  python -m discoro status [--json]    what runs on this machine
  python -m discoro stop [NAME]        end a node of this machine
  python -m discoro completion SHELL   completion of all this for bash, zsh or fish
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
            import difflib

            options = [option for option in self._option_string_actions if option.startswith("--")]
            if not self.prog.endswith(tuple(VERBS)):
                options += VERBS
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
    add(
        "--max_rss",
        type=_size,
        metavar="SIZE",
        help="end and restart a server that takes more memory than this: 512M, 2G (default: none is ended)",
    )
    add(
        "--max_stall",
        type=_seconds,
        metavar="SECONDS",
        help="end and restart a server that a coroutine blocks for longer: 30, 5min (default: none is ended)",
    )
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "-s",
        "--secret",
        metavar="SECRET",
        help="the secret; other users can see it in ps: rather --secret-file",
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


def _count(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def status_parser() -> Parser:
    """Return the parser of ``status``."""
    parser = Parser("python -m discoro status", "Show the nodes that run on this machine.")
    parser.add_argument("--json", action="store_true", help="as JSON: a list of nodes")
    parser.add_argument(
        "--most",
        type=_count,
        default=20,
        metavar="N",
        help="lines of each table, and coroutines of each server (default 20)",
    )
    return parser


def stop_parser() -> Parser:
    """Return the parser of ``stop``."""
    parser = Parser(
        "python -m discoro stop",
        "End a node of this machine: its running work gets 5 s, and it has ended by 10 s.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NODE", help="its name or process id, if there are several"
    )
    parser.add_argument("--all", action="store_true", help="all of them")
    return parser


def completion_parser() -> Parser:
    """Return the parser of ``completion``."""
    parser = Parser("python -m discoro completion", COMPLETION, COMPLETION_EPILOG)
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    return parser


SHELLS = ("bash", "zsh", "fish")
COMPLETION = "Print a script with which the shell completes the command, as `discoro` and as `python -m discoro`."
COMPLETION_EPILOG = """\
  bash: eval "$(python -m discoro completion bash)"      in ~/.bashrc
  zsh:  eval "$(python -m discoro completion zsh)"       in ~/.zshrc, after compinit
  fish: python -m discoro completion fish | source       in ~/.config/fish/config.fish
"""
VERBS = {"status": status_parser, "stop": stop_parser, "completion": completion_parser}
"""What may stand first instead of options, and its parser."""

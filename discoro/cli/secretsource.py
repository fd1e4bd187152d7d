"""Where a secret comes from, and how it leaves the places where other users, or children, could read it.

In this order: ``-s``, ``--secret-file``, the environment's ``DISCORO_SECRET``, else the user's generated one from the state folder.
A program's arguments and first environment lie in its memory for ``ps`` and ``/proc`` to read, and a forked child shows those of
its parent. So they are written over there before the first server is forked.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from discoro.scheduler.errors import DiscoroError
from discoro.statefolder import StateFolder
from discoro.transport import secret as secrets

VARIABLE = "DISCORO_SECRET"


class SecretUnusable(DiscoroError):
    """What was given as a secret cannot be one, or cannot be read.

    Attributes:
        source: Where it came from.
    """

    __module__ = "discoro.errors"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"the secret from {source}: {reason}")
        self.source = source


@dataclass(frozen=True)
class FoundSecret:
    """A secret and its story.

    Attributes:
        text: The secret itself.
        source: Where it came from, in words.
        given: Somebody gave it; else it is the generated one of this user.
        fresh: It was generated just now.
        warnings: What its user should know, a line each.
    """

    text: str = field(repr=False)
    source: str
    given: bool = True
    fresh: bool = False
    warnings: tuple[str, ...] = ()


def find_secret(
    option: str | None,
    file: str | None,
    environment: MutableMapping[str, str],
    folder: StateFolder,
) -> FoundSecret:
    """Find the secret; take ``DISCORO_SECRET`` out of ``environment``, which children would inherit.

    Raises:
        SecretUnusable: If what was given is none.
    """
    variable = environment.pop(VARIABLE, None)
    warnings: list[str] = []
    if option is not None:
        text, source = option, "-s"
        warnings.append(
            "-s shows the secret to every user of this machine (ps) and to your shell's history; "
            f"better: --secret-file FILE, or {VARIABLE} in the environment."
        )
    elif file is not None:
        (text, exposed), source = _read(file), f"--secret-file {file}"
        if exposed:
            warnings.append(
                f"other users of this machine can read {file}: chmod 600 {shlex.quote(file)}"
            )
    elif variable:
        text, source = variable, VARIABLE
    else:
        text, fresh = folder.secret(secrets.generate)
        return FoundSecret(text, folder.secret_path, given=False, fresh=fresh)
    problem = secrets.check(text)
    if problem is not None:
        raise SecretUnusable(source, problem)
    if secrets.Secret(text).weak:
        warnings.append(
            "the secret is short: whoever can reach this node may guess it in time. "
            "A good one: python -m discoro --new-secret"
        )
    return FoundSecret(text.rstrip("\r\n"), source, warnings=tuple(warnings))


def _read(file: str) -> tuple[str, bool]:
    """Return what stands in a file, and whether other users can read it there."""
    source = f"--secret-file {file}"
    try:
        with open(file, encoding="utf-8") as opened:
            state = os.fstat(opened.fileno())
            exposed = stat.S_ISREG(state.st_mode) and bool(state.st_mode & 0o044)
            lines = opened.read(65_536).splitlines()
    except FileNotFoundError as error:
        make = f"(umask 077; python -m discoro --new-secret > {shlex.quote(file)})"
        raise SecretUnusable(source, f"there is no such file. Make it: {make}") from error
    except UnicodeDecodeError as error:
        raise SecretUnusable(source, "the file holds no text (UTF-8)") from error
    except OSError as error:
        raise SecretUnusable(source, error.strerror or str(error)) from error
    if len(lines) > 1 and any(lines[1:]):
        reason = "the file has more than one line; it must hold the secret and nothing else"
        raise SecretUnusable(source, reason)
    return lines[0] if lines else "", exposed


def hide(text: str) -> bool:
    """Write over ``text`` in this process's arguments, and over ``DISCORO_SECRET`` in its first environment.

    Only whole words are touched: programs that we start get their environment from the same memory. Returns False where the
    kernel does not let us.
    """
    secret = os.fsencode(text)
    try:
        with open("/proc/self/stat", "rb") as file:
            # After the program's name in brackets: state is field 3; arg_start .. env_end are fields 48 to 51.
            words = file.read().rpartition(b")")[2].split()
        bounds = [int(word) for word in words[45:49]]
        areas = (
            (bounds[0], bounds[1], (b"", b"-s", b"--secret=")),
            (bounds[2], bounds[3], (VARIABLE.encode() + b"=",)),
        )
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            for start, end, prefixes in areas:
                memory.seek(start)
                for at, length in hidden_parts(memory.read(end - start), prefixes, secret):
                    memory.seek(start + at)
                    memory.write(b"*" * length)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def hidden_parts(held: bytes, prefixes: tuple[bytes, ...], secret: bytes) -> list[tuple[int, int]]:
    """Return (offset, length) of the secret in each NUL-ended word that is a prefix and the secret, or DISCORO_SECRET's value."""
    parts = []
    at = 0
    for word in held.split(b"\0"):
        for prefix in prefixes:
            rest = word[len(prefix) :]
            if rest and word.startswith(prefix) and (rest == secret or prefix.endswith(b"ET=")):
                parts.append((at + len(prefix), len(rest)))
                break
        at += len(word) + 1
    return parts

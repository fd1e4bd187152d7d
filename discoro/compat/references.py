"""How coroutines and channels of old programs travel: as references that get their old face back on arrival.

What a reference does on failure, code or exception, is up to the program that holds it: it gets the face of the sender's
family where that family is in use in this process, else discoro's own. Pickles name the two functions below, so their
names and arguments are part of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from discoro.localcoro import resolve_coro
from discoro.remotechannel import resolve_channel

FACES: dict[str, Callable[[Any], Any]] = {}
"""By family, what gives a coroutine or channel its face; entered when the family is first imported."""


def coro(family: str, process: bytes, number: int, name: str, host: str, port: int) -> Any:
    """The coroutine (process, number) as a program of ``family`` expects it."""
    return faced(family, resolve_coro(process, number, name, host, port))


def channel(family: str, process: bytes, number: int, name: str, host: str, port: int) -> Any:
    """The channel (process, number) as a program of ``family`` expects it."""
    return faced(family, resolve_channel(process, number, name, host, port))


def faced(family: str, found: Any) -> Any:
    """Give a coroutine or channel the face of ``family``, where that is in use in this process."""
    face = FACES.get(family)
    return found if face is None else face(found)

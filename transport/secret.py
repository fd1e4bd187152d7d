"""The shared secret: what a user types, and the 32 bytes that the handshake works with. Pure.

Any non-empty text is a secret. A typed one is short and guessable, so it is stretched once per process
(scrypt, 60 ms and 32 MiB); a *generated* one has 130 random bits and needs no stretching. Its form alone
decides which of the two it is, so both ends decide alike without a word on the wire::

    discoro-  26 characters of a-z2-7  1 check character
    prefix    130 random bits          weighted sum of the 26 over GF(32)

The weights are 26 different powers of a generator of GF(32), so the check character tells every single wrong
character and every two that changed places. Capitals are taken for small letters, ``0`` for ``o`` and ``1``
for ``l``: none of those stands in the alphabet.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from collections.abc import Callable
from typing import NoReturn

from .limits import Limits

PREFIX = "discoro-"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_RANDOM_CHARACTERS = 26
_SIMILAR = str.maketrans("01", "ol")
# What is so close to the generated form that it must be one with a slip: nobody makes that up.
_NEARLY = range(_RANDOM_CHARACTERS - 1, _RANDOM_CHARACTERS + 4)

_SALT = b"discoro/1 prs"
_GENERATED_KEY = b"discoro/1 generated prs"
PRS_BYTES = 32


class Secret:
    """A shared secret that does not show itself: not in ``repr``, not in a pickle.

    Args:
        text: What the user gave. Line ends after it are dropped (files have one), and it is brought to
            Unicode form NFC, since keyboards and terminals differ.

    Raises:
        ValueError: If the text is empty, or is a generated secret with a slip of the fingers in it.
    """

    __slots__ = ("_prs", "_text", "generated", "weak")

    def __init__(self, text: str, *, limits: Limits | None = None) -> None:
        problem = check(text)
        if problem is not None:
            raise ValueError(problem)
        cleaned = _cleaned(text)
        self.generated = is_generated(cleaned)
        # Fewer characters than this warn; see docs/security.md.
        self.weak = not self.generated and len(cleaned) < (limits or Limits()).weak_secret
        # Dropped as soon as the stretched form exists.
        self._text: str | None = cleaned
        self._prs: bytes | None = None

    @classmethod
    def from_prs(cls, prs: bytes) -> Secret:
        """Return the secret of a parent process, which sends its stretched form over a pipe."""
        if len(prs) != PRS_BYTES:
            raise ValueError(f"a stretched secret has {PRS_BYTES} bytes, not {len(prs)}")
        secret = cls.__new__(cls)
        secret.generated = secret.weak = False
        secret._text = None
        secret._prs = bytes(prs)
        return secret

    @property
    def prs(self) -> bytes:
        """The password-related string of CPace, 32 bytes. The first use may take 60 ms (thread-safe, without GIL)."""
        text = self._text
        if self._prs is None:
            assert text is not None
            self._prs = _unstretched(text) if self.generated else _stretched(text)
        self._text = None
        return self._prs

    @property
    def stretched(self) -> bool:
        """True once :attr:`prs` costs nothing."""
        return self._prs is not None or self.generated

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.prs, other.prs)

    def __hash__(self) -> int:
        return hash(Secret)  # all alike: a hash of the secret in a log would help a guesser

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled; give other processes DISCORO_SECRET or a file")


def generate(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return a new secret of the generated form, 130 random bits."""
    values = [byte & 31 for byte in random_bytes(_RANDOM_CHARACTERS)]
    body = "".join(_ALPHABET[value] for value in values)
    return PREFIX + body + _ALPHABET[_check_value(values)]


def is_generated(text: str) -> bool:
    """Return True if ``text`` is a generated secret, check character included."""
    body = _body(text)
    if body is None or len(body) != _RANDOM_CHARACTERS + 1 or not set(body) <= set(_ALPHABET):
        return False
    *values, found = (_ALPHABET.index(character) for character in body)
    return found == _check_value(values)


def check(text: str) -> str | None:
    """Return what is wrong with ``text`` as a secret, in words for its user, or None."""
    if not _cleaned(text):
        return "the secret is empty; `python -m discoro --new-secret` prints a good one"
    try:
        text.encode()
    except UnicodeEncodeError:
        return (
            "the secret holds characters that no encoding has; was the file or the terminal UTF-8?"
        )
    body = _body(text)
    if body is None or len(body) not in _NEARLY or is_generated(text):
        return None
    if not body.isascii() or not body.isalnum():
        return None
    if len(body) != _RANDOM_CHARACTERS + 1:
        return (
            f"this looks like a generated secret, but has {len(PREFIX) + len(body)} characters "
            f"instead of {len(PREFIX) + _RANDOM_CHARACTERS + 1}: copy it again"
        )
    return "this looks like a generated secret, but a character in it is wrong: copy it again"


def _cleaned(text: str) -> str:
    return unicodedata.normalize("NFC", text.rstrip("\r\n"))


def _body(text: str) -> str | None:
    """Return what follows the prefix, in the characters of the alphabet where possible."""
    lowered = _cleaned(text).lower()
    if not lowered.startswith(PREFIX):
        return None
    return lowered[len(PREFIX) :].translate(_SIMILAR)


def _stretched(text: str) -> bytes:
    # A fixed salt is fine: CPace never shows anything that a table over it could be compared with.
    return hashlib.scrypt(
        text.encode(), salt=_SALT, n=1 << 15, r=8, p=1, maxmem=64 << 20, dklen=PRS_BYTES
    )


def _unstretched(text: str) -> bytes:
    body = _body(text)
    assert body is not None
    return hmac.digest(_GENERATED_KEY, body.encode(), "sha256")


def _check_value(values: list[int]) -> int:
    """Return the sum of ``values`` weighted by 2, 4, 8 ... over GF(32) (x^5 + x^2 + 1)."""
    total = 0
    for value in reversed(values):
        total = _doubled(total ^ value)
    return total


def _doubled(value: int) -> int:
    value <<= 1
    return value ^ 0b100101 if value & 0b100000 else value

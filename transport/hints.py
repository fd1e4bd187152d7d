"""Hints: which hinted address is dialled, and when. Pure.

Anybody on the network can send a beacon (``beacon.py``), so what it makes us do is bounded: an address is dialled
at most once a minute, at most fifty new ones a second, and after three refusals not at all. A dial whose
handshake fails gives whoever answers one guess at the secret; so all of them together are bounded as well, by
the same figure as the guesses that a server answers.

What the user typed does not come here: it is dialled when the user says, and only its failure is an error.
"""

from __future__ import annotations

from collections import OrderedDict

from .limits import Limits
from .throttle import Bucket


class _Address:
    """What is remembered of one hinted address."""

    __slots__ = ("dialled", "refusals")

    def __init__(self, now: float) -> None:
        self.dialled = now
        self.refusals = 0


class Hints:
    """Decides about hinted addresses, for one process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        rate = self._limits.hint_rate
        self._new = Bucket(max(1.0, rate), rate)
        guesses = self._limits.failures_total
        self._guesses = Bucket(max(1.0, guesses), guesses)
        # Addresses that were dialled, the longest untouched first.
        self._addresses: OrderedDict[tuple[str, int], _Address] = OrderedDict()

    def offer(self, host: str, port: int, now: float) -> bool:
        """Return True if this address is to be dialled now; it then counts as dialled.

        Whether there is a session with that process already, the caller looks up first.
        """
        if self._guesses.wait(now) is not None:
            return False
        known = self._addresses.get((host, port))
        if known is None:
            if self._new.wait(now) is not None:
                return False
            self._new.take(now)
            self._addresses[host, port] = _Address(now)
            while len(self._addresses) > self._limits.hint_addresses:
                self._addresses.popitem(last=False)
            return True
        if known.refusals >= self._limits.hint_refusals:
            return False
        if now - known.dialled < self._limits.hint_interval:
            return False
        known.dialled = now
        self._addresses.move_to_end((host, port))
        return True

    def refused(self, host: str, port: int, now: float) -> None:
        """Note that a hinted dial ended in a refusal.

        A refusal is AuthenticationFailed, OtherCluster, VersionMismatch, NotTLS or ProtocolError. Nobody there
        (PeerUnreachable) and Busy are none: both pass.
        """
        self._guesses.take(now)
        known = self._addresses.get((host, port))
        if known is not None:
            known.refusals += 1
            self._addresses.move_to_end((host, port))

    def accepted(self, host: str, port: int) -> None:
        """Note that somebody at this address has proved the secret: its refusals are forgotten."""
        known = self._addresses.get((host, port))
        if known is not None:
            known.refusals = 0

    def ignored(self, host: str, port: int) -> bool:
        """Return True if hints of this address are ignored since it has refused too often."""
        known = self._addresses.get((host, port))
        return known is not None and known.refusals >= self._limits.hint_refusals

    def __len__(self) -> int:
        return len(self._addresses)

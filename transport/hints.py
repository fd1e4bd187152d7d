"""Hints: which hinted address is dialled, and when. Pure.

Anybody on the network can send a beacon (``beacon.py``), so what it makes us do is bounded: an address is dialled
at most once a minute, at most fifty a second in all, and after three refusals not at all. Where a dial failed only in
passing (nobody there yet, busy), or somebody had proved himself, the next one comes sooner: after 1, 2, 4 ... s. A dial whose
handshake fails gives whoever answers one guess at the secret; so all of them together are bounded as well, by
the same figure as the guesses that a server answers.

What the user typed does not come here: it is dialled when the user says, and only its failure is an error.
"""

from __future__ import annotations

from collections import OrderedDict

from .limits import Limits
from .throttle import Bucket

_MOST_FAILURES = 30
"""More make the wait no longer."""


class _Address:
    """What is remembered of one hinted address."""

    __slots__ = ("failures", "free_at", "refusals")

    def __init__(self, free_at: float) -> None:
        self.free_at = free_at  # when it may be dialled again
        self.refusals = 0
        self.failures = 0  # in passing, one after the other


class Hints:
    """Decides about hinted addresses, for one process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        rate = self._limits.hint_rate
        self._rate = Bucket(max(1.0, rate), rate)
        guesses = self._limits.failures_total
        self._guesses = Bucket(max(1.0, guesses), guesses)
        # Addresses that were dialled, the longest untouched first.
        self._addresses: OrderedDict[tuple[str, int], _Address] = OrderedDict()

    def offer(self, host: str, port: int, now: float, *, proven: bool = False) -> bool:
        """Return True if this address is to be dialled now; it then counts as dialled.

        With ``proven`` the hint came from somebody who has proved to know the secret: then the bound on all hints together,
        which are strangers', does not hold it up.
        Whether there is a session with that process already, the caller looks up first.
        """
        if self._guesses.wait(now) is not None:
            return False
        known = self._addresses.get((host, port))
        if known is not None and (
            known.refusals >= self._limits.hint_refusals or now < known.free_at
        ):
            return False
        if not proven:
            if self._rate.wait(now) is not None:
                return False
            self._rate.take(now)
        free_at = now + self._limits.hint_interval
        if known is None:
            self._addresses[host, port] = _Address(free_at)
            while len(self._addresses) > self._limits.hint_addresses:
                self._addresses.popitem(last=False)
        else:
            known.free_at = free_at
            self._addresses.move_to_end((host, port))
        return True

    def passed(self, host: str, port: int, now: float) -> None:
        """Note that a hinted dial failed in a way that passes: nobody there, or Busy."""
        known = self._addresses.get((host, port))
        if known is not None:
            wait = self._limits.hint_again * 2.0**known.failures
            known.failures = min(known.failures + 1, _MOST_FAILURES)
            known.free_at = now + min(wait, self._limits.hint_interval)

    def refused(self, host: str, port: int, now: float) -> None:
        """Note that a hinted dial ended in a refusal.

        A refusal is AuthenticationFailed, OtherCluster, VersionMismatch, NotTLS or ProtocolError. Nobody there
        (PeerUnreachable) and Busy are none: both pass.
        """
        self._guesses.take(now)
        known = self._addresses.get((host, port))
        if known is not None:
            known.refusals += 1
            known.free_at = now + self._limits.hint_interval
            self._addresses.move_to_end((host, port))

    def accepted(self, host: str, port: int, now: float) -> None:
        """Note that somebody at this address has proved the secret: what failed there is forgotten."""
        known = self._addresses.get((host, port))
        if known is not None:
            known.refusals = known.failures = 0
            known.free_at = now + self._limits.hint_again

    def ignored(self, host: str, port: int) -> bool:
        """Return True if hints of this address are ignored since it has refused too often."""
        known = self._addresses.get((host, port))
        return known is not None and known.refusals >= self._limits.hint_refusals

    def __len__(self) -> int:
        return len(self._addresses)

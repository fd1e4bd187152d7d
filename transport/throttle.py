"""Throttle: how many guesses at the secret, and how many strangers at once, a process puts up with. Pure.

A guess is one handshake with a wrong confirmation; that is all anybody gets out of a connection. Each source
(an address; of IPv6 a /64; the whole loopback) has a bucket of five guesses that fills by one a second, and all
sources together have one of twenty a second. Whoever finds a bucket empty is told how long to wait *before* any
arithmetic, which is what a flood of guesses would cost.

A source that has proved the secret is not held up by what others do: only by its own bucket. Two users of one
address cannot be told apart; there the honest one is told to wait as well, and gets in between two guesses.
"""

from __future__ import annotations

from collections import OrderedDict

from .addresses import is_loopback, source_of
from .limits import Limits

_LOOPBACK = "loopback"
_FULL_WAIT = (
    1.0  # seconds after which a refused connection may find a free place; one lasts 5 s at most
)
_COMPLAIN_EVERY = 60.0
_DECIDED_SOON = 0.1  # seconds; a handshake under way takes ten milliseconds


class Bucket:
    """Tokens that come back at a rate. May be overdrawn by as much as it holds.

    Args:
        capacity: Tokens of a full bucket.
        rate: Tokens per second.
        now: Seconds.
    """

    __slots__ = ("_capacity", "_level", "_rate", "_seen")

    def __init__(self, capacity: float, rate: float, now: float = 0.0) -> None:
        self._capacity = capacity
        self._rate = rate
        self._level = capacity
        self._seen = now

    def wait(self, now: float) -> float | None:
        """Return None if a token is there, else the seconds until one is. Takes nothing."""
        self._fill(now)
        if self._level >= 1.0:
            return None
        return (1.0 - self._level) / self._rate

    def take(self, now: float) -> None:
        """Take a token, there or not."""
        self._fill(now)
        self._level = max(self._level - 1.0, -self._capacity)

    def level(self, now: float) -> float:
        """Return how many tokens there are; below zero when it is overdrawn."""
        self._fill(now)
        return self._level

    def full(self, now: float) -> bool:
        """Return True if forgetting this bucket would change nothing."""
        self._fill(now)
        return self._level >= self._capacity

    def _fill(self, now: float) -> None:
        if now > self._seen:
            self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
            self._seen = now


class _Failures:
    """What is remembered of one source that has guessed wrong."""

    __slots__ = ("bucket", "complained", "unsaid")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.complained: float | None = None
        self.unsaid = 0


class Throttle:
    """Limits guesses and connections before authentication, for one process.

    The order of calls for one connection: :meth:`connected`, :meth:`admit`, then :meth:`failed` or
    :meth:`succeeded`, :meth:`decided` if it was admitted, and :meth:`disconnected` exactly once for each :meth:`connected` that gave None, as soon as
    the connection has proved itself or is gone. ``source`` is always the address as the socket gives it.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        rate = self._limits.failures_total
        self._total = Bucket(max(1.0, rate), rate)
        # Sources with failures, the longest silent first.
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        # Sources that have proved the secret, the longest silent first; the values mean nothing.
        self._proved: OrderedDict[str, None] = OrderedDict()
        # Connections that have not proved themselves, per source; no zeros.
        self._open: dict[str, int] = {}
        self._open_total = 0
        # Handshakes admitted and not decided, per source; no zeros. Each of them may turn out to be a guess.
        self._trying: dict[str, int] = {}
        self._trying_total = 0

    def connected(self, source: str, now: float) -> float | None:
        """Count a new connection. Returns None, or seconds to wait; then it is not counted and must go."""
        key = _key(source)
        here = self._open.get(key, 0)
        limits = self._limits
        most = limits.handshake_per_loopback if key == _LOOPBACK else limits.handshake_per_source
        full = self._open_total >= limits.handshake_connections and key not in self._proved
        if here >= most or full:
            return _FULL_WAIT
        self._open[key] = here + 1
        self._open_total += 1
        return None

    def disconnected(self, source: str) -> None:
        """Uncount a connection: it has proved itself, or is gone."""
        key = _key(source)
        here = self._open.get(key, 0)
        if not here:
            return
        self._open_total -= 1
        if here == 1:
            del self._open[key]
        else:
            self._open[key] = here - 1

    def admit(self, source: str, now: float) -> float | None:
        """Return None if a handshake may be worked on, else the seconds that its client has to wait.

        After None, :meth:`decided` follows, whatever becomes of the handshake.
        """
        key = _key(source)
        waits = []
        failures = self._failures.get(key)
        if failures is not None:
            waits.append(failures.bucket.wait(now))
        if key not in self._proved:
            waits.append(self._total.wait(now))
        longest = max((wait for wait in waits if wait is not None), default=None)
        trying = self._trying.get(key, 0)
        if longest is None and key not in self._proved:
            # Guesses made side by side must not all find the same token.
            free = self._limits.free_failures if failures is None else failures.bucket.level(now)
            if trying + 1 > free or self._trying_total + 1 > self._total.level(now):
                return _DECIDED_SOON
        if longest is None:
            self._trying[key] = trying + 1
            self._trying_total += 1
        return longest

    def decided(self, source: str) -> None:
        """An admitted handshake has succeeded, failed (:meth:`failed` comes first then), or was given up."""
        key = _key(source)
        self._trying_total -= 1
        if self._trying[key] == 1:
            del self._trying[key]
        else:
            self._trying[key] -= 1

    def failed(self, source: str, now: float) -> int:
        """Count a wrong secret.

        Returns:
            How many failures of this source a log line should report now, or 0: one line a minute and source.
        """
        key = _key(source)
        failures = self._failures.get(key)
        if failures is None:
            limits = self._limits
            bucket = Bucket(limits.free_failures, limits.failures_per_source, now)
            failures = self._failures[key] = _Failures(bucket)
            _bound(self._failures, limits.throttle_sources)
        self._failures.move_to_end(key)
        failures.bucket.take(now)
        if key not in self._proved:
            self._total.take(now)
        failures.unsaid += 1
        said = failures.complained
        if said is not None and now - said < _COMPLAIN_EVERY:
            return 0
        failures.complained = now
        count, failures.unsaid = failures.unsaid, 0
        return count

    def succeeded(self, source: str) -> None:
        """Note that a source has proved the secret."""
        key = _key(source)
        self._proved[key] = None
        self._proved.move_to_end(key)
        _bound(self._proved, self._limits.throttle_sources)

    @property
    def connections(self) -> int:
        """Connections counted now."""
        return self._open_total

    def __repr__(self) -> str:
        return (
            f"<Throttle {self._open_total} unproved, {len(self._failures)} sources with failures>"
        )


def _key(source: str) -> str:
    # 127.0.0.0/8 has sixteen million addresses and is one machine.
    return _LOOPBACK if is_loopback(source) else source_of(source)


def _bound(table: OrderedDict[str, _Failures] | OrderedDict[str, None], most: int) -> None:
    # Whoever has enough addresses to push others out of here still has the total limit above it.
    while len(table) > most:
        table.popitem(last=False)

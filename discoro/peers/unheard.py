"""Failures of coroutines elsewhere that nobody here asks about: said once in the log, as asyncio does for its tasks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from discoro.errors import PeerError
from discoro.scheduler.outcome import Failed

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.remotecoro import RemoteCoro

log = logging.getLogger("discoro.runs")

# Seconds in which somebody may ask for the outcome before it is logged.
GRACE = 1.0


class Unheard:
    """Collects failures, and says in time which of them nobody has heard of."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._failed: list[RemoteCoro[Any]] = []

    def add(self, run: RemoteCoro[Any]) -> None:
        """A coroutine that was started from here has failed, or was refused. Lost sessions are said elsewhere, once for all."""
        outcome = run.outcome
        if run.heard or not isinstance(outcome, Failed):
            return
        if isinstance(outcome.exception, PeerError):
            return
        if not self._failed:
            self._network.loop.call_later(GRACE, self.say)
        self._failed.append(run)

    def say(self) -> None:
        """Log those that nobody has heard of since."""
        failed, self._failed = self._failed, []
        for run in failed:
            if run.heard or not isinstance(run.outcome, Failed):
                continue
            run.heard = True
            if run.refused is not None:
                log.error(
                    "coroutine %s was not started at %s, and nobody has asked (await or yield computation.run(...) raises this): %s",
                    run.name,
                    run.location,
                    run.refused,
                )
            else:
                log.error(
                    "coroutine %s at %s failed, and nobody has asked",
                    run.name,
                    run.location,
                    exc_info=run.outcome.exception,
                )

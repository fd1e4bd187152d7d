"""What is said of coroutines that nobody asks about: failures, stubborn ones, dropped messages."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .coro import Coro
    from .stepping import Stepper

logger = logging.getLogger("discoro.scheduler")

TERMINATE_GRACE = 10.0
"""Seconds after which a coroutine that was asked to end is reported."""
FAILURE_GRACE = 1.0
"""Seconds in which somebody may ask for the outcome of a failed coroutine before it is logged."""


class Reports:
    """Collects what may have to be said, and says it in time."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self._drops = 0
        self._failed: list[Coro[Any]] = []
        self._terminating: deque[tuple[float, Coro[Any]]] = deque()

    def failed(self, coro: Any) -> None:
        """Hear that a coroutine failed and nobody waits for it: log it, unless somebody soon asks."""
        if not self._failed:
            self._stepper.loop.call_later(
                FAILURE_GRACE, self.log_failures, context=self._stepper.context
            )
        self._failed.append(coro)

    def log_failures(self) -> None:
        """Log the failures that nobody has asked for since."""
        failed, self._failed = self._failed, []
        for coro in failed:
            if coro._log_traceback:
                coro._log_traceback = False
                error = asyncio.Future.exception(coro)
                logger.error("coroutine %s failed", coro.name, exc_info=error)

    def dropped(self, coro: Any) -> None:
        """Hear that a message to a coroutine that has ended was dropped."""
        self._drops += 1
        logger.debug("message %d to an ended coroutine, %s: dropped", self._drops, coro.name)

    def terminating(self, coro: Coro[Any]) -> None:
        """Hear that a coroutine was asked to end: report it if it does not."""
        if not self._terminating:
            self._stepper.loop.call_later(
                TERMINATE_GRACE, self._report_stubborn, context=self._stepper.context
            )
        self._terminating.append((self._stepper.loop.time() + TERMINATE_GRACE, coro))

    def _report_stubborn(self) -> None:
        now, late = self._stepper.loop.time(), []
        while self._terminating and self._terminating[0][0] <= now + 0.01:
            coro = self._terminating.popleft()[1]
            if coro.is_alive():
                late.append(coro)
        if self._terminating:
            self._stepper.loop.call_at(
                self._terminating[0][0], self._report_stubborn, context=self._stepper.context
            )
        for coro in late:
            logger.warning(
                "%s was terminated %g s ago and has not ended; it is %s",
                coro.name,
                TERMINATE_GRACE,
                coro.where(),
            )

    def close(self) -> None:
        """Say what is left to say: the loop ends."""
        self.log_failures()
        self._terminating.clear()

"""How coroutines end, as bytes between processes; and the outcomes that are kept for late questions.

An outcome travels as a code and a payload::

    0 returned     the pickled value
    1 failed       the exception, with its traceback as text
    2 terminated   why, as UTF-8
    3 refused      it never started: the exception
    4 no such      nothing is known under that number: empty
"""

from __future__ import annotations

from typing import NoReturn

from discoro.errors import NoSuchCoro, RemoteError
from discoro.scheduler.outcome import Failed, Outcome, Returned, Stopped
from discoro.shipping.values import decode_exception, dumps, encode_exception, loads, size_hint

RETURNED, FAILED, TERMINATED, REFUSED, NO_SUCH = range(5)


def encode_outcome(outcome: Outcome) -> tuple[int, bytes]:
    """The code and payload of an outcome; a value that cannot be sent becomes the failure to send it."""
    if isinstance(outcome, Returned):
        try:
            return RETURNED, dumps(outcome.value)
        except Exception as error:
            error.add_note("the coroutine returned this value, and it cannot be sent")
            return FAILED, encode_exception(error)
    if isinstance(outcome, Failed):
        return FAILED, encode_exception(outcome.exception)
    return TERMINATED, outcome.reason.encode("utf-8", "replace")


def decode_outcome(code: int, payload: bytes | memoryview) -> Outcome:
    """The outcome that a code and payload stand for; bytes that cannot be decoded become that failure."""
    if code == RETURNED:
        try:
            return Returned(loads(payload))
        except Exception as error:
            return failed(error)
    if code in (FAILED, REFUSED):
        return failed(decode_exception(payload))
    if code == TERMINATED:
        return Stopped(str(payload, "utf-8", "replace"))
    return failed(NoSuchCoro())


def failed(error: BaseException) -> Failed:
    """The outcome of a coroutine whose end is known to us only as this error."""
    return Failed(error, "")


class ExitElsewhere(Failed):
    """``sys.exit()`` or Ctrl-C over there: a fact about a coroutine over there, and no reason to end this process."""

    __slots__ = ()

    def result(self) -> NoReturn:
        """Raise an error that says so."""
        exit_ = self.exception
        raise RemoteError(type(exit_).__name__, str(exit_), self.traceback_text) from exit_


def raisable(outcome: Outcome) -> Outcome:
    """The same outcome, but one that may be raised in the process that asks for it."""
    if not isinstance(outcome, Failed) or isinstance(outcome.exception, Exception):
        return outcome
    return ExitElsewhere(outcome.exception, outcome.traceback_text)


class KeptOutcomes:
    """The newest outcomes by coroutine number, for questions that come after the end.

    Args:
        most: How many are kept; up to a quarter more until the oldest go.
        seconds: How long.
        most_bytes: What the values of those that returned may take together; a single one above it is not kept.
    """

    def __init__(self, most: int, seconds: float, most_bytes: int = 64 << 20) -> None:
        self._most = most
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._bytes = 0
        # When it was kept, the outcome, and roughly how much memory it takes; the oldest first.
        self._kept: dict[int, tuple[float, Outcome, int]] = {}
        # The oldest go many at a time, and those that are too old are looked for once in a while: not with each one.
        self._slack = most // 4
        self._look = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, number: int, outcome: Outcome, now: float) -> None:
        """Remember how coroutine ``number`` ended."""
        kept = self._kept
        if number in kept:
            self._drop(number)
        size = 0
        if type(outcome) is Returned and outcome.value is not None:
            size = size_hint(outcome.value)
            self._bytes += size
        kept[number] = (now, outcome, size)
        if (
            len(kept) > self._most + self._slack
            or self._bytes > self._most_bytes
            or now >= self._look
        ):
            self._prune(now)

    def _prune(self, now: float) -> None:
        """Let go of what is too old, and of the oldest while there are too many, or all together is too big."""
        kept = self._kept
        left, total, gone = len(kept), self._bytes, []
        for number, (since, _, size) in kept.items():
            fits = left <= self._most and total <= self._most_bytes
            if fits and now - since <= self._seconds:
                break
            gone.append(number)
            left -= 1
            total -= size
        for number in gone:
            del kept[number]
        self._bytes = total
        self._look = now + self._seconds / 16

    def _drop(self, number: int) -> None:
        found = self._kept.pop(number, None)
        if found is not None:
            self._bytes -= found[2]

    def find(self, number: int, now: float) -> Outcome | None:
        """How coroutine ``number`` ended, where that is still known."""
        found = self._kept.get(number)
        if found is None:
            return None
        if now - found[0] > self._seconds:
            self._drop(number)
            return None
        return found[1]

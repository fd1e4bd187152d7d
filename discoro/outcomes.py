"""How coroutines end, as bytes between processes; and the outcomes that are kept for late questions.

An outcome travels as a code and a payload::

    0 returned     the pickled value
    1 failed       the exception, with its traceback as text
    2 terminated   why, as UTF-8
    3 refused      it never started: the exception
    4 no such      nothing is known under that number: empty
"""

from __future__ import annotations

from collections import OrderedDict

from discoro.errors import NoSuchCoro
from discoro.scheduler.outcome import Failed, Outcome, Returned, Stopped
from discoro.values import decode_exception, dumps, encode_exception, loads

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


class KeptOutcomes:
    """The newest outcomes by coroutine number, for questions that come after the end.

    Args:
        most: How many are kept.
        seconds: How long.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._kept: OrderedDict[int, tuple[float, Outcome]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, number: int, outcome: Outcome, now: float) -> None:
        """Remember how coroutine ``number`` ended."""
        kept = self._kept
        kept[number] = (now, outcome)
        if len(kept) > self._most:
            kept.popitem(last=False)

    def find(self, number: int, now: float) -> Outcome | None:
        """How coroutine ``number`` ended, where that is still known."""
        found = self._kept.get(number)
        if found is None:
            return None
        if now - found[0] > self._seconds:
            del self._kept[number]
            return None
        return found[1]

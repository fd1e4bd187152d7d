from __future__ import annotations

import asyncio
import pickle
import traceback
from typing import Any

import pytest

from discoro.scheduler.errors import Terminated
from discoro.shipping.errors import MissingCode, NotPicklable, PythonMismatch, RemoteError
from discoro.shipping.excs import RemoteTraceback, decode_exception, encode_exception
from discoro.shipping.values import dumps


class TwoArguments(Exception):
    """What pickle cannot do by itself: ``__init__`` takes other arguments than it passes on."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code


class Keyword(ValueError):
    def __init__(self, *, code: int) -> None:
        super().__init__(code)
        self.code = code


class Unfriendly(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class HoldsLock(Exception):
    def __init__(self) -> None:
        import threading

        super().__init__("locked")
        self.lock = threading.Lock()


def fail(error: BaseException) -> None:
    raise error


def raised(error: BaseException) -> BaseException:
    try:
        fail(error)
    except BaseException as caught:
        return caught
    raise AssertionError


def there_and_back(error: BaseException) -> BaseException:
    return decode_exception(encode_exception(raised(error)))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("nope"),
        ValueError("a", 2),
        OSError(2, "No such file", "x.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ExceptionGroup("both", [ValueError(1), TypeError(2)]),
        asyncio.CancelledError("stop"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(4),
        Terminated("because"),
        TwoArguments(7, "no luck"),
        Keyword(code=5),
        MissingCode("s-1", ["x", "y"], "text"),
        NotPicklable("f()", "global 'x'", "lock", "why", "hint"),
        PythonMismatch("cpython-3.11", "cpython-3.12"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_type_the_text_and_the_attributes_come_back(error: BaseException) -> None:
    back = there_and_back(error)

    assert type(back) is type(error) and str(back) == str(error)
    assert {k: str(v) for k, v in vars(back).items()} == {k: str(v) for k, v in vars(error).items()}
    assert isinstance(back.__cause__, RemoteTraceback)


def test_special_attributes_of_builtin_exceptions_come_back() -> None:
    back = there_and_back(OSError(2, "No such file", "x.txt"))
    assert isinstance(back, FileNotFoundError) and (back.errno, back.filename) == (2, "x.txt")
    group = there_and_back(ExceptionGroup("both", [ValueError(1), TypeError(2)]))
    assert isinstance(group, ExceptionGroup) and len(group.exceptions) == 2


def test_the_cause_shows_the_remote_source_lines() -> None:
    shown = "".join(traceback.format_exception(there_and_back(KeyError("nope"))))

    assert "in fail\n    raise error" in shown
    assert shown.count("in fail") == 1, "the remote lines show once"


def test_notes_travel_and_show_once() -> None:
    error = ValueError("x")
    error.add_note("seen at station 7")
    back = there_and_back(error)

    assert back.__notes__ == ["seen at station 7"]
    assert "".join(traceback.format_exception(back)).count("station 7") == 1


def test_causes_and_contexts_there_are_in_the_text() -> None:
    try:
        try:
            fail(KeyError("first"))
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        back = decode_exception(encode_exception(error))

    assert "KeyError: 'first'" in str(back.__cause__)


def test_an_error_that_passes_through_two_processes_shows_both() -> None:
    first = there_and_back(KeyError("nope"))
    second = decode_exception(encode_exception(raised(first)))

    assert type(second) is KeyError
    assert str(second.__cause__).count("in fail") >= 2


def test_the_remote_frames_are_there_as_a_traceback_object() -> None:
    cause = there_and_back(KeyError("nope")).__cause__
    assert isinstance(cause, RemoteTraceback) and cause.traceback is not None

    names = [frame.name for frame in traceback.extract_tb(cause.traceback)]
    assert names == ["raised", "fail"] == [name for _, _, name in cause.frames]
    assert RemoteTraceback("text").traceback is None
    assert pickle.loads(pickle.dumps(cause)).text == cause.text


def test_what_cannot_travel_arrives_as_text() -> None:
    back = there_and_back(HoldsLock())

    assert isinstance(back, RemoteError)
    assert back.type_name == f"{__name__}.HoldsLock" and back.text == "locked"
    assert "raise error" in back.traceback_text
    assert isinstance(decode_exception(encode_exception(back)), RemoteError)


def test_an_exception_without_text_still_arrives() -> None:
    assert type(there_and_back(Unfriendly())) is Unfriendly
    hidden = "discoro_c_" + "0" * 32 + ".helper"
    back = there_and_back(ImportError(f"cannot import name 'x' from '{hidden}'", name=hidden))
    assert back.args == ("cannot import name 'x' from 'helper'",) and back.name == "helper"  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [b"", b"rubbish", dumps(3), dumps(("a", "b"))])
def test_damaged_bytes_give_an_exception_and_raise_none(data: bytes) -> None:
    assert isinstance(decode_exception(data), RemoteError)


def test_an_exception_that_will_not_load_is_text() -> None:
    class Hostile(Exception):
        def __reduce__(self) -> Any:
            return fail, (SystemExit(1),)

    assert isinstance(there_and_back(Hostile("x")), (RemoteError, Hostile))

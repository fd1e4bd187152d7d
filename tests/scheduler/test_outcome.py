from __future__ import annotations

import pickle

import pytest

from discoro.scheduler import errors
from discoro.scheduler.outcome import Failed, MonitorException, Returned, Stopped


def test_each_outcome_gives_or_raises_what_it_is() -> None:
    error = ValueError("x")

    assert Returned(5).result() == 5
    with pytest.raises(ValueError) as caught:
        Failed(error).result()
    assert caught.value is error
    with pytest.raises(errors.Terminated, match="why"):
        Stopped("why").result()


def test_monitors_are_told_three_different_things() -> None:
    error = ValueError("x")
    returned, failed, stopped = Returned(5).to_info(), Failed(error).to_info(), Stopped().to_info()

    assert returned[0] is StopIteration and returned[1].value == 5
    assert failed == (ValueError, error)
    assert stopped[0] is errors.Terminated
    message = MonitorException("coro", failed)
    assert (message.coro, message.type, message.value) == ("coro", ValueError, error)


def test_the_traceback_text_is_that_of_the_end_however_often_it_is_raised() -> None:
    def fails() -> None:
        raise ValueError("x")

    try:
        fails()
    except ValueError as error:
        failed = Failed(error)
    for _ in range(3):
        with pytest.raises(ValueError):
            failed.result()

    assert failed.traceback_text.count("in fails") == 1
    assert Failed(ValueError(), "text from afar").traceback_text == "text from afar"


@pytest.mark.parametrize(
    "error",
    [
        errors.Terminated("why"),
        errors.NoSuchCoro("f"),
        errors.MailboxFull("f", 10),
        errors.MailboxBusy("f"),
        errors.NotTheCoroutine("f", "sleep"),
        errors.NotACoroutine(5),
        errors.WrongThread("send"),
        errors.NameTaken("coro", "f"),
        errors.SchedulerClosed(),
    ],
)
def test_errors_survive_pickling_with_their_data(error: errors.DiscoroError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert (copy.args, copy.__dict__) == (error.args, error.__dict__)
    assert isinstance(copy, errors.DiscoroError) and str(copy)

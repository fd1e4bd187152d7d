from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from discoro.scheduler import driver


def raises_itself() -> Iterator[Any]:
    yield
    raise StopIteration(5)


def leaks() -> Iterator[Any]:
    yield
    next(iter(()))


def helper() -> None:
    raise StopIteration(5)


def calls_helper() -> Iterator[Any]:
    yield
    helper()


def from_inner() -> Iterator[Any]:
    yield from raises_itself()


async def async_raises() -> None:
    raise StopIteration(5)


def failure(make: Callable[[], Any]) -> tuple[BaseException, Any]:
    frame = make()
    with pytest.raises(RuntimeError) as caught:
        while True:
            frame.send(None)
    return caught.value, frame


@pytest.mark.parametrize("make", [raises_itself, async_raises])
def test_a_raise_of_stop_iteration_in_the_own_frame_counts_as_return(make: Any) -> None:
    stop = driver.raised_stop_iteration(*failure(make))

    assert stop is not None and stop.value == 5


@pytest.mark.parametrize("make", [leaks, calls_helper, from_inner])
def test_a_leaked_stop_iteration_is_a_failure(make: Any) -> None:
    assert driver.raised_stop_iteration(*failure(make)) is None


def test_other_errors_are_not_taken_for_it() -> None:
    assert driver.raised_stop_iteration(RuntimeError("no cause"), leaks()) is None
    assert driver.raised_stop_iteration(ValueError(), leaks()) is None


def test_a_generator_gets_generator_exit_and_an_async_frame_cancelled_error() -> None:
    generator, coroutine = leaks(), async_raises()
    try:
        suited = driver.suited(CancelledError("x"), generator, CancelledError, True)
        assert isinstance(suited, GeneratorExit) and suited.args == ("x",)
        assert isinstance(
            driver.suited(GeneratorExit(), coroutine, CancelledError, True), CancelledError
        )
        error = ValueError()
        assert driver.suited(error, generator, CancelledError, True) is error
        assert driver.suited(error, coroutine, CancelledError, True) is error
    finally:
        coroutine.close()


def test_cancelled_error_of_another_future_stays_what_it_is() -> None:
    error = CancelledError()

    assert driver.suited(error, leaks(), CancelledError, False) is error


def test_generators_and_awaitables_are_frames_and_all_else_is_plain() -> None:
    class Awaitable:
        def __await__(self) -> Iterator[Any]:
            return iter(())

    generator, coroutine = leaks(), async_raises()
    assert driver.as_frame(generator) is generator
    assert driver.as_frame(coroutine) is coroutine
    made = driver.as_frame(Awaitable())
    assert made is not None and not driver.is_generator(made)
    assert [driver.as_frame(value) for value in (1, None, [1], "x", iter(()), (1,))] == [None] * 6
    coroutine.close()
    made.close()


def test_the_clean_up_error_of_yield_from_says_what_to_write() -> None:
    def inner() -> Iterator[Any]:
        try:
            yield
        finally:
            yield

    def outer() -> Iterator[Any]:
        yield from inner()

    frame = outer()
    next(frame)
    with pytest.raises(RuntimeError) as caught:
        frame.throw(GeneratorExit())
    driver.explain(caught.value)

    assert "yield gen()" in caught.value.__notes__[0]

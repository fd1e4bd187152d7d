from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from discoro.scheduler import OWN, NotACoroutine
from discoro.scheduler.entry import first_frame, is_async_entry, is_entry, name_of

ME = object()


def arguments(func: Any, *args: Any, **kwargs: Any) -> Any:
    """What a generator function was called with."""
    return next(first_frame(func, args, kwargs, ME))


def default(a: Any, coro: Any = None) -> Iterator[Any]:
    yield a, coro


def no_default(a: Any, coro: Any) -> Iterator[Any]:
    yield a, coro


def keyword_only(a: Any, *, coro: Any = OWN) -> Iterator[Any]:
    yield a, coro


def positional_only(a: Any, coro: Any = None, /) -> Iterator[Any]:
    yield a, coro


def local_variable(a: Any) -> Iterator[Any]:
    coro = 5
    yield a, coro


def rest(a: Any, *coro: Any) -> Iterator[Any]:
    yield a, coro


class Holder:
    def method(self, a: Any, coro: Any = None) -> Iterator[Any]:
        yield a, coro

    @classmethod
    def of_class(cls, a: Any, coro: Any = None) -> Iterator[Any]:
        yield a, coro

    @staticmethod
    def static(a: Any, coro: Any = None) -> Iterator[Any]:
        yield a, coro

    def __call__(self, a: Any, coro: Any = None) -> Iterator[Any]:
        yield a, coro


@functools.wraps(default)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return default(*args, **kwargs)


FILLED: list[Any] = [
    default,
    no_default,
    keyword_only,
    positional_only,
    Holder().method,
    Holder.of_class,
    Holder.static,
    Holder(),
    functools.partial(default),
    wrapped,
]


@pytest.mark.parametrize("func", FILLED)
def test_an_unfilled_parameter_coro_gets_the_own_coroutine(func: Callable[..., Any]) -> None:
    assert arguments(func, 1) == (1, ME)


@pytest.mark.parametrize("func", [f for f in FILLED if f not in (keyword_only,)])
def test_a_positional_value_is_not_overridden(func: Callable[..., Any]) -> None:
    assert arguments(func, 1, None) == (1, None)


@pytest.mark.parametrize("func", [f for f in FILLED if f is not positional_only])
def test_a_keyword_value_is_not_overridden(func: Callable[..., Any]) -> None:
    assert arguments(func, 1, coro=None) == (1, None)


def test_a_value_bound_by_a_partial_is_not_overridden() -> None:
    assert arguments(functools.partial(default, coro=7), 1) == (1, 7)
    assert arguments(functools.partial(default, 1, 7)) == (1, 7)


@pytest.mark.parametrize(("func", "given"), [(local_variable, 5), (rest, ())])
def test_what_is_no_parameter_coro_is_left_alone(func: Any, given: Any) -> None:
    assert arguments(func, 1) == (1, given)


async def async_entry(coro: Any = None) -> Any:
    return coro


async def async_generator() -> Any:
    yield 1


@types.coroutine
def old_coroutine() -> Iterator[None]:
    yield


@pytest.mark.parametrize("func", [default, wrapped, async_entry, old_coroutine, Holder()])
def test_generator_and_coroutine_functions_are_entries(func: Any) -> None:
    assert is_entry(func)


@pytest.mark.parametrize("func", [len, lambda: 1, async_generator, Holder, int, "text", None])
def test_anything_else_is_refused_with_a_type_error(func: Any) -> None:
    assert not is_entry(func)
    with pytest.raises(NotACoroutine, match=r"generator"):
        first_frame(func, (), {}, ME)
    with pytest.raises(TypeError):
        first_frame(func, (), {}, ME)


def test_wrong_arguments_raise_where_the_call_is_made() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        first_frame(default, (), {}, ME)


def test_a_generator_that_has_not_started_is_taken_as_it_is() -> None:
    generator = default(1, 2)

    assert first_frame(generator, (), {}, ME) is generator


def test_kinds_and_names_are_told() -> None:
    assert is_async_entry(async_entry) and is_async_entry(old_coroutine)
    assert not is_async_entry(default)
    assert name_of(default) == name_of(functools.partial(default)) == "default"
    assert name_of(Holder()) == "__call__"


def test_own_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(OWN)) is OWN
    assert repr(OWN) == "OWN"

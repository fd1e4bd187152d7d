"""How a function becomes the first frame of a coroutine. Pure.

A parameter named ``coro`` that the call leaves unfilled gets the function's own coroutine, whatever
its default is; an explicit value, positional included, is never overridden.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any

from .errors import NotACoroutine

_OWN = "coro"
_ENTRY = inspect.CO_GENERATOR | inspect.CO_COROUTINE
# By id of the code, which is kept and so keeps its id: hashing a code object costs more than the call.
_plans: dict[int, tuple[CodeType, int | None]] = {}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Own:
    """Stands for "the coroutine that runs this function" as a default value."""

    def __repr__(self) -> str:
        return "OWN"

    def __reduce__(self) -> str:
        return "OWN"


OWN: Any = _Own()


def _bare(func: Any) -> Any:
    """Return the function that runs when ``func`` is called, below partials, methods and wrappers."""
    while True:
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, MethodType):
            func = func.__func__
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        elif not isinstance(func, FunctionType) and not isinstance(func, type):
            call = vars(type(func)).get("__call__") if callable(func) else None
            return call if isinstance(call, FunctionType) else func
        else:
            return func


def is_entry(func: Any) -> bool:
    """Return whether ``func`` is a generator function or a coroutine function."""
    flags = _flags(func)
    return bool(flags & _ENTRY)


def is_async_entry(func: Any) -> bool:
    """Return whether ``func`` is a coroutine function."""
    return bool(_flags(func) & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE))


def _is_plain(func: Any) -> bool:
    return type(func) is FunctionType and "__wrapped__" not in func.__dict__


def _flags(func: Any) -> int:
    code = getattr(func if _is_plain(func) else _bare(func), "__code__", None)
    return code.co_flags if isinstance(code, CodeType) else 0


def name_of(func: Any) -> str:
    """Return the name a coroutine gets from its function."""
    name = getattr(func, "__name__", None) or getattr(_bare(func), "__name__", None)
    return str(name) if name else type(func).__name__


def first_frame(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], own: Any) -> Any:
    """Call ``func`` and return the frame that it makes.

    Args:
        func: A generator function or coroutine function; or a generator or coroutine object that
            has not started, then without arguments.
        args: Positional arguments.
        kwargs: Keyword arguments.
        own: What an unfilled parameter ``coro`` gets.

    Raises:
        NotACoroutine: If ``func`` is something else.
        TypeError: If the arguments do not fit, as in any call.
    """
    if type(func) is FunctionType:
        code = func.__code__
        plan = _plans.get(id(code))
        if plan is None or plan[0] is not code:
            plan = _plan(code)
        index = plan[1]
        if index is None:
            return func(*args, **kwargs)
        if index >= 0:
            if index < len(args) or _OWN in kwargs:
                return func(*args, **kwargs)
            return func(*args, coro=own, **kwargs)
    elif type(func) in (GeneratorType, CoroutineType) and not args and not kwargs:
        return func
    if not is_entry(func):
        raise NotACoroutine(func)
    args, kwargs = _filled_by_signature(func, args, kwargs, own)
    frame = func(*args, **kwargs)
    if type(frame) not in (GeneratorType, CoroutineType):
        raise NotACoroutine(func)
    return frame


def _plan(code: CodeType) -> tuple[CodeType, int | None]:
    """Find out, once per code, how a plain function takes its own coroutine.

    By name unless so many positional arguments are given; None: it does not; -1: look closer, it
    takes any arguments, as wrappers do, or takes it by position only, or is no entry.
    """
    flags, index = code.co_flags, code.co_argcount
    plan: tuple[CodeType, int | None] = code, -1
    if flags & _ENTRY and not flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        names = code.co_varnames[: index + code.co_kwonlyargcount]
        if _OWN not in names:
            plan = code, None
        elif _OWN in names[:index]:
            index = names.index(_OWN)
            plan = code, index if index >= code.co_posonlyargcount else -1
        else:
            plan = code, index
    if len(_plans) >= 1000:
        _plans.clear()
    _plans[id(code)] = plan
    return plan


def _filled_by_signature(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], own: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with ``own`` in its place, if that is there and still free."""
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return args, kwargs
    if _OWN not in parameters or _OWN in kwargs:
        return args, kwargs
    if isinstance(func, functools.partial) and _OWN in func.keywords:
        return args, kwargs
    kind = parameters[_OWN].kind
    if kind in _POSITIONAL:
        index = list(parameters).index(_OWN)
        if index < len(args):
            return args, kwargs
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            return ((*args, own), kwargs) if index == len(args) else (args, kwargs)
    elif kind is not inspect.Parameter.KEYWORD_ONLY:
        return args, kwargs
    return args, {**kwargs, _OWN: own}

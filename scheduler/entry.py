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
    return bool(flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE))


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
    if _is_plain(func):
        code = func.__code__
        if not code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE):
            raise NotACoroutine(func)
        names = code.co_varnames
        if _OWN in names and _OWN not in kwargs:
            args, kwargs = _filled(names.index(_OWN), code, args, kwargs, own)
        return func(*args, **kwargs)
    if type(func) in (GeneratorType, CoroutineType) and not args and not kwargs:
        return func
    if not is_entry(func):
        raise NotACoroutine(func)
    args, kwargs = _filled_by_signature(func, args, kwargs, own)
    frame = func(*args, **kwargs)
    if type(frame) not in (GeneratorType, CoroutineType):
        raise NotACoroutine(func)
    return frame


def _filled(
    index: int, code: CodeType, args: tuple[Any, ...], kwargs: dict[str, Any], own: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a plain function with ``own`` in its place, if that is still free."""
    positional = code.co_argcount
    if index >= positional + code.co_kwonlyargcount or index < min(len(args), positional):
        return args, kwargs  # a local variable of that name, or filled
    if index >= code.co_posonlyargcount:
        return args, {**kwargs, _OWN: own}
    return ((*args, own), kwargs) if index == len(args) else (args, kwargs)


def _filled_by_signature(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], own: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Do what :func:`_filled` does, for methods, partials, wrappers and callable objects."""
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

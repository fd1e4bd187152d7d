"""Which object of many cannot be pickled, and the way to it: ``global 'conf' -> .db -> ['conn']``.

Only used once pickling has failed, so it may be slow: it goes from an object that fails to the first
part of it that fails by itself, until no part does.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from discoro.scheduler.errors import ForgottenWait
from discoro.shipping.errors import NotPicklable
from discoro.shipping.pickling import used_globals
from discoro.shipping.privatenames import plain_module

_DEEPEST = 50
# Steps of the way that are shown.
_SHOWN = 8
_ARGUMENTS = "the arguments of "
_WIDEST = 10_000


def explain(
    what: str, value: Any, dump: Callable[[Any], object], error: BaseException, hint: str = ""
) -> NotPicklable:
    """Return the error for ``value``, which ``dump`` refused with ``error``.

    Args:
        what: Who sends it, for example ``"work()"``.
        value: What cannot be pickled.
        dump: Pickles one object, raises when that is not possible.
        error: What it raised for ``value``.
        hint: What to do about it; a general one if empty.
    """
    path, culprit, reason = find(value, dump, error)
    what, path = _argument(what, path)
    if len(path) > _SHOWN:
        path = [*path[:4], f"... {len(path) - 7} more ...", *path[-3:]]
    if isinstance(reason, ForgottenWait):
        text, hint = str(reason), f"Write `x = yield {reason.call}`, or `x = await {reason.call}`"
    elif isinstance(culprit, types.CoroutineType):
        text = f"a yield or await is missing before {culprit.__qualname__}()"
        hint = "What a call gives can be sent once it has been awaited"
    else:
        text = f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__
        hint = hint or "Make it where it is used, or send what is needed to make it"
    return NotPicklable(what, " -> ".join(path), type_name(culprit), text, hint)


def arguments_of(name: str) -> str:
    """Return how the arguments of a call, as (args,) or (args, kwargs), are named in errors."""
    return f"{_ARGUMENTS}{name}()"


def _argument(what: str, path: list[str]) -> tuple[str, list[str]]:
    """Name the one argument that cannot be sent, and the way from there."""
    if not what.startswith(_ARGUMENTS) or len(path) < 2:
        return what, path
    call, which = what.removeprefix(_ARGUMENTS), path[1].strip("[]")
    if path[0] == "[0]" and which.isdigit():
        which = str(int(which) + 1)
    return f"argument {which} of {call}", path[2:]


def find(
    value: Any, dump: Callable[[Any], object], error: BaseException
) -> tuple[list[str], Any, BaseException]:
    """Return the way to the culprit, the culprit, and why it cannot be pickled."""
    path: list[str] = []
    seen = {id(value)}
    while len(path) < _DEEPEST:
        found = None
        for step, part in parts(value):
            if id(part) in seen:
                continue
            failure = _failure(part, dump)
            if failure is not None:
                found = step, part, failure
                break
            if len(seen) < _WIDEST:
                seen.add(id(part))
        if found is None:
            return path, value, error
        step, value, error = found
        seen.add(id(value))
        path.append(step)
    return path, value, error


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (step, object) for what pickling ``value`` would pickle too."""
    if isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, type):
        for name, member in list(vars(value).items()):
            if name not in ("__dict__", "__weakref__", "__doc__", "__module__"):
                yield f".{name}", _undecorated(member)
    elif isinstance(value, dict):
        for key, member in list(value.items()):
            yield f"[{_short(key)}]", member
            yield f"key {_short(key)}", key
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{place}]", member) for place, member in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{{{_short(member)}}}", member) for member in list(value))
    if not isinstance(value, (type, types.FunctionType, types.ModuleType)):
        yield from _attributes(value)


def type_name(value: Any) -> str:
    """Return the full name of the type, without ``builtins``."""
    kind = type(value)
    module = plain_module(kind.__module__)
    # Some C types carry their private module: the class users know is _socket.socket's child.
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, member in used_globals(function).items():
        yield f"global {name!r}", member
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"closure {name!r}", cell.cell_contents
        except ValueError:
            continue
    defaults = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][len(defaults) * -1 :]
    for name, member in zip(names, defaults, strict=False):
        yield f"default of {name!r}", member
    for name, member in (function.__kwdefaults__ or {}).items():
        yield f"default of {name!r}", member
    for name, member in vars(function).items():
        yield f".{name}", member


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        own = list(vars(value).items())
    except TypeError:
        own = []
    yield from ((f".{name}", member) for name, member in own)
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _undecorated(member: Any) -> Any:
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    return member


def _failure(part: Any, dump: Callable[[Any], object]) -> BaseException | None:
    try:
        dump(part)
    except Exception as error:
        return error
    return None


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:
        text = type_name(key)
    return text if len(text) <= 40 else text[:37] + "..."

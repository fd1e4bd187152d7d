"""How names and constructors in arriving pickles become objects of this process.

A :class:`Receiver` answers what an unpickler asks. The plain one below, :data:`HOME`, is that of a
user's program: private names of a bundle that it shipped become its own, original objects, and
nothing that arrives changes a module, a class or a name that is here. The other kind is
:class:`discoro.shipping.codespace.CodeSpace`, that of shipped code inside a server.

The functions at the end are what pickles made by :mod:`discoro.shipping.pickling` call. cloudpickle's own
constructors force the real builtins and set class attributes again at every arrival; these do not.
"""

from __future__ import annotations

import builtins
import importlib
import logging
import platform
import sys
import types
import weakref
from collections.abc import Sequence
from typing import Any

import cloudpickle.cloudpickle as cloud

from discoro.shipping import shipped
from discoro.shipping.errors import PythonMismatch
from discoro.shipping.privatenames import split

PYTHON = f"{sys.implementation.name}-{'.'.join(platform.python_version_tuple()[:2])}"

#: Stands for the content of a closure's cell that had none.
EMPTY = "discoro: empty cell"


def attribute(module: types.ModuleType, name: str) -> Any:
    """Return the object of this dotted name in ``module``."""
    thing: Any = module
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


class Receiver:
    """What a program without shipped code of others makes of arriving names."""

    def translate(self, module: str) -> str:
        """Return the name under which the module with this name is known in this process."""
        parts = split(module)
        if parts is None or (parts[0] in shipped.spaces and parts[0] not in shipped.bundles):
            return module
        return parts[1] or module

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle names."""
        if module == __name__:
            return _constructor(self, name)
        parts = split(module)
        if parts is not None:
            home = shipped.bundles.get(parts[0])
            if home is not None:
                return home.named(parts[1], name)
        known = self.translate(module)
        found = sys.modules.get(known)
        if found is None:
            found = self.module(known)
        return attribute(found, name) if "." in name else getattr(found, name)

    def imported(self, name: str) -> types.ModuleType:
        """Return the module that arrives under this name."""
        known = self.translate(name)
        return sys.modules.get(known) or self.module(known)

    def module(self, name: str) -> types.ModuleType:
        """Import a module by the name that is known here."""
        return importlib.import_module(name)

    def globals_of(self, name: str, package: str | None, slot: int) -> dict[str, Any]:
        """Return the globals for functions that come by value with globals of their own."""
        return {"__name__": name, "__package__": package, "__builtins__": builtins.__dict__}

    def memory_module(self, name: str) -> types.ModuleType:
        """Return a module for one that exists nowhere but in memory."""
        return types.ModuleType(name)

    def add_globals(self, names: dict[str, Any], values: dict[str, Any]) -> None:
        """Put the globals that came with a function where there are none of these names."""
        for name, value in values.items():
            names.setdefault(name, value)

    def by_number(self, number: int, thing: Any) -> None:
        """Take note of an object that the bundle numbers."""

    def known_class(self, tracker: str) -> Any:
        """Return the class that arrived, or left, under this id before."""
        return cloud._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)

    def own_class(self, module: str | None, name: str) -> Any:
        """Return this program's own class of that name, if a class of a program arrives."""
        if module not in ("__main__", "__mp_main__") or "<locals>" in name:
            return None
        try:
            found = attribute(sys.modules["__main__"], name)
        except AttributeError:
            return None
        return found if isinstance(found, type) else None

    def track(self, tracker: str, made: type) -> None:
        """Remember a class that arrived by value, so that it arrives once."""
        cloud._lookup_class_or_track(tracker, made)

    def shipped_object(self, candidates: Sequence[tuple[str, int]], module: str, name: str) -> Any:
        """Return our own object for one that travelled by value with a bundle."""
        for table in (shipped.bundles, shipped.spaces):
            for key, number in candidates:
                if key in table:
                    return table[key].numbered(number)
        return self.find_class(module, name)

    def file_name(self, filename: str) -> str:
        """Return what code from that file carries as its file name here."""
        return filename


HOME = Receiver()


def _constructor(receiver: Receiver, name: str) -> Any:
    """One of the functions below, working for ``receiver``."""
    function = globals()[name]
    if name not in _BOUND:
        return function
    return lambda *args: function(*args, receiver=receiver)


def make_code(python: str, *args: Any, receiver: Receiver = HOME) -> types.CodeType:
    """Make a code object, never from another Python: that crashes the interpreter."""
    if python != PYTHON:
        raise PythonMismatch(PYTHON, python)
    code = types.CodeType(*args)
    return code.replace(co_filename=receiver.file_name(code.co_filename))


def make_cell() -> types.CellType:
    """Make an empty cell; the function it belongs to fills it, so that closures may be circular."""
    return types.CellType()


def module_globals(name: str, receiver: Receiver = HOME) -> dict[str, Any]:
    """Return the globals of a module that is here."""
    return vars(import_module(name, receiver=receiver))


def value_globals(
    name: str, package: str | None, slot: int, receiver: Receiver = HOME
) -> dict[str, Any]:
    """Return globals that came by value, so far empty.

    ``slot`` tells apart the globals of programs that were run by ``exec`` under one name.
    """
    return receiver.globals_of(name, package, slot)


def import_module(name: str, receiver: Receiver = HOME) -> types.ModuleType:
    """Return the module of this name."""
    return receiver.imported(name)


def make_module(name: str, receiver: Receiver = HOME) -> types.ModuleType:
    """Make a module that exists nowhere but in memory, so far empty."""
    return receiver.memory_module(name)


def set_module(module: types.ModuleType, values: dict[str, Any], receiver: Receiver = HOME) -> None:
    """Give a module from :func:`make_module` its content."""
    receiver.add_globals(vars(module), values)


def get_logger(name: str, receiver: Receiver = HOME) -> logging.Logger:
    """Return the logger of this name; one named after a shipped module has the private name."""
    return logging.getLogger(receiver.translate(name))


def make_function(
    number: int,
    code: types.CodeType,
    names: dict[str, Any],
    closure: tuple[types.CellType, ...] | None,
    receiver: Receiver = HOME,
) -> types.FunctionType:
    """Make a function without its state; the builtins are those of ``names``, for good."""
    function = types.FunctionType(code, names, None, None, closure)
    if number >= 0:
        receiver.by_number(number, function)
    return function


def set_function(
    function: types.FunctionType, state: dict[str, Any], receiver: Receiver = HOME
) -> None:
    """Give a function from :func:`make_function` its state."""
    vars(function).update(state.pop("dict"))
    receiver.add_globals(function.__globals__, state.pop("globals"))
    for cell, value in zip(function.__closure__ or (), state.pop("closure"), strict=True):
        if not (isinstance(value, str) and value == EMPTY):
            cell.cell_contents = value
    state.pop("submodules")
    for name, value in state.items():
        setattr(function, name, value)
    # The real name when the module is here under another one, for pickle and typing.
    if isinstance(function.__module__, str):
        function.__module__ = receiver.translate(function.__module__)


def make_class(
    number: int,
    tracker: str | None,
    is_enum: bool,
    args: tuple[Any, ...],
    receiver: Receiver = HOME,
) -> type:
    """Make a class without its attributes, or return the one that arrived before."""
    if tracker is not None:
        named = (
            (args[4], args[2]) if is_enum else (args[3].get("__module__"), args[3]["__qualname__"])
        )
        known = receiver.known_class(tracker)
        if known is None:
            known = receiver.own_class(*named)
        if known is not None:
            return known  # type: ignore[no-any-return]
    if is_enum:
        bases, name, qualname, members, module = args
        module = receiver.translate(module) if isinstance(module, str) else module
        made = cloud._make_skeleton_enum(bases, name, qualname, members, module, None, None)
    else:
        metaclass, name, bases, keywords = args
        if isinstance(keywords.get("__module__"), str):
            keywords["__module__"] = receiver.translate(keywords["__module__"])
        made = cloud._make_skeleton_class(metaclass, name, bases, keywords, None, None)
    if number >= 0:
        receiver.by_number(number, made)
    if tracker is not None:
        receiver.track(tracker, made)
    _unfinished[id(made)] = made
    return made  # type: ignore[no-any-return]


def set_class(made: type, state: tuple[dict[str, Any], Any], receiver: Receiver = HOME) -> None:
    """Give a class from :func:`make_class` its attributes, once: never one that was here."""
    if _unfinished.pop(id(made), None) is not made:
        return
    attributes = dict(state[0])
    if isinstance(attributes.get("__module__"), str):
        attributes["__module__"] = receiver.translate(attributes["__module__"])
    cloud._class_setstate(made, (attributes, state[1]))


# Classes between make_class and set_class, by identity, for a metaclass may define ==.
_unfinished: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()

_BOUND = frozenset(
    {
        *(
            "make_code",
            "module_globals",
            "value_globals",
            "import_module",
            "make_module",
            "set_module",
        ),
        *("get_logger", "make_function", "set_function", "make_class", "set_class"),
        "shipped_object",
    }
)


def shipped_object(
    candidates: Sequence[tuple[str, int]], module: str, name: str, receiver: Receiver = HOME
) -> Any:
    """Return our own object for one that travelled by value with a bundle."""
    return receiver.shipped_object(candidates, module, name)

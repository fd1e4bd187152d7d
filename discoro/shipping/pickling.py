"""The careful pickler: for what plain pickle cannot send, or would send wrongly.

It sends, with the constructors of :mod:`discoro.shipping.loading`:

* what travelled with a bundle as (bundle, number): it arrives as the receiver's own object;
* functions and classes that cannot be imported by name (``__main__``, lambdas, closures, notebook
  cells) by value, once; the globals of an importable module are named, not copied;
* everything else as plain pickle does.

The traversal of classes, properties, descriptors and the like is cloudpickle's.
"""

from __future__ import annotations

import collections
import copyreg
import io
import itertools
import logging
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle.cloudpickle as cloud

from discoro.shipping import loading, shipped

#: Modules of this name are programs: what is in them cannot be imported elsewhere.
PROGRAMS = ("__main__", "__mp_main__")


class GlobalsRef:
    """Stands in a pickle for the globals of functions; one per globals dict and pickle."""

    def __init__(self, constructor: Callable[..., dict[str, Any]], *args: Any) -> None:
        self.constructor = constructor
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.constructor, self.args


def _standard_stream(stream: io.TextIOWrapper) -> Any:
    """Only the streams that every process has; cloudpickle would send the content of a file."""
    for name in ("stdout", "stderr"):
        if stream is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError("cannot pickle an open file")


_TABLE: dict[type, Any] = dict(cloud.Pickler._dispatch_table)
_TABLE[io.TextIOWrapper] = _standard_stream
_REGISTERED: dict[type, Any] = copyreg.dispatch_table
_REDUCERS = collections.ChainMap(_TABLE, _REGISTERED)


class CodePickler(pickle.Pickler):
    """A pickler for values with functions and classes of this program in them.

    Args:
        file: Where the pickle goes.
        buffer_callback: Takes big buffers, as pickle has it.
        receiver: Key of the bundle that the receiver has, where that is known.
    """

    def __init__(
        self,
        file: io.BytesIO,
        buffer_callback: Callable[[Any], Any] | None = None,
        receiver: str | None = None,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._receiver = receiver
        self.dispatch_table = _REDUCERS
        self._globals: dict[int, tuple[GlobalsRef, bool, dict[str, Any]]] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Choose how ``obj`` travels; called by pickle for all but the plainest types."""
        kind = type(obj)
        if kind is types.FunctionType:
            reduced = self._by_reference(obj)
            return self._function(obj) if reduced is None else reduced
        if issubclass(kind, type):
            return self._class(obj)
        if kind is types.CodeType:
            return loading.make_code, (loading.PYTHON, *cloud._code_reduce(obj)[1])
        if kind is types.CellType:
            return loading.make_cell, ()
        if issubclass(kind, types.ModuleType):
            return self._module(obj)
        if kind is logging.Logger:
            return loading.get_logger, (obj.name,)
        return NotImplemented

    # What a pickler for bundles does differently.

    def importable(self, thing: Any) -> bool:
        """Can the receiver import this function or class by its name?"""
        return cloud._lookup_module_and_qualname(thing) is not None

    def is_program(self, module: types.ModuleType) -> bool:
        """Is this module one that the receiver cannot import?"""
        return module.__name__ in PROGRAMS

    def by_program_name(self, cls: type) -> bool:
        """Does this class of ``__main__`` travel by its name?

        Between programs that ship nothing to each other it does, as with pickle: the same script on
        two machines means its own class at both ends.
        """
        return not shipped.bundles and _has_its_name(cls)

    def number(self, thing: Any) -> int:
        """Return the number of a thing that goes by value, -1 outside of a bundle."""
        return -1

    # The ways to travel.

    def _by_reference(self, thing: Any) -> Any:
        if self.importable(thing):
            return NotImplemented
        found = shipped.candidates(thing)
        if found and self._receiver is not None:
            # Only other computations have it there, if anybody has: by value, then.
            found = [one for one in found if one[0] == self._receiver]
        if found:
            if _has_its_name(thing):
                # The name says it all, in fewer bytes: what is shipped has it there too.
                return NotImplemented
            return loading.shipped_object, (found, thing.__module__, thing.__qualname__)
        return None

    def _module(self, module: types.ModuleType) -> Any:
        if sys.modules.get(module.__name__) is module:
            return loading.import_module, (module.__name__,)
        return self.in_memory(module)

    def in_memory(self, module: types.ModuleType) -> Any:
        """Return how a module goes that has no file: with its content."""
        values = {name: value for name, value in vars(module).items() if name != "__builtins__"}
        return loading.make_module, (module.__name__,), values, None, None, loading.set_module

    def _class(self, cls: Any) -> Any:
        if cls in _SINGLETONS:
            return type, (_SINGLETONS[cls],)
        if cls in cloud._BUILTIN_TYPE_NAMES:
            return cloud._builtin_type, (cloud._BUILTIN_TYPE_NAMES[cls],)
        reduced = self._by_reference(cls)
        if reduced is None and self.by_program_name(cls):
            return NotImplemented
        if reduced is not None:
            return reduced
        constructor, args, state, *_ = cloud._dynamic_class_reduce(cls)
        is_enum = constructor is cloud._make_skeleton_enum
        if not is_enum:
            args[3]["__qualname__"] = cls.__qualname__
            if "__slots__" in vars(cls):
                slots = cls.__slots__
                args[3]["__slots__"] = (slots,) if isinstance(slots, str) else tuple(slots)
                state = _without_slots(cls, state[0]), state[1]
            if issubclass(cls, tuple):
                # typing.NamedTuple is no class and would make its fields again, from nothing.
                args = (*args[:2], cls.__bases__, *args[3:])
        number = self.number(cls)
        made = number, args[-2] if number < 0 else None, is_enum, args[:-2]
        return loading.make_class, made, state, None, None, loading.set_class

    def _globals_of(self, function: types.FunctionType) -> tuple[GlobalsRef, bool]:
        """Return what stands for the function's globals, and whether they go by value."""
        names = function.__globals__
        known = self._globals.get(id(names))
        if known is None:
            name = names.get("__name__") or "__main__"
            module = sys.modules.get(name)
            by_value = module is None or vars(module) is not names or self.is_program(module)
            if by_value:
                slot = sum(other.args[0] == name for other, *_ in self._globals.values())
                package = names.get("__package__")
                ref = GlobalsRef(loading.value_globals, name, package, slot)
            else:
                ref = GlobalsRef(loading.module_globals, name)
            known = self._globals[id(names)] = (ref, by_value, names)
        return known[0], known[1]

    def _function(self, function: types.FunctionType) -> Any:
        ref, by_value = self._globals_of(function)
        used = used_globals(function) if by_value else {}
        contents = [_content(cell) for cell in function.__closure__ or ()]
        state = {
            "dict": dict(vars(function)),
            "globals": used,
            "closure": contents,
            "submodules": cloud._find_imported_submodules(
                function.__code__, itertools.chain(used.values(), contents)
            ),
            "__name__": function.__name__,
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__annotations__": function.__annotations__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
        }
        if getattr(function, "__type_params__", ()):
            state["__type_params__"] = function.__type_params__  # type: ignore[attr-defined]
        made = self.number(function), function.__code__, ref, function.__closure__
        return loading.make_function, made, state, None, None, loading.set_function


_SINGLETONS: dict[type, Any] = {
    type(None): None,
    type(Ellipsis): Ellipsis,
    type(NotImplemented): NotImplemented,
}


def _without_slots(cls: type, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes without those that the class makes from its slots (also mangled ones)."""
    return {
        name: value
        for name, value in attributes.items()
        if name != "__slots__"
        and not (isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls)
    }


def _has_its_name(thing: Any) -> bool:
    """Is ``thing`` what its module, a program too, has under its name?"""
    try:
        return loading.attribute(sys.modules[thing.__module__], thing.__qualname__) is thing
    except (AttributeError, KeyError):
        return False


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return loading.EMPTY


def used_globals(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function's code, and code nested in it, names."""
    names = function.__globals__
    return {
        name: names[name]
        for name in cloud._extract_code_globals(function.__code__)
        if name in names
    }

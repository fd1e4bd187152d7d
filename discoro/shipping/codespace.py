"""Code spaces: the code of one computation inside a process that hosts many.

Its modules live under a private package, import each other there (:mod:`discoro.shipping.shippedimport`), and
share nothing with those of equal names of other computations, or of the process itself. After the
first load code travels by reference only, in both directions (:mod:`discoro.shipping.values`).
"""

from __future__ import annotations

import builtins
import gc
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import logging
import os
import shutil
import sys
import tempfile
import types
import typing
from collections.abc import Sequence
from typing import Any

import cloudpickle.cloudpickle as cloud

from discoro.shipping import loading, shipped
from discoro.shipping.bundle import NAMESPACE, Bundle, Requirement
from discoro.shipping.errors import ComputationError, MissingCode, PythonMismatch
from discoro.shipping.loading import PYTHON, Receiver, attribute
from discoro.shipping.privatenames import package_of, private_file, split
from discoro.shipping.shippedimport import (
    PrivateFinder,
    Shelved,
    closed,
    importlib_for,
    make_import,
    show_source,
)
from discoro.shipping.unpickling import loads

_FINDER = PrivateFinder(shipped.spaces)


class CodeSpace(Receiver):
    """The code of one bundle, loaded in this process. Make, :meth:`load`, use, :meth:`close`.

    Making it runs nothing of the bundle: it checks the Python version and the modules that the code
    needs. It is the ``names`` of :func:`discoro.shipping.values.loads` for what its coroutines receive.

    Args:
        bundle: The code.
        server: The name of this server, for errors.
        folder: Where packages with data files get their real files, in a folder of their own; a
            temporary one if None.

    Raises:
        PythonMismatch: The code comes from another Python.
        MissingCode: It needs modules that are not installed here.
        ComputationError: A code space with this id is open already.
    """

    def __init__(
        self, bundle: Bundle, *, server: str = "this server", folder: str | None = None
    ) -> None:
        if bundle.python != PYTHON:
            raise PythonMismatch(PYTHON, bundle.python)
        check_requirements(bundle.requirements, server)
        if bundle.key in shipped.spaces:
            raise ComputationError(f"{bundle.name} is set up in this process already", bundle.name)
        self.bundle = bundle
        self.key = bundle.key
        self.package = package_of(bundle.key)
        self.entry: Any = None
        self.closed = False
        self._folder = ""
        self._parent = folder
        self._roots = {"__main__"} | {item.name.partition(".")[0] for item in bundle.modules}
        self._shelved: dict[str, Shelved] = {}
        self._things: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._arrived: dict[str, Any] = {}
        self._loading = False
        self._cache: dict[tuple[str, str], Any] = {}
        self.builtins = dict(vars(builtins))
        self._importlib = importlib_for(self)
        self.builtins["__import__"] = make_import(self, self._importlib, lambda: self.closed)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<CodeSpace {self.bundle.name} {self.key[:8]} {state}>"

    # The life of it.

    def load(self) -> Any:
        """Import the shipped modules and load what came by value; return the entry function.

        Raises:
            UndecodableValue: The by-value part could not be loaded.
            Exception: Whatever a shipped module raised while it was imported.
        """
        if not any(finder is _FINDER for finder in sys.meta_path):
            sys.meta_path.insert(0, _FINDER)
        shipped.spaces[self.key] = self
        root = types.ModuleType(self.package)
        root.__path__ = []
        root.__spec__ = importlib.machinery.ModuleSpec(self.package, None, is_package=True)
        sys.modules[self.package] = root
        try:
            self._shelve()
            for item in self.bundle.modules:
                if item.at_setup:
                    importlib.import_module(self.private(item.name))
            self._loading = True
            self.entry, _ = loads(self.bundle.values, self)
            self._publish()
        except BaseException:
            self.close()
            raise
        finally:
            self._loading = False
        return self.entry

    def close(self) -> None:
        """Forget everything: modules, loggers, sources, caches. End the coroutines first."""
        if self.closed:
            return
        self.closed = True
        shipped.spaces.pop(self.key, None)
        forget(self.package)
        for table in (self._things, self._numbers, self._arrived, self._cache, self._shelved):
            table.clear()
        self.entry = None
        for clear in getattr(typing, "_cleanups", ()):
            clear()
        gc.collect()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _shelve(self) -> None:
        if self.bundle.folders:
            parent = self._parent
            self._folder = tempfile.mkdtemp(prefix="discoro-", dir=parent)
        real = set(self.bundle.folders)
        for item in self.bundle.modules:
            in_folder = item.name.partition(".")[0] in real
            path = private_file(self.key, item.path, self._folder if in_folder else "")
            self._shelved[item.name] = Shelved(item.name, item.is_package, path, item.source)
            if in_folder and not path.endswith(NAMESPACE):
                _write(path, item.source, 0o600)
        for data in self.bundle.data:
            _write(private_file(self.key, data.path, self._folder), data.content, data.mode)
        for filename, text in self.bundle.sources.items():
            show_source(self.file_name(filename), text)

    def _publish(self) -> None:
        """Let what came by value be found by its name, in its module, where there is none."""
        for thing in self._things.values():
            module = sys.modules.get(getattr(thing, "__module__", None) or "")
            if module is not None and split(module.__name__) and "." not in thing.__qualname__:
                vars(module).setdefault(thing.__qualname__, thing)

    # Names; see Receiver.

    def translate(self, module: str) -> str:
        """Return the name of a module here: private for shipped ones, else as it is."""
        parts = split(module)
        if parts is None:
            return self.private(module) if self.ships(module.partition(".")[0]) else module
        if parts[0] == self.key or (parts[0] in shipped.spaces and parts[0] not in shipped.bundles):
            return module
        return parts[1] or module

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle names; a class is looked up once."""
        known = self._cache.get((module, name))
        if known is not None:
            return known
        parts = split(module)
        if module == loading.__name__ or (parts is not None and parts[0] != self.key):
            return super().find_class(module, name)
        found = attribute(self.imported(module), name)
        if isinstance(found, type):
            self._cache[module, name] = found
        return found

    def imported(self, name: str) -> types.ModuleType:
        """Return the module that arrives under this name; importlib is one that knows ours."""
        return self._importlib if name == "importlib" else super().imported(name)

    def module(self, name: str) -> types.ModuleType:
        """Import a module by the name that is known here."""
        parts = split(name)
        if parts is not None and parts[1] not in self._shelved and parts[0] == self.key:
            if self.closed:
                raise ImportError(closed(parts[1]), name=parts[1])
            if parts[1] in self._roots:
                return self.value_module(parts[1], None)
        return importlib.import_module(name)

    def globals_of(self, name: str, package: str | None, slot: int) -> dict[str, Any]:
        """Return the globals of a module that exists by value only, such as ``__main__``."""
        root = name.partition(".")[0]
        if slot or name in self._shelved or (root != name and root not in self._roots):
            # Equal in name to another module, but not of it: made by exec, with its __name__.
            return {"__name__": self.private(name), "__builtins__": self.builtins}
        return vars(self.value_module(name, package))

    def memory_module(self, name: str) -> types.ModuleType:
        """Return a module that was made in memory; functions of it that come have its globals."""
        return super().memory_module(name) if name in self._shelved else self.value_module(name, "")

    def value_module(self, name: str, package: str | None) -> types.ModuleType:
        """Return the module of this name that exists by value only."""
        private = self.private(name)
        self._roots.add(name.partition(".")[0])
        module = sys.modules.get(private)
        if module is None:
            module = types.ModuleType(private)
            # Without it the import statement would take the private package for its own.
            module.__package__ = self.private(package) if package else ""
            vars(module)["__builtins__"] = self.builtins
            if name == "__main__" and self.bundle.program:
                module.__file__ = self.file_name(self.bundle.program)
            sys.modules[private] = module
        return module

    def add_globals(self, names: dict[str, Any], values: dict[str, Any]) -> None:
        """Put globals that came by value; those of a message never replace what is here."""
        if not self._loading:
            super().add_globals(names, values)
            return
        for name, value in values.items():
            # What tells the module who it is stays as it is here.
            if not (name in names and name.startswith("__") and name.endswith("__")):
                names[name] = value

    def by_number(self, number: int, thing: Any) -> None:
        """Take note of an object that the bundle numbers."""
        self._things[number] = thing
        self._numbers[id(thing)] = number

    def known_class(self, tracker: str) -> Any:
        """Return the class that arrived under this id, or that left from here under it."""
        known = self._arrived.get(tracker)
        if known is None:
            ours = super().known_class(tracker)
            if ours is not None and str(ours.__module__).startswith(self.package):
                return ours
        return known

    def own_class(self, module: str | None, name: str) -> Any:
        """Return None: a class that its program did not ship is another one, whatever its name."""
        return None

    def track(self, tracker: str, made: type) -> None:
        """Remember a class that arrived by value; it goes back under the id it came with."""
        self._arrived[tracker] = made
        cloud._DYNAMIC_CLASS_TRACKER_BY_CLASS[made] = tracker

    def shipped_object(self, candidates: Sequence[tuple[str, int]], module: str, name: str) -> Any:
        """Return our own object for one that travelled by value with a bundle."""
        for key, number in candidates:
            if key == self.key:
                return self._things[number]
        return super().shipped_object(candidates, module, name)

    def file_name(self, filename: str) -> str:
        """Return what code from that file carries as its file name here."""
        return private_file(self.key, filename) if filename in self.bundle.sources else filename

    # Shipped; see there.

    def number_of(self, thing: Any) -> int | None:
        """Return the number of ``thing``, if it came by value with the bundle."""
        return self._numbers.get(id(thing))

    def numbered(self, number: int) -> Any:
        """Return the object with that number."""
        return self._things[number]

    def named(self, module: str, name: str) -> Any:
        """Return our own object of this plain module and qualified name."""
        return attribute(self.imported(self.private(module)), name)

    # shippedimport.Space; see there.

    def find(self, name: str) -> Shelved | None:
        """Return the shipped module of this plain name."""
        return self._shelved.get(name)

    def ships(self, root: str) -> bool:
        """Does the bundle hold a module of this top-level name?"""
        return root in self._roots

    def private(self, name: str) -> str:
        """Return the private name of a shipped module."""
        return f"{self.package}.{name}"

    def why_missing(self, name: str) -> str:
        """Return why a module was not shipped; may be empty."""
        return self.bundle.left_out.get(name, "")


def check_requirements(requirements: Sequence[Requirement], server: str) -> None:
    """Check that the modules that code needs can be imported here; imports none of them.

    Raises:
        MissingCode: It names each missing module and who needs it.
    """
    missing = [item for item in requirements if not _is_here(item.module)]
    if missing:
        raise MissingCode(server, [item.module for item in missing], _missing_text(server, missing))


def _is_here(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _missing_text(server: str, missing: Sequence[Requirement]) -> str:
    parts = []
    for item in missing:
        where = f" at {item.file}:{item.line}" if item.line else ""
        parts.append(f"no module {item.module!r}, needed by {item.needed_by}{where}")
    names = " ".join(item.module for item in missing)
    return (
        f"{server} has {'; and '.join(parts)}. Nothing of the code has run. Install what provides "
        f"it there, for example: {sys.executable} -m pip install {names}"
    )


def forget(package: str) -> None:
    """Drop a private package from every table of the process that is kept by name."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    loggers = logging.Logger.manager.loggerDict
    for name in [name for name in loggers if name.split(".")[0] == package]:
        del loggers[name]
    tables: tuple[dict[str, Any], ...] = (
        linecache.cache,
        sys.path_importer_cache,
        getattr(inspect, "modulesbyfile", {}),
        getattr(inspect, "_filesbymodname", {}),
    )
    for table in tables:
        for name in [name for name in list(table) if package in name]:
            table.pop(name, None)


def _write(path: str, content: bytes, mode: int) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    os.chmod(path, (mode & 0o700) | 0o600)


__all__ = ["CodeSpace", "check_requirements"]

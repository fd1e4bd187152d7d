"""Imports of shipped code: a finder for private packages, and an ``__import__`` of its own.

``import helper`` in shipped code means the shipped ``helper`` if the bundle has one. Its modules, and
the globals of functions that came by value, hold builtins of their own, a copy with another
``__import__``; functions keep the builtins of their globals for good, so this holds in threads, in
bodies that run later, and in ``exec``. Nothing outside of shipped code is touched.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import linecache
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from discoro.shipping.privatenames import plain_module, plain_text, split


class Space(Protocol):
    """What the finder and the imports ask of a code space."""

    key: str
    builtins: dict[str, Any]

    def find(self, name: str) -> Shelved | None:
        """Return the shipped module of this plain name."""

    def ships(self, root: str) -> bool:
        """Does the bundle hold a module of this top-level name?"""

    def private(self, name: str) -> str:
        """Return the private name of a shipped module."""

    def why_missing(self, name: str) -> str:
        """Return why a module that stands beside shipped ones was not shipped; may be empty."""


class Shelved:
    """A shipped module, ready to be imported: name, file name here, source."""

    __slots__ = ("is_package", "name", "path", "source")

    def __init__(self, name: str, is_package: bool, path: str, source: bytes) -> None:
        self.name = name
        self.is_package = is_package
        self.path = path
        self.source = source


class Compiled:
    """The code of sources compiled lately: the same modules come with the next computation, and compiling is most of their import.

    Code objects are never changed, so computations may share them; each has file names of its own.

    Args:
        most: Bytes of source for which code is kept; what was used longest ago goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._kept: dict[bytes, types.CodeType] = {}
        self._lock = threading.Lock()  # shipped code may import in threads

    def code(
        self, source: bytes, path: str, compiled: Callable[[bytes, str], Any]
    ) -> types.CodeType:
        """Return the code of ``source`` in the file ``path``, by ``compiled(source, path)`` where it is not kept.

        Raises:
            SyntaxError: What ``compiled`` raises; nothing is kept then.
        """
        with self._lock:
            code = self._kept.get(source)
        code = _moved(code, path) if code is not None else compiled(source, path)
        with self._lock:
            if self._kept.pop(source, None) is None:
                self._bytes += len(source)
            self._kept[source] = code
            while self._bytes > self._most:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                self._bytes -= len(oldest)
        return code


def _moved(code: types.CodeType, path: str) -> types.CodeType:
    """Return the same code in another file."""
    consts = tuple(
        _moved(const, path) if isinstance(const, types.CodeType) else const
        for const in code.co_consts
    )
    return code.replace(co_filename=path, co_consts=consts)


_compiled = Compiled(2 << 20)


class ShippedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from the bundle, whatever is, or is not, in the file of that name."""

    def __init__(self, fullname: str, shelved: Shelved, space_builtins: dict[str, Any]) -> None:
        super().__init__(fullname, shelved.path)
        self._shelved = shelved
        self._builtins = space_builtins

    def get_data(self, path: str) -> bytes:
        """Return the source, or a file beside it where the package has real files."""
        return self._shelved.source if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> types.CodeType:
        """Compile the source, if that was not done lately; no bytecode file is read or written."""
        return _compiled.code(self._shelved.source, self.path, self.source_to_code)

    def is_package(self, fullname: str) -> bool:
        """Tell what the client said."""
        return self._shelved.is_package

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module with the builtins of its code space."""
        vars(module)["__builtins__"] = self._builtins
        show_source(self.path, self.get_source(module.__name__) or "")
        super().exec_module(module)


def show_source(path: str, text: str) -> None:
    """Let tracebacks and ``inspect`` find the source of code with this file name."""
    # An entry without mtime is never checked against the disk.
    linecache.cache[path] = len(text), None, text.splitlines(keepends=True), path


class PrivateFinder:
    """Finds modules of private packages in the code spaces of this process, nothing else."""

    def __init__(self, spaces: Mapping[str, Any]) -> None:
        self._spaces = spaces

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a shipped module; None for what is not ours, or not shipped."""
        parts = split(fullname)
        if parts is None:
            return None
        space: Space | None = self._spaces.get(parts[0])
        if space is None:
            raise ImportError(closed(parts[1]), name=parts[1])
        shelved = space.find(parts[1])
        if shelved is None:
            return None
        loader = ShippedLoader(fullname, shelved, space.builtins)
        return importlib.util.spec_from_file_location(
            fullname,
            shelved.path,
            loader=loader,
            submodule_search_locations=[shelved.path.rpartition("/")[0]]
            if shelved.is_package
            else None,
        )


def closed(name: str) -> str:
    """Return the text for an import that comes after the end."""
    return f"cannot import {name!r}: its computation is closed"


def make_import(
    space: Space, stand_in: types.ModuleType, is_closed: Callable[[], bool]
) -> Callable[..., Any]:
    """Return the ``__import__`` of a code space; ``stand_in`` is what it takes for importlib."""
    real = builtins.__import__

    def __import__(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        root = name.partition(".")[0]
        if level or not space.ships(root):
            if level and is_closed():
                raise ImportError(closed(name), name=name)
            try:
                found = real(name, globals, locals, fromlist, level)
            except ModuleNotFoundError as error:
                raise translated(error, space) from error.__cause__
            return stand_in if found is importlib else found
        if is_closed():
            raise ImportError(closed(name), name=name)
        try:
            found = real(space.private(name), globals, locals, fromlist or ("",), 0)
        except ModuleNotFoundError as error:
            raise translated(error, space) from error.__cause__
        return found if fromlist else sys.modules[space.private(root)]

    return __import__


def translated(error: ModuleNotFoundError, space: Space) -> ModuleNotFoundError:
    """Return the error with the names that the user knows."""
    parts = split(error.name or "")
    if parts is None:
        return error
    why = space.why_missing(parts[1])
    text = plain_text(str(error)) + (
        f" in the bundle: {why}" if why else " in the bundle: name it, or its package, in depends"
    )
    return ModuleNotFoundError(text, name=parts[1], path=error.path)


def importlib_for(space: Space) -> types.ModuleType:
    """Return an ``importlib`` for shipped code, whose ``import_module`` knows shipped modules."""
    made = types.ModuleType("importlib", importlib.__doc__)
    vars(made).update(vars(importlib))

    def import_module(name: str, package: str | None = None) -> types.ModuleType:
        if not name.startswith(".") and space.ships(name.partition(".")[0]):
            name = space.private(name)
        try:
            return importlib.import_module(name, package)
        except ModuleNotFoundError as error:
            raise translated(error, space) from error.__cause__

    made.import_module = import_module  # type: ignore[attr-defined]
    # Submodules that are imported later (importlib.resources) appear here too.
    made.__getattr__ = lambda name: getattr(importlib, name)  # type: ignore[method-assign]
    return made


__all__ = [
    "PrivateFinder",
    "Shelved",
    "ShippedLoader",
    "make_import",
    "plain_module",
    "show_source",
]

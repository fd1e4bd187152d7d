"""Collect the code of a computation: what it uses, and what that uses, until nothing is missing.

What belongs to ``__main__`` (scripts, notebooks, lambdas, closures, code made by ``exec``) goes by
value. The user's own modules go as source, found by reading the imports of what is shipped. What is
installed, or part of Python, is only named: a server checks that it has it before anything runs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import linecache
import os
import stat
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from discoro.shipping import shipped
from discoro.shipping.bundle import Bundle, FileItem, Requirement
from discoro.shipping.errors import SetupRefused
from discoro.shipping.importscan import Import, imports_of_code, lines_of_globals
from discoro.shipping.loading import PYTHON
from discoro.shipping.modulefiles import Origin, find, whose
from discoro.shipping.packing import ModuleShelf
from discoro.shipping.pickling import PROGRAMS, CodePickler
from discoro.shipping.privatenames import split
from discoro.shipping.unpicklable import explain


def collect(
    entry: Callable[..., Any], depends: Iterable[Any] = (), id: bytes | None = None
) -> Bundle:
    """Return all the code that ``entry`` needs, found by itself or named in ``depends``.

    The bundle is open while it lives: what comes home from a server that has it becomes this
    program's own functions, classes and instances of them.

    Args:
        entry: The computation's function.
        depends: Functions, classes, instances (their class is shipped), modules, packages, and paths
            of files. A relative path keeps its folders, of an absolute one the last part is kept.
        id: 16 random bytes; made here if None.

    Raises:
        NotPicklable: Something by value cannot be sent; it names the way to it.
        SetupRefused: An item of ``depends`` is none of these, or a file cannot be read.
    """
    work = _Collection(entry)
    for place, item in enumerate(depends):
        work.add(item, f"depends[{place}]")
    values = work.pickled()
    bundle = Bundle(
        id=id if id is not None else os.urandom(16),
        python=PYTHON,
        name=getattr(entry, "__qualname__", type(entry).__qualname__),
        program=_program_file(),
        modules=work.shelf.modules(),
        folders=sorted(work.shelf.folders),
        data=work.shelf.data(),
        sources=dict(sorted(work.sources.items())),
        values=values,
        requirements=work.required(),
        left_out=dict(sorted(work.shelf.left_out.items())),
        files=work.files,
        things=tuple(work.things),
    )
    shipped.bundles[bundle.key] = bundle
    return bundle


def file_item(path: str | os.PathLike[str]) -> FileItem:
    """Return the entry of a file that the computation needs.

    Raises:
        SetupRefused: There is no such file, or its name leaves its folder.
    """
    given = os.fspath(path)
    name = os.path.basename(given) if os.path.isabs(given) else os.path.normpath(given)
    if not name or name.split(os.sep)[0] in ("..", "."):
        raise SetupRefused(
            f"file {given!r} lies outside of this folder, so servers have no place for it: "
            "give its absolute path, then it is named by its last part there"
        )
    try:
        with open(given, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SetupRefused(f"{given!r} is no regular file: name the files themselves")
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        kind = "is a folder: name the files in it" if os.path.isdir(given) else str(error.strerror)
        raise SetupRefused(
            f"file {given!r} {'' if 'is' in kind[:3] else 'cannot be read: '}{kind}"
        ) from error
    mode = stat.S_IMODE(status.st_mode)
    return FileItem(name.replace(os.sep, "/"), os.path.abspath(given), status.st_size, digest, mode)


class _Collection:
    """The state of one :func:`collect`."""

    def __init__(self, entry: Callable[..., Any]) -> None:
        self.entry = entry
        self.by_value: list[Any] = []
        self.things: list[Any] = []
        self.sources: dict[str, str] = {}
        self.requirements: dict[str, Requirement] = {}
        self.files: list[FileItem] = []
        self.shelf = ModuleShelf(self._imported_by_module)
        self._examined: set[types.CodeType] = set()

    # What the user names.

    def add(self, item: Any, where: str) -> None:
        """Add one item of ``depends``."""
        if isinstance(item, (str, os.PathLike)):
            self._add_file(item)
        elif isinstance(item, types.ModuleType):
            self._add_module(item)
        elif isinstance(item, functools.partial):
            self.add(item.func, where)
        elif isinstance(item, types.MethodType):
            self.by_value.append(item.__func__)
            self.add(item.__self__, where)
        elif isinstance(item, (types.FunctionType, type)):
            self.by_value.append(item)
            self._examine_bodies(item)
        elif type(item).__module__ == "builtins":
            raise SetupRefused(
                f"{where} is a {type(item).__qualname__}: depends takes functions, classes, "
                "instances, modules, packages and paths of files"
            )
        else:
            self.by_value.append(type(item))

    def _add_file(self, path: str | os.PathLike[str]) -> None:
        item = file_item(path)
        for other in self.files:
            if other.name == item.name and other.sha256 != item.sha256:
                raise SetupRefused(
                    f"two files would be named {item.name!r} at servers, {other.path} and "
                    f"{item.path}: give relative paths, which keep their folders"
                )
        if all(other.name != item.name for other in self.files):
            self.files.append(item)

    def _add_module(self, module: types.ModuleType) -> None:
        if module.__name__ in PROGRAMS:
            return
        found = find(module.__name__)
        if found.origin is Origin.DYNAMIC:
            self.by_value.append(module)
        elif not self.shelf.add_whole(found):
            self._need(module.__name__, "depends", "", 0)

    # What that uses.

    def pickled(self) -> bytes:
        """Return the by-value part; on the way it finds what that needs."""
        self._examine_bodies(self.entry)
        value = (self.entry, self.by_value)
        try:
            return self._dump(value)
        except Exception as error:
            for thing in (self.entry, *self.by_value):
                try:
                    _Collection(self.entry)._dump(thing)
                except Exception as own:
                    own.__context__ = None  # the first try failed alike
                    raise self._explained(thing, own) from _users(own)
            raise self._explained(value, error) from _users(error)

    def _explained(self, thing: Any, error: Exception) -> Exception:
        name = getattr(thing, "__qualname__", None)
        what = f"{name}()" if isinstance(thing, types.FunctionType) else f"{name or thing!r}"
        hint = f"Open it inside {what}, or pass what is needed to open it"
        return explain(what, thing, lambda part: _Collection(self.entry)._dump(part), error, hint)

    def _dump(self, value: Any) -> bytes:
        with io.BytesIO() as file:
            _BundlePickler(file, self).dump(value)
            return file.getvalue()

    def examine(self, function: types.FunctionType) -> None:
        """Find what a function that goes by value, or that the user named, needs when it runs."""
        code = function.__code__
        if code in self._examined:
            return
        self._examined.add(code)
        names = function.__globals__
        lines = lines_of_globals(code)
        for name, line in lines.items():
            if name in names:
                self._need_of(names[name], function, line)
        text = "".join(linecache.getlines(code.co_filename, names))
        package = names.get("__package__") or ""
        for item in imports_of_code(code, package, text):
            if not item.guarded:
                self._import(item, f"{function.__qualname__}()", code.co_filename, True)
            else:
                self._import(item, "", code.co_filename, False)

    def keep_source(self, function: types.FunctionType) -> None:
        """Keep the text of the file that a function comes from, for tracebacks at the server."""
        filename = function.__code__.co_filename
        if filename not in self.sources and whose(filename) is Origin.LOCAL:
            text = "".join(linecache.getlines(filename, function.__globals__))
            if text:
                self.sources[filename] = text

    def _examine_bodies(self, thing: Any) -> None:
        """Examine a named function, or the methods of a named class, though its module is shipped."""
        thing = getattr(thing, "func", thing) if isinstance(thing, functools.partial) else thing
        thing = getattr(thing, "__func__", thing)
        if isinstance(thing, type):
            for member in vars(thing).values():
                member = getattr(member, "__func__", member)
                if isinstance(member, types.FunctionType) and member.__module__ == thing.__module__:
                    self.examine(member)
        elif isinstance(thing, types.FunctionType):
            inner = getattr(thing, "__wrapped__", None)
            if isinstance(inner, types.FunctionType):
                self.examine(inner)
            if find(thing.__module__ or "__main__").origin is not Origin.INSTALLED:
                self.examine(thing)

    def _need_of(self, value: Any, function: types.FunctionType, line: int) -> None:
        if isinstance(value, types.ModuleType):
            module = value.__name__
        else:
            named = isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType))
            module = (value if named else type(value)).__module__ or ""
        if module and module not in PROGRAMS:
            where = f"{function.__qualname__}()"
            self._need(module, where, function.__code__.co_filename, line)

    def _imported_by_module(self, item: Import, path: str) -> None:
        """An import of a shipped module; one in a function runs later, or never."""
        self._import(item, item.inside, path, not item.inside and not item.guarded)

    def _import(self, item: Import, needed_by: str, path: str, required: bool) -> None:
        found = self.shelf.ship(item.module)
        for name in item.names:
            self.shelf.ship_if_module(f"{item.module}.{name}")
        if (found.origin is Origin.INSTALLED and required) or (
            found.origin is Origin.COMPILED and required
        ):
            self._require(item.module, needed_by or "its import", path, item.line)

    def need(self, module: str) -> None:
        """A module that the by-value part names."""
        self._need(module, "", "", 0)

    def _need(self, module: str, needed_by: str, path: str, line: int) -> None:
        found = self.shelf.ship(module, at_setup=True)
        if found.origin in (Origin.INSTALLED, Origin.COMPILED):
            name = getattr(self.entry, "__qualname__", "")
            self._require(module, needed_by or f"{name}()", path, line)

    def _require(self, module: str, needed_by: str, path: str, line: int) -> None:
        root = module.partition(".")[0]
        if root in ("discoro", "cloudpickle"):
            return
        known = self.requirements.get(root)
        if known is None or (not known.line and line):
            self.requirements[root] = Requirement(root, needed_by, path, line)

    def required(self) -> list[Requirement]:
        """Return what servers must have installed."""
        return [self.requirements[name] for name in sorted(self.requirements)]


class _BundlePickler(CodePickler):
    """Pickles the by-value part: numbers what goes by value, and tells what is named."""

    def __init__(self, file: io.BytesIO, work: _Collection) -> None:
        super().__init__(file)
        self._work = work

    def importable(self, thing: Any) -> bool:
        if not super().importable(thing) or split(thing.__module__):
            return False
        if find(thing.__module__).origin is Origin.DYNAMIC:
            return False
        self._work.need(thing.__module__)
        return True

    def is_program(self, module: types.ModuleType) -> bool:
        return super().is_program(module) or find(module.__name__).origin is Origin.DYNAMIC

    def by_program_name(self, cls: type) -> bool:
        return False

    def number(self, thing: Any) -> int:
        self._work.things.append(thing)
        return len(self._work.things) - 1

    def _by_reference(self, thing: Any) -> Any:
        return NotImplemented if self.importable(thing) else None

    def _module(self, module: types.ModuleType) -> Any:
        name = module.__name__
        if name in PROGRAMS:
            return super()._module(module)
        if sys.modules.get(name) is not module or find(name).origin is Origin.DYNAMIC:
            return self.in_memory(module)
        self._work.need(name)
        return super()._module(module)

    def _function(self, function: types.FunctionType) -> Any:
        self._work.examine(function)
        self._work.keep_source(function)
        return super()._function(function)

    def _globals_of(self, function: types.FunctionType) -> tuple[Any, bool]:
        ref, by_value = super()._globals_of(function)
        if not by_value:
            self._work.need(function.__globals__["__name__"])
        return ref, by_value


def _program_file() -> str:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else ""


def _users(error: Exception) -> Exception | None:
    """The error, where users' own code raised it; None: its traceback shows them nothing but our insides."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return None if module.partition(".")[0] == "discoro" else error


__all__ = ["collect", "file_item"]

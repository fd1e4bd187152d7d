"""Where a module comes from: the standard library, an installed package, or the user's own files."""

from __future__ import annotations

import enum
import functools
import importlib.machinery
import importlib.util
import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from typing import Any


class Origin(enum.Enum):
    """What a module is to somebody who wants to run code elsewhere."""

    STANDARD = "part of Python"
    INSTALLED = "installed"
    LOCAL = "the user's own, with source"
    COMPILED = "the user's own, without source"
    DYNAMIC = "made in memory"
    UNKNOWN = "not found"


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module as found, not imported.

    Attributes:
        name: Full name.
        origin: Whose it is.
        path: Its file, "" where there is none.
        is_package: True for packages.
        folders: Where its submodules are.
    """

    name: str
    origin: Origin
    path: str = ""
    is_package: bool = False
    folders: tuple[str, ...] = ()


def find(name: str) -> ModuleFile:
    """Return where the module of this name comes from; imports nothing, except nothing at all."""
    root = name.partition(".")[0]
    if root in ("discoro", "builtins", "sys"):
        return ModuleFile(name, Origin.INSTALLED if root == "discoro" else Origin.STANDARD)
    spec = _spec(name)
    if spec is None:
        known = sys.modules.get(name)
        return ModuleFile(name, Origin.UNKNOWN if known is None else Origin.DYNAMIC)
    folders = tuple(os.path.abspath(place) for place in spec.submodule_search_locations or ())
    is_package = spec.submodule_search_locations is not None
    if spec.origin in ("built-in", "frozen") or (root in _FROZEN and spec.origin is None):
        return ModuleFile(name, Origin.STANDARD, "", is_package, folders)
    path = spec.origin if spec.has_location and spec.origin else ""
    if not path and is_package and folders:
        # A namespace package is a folder without a file.
        return ModuleFile(name, whose(folders[0]), "", True, folders)
    if not path:
        return ModuleFile(name, Origin.DYNAMIC, "", is_package, folders)
    path = os.path.abspath(path)
    origin = whose(path)
    if origin is Origin.LOCAL and source_of(name, path) is None:
        origin = Origin.COMPILED
    return ModuleFile(name, origin, path, is_package, folders)


def source_of(name: str, path: str) -> bytes | None:
    """Return the source of a module as bytes, None if there is none."""
    if path.endswith((".py", ".pyw")):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            pass
    module = sys.modules.get(name)
    loader: Any = getattr(getattr(module, "__spec__", None), "loader", None)
    try:
        text = loader.get_source(name)
    except Exception:
        return None
    return text.encode() if isinstance(text, str) else None


_FROZEN = frozenset({"zipimport", "importlib", "_frozen_importlib", "_frozen_importlib_external"})


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if isinstance(spec, importlib.machinery.ModuleSpec) and spec.name == name:
        return spec
    if module is not None:
        return None
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        return importlib.machinery.PathFinder.find_spec(
            name, list(above.submodule_search_locations)
        )
    except (ImportError, ValueError, AttributeError):
        return None


@functools.lru_cache(maxsize=4096)
def whose(path: str) -> Origin:
    """Return whose a source file is; what is no file counts as the user's own."""
    real = os.path.realpath(path)
    parts = real.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts or _below(real, _installed()):
        return Origin.INSTALLED
    return Origin.STANDARD if _below(real, _standard()) else Origin.LOCAL


def _below(path: str, folders: frozenset[str]) -> bool:
    return any(path.startswith(folder) for folder in folders)


@functools.cache
def _standard() -> frozenset[str]:
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    paths.add(os.path.dirname(os.__file__))
    return frozenset(os.path.realpath(path) + os.sep for path in paths if path)


@functools.cache
def _installed() -> frozenset[str]:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if site.ENABLE_USER_SITE:
        paths.add(site.getusersitepackages())
    return frozenset(os.path.realpath(path) + os.sep for path in paths if path)

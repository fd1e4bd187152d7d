"""The modules of a bundle: which are shipped, their sources, and the data of their packages."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from discoro.shipping.bundle import NAMESPACE, DataFile, ModuleSource
from discoro.shipping.errors import SetupRefused
from discoro.shipping.importscan import Import, imports_of_source
from discoro.shipping.modulefiles import ModuleFile, Origin, find, source_of

#: Data of packages above this many bytes in all is refused: files travel better as files.
MOST_DATA = 64 << 20

_COMPILED = (".so", ".pyd", ".dylib", ".dll")


class ModuleShelf:
    """The modules to ship.

    Args:
        imported: Told each import of a shipped module, with the file it stands in.
    """

    def __init__(self, imported: Callable[[Import, str], None]) -> None:
        self._imported = imported
        self._modules: dict[str, ModuleSource] = {}
        self._data: dict[str, DataFile] = {}
        self._found: dict[str, ModuleFile] = {}
        # Top-level names of packages whose files must be real files at the server.
        self.folders: set[str] = set()
        # Top-level names that the user named though they are installed here.
        self._forced: set[str] = set()
        self.left_out: dict[str, str] = {}

    def modules(self) -> list[ModuleSource]:
        """Return what is shipped, by name, packages before what is in them."""
        return [self._modules[name] for name in sorted(self._modules)]

    def data(self) -> list[DataFile]:
        """Return the data files of whole packages."""
        return [self._data[path] for path in sorted(self._data)]

    def ship(self, name: str, at_setup: bool = False) -> ModuleFile:
        """Ship a module if it is the user's own, with the packages above it; return what it is."""
        found = self._find(name)
        if found.origin is Origin.COMPILED:
            self.left_out[name] = f"it is compiled ({os.path.basename(found.path)})"
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            one = self._find(".".join(parts[:end]))
            if one.origin is not Origin.LOCAL:
                break
            self._take(one, at_setup and end == len(parts))
        return found

    def ship_if_module(self, name: str) -> None:
        """Ship what may be a submodule, or only a name in a module."""
        above = self._find(name.rpartition(".")[0])
        if above.is_package and above.origin is Origin.LOCAL:
            self.ship(name)

    def add_whole(self, found: ModuleFile) -> bool:
        """Ship a module, or a package with all that is in it, because the user named it.

        Returns:
            False if it cannot be shipped: part of Python, or compiled; servers must have it.
        """
        root = found.name.partition(".")[0]
        if found.origin is Origin.STANDARD or root == "discoro":
            return True
        if found.origin is Origin.INSTALLED:
            if not self._pure(root):
                return False
            self._forced.add(root)
            self._found.clear()
            found = self._find(found.name)
        if found.origin is not Origin.LOCAL:
            return False
        self.ship(found.name, at_setup=True)
        if found.is_package:
            self.folders.add(root)
            for folder in found.folders:
                self._walk(found.name, folder)
        return True

    def _find(self, name: str) -> ModuleFile:
        found = self._found.get(name)
        if found is None:
            found = find(name)
            if found.origin is Origin.INSTALLED and name.partition(".")[0] in self._forced:
                found = ModuleFile(name, Origin.LOCAL, found.path, found.is_package, found.folders)
            self._found[name] = found
        return found

    def _pure(self, root: str) -> bool:
        """Is there no compiled file in this installed package?"""
        found = find(root)
        if not found.is_package:
            return found.path.endswith(".py")
        return not any(
            name.endswith(_COMPILED)
            for folder in found.folders
            for _, _, names in os.walk(folder)
            for name in names
        )

    def _take(self, found: ModuleFile, at_setup: bool) -> None:
        known = self._modules.get(found.name)
        if known is not None:
            if at_setup and not known.at_setup:
                self._modules[found.name] = ModuleSource(
                    known.name, known.is_package, known.path, known.source, True
                )
            return
        source = source_of(found.name, found.path) if found.path else b""
        path = found.path or os.path.join(found.folders[0], NAMESPACE)
        source = source or b""
        self._modules[found.name] = ModuleSource(
            found.name, found.is_package, path, source, at_setup
        )
        package = found.name if found.is_package else found.name.rpartition(".")[0]
        for item in imports_of_source(source, package):
            self._imported(item, path)

    def _walk(self, package: str, folder: str) -> None:
        """Take everything in a package's folder: modules as modules, the rest as data."""
        for place, folders, names in os.walk(folder):
            inside = os.path.relpath(place, folder)
            parts = [] if inside == "." else inside.split(os.sep)
            folders[:] = sorted(
                name for name in folders if name != "__pycache__" and not name.startswith(".")
            )
            is_package = all(part.isidentifier() for part in parts)
            for name in sorted(names):
                path = os.path.join(place, name)
                stem, suffix = os.path.splitext(name)
                if suffix == ".pyc" or name.startswith("."):
                    continue
                module = ".".join([package, *parts, stem]).removesuffix(".__init__")
                if suffix == ".py" and stem.isidentifier() and is_package:
                    self.ship(module)
                elif suffix in _COMPILED:
                    self.left_out[module.partition(".cpython")[0]] = f"it is compiled ({name})"
                else:
                    self._take_data(path)

    def _take_data(self, path: str) -> None:
        status = os.stat(path)
        total = sum(len(item.content) for item in self._data.values()) + status.st_size
        if total > MOST_DATA:
            raise SetupRefused(
                f"the data of the packages in depends is above {MOST_DATA >> 20} MiB with {path}: "
                "name big files in depends by their paths, they are kept at the servers then"
            )
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                self._data[path] = DataFile(path, file.read(), stat.S_IMODE(status.st_mode))

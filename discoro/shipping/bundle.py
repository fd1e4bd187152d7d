"""Bundle: the code of one computation, as bytes that need no import to be read. Pure.

Encoded (msgpack, a map)::

    v         format, 1
    python    "cpython-3.11": where the code comes from
    name      name of the entry function, for people
    program   file name of the client's ``__main__``, or ""
    modules   [[name, is package, file name, source, import at setup], ...]
    folders   top-level names that get real files (packages with data)
    data      [[file name, content, mode], ...] of these packages
    sources   [[file name, text], ...] of code that comes by value, for tracebacks
    values    pickle of [entry, things of depends]: what comes by value, references to modules
    requires  [[module, needed by, file name, line], ...] that a server must have
    left out  [[module, why], ...]
    files     [[name, size, sha256, mode], ...]

The id is not part of it, so that equal code has an equal digest. On the client the object also knows
the originals (``things``) of all that went by value: what comes home becomes these again.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

FORMAT = 1
#: Stands for the file that a package without ``__init__.py`` does not have.
NAMESPACE = "<namespace>"
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """One shipped module.

    Attributes:
        name: Its full name at the client.
        is_package: True for packages.
        path: The file it came from, as tracebacks show it.
        source: Its source, as it is in the file.
        at_setup: It is imported at setup, not only when something imports it.
    """

    name: str
    is_package: bool
    path: str
    source: bytes
    at_setup: bool = False


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a shipped package that is no module."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class FileItem:
    """A file that the computation needs: its name at servers, where it is here, and what it is."""

    name: str
    path: str
    size: int
    sha256: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Requirement:
    """A module that a server must have installed, and who needs it."""

    module: str
    needed_by: str
    file: str
    line: int


@dataclass(eq=False)
class Bundle:
    """The code of one computation; see the module for the fields."""

    id: bytes
    python: str
    name: str = ""
    program: str = ""
    modules: Sequence[ModuleSource] = ()
    folders: Sequence[str] = ()
    data: Sequence[DataFile] = ()
    sources: dict[str, str] = field(default_factory=dict)
    values: bytes = b""
    requirements: Sequence[Requirement] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    files: Sequence[FileItem] = ()
    things: Sequence[Any] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self.key = self.id.hex()
        self._numbers = {id(thing): number for number, thing in enumerate(self.things)}
        self._encoded: bytes | None = None
        self._named: dict[tuple[str, str], Any] = {}
        for thing in self.things:
            self._named.setdefault((thing.__module__, thing.__qualname__), thing)

    def __repr__(self) -> str:
        return f"<Bundle {self.name} {self.key[:8]}: {len(self.modules)} modules, {len(self.files)} files>"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoded bundle."""
        return hashlib.sha256(self.encode()).digest()

    def encode(self) -> bytes:
        """Return the bundle as bytes; equal code gives equal bytes."""
        if self._encoded is None:
            self._encoded = msgpack.packb(
                {
                    "v": FORMAT,
                    "python": self.python,
                    "name": self.name,
                    "program": self.program,
                    "modules": [
                        [m.name, m.is_package, m.path, m.source, m.at_setup] for m in self.modules
                    ],
                    "folders": list(self.folders),
                    "data": [[d.path, d.content, d.mode] for d in self.data],
                    "sources": sorted(self.sources.items()),
                    "values": self.values,
                    "requires": [
                        [r.module, r.needed_by, r.file, r.line] for r in self.requirements
                    ],
                    "left out": sorted(self.left_out.items()),
                    "files": [[f.name, f.size, f.sha256, f.mode] for f in self.files],
                },
                use_bin_type=True,
                unicode_errors="surrogatepass",
            )
        return self._encoded

    @classmethod
    def decode(cls, data: bytes, id: bytes) -> Bundle:
        """Return the bundle that :meth:`encode` gave, under ``id``. Loads no code.

        Raises:
            ValueError: These bytes are no bundle of this format.
        """
        try:
            table = msgpack.unpackb(
                data, raw=False, unicode_errors="surrogatepass", max_bin_len=_MOST_BYTES
            )
            if table["v"] != FORMAT:
                raise ValueError(f"format {table['v']!r}, this discoro reads {FORMAT}")
            made = cls(
                id=id,
                python=table["python"],
                name=table["name"],
                program=table["program"],
                modules=[ModuleSource(*row) for row in table["modules"]],
                folders=table["folders"],
                data=[DataFile(*row) for row in table["data"]],
                sources=dict(table["sources"]),
                values=table["values"],
                requirements=[Requirement(*row) for row in table["requires"]],
                left_out=dict(table["left out"]),
                files=[FileItem(row[0], "", *row[1:]) for row in table["files"]],
            )
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"not a bundle: {error}") from error
        made._encoded = data
        return made

    # What travelled by value with it, at the client: the originals.

    def number_of(self, thing: Any) -> int | None:
        """Return the number of ``thing``, if it went by value with this bundle."""
        return self._numbers.get(id(thing))

    def numbered(self, number: int) -> Any:
        """Return the original with that number."""
        return self.things[number]

    def named(self, module: str, name: str) -> Any:
        """Return the original of this module and qualified name.

        Raises:
            AttributeError: There is none.
            ImportError: Its module cannot be imported (any more).
        """
        thing = self._named.get((module, name))
        if thing is None:
            thing = sys.modules.get(module) or importlib.import_module(module)
            for part in name.split("."):
                thing = getattr(thing, part)
        return thing

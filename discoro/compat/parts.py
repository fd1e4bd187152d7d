"""Modules inside the old packages: found as attributes, as they were; and what those say that are not here."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NoReturn


def part(package: str, name: str) -> Any:
    """The module ``name`` of a package, as ``pycos.netpycos`` after ``import pycos.netpycos``.

    Raises:
        AttributeError: If there is no such module.
        ImportError: If it is one that was never brought over.
    """
    if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(f"{package}.{name}")


def refuse(module: str, instead: str) -> NoReturn:
    """Say that a module of old is not here.

    Raises:
        ImportError: Always.
    """
    raise ImportError(
        f"{module} is not part of discoro.compat. {instead}; see docs/migration.md, 'What does not work, and why'.",
        name=module,
    )

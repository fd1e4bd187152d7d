"""Modules inside the old packages, found as attributes, as they were."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def part(package: str, name: str) -> Any:
    """The module ``name`` of a package, as ``pycos.netpycos`` after ``import pycos.netpycos``.

    Raises:
        AttributeError: If there is no such module.
    """
    if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(f"{package}.{name}")

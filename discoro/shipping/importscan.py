"""Which modules a piece of code imports, read from its source or its bytecode. Does no I/O."""

from __future__ import annotations

import ast
import dis
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass

_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}

# Computations are collected in threads, several at once.
_parsing = threading.Lock()
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement.

    Attributes:
        module: Absolute dotted name of the module it names first.
        names: What ``from module import ...`` takes; each may be a submodule.
        line: Line in the file.
        inside: Name of the function it stands in, "" at the top.
        guarded: The code goes on without it: it stands in a ``try`` that catches ImportError.
    """

    module: str
    names: tuple[str, ...]
    line: int
    inside: str
    guarded: bool


def imports_of_source(source: str | bytes, package: str) -> list[Import]:
    """Return the imports of a module, in its functions too; none of source that does not parse.

    Those for type checkers, and for running the module as a program, are left out.

    Args:
        source: Text of the module.
        package: Its ``__package__``, "" for a module at the top.
    """
    try:
        tree = _parsed(source)
    except (SyntaxError, ValueError):
        return []
    return list(_walk(tree.body, package, "", False))


def _parsed(source: str | bytes) -> ast.Module:
    """Parse. Python 3.11 and 3.12 count the depth of two parsers that run side by side as one, and raise SystemError."""
    with _parsing:
        for _ in range(_ATTEMPTS - 1):
            try:
                return ast.parse(source)
            except SystemError:
                continue  # somebody else's thread parses at this moment
        return ast.parse(source)


def _walk(body: list[ast.stmt], package: str, inside: str, guarded: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, inside, guarded)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node.module or "", node.level, package)
            names = tuple(alias.name for alias in node.names)
            if module:
                yield Import(module, names, node.lineno, inside, guarded)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _walk(node.body, package, node.name, guarded)
        elif isinstance(node, ast.If) and _never_runs(node.test):
            yield from _walk(node.orelse, package, inside, guarded)
        else:
            guards = guarded or _guards(node)
            for field in ("body", "handlers", "orelse", "finalbody", "cases"):
                inner = getattr(node, field, None)
                if isinstance(inner, list):
                    yield from _walk(inner, package, inside, guards)


def _never_runs(test: ast.expr) -> bool:
    """Is this the test of a block for type checkers, or for a program's start?"""
    for node in ast.walk(test):
        name = getattr(node, "id", None) or getattr(node, "attr", None)
        if name == "TYPE_CHECKING":
            return not isinstance(test, ast.UnaryOp)
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and isinstance(test.ops[0], ast.Eq)
    )


def _guards(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Try, ast.TryStar)):
        return any(
            handler.type is None or _IMPORT_ERRORS & _names(handler.type)
            for handler in node.handlers
        )
    if isinstance(node, ast.With):
        return any(_IMPORT_ERRORS & _names(item.context_expr) for item in node.items)
    return False


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def absolute(module: str, level: int, package: str) -> str:
    """Return the absolute name of a module in an import statement; "" if it leaves the package."""
    if not level:
        return module
    parts = package.split(".") if package else []
    if level - 1 >= len(parts):
        return ""
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{module}" if module else base


def imports_of_code(code: types.CodeType, package: str, source: str) -> list[Import]:
    """Return the imports that a function's code makes when it runs.

    Args:
        code: The function's code; code nested in it counts.
        package: ``__package__`` of its globals.
        source: Text of the whole file that it comes from; without it nobody knows which imports
            are guarded, so then all count as guarded.
    """
    guarded = {item.line for item in imports_of_source(source, package) if item.guarded}
    known = {item.line for item in imports_of_source(source, package)}
    found = []
    for inner in nested(code):
        before: list[dis.Instruction] = []
        for step in dis.get_instructions(inner):
            if step.opname == "IMPORT_NAME" and len(before) > 1:
                level, names = (before[-2].argval, before[-1].argval)
                line = (step.positions.lineno if step.positions else None) or 0
                module = absolute(step.argval, level if isinstance(level, int) else 0, package)
                names = names if isinstance(names, tuple) else ()
                guard = line in guarded or line not in known
                if module:
                    found.append(Import(module, names, line, inner.co_name, guard))
            before = [*before[-1:], step]
    return found


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield ``code`` and all code objects nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested(constant)


def lines_of_globals(code: types.CodeType) -> dict[str, int]:
    """Return, per global name that the code uses, the first line that uses it."""
    found: dict[str, int] = {}
    for inner in nested(code):
        for step in dis.get_instructions(inner):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                line = (step.positions.lineno if step.positions else None) or 0
                found.setdefault(step.argval, line)
    return found

"""The direction of imports, read from the sources with ast: packages, pure modules, no cycles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "scheduler": {"scheduler"},
    "transport": {"transport"},
    "discoro": {"discoro", "scheduler", "transport"},
}
# The way out of transport and scheduler is the standard library and what their folder may use.
THIRD_PARTY = {
    "scheduler": {"uvloop"},
    "transport": {"msgpack", "cryptography", "cpace", "psutil", "uvloop"},
}
PURE = {
    name: set(modules.split())
    for name, modules in {
        "scheduler": "errors checks outcome mailbox driver entry names",
        "transport": (
            "errors limits addresses frames codec paths backoff delivery lanes session handshake proofs "
            "secret throttle beacon hints transfer bulkframes ledger greeting formerkeys"
        ),
        "discoro": (
            "messages hosting errors shipping.bundle shipping.errors shipping.plain shipping.privatenames "
            "node.deaths node.guard node.reports node.settings quantities"
        ),
    }.items()
}
IO_MODULES = {"asyncio", "socket", "ssl", "selectors", "threading", "subprocess", "time"}


def sources() -> list[tuple[str, str, Path]]:
    """(package, module below it, file): ("discoro", "compat.coros", ...)."""
    return [
        (top, ".".join(path.relative_to(ROOT / top).with_suffix("").parts), path)
        for top in ALLOWED
        for path in sorted((ROOT / top).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def module_file(top: str, module: str) -> Path | None:
    """The file of a module of ours; None where the name is something inside one."""
    path = ROOT.joinpath(top, *module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if module and file.exists():
            return file
    return None


def type_checking_nodes(tree: ast.Module) -> set[ast.AST]:
    """What stands under ``if TYPE_CHECKING`` is for type checkers, not an import."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }


def imports(top: str, stem: str, path: Path) -> list[tuple[str, str, int]]:
    """(package or library, module, line) of each import; our own as (scheduler, mailbox, 12)."""
    tree = ast.parse(path.read_text(), str(path))
    skipped = type_checking_nodes(tree)
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(*split(alias.name), node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                assert node.level == 1, f"{path}:{node.lineno}: packages here have one level"
                name = f"{top}.{node.module}" if node.module else top
                name = name if top == "discoro" else f"discoro.{name}"
            else:
                name = node.module or ""
            found += [(*split(name, alias.name), node.lineno) for alias in node.names]
    return found


def split(name: str, member: str = "") -> tuple[str, str]:
    parts = name.split(".")
    if parts[0] != "discoro":
        return parts[0], ".".join(parts[1:])
    if len(parts) > 1 and parts[1] in ("scheduler", "transport"):
        return parts[1], parts[2] if len(parts) > 2 else member
    inner = ".".join([*parts[1:], member] if member else parts[1:])
    while inner and module_file("discoro", inner) is None:
        inner = inner.rpartition(".")[0]  # a name inside a module
    return "discoro", inner or member


@pytest.mark.parametrize(("top", "stem", "path"), sources(), ids=lambda value: str(value)[-40:])
def test_each_module_imports_only_what_its_place_allows(top: str, stem: str, path: Path) -> None:
    for package, module, line in imports(top, stem, path):
        where = f"{path}:{line} imports {package}.{module}"
        if package in ALLOWED:
            assert package in ALLOWED[top], where
            own_stem = package == top
            if stem in PURE[top] and own_stem and module_file(top, module):
                assert module in PURE[top], f"{where}: a pure module uses only pure ones"
        elif top in THIRD_PARTY:
            known = package in THIRD_PARTY[top] or package in stdlib() or package == "__future__"
            assert known, where
        if stem in PURE[top]:
            assert package not in IO_MODULES, f"{where}: a pure module does no I/O"


@pytest.mark.parametrize(("top", "stem", "path"), sources(), ids=lambda value: str(value)[-40:])
def test_nothing_but_compat_imports_compat(top: str, stem: str, path: Path) -> None:
    """Codes in the place of exceptions are made there alone, and nothing comes to depend on them."""
    if not stem.startswith("compat."):
        used = [line for _, module, line in imports(top, stem, path) if module.startswith("compat")]
        assert not used, f"{path}:{used[0]}"


def stdlib() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


@pytest.mark.parametrize("top", sorted(ALLOWED))
def test_every_name_in_the_list_of_pure_modules_exists(top: str) -> None:
    missing = {name for name in PURE[top] if module_file(top, name) is None}
    assert not missing


def test_no_import_cycle_exists() -> None:
    """Lazy imports inside functions count: a cycle hidden there is a cycle all the same."""
    graph: dict[str, set[str]] = {}
    for top, stem, path in sources():
        own = {
            f"{package}.{module}"
            for package, module, _ in imports(top, stem, path)
            if package in ALLOWED and module_file(package, module)
        }
        if stem != "__init__":
            stem = stem.removesuffix(".__init__")
            graph[f"{top}.{stem}"] = own - {f"{top}.{stem}"}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for other in sorted(graph.get(name, ())):
            visit(other, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())

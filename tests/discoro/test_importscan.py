from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from discoro.shipping.importscan import (
    absolute,
    imports_of_code,
    imports_of_source,
    lines_of_globals,
)

SOURCE = textwrap.dedent(
    """
    from __future__ import annotations
    import top, two.three as four
    from pkg import a, b
    from . import near
    from ..up import (c,
                      d)
    try:
        import maybe
    except ImportError:
        import otherwise
    else:
        import afterwards
    try:
        import sure
    except KeyError:
        pass
    with suppress(ImportError):
        import suppressed
    if TYPE_CHECKING:
        import types_only
    if typing.TYPE_CHECKING:
        import types_only
    else:
        import real
    if __name__ == "__main__":
        import program
    class K:
        import inner
        def method(self):
            import lazy
    async def f():
        async with x:
            for i in y:
                from .deep import z
    match x:
        case 1:
            import in_case
    """
)


def scanned() -> dict[str, tuple[str, bool]]:
    return {i.module: (i.inside, i.guarded) for i in imports_of_source(SOURCE, "my.pkg")}


def test_every_import_of_a_source_is_found_with_its_place() -> None:
    assert scanned() == {
        "__future__": ("", False),
        "top": ("", False),
        "two.three": ("", False),
        "pkg": ("", False),
        "my.pkg": ("", False),
        "my.up": ("", False),
        "maybe": ("", True),
        "otherwise": ("", True),
        "afterwards": ("", True),
        "sure": ("", False),
        "suppressed": ("", True),
        "real": ("", False),
        "inner": ("", False),
        "lazy": ("method", False),
        "my.pkg.deep": ("f", False),
        "in_case": ("", False),
    }


def test_names_and_lines_are_those_of_the_statement() -> None:
    found = {item.module: item for item in imports_of_source(SOURCE, "my.pkg")}

    assert found["my.up"].names == ("c", "d") and found["my.up"].line == 6
    assert found["top"].names == ()


@pytest.mark.parametrize("source", ["def", "\x00", b"\xff\xfe", ""])
def test_source_that_does_not_parse_has_no_imports(source: Any) -> None:
    assert imports_of_source(source, "") == []


@pytest.mark.parametrize(
    ("module", "level", "package", "name"),
    [
        ("x", 0, "a.b", "x"),
        ("x", 1, "a.b", "a.b.x"),
        ("", 1, "a.b", "a.b"),
        ("x", 2, "a.b", "a.x"),
        ("x", 3, "a.b", ""),
        ("x", 1, "", ""),
    ],
)
def test_relative_names_are_resolved(module: str, level: int, package: str, name: str) -> None:
    assert absolute(module, level, package) == name


FUNCTION = textwrap.dedent(
    """
    def f():
        import os.path
        from json import loads, dumps
        def g():
            from . import near
        try:
            import maybe
        except ImportError:
            pass
        return path(CONST)
    """
)


def function() -> Any:
    names: dict[str, Any] = {}
    exec(compile(FUNCTION, "f.py", "exec"), names)
    return names["f"]


def test_imports_in_a_functions_bytecode_are_found() -> None:
    found = imports_of_code(function().__code__, "pkg", FUNCTION)

    assert [(i.module, i.names, i.line, i.inside, i.guarded) for i in found] == [
        ("os.path", (), 3, "f", False),
        ("json", ("loads", "dumps"), 4, "f", False),
        ("maybe", (), 8, "f", True),
        ("pkg", ("near",), 6, "g", False),
    ]
    assert all(item.guarded for item in imports_of_code(function().__code__, "pkg", ""))


def test_globals_are_found_with_their_lines() -> None:
    assert lines_of_globals(function().__code__) == {"ImportError": 9, "path": 11, "CONST": 11}


def test_many_threads_parse_at_once() -> None:
    """CPython 3.11 raises SystemError where two of its own parsers run side by side."""
    source = "\n".join(f"def f{n}(a, b=[{{1: (2, [3])}}]):\n    import os{n}" for n in range(300))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: len(imports_of_source(source, "")), range(40)))
    assert found == [300] * 40

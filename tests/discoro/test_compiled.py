"""Code of shipped modules that is compiled once: the same code, in files of each computation's own, within bounds."""

from __future__ import annotations

import traceback
import types
from collections.abc import Iterator
from typing import Any

import pytest

from discoro.shipping.shippedimport import Compiled

SOURCE = b"""
state = []

def outer():
    def inner():
        return [1 / (0 * x) for x in (1,)]
    return inner()

class Thing:
    def method(self):
        return lambda: outer()
"""


class Compiler:
    """Counts."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, source: bytes, path: str) -> Any:
        self.paths.append(path)
        return compile(source, path, "exec", dont_inherit=True)


def every(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from every(const)


def test_a_source_is_compiled_once_and_is_in_the_file_of_whoever_asks() -> None:
    kept, compiler = Compiled(1000), Compiler()
    codes = [kept.code(SOURCE, path, compiler) for path in ("/one/m.py", "/two/m.py", "/one/m.py")]
    assert compiler.paths == ["/one/m.py"]
    for code, path in zip(codes, ("/one/m.py", "/two/m.py", "/one/m.py"), strict=True):
        assert {one.co_filename for one in every(code)} == {path}
        assert len(list(every(code))) > 5

    modules: list[dict[str, Any]] = [{"__name__": "m"} for _ in codes]
    for code, names in zip(codes, modules, strict=True):
        exec(code, names)
    modules[0]["state"].append(1)
    assert modules[1]["state"] == []
    with pytest.raises(ZeroDivisionError) as caught:
        modules[1]["Thing"]().method()()
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(caught.tb)[1:]]
    assert places[:3] == [("/two/m.py", 11), ("/two/m.py", 7), ("/two/m.py", 6)]


def test_another_source_is_another_code() -> None:
    kept, compiler = Compiled(1000), Compiler()
    for number in (1, 2, 1):
        names: dict[str, Any] = {}
        exec(kept.code(b"value = %d" % number, "/m.py", compiler), names)
        assert names["value"] == number
    assert len(compiler.paths) == 2


def test_what_was_used_longest_ago_goes_first_and_what_is_too_big_is_not_kept() -> None:
    kept, compiler = Compiled(30), Compiler()
    first, second, third = (b"value = %d" % number for number in (1, 2, 3))
    for source in (first, second, third, first, b"pass\n" * 2, first, second):
        kept.code(source, "/m.py", compiler)
    # Three of nine bytes fit, and a fourth of ten put the second out.
    assert len(compiler.paths) == 5
    kept.code(b"pass\n" * 20, "/m.py", compiler)
    kept.code(first, "/m.py", compiler)
    assert len(compiler.paths) == 7


def test_what_cannot_be_compiled_is_told_each_time_and_names_the_file() -> None:
    kept, compiler = Compiled(1000), Compiler()
    for path in ("/one.py", "/two.py"):
        with pytest.raises(SyntaxError) as caught:
            kept.code(b"def f(:\n", path, compiler)
        assert caught.value.filename == path

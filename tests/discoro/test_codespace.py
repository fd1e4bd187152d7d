"""Code spaces in the process of their client: what is shared, what is not, and what is left behind."""

from __future__ import annotations

import gc
import importlib
import inspect
import linecache
import logging
import os
import sys
import threading
import traceback
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from discoro.shipping import loading, shipped
from discoro.shipping.bundle import Bundle
from discoro.shipping.codespace import CodeSpace
from discoro.shipping.collecting import collect
from discoro.shipping.errors import ComputationError, MissingCode, PythonMismatch, UndecodableValue
from discoro.shipping.excs import decode_exception, encode_exception
from discoro.shipping.privatenames import PREFIX
from discoro.shipping.values import dumps, loads
from tests.discoro.codeprojects import FILES, write

Opener = Callable[..., CodeSpace]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    write(folder, {name: text for name, text in FILES.items() if name != "queue.py"}, 3)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Ship an entry to this process, as to a server; closes what was opened."""
    spaces: list[CodeSpace] = []

    def open_(entry: Any, depends: Any = (), **options: Any) -> CodeSpace:
        bundle = collect(entry, depends)
        there = Bundle.decode(bundle.encode(), bundle.id)
        space = CodeSpace(there, **options)
        space.home = bundle  # type: ignore[attr-defined]
        spaces.append(space)
        space.load()
        return space

    yield open_
    for space in spaces:
        space.close()
    assert not shipped.spaces
    assert not [name for name in sys.modules if name.startswith(PREFIX)]


def script(text: str, **names: Any) -> dict[str, Any]:
    names = {"__name__": "__main__", **names}
    exec(compile(text, "<script>", "exec", dont_inherit=True), names)
    return names


def home(value: Any) -> Any:
    """What the client gets of a value that shipped code sends."""
    return loads(dumps(value))


def test_two_spaces_of_one_bundle_s_code_share_no_state(project: Path, opened: Opener) -> None:
    entry = script(
        "import helper\nn = 0\ndef work():\n    global n\n    n += 1\n    return n, helper.bump()"
    )["work"]
    one, other = opened(entry), opened(entry)

    assert [one.entry(), one.entry(), other.entry()] == [(1, 3), (2, 6), (1, 3)]
    assert entry() == (1, 3)


def test_an_instance_from_there_is_of_the_clients_class_here(project: Path, opened: Opener) -> None:
    """Also with both in one process: whoever receives it decides whose class it is."""
    helper = importlib.import_module("helper")
    names = script("class K:\n    n = 1\ndef work(): return K(), helper.Thing(2)", helper=helper)
    space = opened(names["work"])
    k, thing = space.entry()
    assert type(k) is not names["K"] and type(thing) is not helper.Thing

    k_home, thing_home = home((k, thing))
    assert type(k_home) is names["K"] and thing_home == helper.Thing(2)
    k_there, thing_there = loads(dumps((k_home, thing_home)), space)
    assert type(k_there) is type(k) and type(thing_there) is type(thing)


def test_private_names_do_not_reach_the_client(project: Path, opened: Opener) -> None:
    names = script("import helper\nclass K: pass\ndef work(what): return eval(what), helper, K")
    space = opened(names["work"])
    for what in ("K", "helper.Thing", "helper.Size.BIG", "work", "helper.read", "helper", "K()"):
        value = home(space.entry(what)[0])
        assert PREFIX not in repr(value) and PREFIX not in str(type(value)), what
        assert PREFIX not in str(getattr(value, "__module__", ""))


def test_errors_come_home_with_the_clients_names_and_lines(project: Path, opened: Opener) -> None:
    space = opened(importlib.import_module("helper").fail)
    try:
        space.entry()
    except ValueError as error:
        back = decode_exception(encode_exception(error))
    shown = "".join(traceback.format_exception(back))

    assert f'File "{project}/helper.py", line' in shown and "raise ValueError(3)" in shown
    assert PREFIX not in shown


def test_the_source_shown_is_the_shipped_one_whatever_the_file_says_now(
    project: Path, opened: Opener
) -> None:
    space = opened(importlib.import_module("helper").read)
    (project / "helper.py").write_text("# something else\n" * 200)
    linecache.checkcache()

    assert inspect.getsource(space.entry) == "def read() -> int:\n    return MARK\n"


def test_a_message_function_uses_what_is_there_and_replaces_nothing(opened: Opener) -> None:
    names = script("n = 1\ndef work(): return n\ndef other(): return n, m", m=7)
    space = opened(names["work"])
    names["n"] = 50

    other = loads(dumps(names["other"]), space)
    assert other() == (1, 7) and space.entry() == 1


def test_a_value_that_names_what_was_not_shipped_says_what_to_do(
    project: Path, opened: Opener
) -> None:
    space = opened(script("def work(): pass")["work"])
    value = importlib.import_module("helper").Thing(1)
    data = dumps(value)
    del sys.modules["helper"]
    sys.path.remove(str(project))
    try:
        with pytest.raises(UndecodableValue, match=r"No module named 'helper'.*depends"):
            loads(data, space)
    finally:
        sys.path.insert(0, str(project))


def test_names_of_an_earlier_run_of_the_program_are_its_plain_names(project: Path) -> None:
    """A detached coroutine outlives its client; the program that comes after it understands it."""
    helper = importlib.import_module("helper")
    old = b"discoro_c_" + b"ab" * 16 + b".helper"
    data = b"\x80\x05\x8c" + bytes([len(old)]) + old + b"\x8c\x05Thing\x93."

    assert loads(data) is helper.Thing


# --- before anything runs


def test_another_python_is_refused_naming_both() -> None:
    bundle = collect(script("def work(): pass")["work"])
    bundle.python = "cpython-3.99"
    with pytest.raises(PythonMismatch, match=r"cpython-3\.99.*cpython-3\.1") as caught:
        CodeSpace(bundle)
    assert caught.value.theirs == "cpython-3.99"


def test_missing_modules_are_named_with_who_needs_them(project: Path) -> None:
    site = project / "site-packages"
    write(site, {"only_here.py": "X = 1\n", "and_here.py": "X = 1\n"})
    sys.path.insert(0, str(site))
    try:
        bundle = collect(script("import only_here\ndef work():\n    return only_here.X")["work"])
    finally:
        sys.path.remove(str(site))
        del sys.modules["only_here"]
    with pytest.raises(MissingCode) as caught:
        CodeSpace(bundle, server="bob-2")

    assert "bob-2 has no module 'only_here', needed by work() at <script>:3" in str(caught.value)
    assert "Nothing of the code has run" in str(caught.value)


def test_the_same_bundle_is_not_opened_twice(opened: Opener) -> None:
    space = opened(script("def work(): pass")["work"])
    with pytest.raises(ComputationError, match="already"):
        CodeSpace(space.bundle)


def test_a_module_that_raises_at_setup_leaves_nothing_behind(project: Path, opened: Opener) -> None:
    write(project, {"angry.py": "import os\nif os.environ.get('ANGRY'): 1 / 0\ndef f(): pass\n"})
    entry = importlib.import_module("angry").f
    os.environ["ANGRY"] = "1"
    try:
        with pytest.raises(ZeroDivisionError):
            opened(entry)
    finally:
        del os.environ["ANGRY"]
    assert not shipped.spaces


# --- imports


def test_lazy_imports_in_many_threads_give_one_module(project: Path, opened: Opener) -> None:
    space = opened(script("import helper\ndef work(): return helper.lazy, helper.threaded")["work"])
    lazy, threaded = space.entry()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(lazy() + threaded())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [6] * 8
    assert sum(name.endswith(".late") for name in sys.modules if name.startswith(PREFIX)) == 1


def test_what_is_not_shipped_is_imported_as_everywhere(opened: Opener) -> None:
    space = opened(
        script(
            "def work():\n    import json, os.path, importlib.util, xml.dom\n"
            "    from importlib import import_module, resources\n    import importlib.resources as r\n"
            "    return json, os, importlib.util, xml, import_module('json'), resources is r"
        )["work"]
    )

    json, os_, util, xml, again, same = space.entry()
    assert json is sys.modules["json"] is again and os_ is os and same
    assert util is sys.modules["importlib.util"] and xml is sys.modules["xml"]


def test_an_import_error_in_shipped_code_names_plain_modules(project: Path, opened: Opener) -> None:
    write(
        project,
        {"pkg/asks.py": "def f():\n    from . import nothing\ndef g():\n    import pkg.no\n"},
    )
    space = opened(importlib.import_module("pkg.asks").f)
    module = sys.modules[space.entry.__module__]
    with pytest.raises(ImportError) as caught:
        space.entry()
    back = decode_exception(encode_exception(caught.value))
    assert "cannot import name 'nothing' from 'pkg'" in str(back) and PREFIX not in str(back)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'pkg\.no' in the bundle"):
        module.g()


def test_reload_and_sys_modules_work_in_shipped_code(project: Path, opened: Opener) -> None:
    write(
        project,
        {
            "again.py": "import importlib, sys\nn = 0\ndef f():\n    me = sys.modules[__name__]\n"
            "    me.n = 5\n    return importlib.reload(me).n, me.f.__module__ == __name__\n"
        },
    )
    assert opened(importlib.import_module("again").f).entry() == (0, True)


def test_nothing_of_the_process_is_patched(project: Path, opened: Opener) -> None:
    import builtins

    before = builtins.__import__, importlib.import_module
    space = opened(importlib.import_module("helper").executed)
    space.entry()

    assert (builtins.__import__, importlib.import_module) == before
    assert sys.modules["helper"].MARK == 3 and "late" not in sys.modules


# --- the end


def test_closing_drops_everything_that_is_kept_by_name(project: Path, opened: Opener) -> None:
    write(
        project,
        {
            "logs.py": "import logging, typing\nlog = logging.getLogger(__name__)\n"
            "child = logging.getLogger(__name__ + '.child')\nclass Big: pass\n"
            "def f(): return typing.Optional[Big]\n"
        },
    )
    space = opened(importlib.import_module("logs").f, [importlib.import_module("pkg")])
    space.entry()
    big = weakref.ref(sys.modules[space.private("logs")].Big)
    folder = space._folder
    assert os.path.isdir(folder)
    space.close()
    gc.collect()

    assert big() is None
    assert not os.path.exists(folder)
    for table in (sys.modules, logging.Logger.manager.loggerDict, linecache.cache):
        assert not [name for name in table if PREFIX in name]
    assert not [name for name in sys.path_importer_cache if PREFIX in str(name)]
    space.close()


def test_a_generator_that_goes_on_after_the_end_keeps_its_modules(
    project: Path, opened: Opener
) -> None:
    entry = script(
        "import helper, pkg\ndef work():\n    yield helper.read()\n    yield helper.read()\n"
        "    try:\n        import late\n    except ImportError as error:\n        yield str(error)\n"
        "    yield pkg.lazy()"
    )["work"]
    space = opened(entry)
    running = space.entry()
    assert next(running) == 3
    space.close()

    assert next(running) == 3
    assert next(running) == "cannot import 'late': its computation is closed"
    with pytest.raises(ImportError, match="its computation is closed"):
        next(running)


def test_memory_comes_back(project: Path, opened: Opener) -> None:
    entry = script("import helper\nclass K: pass\ndef work(): return K, helper.Thing")["work"]
    refs = []
    for _ in range(3):
        space = opened(entry)
        refs += [weakref.ref(cls) for cls in space.entry()]
        data = dumps(space.entry()[0]())
        loads(data, space)
        space.close()
    gc.collect()

    assert [ref() for ref in refs] == [None] * 6


def test_closing_one_space_leaves_the_other(project: Path, opened: Opener) -> None:
    entry = script("import helper\ndef work(): return helper.lazy()")["work"]
    one, other = opened(entry), opened(entry)
    one.close()

    assert other.entry() == 3


# --- types


def test_typing_and_dataclasses_find_the_names_of_their_module(
    project: Path, opened: Opener
) -> None:
    entry = script(
        "from __future__ import annotations\nimport dataclasses, typing\n"
        "@dataclasses.dataclass(slots=True)\nclass Tree:\n    left: Tree | None\n    n: int = 0\n"
        "class Info(typing.TypedDict):\n    name: str\n"
        "T = typing.TypeVar('T')\n"
        "class Box(typing.Generic[T]):\n    def __init__(self, v: T) -> None: self.v = v\n"
        "class Shape(typing.Protocol):\n    def area(self) -> int: ...\n"
        "def work():\n    info: Info = {'name': 'x'}\n"
        "    return typing.get_type_hints(Tree), Tree(Tree(None, 1)), Box[int](3), info, Shape\n"
    )["work"]
    hints, tree, box, info, shape = opened(entry).entry()

    cls = type(tree)
    assert hints == {"left": typing.Optional[cls], "n": int}  # noqa: UP045
    assert not hasattr(tree, "__dict__") and box.v == 3 and info == {"name": "x"}
    assert home(tree) == entry.__globals__["Tree"](entry.__globals__["Tree"](None, 1))
    assert shape.__name__ == "Shape"


def test_abstract_classes_and_metaclasses_travel(opened: Opener) -> None:
    entry = script(
        "import abc\nclass Meta(type):\n    def __call__(cls, *a):\n"
        "        made = super().__call__(*a)\n        made.by_meta = True\n        return made\n"
        "class Abstract(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n"
        "class Real(Abstract):\n    def f(self): return 4\n"
        "class Odd(metaclass=Meta): pass\n"
        "def work():\n    try:\n        Abstract()\n    except TypeError:\n"
        "        return Real().f(), Odd().by_meta, isinstance(Real(), Abstract)"
    )["work"]
    assert opened(entry).entry() == (4, True, True)


def test_functions_keep_defaults_annotations_docs_and_attributes(opened: Opener) -> None:
    entry = script(
        "def work(a, b=2, *c, d=4, **e) -> int:\n    'doc'\n    return a, b, c, d, e\nwork.mark = 7"
    )["work"]
    there = opened(entry).entry

    assert there(1) == (1, 2, (), 4, {}) and there.mark == 7 and there.__doc__ == "doc"
    assert there.__annotations__ == {"return": int} and there.__qualname__ == "work"
    assert inspect.signature(there) == inspect.signature(entry)


def test_a_receiver_at_home_is_the_plain_one() -> None:
    assert loads(dumps(len), loading.HOME) is len


# --- code from odd places


def test_two_programs_run_by_exec_keep_their_globals_apart(opened: Opener) -> None:
    one = script("n = 1\nclass K: pass\ndef f(): return n, K")
    other = script("n = 2\nclass K: pass\ndef g(): return n, K")
    entry = script("def work(): return f(), g()", f=one["f"], g=other["g"])["work"]
    (first, k_one), (second, k_other) = opened(entry).entry()

    assert (first, second) == (1, 2) and k_one is not k_other
    assert home(k_one) is one["K"] and home(k_other) is other["K"]


def test_a_module_made_in_memory_is_one_module_there(opened: Opener) -> None:
    made = types.ModuleType("made_here")
    sys.modules["made_here"] = made
    exec("n = 0\ndef bump():\n    global n\n    n += 1\n    return n", vars(made))
    entry = script(
        "def work():\n    import made_here\n    return made_here.bump(), m.n, made_here is m",
        m=made,
    )["work"]
    try:
        space = opened(entry, [made])
    finally:
        del sys.modules["made_here"]

    assert space.entry() == (1, 1, True) and made.n == 0


def test_shipped_code_can_ship_code_on(project: Path, opened: Opener) -> None:
    """A coroutine at one server that uses another: a computation inside a computation."""
    names = script(
        "import helper\nfrom discoro.shipping.collecting import collect\n"
        "class K:\n    def __init__(self, n): self.n = n\n"
        "def inner(n): return K(n + helper.MARK), helper.lazy()\n"
        "def work(): return collect(inner)"
    )
    outer = opened(names["work"])
    bundle = outer.entry()
    space = CodeSpace(Bundle.decode(bundle.encode(), bundle.id))
    try:
        space.load()
        (k, late) = space.entry(4)
        assert (k.n, late) == (7, 3)
        assert type(k) is not outer.named("__main__", "K")
        back, _ = loads(dumps((k, late)), outer)
        assert type(back) is outer.named("__main__", "K")
    finally:
        space.close()

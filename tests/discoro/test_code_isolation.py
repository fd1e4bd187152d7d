"""Many computations with equal names in one server process: real processes at both ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.discoro.codeprojects import FILES, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "PYTHONWARNINGS": "error"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "s")
    process = subprocess.Popen(
        [sys.executable, str(HERE / "codeserver.py"), path],
        cwd="/",
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path
        process.terminate()


def start(folder: Path, server: str, main: str = "main.py") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, main, server],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, server: str, script: str) -> str:
    """Run a script in a project; return what it prints."""
    write(folder, {"main.py": script})
    with start(folder, server) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def test_two_clients_with_equal_names_never_see_each_other(tmp_path: Path, server: str) -> None:
    clients = []
    for mark in (11, 2200):
        folder = write(tmp_path / f"client{mark}", FILES, mark)
        shutil.copy(HERE / "isolation_case.py", folder / "main.py")
        clients.append((mark, start(folder, server)))
    for mark, process in clients:
        with process:
            output, _ = process.communicate(timeout=60)
        assert output == f"all as it should be {mark}\n"


def test_a_notebook_cell_ships_with_its_source(tmp_path: Path, server: str) -> None:
    """Cells have no file; their text is in linecache, and tracebacks from there show it."""
    output = run(
        write(tmp_path / "p", FILES, 5),
        server,
        """
import linecache
cell = '''
import dataclasses, helper
@dataclasses.dataclass
class Row:
    n: int
def work(n):
    row = Row(n)
    assert n < 10, "too big"
    return row, helper.MARK
'''
linecache.cache["<cell 3>"] = len(cell), None, cell.splitlines(True), "<cell 3>"
exec(compile(cell, "<cell 3>", "exec"))
from codeclient import Remote
import traceback
with Remote(work) as remote:
    row, mark = remote(3)
    assert type(row) is Row and row == Row(3) and mark == 5
    try:
        remote(10)
    except AssertionError as error:
        print("".join(traceback.format_exception(error)))
""",
    )
    assert 'File "<cell 3>", line 8, in work\n    assert n < 10, "too big"\n' in output
    assert "discoro_c_" not in output


def test_redefining_a_class_after_setup_changes_nothing_there(tmp_path: Path, server: str) -> None:
    """As in a notebook: old instances stay of the old class, new ones travel by value."""
    run(
        tmp_path,
        server,
        """
class Row:
    version = 1
def work(x):
    return x, x.version, Row.version, type(x) is Row
Old = Row
from codeclient import Remote
with Remote(work) as remote:
    class Row:
        version = 2
    x, version, there, same = remote(Old())
    assert type(x) is Old and (version, there, same) == (1, 1, True), (x, version, there, same)
    x, version, there, same = remote(Row())
    assert type(x) is Row and (version, there, same) == (2, 1, False), (x, version, there, same)
    assert Row.version == 2 and Old.version == 1
""",
    )


def test_a_package_named_in_depends_comes_whole_with_its_data(tmp_path: Path, server: str) -> None:
    files = {
        "stuff/__init__.py": "import importlib, importlib.resources, os, pkgutil\n"
        "def names():\n    return [m.name for m in pkgutil.iter_modules(__path__)]\n"
        "def texts():\n    here = os.path.join(os.path.dirname(__file__), 'data', 'a.txt')\n"
        "    by_resources = importlib.resources.files(__package__).joinpath('data/a.txt')\n"
        "    return open(here).read(), by_resources.read_text(), "
        "pkgutil.get_data(__name__, 'data/a.txt').decode()\n",
        "stuff/plugin_a.py": "X = 1\n",
        "stuff/more/plugin_b.py": "X = 2\n",
        "stuff/data/a.txt": "text a",
        "stuff/data/not.py.txt": "x",
        "stuff/.hidden": "secret",
        "stuff/__pycache__/x.pyc": "no",
    }
    run(
        write(tmp_path / "p", files),
        server,
        """
import importlib
import stuff
def work(what):
    if what == "dynamic":
        return importlib.import_module("stuff.plugin_a").X, __import__("stuff.more.plugin_b").more.plugin_b.X
    return getattr(stuff, what)()
from codeclient import Remote
with Remote(work, [stuff]) as remote:
    assert sorted(remote("names")) == ["plugin_a"], remote("names")
    assert remote("texts") == ("text a",) * 3
    assert remote("dynamic") == (1, 2)
    shipped = [item.path for item in remote.bundle.data]
    assert not any("hidden" in path or "pyc" in path for path in shipped), shipped
""",
    )


def test_a_module_that_was_not_found_says_what_to_do(tmp_path: Path, server: str) -> None:
    run(
        write(tmp_path / "p", {"hid.py": "X = 1\n", "pkg/__init__.py": "", "pkg/other.py": ""}),
        server,
        """
import importlib
import pkg
def work(name):
    pkg.__name__
    return importlib.import_module(name).__name__
from codeclient import Remote, raises
with Remote(work) as remote:
    with raises(ModuleNotFoundError, "No module named 'pkg.other'", "depends") as caught:
        remote("pkg.other")
    assert caught[0].name == "pkg.other"
    with raises(ModuleNotFoundError, "No module named 'hid'"):
        remote("hid")
""",
    )


def test_what_a_server_lacks_is_named_before_anything_runs(tmp_path: Path, server: str) -> None:
    """``there`` is installed for the client only; nothing of the code has run when that is said."""
    site = tmp_path / "site-packages"
    write(site, {"thirdparty_x/__init__.py": "def f(): return 1\n"})
    run(
        tmp_path / "p",
        server,
        f"""
import sys
sys.path.append({str(site)!r})
import thirdparty_x
def train():
    return thirdparty_x.f()
def lazy():
    import thirdparty_x as x
    return x.f()
def guarded():
    try:
        import thirdparty_x
    except ImportError:
        return "without"
from codeclient import Remote, raises
from discoro.shipping.errors import MissingCode
for entry, line in (train, 6), (lazy, 8):
    with raises(
        MissingCode, "server t-1 has no module 'thirdparty_x', needed by " + entry.__name__ + "()",
        "main.py:" + str(line), "pip install",
    ) as caught:
        Remote(entry)
    assert caught[0].modules == ("thirdparty_x",) and caught[0].server == "server t-1"
with Remote(guarded) as remote:
    assert remote() == "without"
""",
    )


def test_a_program_started_as_a_module_keeps_its_relative_imports(
    tmp_path: Path, server: str
) -> None:
    files = {
        "app/__init__.py": "",
        "app/tools.py": "X = 7\n",
        "app/prog.py": """
from . import tools
def work():
    from .tools import X
    from . import tools as again
    return X, tools.X, again is tools
if __name__ == "__main__":
    from codeclient import Remote
    with Remote(work) as remote:
        assert remote() == (7, 7, True)
    print("fine")
""",
    }
    folder = write(tmp_path / "p", files)
    process = subprocess.run(
        [sys.executable, "-m", "app.prog", server],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stdout == "fine\n", process.stderr


def test_a_lazy_import_after_the_end_says_that_the_computation_is_closed(
    tmp_path: Path, server: str
) -> None:
    run(
        write(tmp_path / "p", FILES, 3),
        server,
        """
import helper
def work():
    return helper.read
from codeclient import Remote, raises
with Remote(work) as remote:
    assert remote() is helper.read
    remote.finish()
    with raises(Exception):
        remote()
""",
    )


def test_an_entry_that_is_a_lambda_a_closure_or_in_a_module(tmp_path: Path, server: str) -> None:
    run(
        write(tmp_path / "p", FILES, 3),
        server,
        """
import functools
import helper, pkg
from codeclient import Remote
def make(n):
    class Own:
        value = n
    def inner(x, y=[1]):
        y.append(x)
        return Own(), y, n
    return inner, Own
inner, Own = make(4)
with Remote(inner) as remote:
    own, y, n = remote(2)
    assert type(own) is Own and (y, n) == ([1, 2], 4)
    assert remote(3)[1] == [1, 2, 3]
with Remote(lambda x: x + helper.MARK) as remote:
    assert remote(1) == 4
with Remote(helper.read) as remote:
    assert remote() == 3
with Remote(pkg.lazy) as remote:
    assert remote() == (3, 3)
with Remote(functools.partial(helper.Thing, 8)) as remote:
    assert remote() == helper.Thing(8)
""",
    )


def test_two_programs_of_one_script_understand_each_others_classes(tmp_path: Path) -> None:
    """Without any computation, and with one that does not hold the class: each means its own."""
    write(
        tmp_path,
        {
            "main.py": """
import base64, enum, sys
from discoro.shipping.collecting import collect
from discoro.shipping.values import dumps, loads
class Point:
    kind = 1
    def __init__(self, x): self.x = x
class Color(enum.Enum):
    RED = 1
def shipped(): return 1
if sys.argv[1] == "send":
    if sys.argv[2] == "open":
        bundle = collect(shipped)
    Point.kind = 5
    print(base64.b64encode(dumps([Point(3), Color.RED])).decode())
else:
    point, color = loads(base64.b64decode(sys.argv[2]))
    assert type(point) is Point and point.x == 3 and Point.kind == 1
    assert color is Color.RED
"""
        },
    )

    def ran(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "main.py", *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    for how in ("plain", "open"):
        ran("receive", ran("send", how))

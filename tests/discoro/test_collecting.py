"""What is found, what is refused, and what a bundle holds; loading is tested in test_codespace."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from discoro.shipping import shipped
from discoro.shipping.bundle import Bundle
from discoro.shipping.collecting import collect, file_item
from discoro.shipping.errors import NotPicklable, SetupRefused
from tests.discoro.codeprojects import FILES, write


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder on ``sys.path``; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "project"
    write(folder, {name: text for name, text in FILES.items() if name != "queue.py"}, 3)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is None or str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def script(text: str, **names: Any) -> dict[str, Any]:
    """Run a text as the user's program would: its functions belong to ``__main__``."""
    names = {"__name__": "__main__", **names}
    exec(compile(text, "<script>", "exec", dont_inherit=True), names)
    return names


def work() -> Any:
    return script("def work(): return 1")["work"]


def module_names(bundle: Bundle) -> list[str]:
    return [module.name for module in bundle.modules]


def test_modules_that_shipped_code_imports_are_found(project: Path) -> None:
    entry = script("import helper\ndef work(): return helper.MARK")["work"]
    bundle = collect(entry)

    assert (
        module_names(bundle)
        == ["helper", "late", "late_in_thread", "pkg", "pkg.sub", "pkg.sub.deep", "pkg.sub.late"][
            :3
        ]
    )
    assert [m.name for m in bundle.modules if m.at_setup] == ["helper"]
    assert bundle.modules[0].source == (project / "helper.py").read_bytes()


def test_imports_in_the_body_of_the_entry_are_found(project: Path) -> None:
    entry = script("def work():\n    from pkg.sub import deep\n    return deep")["work"]

    assert module_names(collect(entry)) == ["pkg", "pkg.sub", "pkg.sub.deep", "pkg.sub.late"]


def test_circular_packages_are_found(project: Path) -> None:
    ring = importlib.import_module("ring")

    assert module_names(collect(ring.go)) == ["ring", "ring.left", "ring.right"]


def test_installed_modules_are_named_and_not_shipped(project: Path) -> None:
    bundle = collect(script("def work(): return np.ones(3), json.dumps", np=np, json=json)["work"])

    assert not bundle.modules
    assert [(r.module, r.needed_by, r.file, r.line) for r in bundle.requirements] == [
        ("numpy", "work()", "<script>", 1)
    ]


def test_an_installed_module_that_a_shipped_one_imports_at_its_top_is_named(project: Path) -> None:
    write(
        project,
        {
            "uses.py": "import os\nimport numpy as np\ntry:\n    import hypothesis\n"
            "except ImportError:\n    pass\ndef lazy():\n    import pytest\n"
        },
    )
    bundle = collect(importlib.import_module("uses").lazy, [])

    assert [(r.module, Path(r.file).name, r.line) for r in bundle.requirements] == [
        ("numpy", "uses.py", 2),
        ("pytest", "uses.py", 8),
    ], "the entry's own lazy import counts, for it runs"
    bundle = collect(work(), [importlib.import_module("uses")])
    assert [r.module for r in bundle.requirements] == ["numpy"]


def test_functions_classes_instances_and_modules_of_depends_are_shipped(project: Path) -> None:
    helper = importlib.import_module("helper")
    ring = importlib.import_module("ring")
    names = script("class K:\n    pass\ndef f(): pass\ndef work(): pass")
    bundle = collect(
        names["work"], [names["f"], names["K"](), helper.Thing(1), ring, json, helper.read]
    )

    assert {thing.__qualname__ for thing in bundle.things} == {"work", "f", "K"}
    assert set(module_names(bundle)) >= {"helper", "ring", "ring.left"}
    assert not any(name.startswith("json") for name in module_names(bundle))


@pytest.mark.parametrize("item", [3, None, [1], {"a": 1}])
def test_other_things_in_depends_are_refused(item: Any) -> None:
    with pytest.raises(SetupRefused, match=r"depends\[1\] is a .*: depends takes functions"):
        collect(work(), [json, item])


def test_the_way_to_an_unpicklable_global_is_named() -> None:
    class Conf:
        db: Any = None

    conf = Conf()
    with socket.socket() as sock:
        conf.db = {"conn": sock}
        names = script("def work(): return conf.db", conf=conf)
        with pytest.raises(NotPicklable) as caught:
            collect(names["work"])

    text = str(caught.value)
    assert text.startswith(
        "work() cannot be sent: global 'conf' -> .db -> ['conn'] is a socket.socket ("
    )
    assert text.endswith("Open it inside work(), or pass what is needed to open it")


def test_the_way_leads_through_functions_and_classes_that_are_used() -> None:
    names = script(
        "class K:\n    def m(self): return lock\ndef g(): return K\ndef work(): return g()",
        lock=__import__("threading").Lock(),
    )
    with pytest.raises(NotPicklable) as caught:
        collect(names["work"])
    assert caught.value.path == "global 'g' -> global 'K' -> .m -> global 'lock'"


def test_what_an_unused_global_is_does_not_matter() -> None:
    lock = __import__("threading").Lock()

    assert collect(script("def work(): return 1", lock=lock)["work"]).name == "work"


# --- files


def test_a_relative_path_keeps_its_folders_and_an_absolute_one_its_last_part(project: Path) -> None:
    write(project, {"data/in/a.txt": "text"})
    (project / "data/in/a.txt").chmod(0o640)
    relative = file_item("./data/in/../in/a.txt")
    absolute = file_item(project / "data/in/a.txt")

    assert relative.name == "data/in/a.txt" and absolute.name == "a.txt"
    assert relative.path == absolute.path == str(project / "data/in/a.txt")
    assert (relative.size, relative.mode) == (4, 0o640)
    assert relative.sha256 == hashlib.sha256(b"text").digest()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("missing.txt", "'missing.txt' cannot be read: No such file"),
        ("../outside.txt", "lies outside"),
        (".", "lies outside"),
        ("pkg", "is a folder: name the files in it"),
        ("/dev/null", "no regular file"),
    ],
)
def test_files_that_cannot_be_sent_are_refused(project: Path, path: str, text: str) -> None:
    with pytest.raises(SetupRefused, match=text):
        collect(work(), [path])


def test_two_files_of_one_name_are_refused(project: Path) -> None:
    write(project, {"x/a": "1", "y/a": "2", "z/a": "1"})
    with pytest.raises(SetupRefused, match=r"two files would be named 'a'.*relative"):
        collect(work(), [project / "x/a", project / "y/a"])
    assert len(collect(work(), [project / "x/a", project / "z/a"]).files) == 1


def test_too_much_data_in_a_package_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"pkg/data.bin": "x" * 2000})
    monkeypatch.setattr("discoro.shipping.packing.MOST_DATA", 1000)
    with pytest.raises(SetupRefused, match=r"data of the packages.*data\.bin"):
        collect(work(), [importlib.import_module("pkg")])


# --- packages that are named


def test_an_installed_package_that_is_named_is_shipped_if_it_is_plain_python() -> None:
    import iniconfig
    import msgpack

    bundle = collect(work(), [iniconfig])
    assert "iniconfig" in module_names(bundle) and bundle.folders == ["iniconfig"]
    assert not bundle.requirements
    bundle = collect(work(), [msgpack])
    assert not bundle.modules and [r.module for r in bundle.requirements] == ["msgpack"]


def test_compiled_parts_of_a_package_are_named_as_left_out(project: Path) -> None:
    write(project, {"pkg/fast.cpython-311-x86_64-linux-gnu.so": "", "pkg/x.txt": "data"})
    bundle = collect(work(), [importlib.import_module("pkg")])

    assert "compiled" in bundle.left_out["pkg.fast"]
    assert [Path(item.path).name for item in bundle.data] == ["x.txt"]


# --- the bundle


def test_a_bundle_survives_its_bytes(project: Path) -> None:
    write(project, {"a.txt": "x", "pkg/data.bin": "y"})
    entry = script("import helper\ndef work(): return helper, np", np=np)["work"]
    bundle = collect(entry, ["a.txt", importlib.import_module("pkg")])
    again = Bundle.decode(bundle.encode(), bundle.id)

    for name in ("id", "python", "name", "program", "folders", "sources", "values", "left_out"):
        assert getattr(again, name) == getattr(bundle, name), name
    for name in ("modules", "data", "requirements"):
        assert list(getattr(again, name)) == list(getattr(bundle, name)), name
    assert [(f.name, f.path) for f in again.files] == [("a.txt", "")]
    assert again.encode() == bundle.encode() and again.digest == bundle.digest


def test_equal_code_has_an_equal_digest_and_another_id(project: Path) -> None:
    entry = script("import helper\nclass K: pass\ndef work(): return helper, K")["work"]
    one, other = collect(entry), collect(entry)

    assert one.digest == other.digest and one.id != other.id and len(one.id) == 16
    (project / "helper.py").write_text("MARK = 4\n")
    assert collect(entry).digest != one.digest


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa1v\x02", b"\x93\x01\x02\x03"])
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="bundle"):
        Bundle.decode(data, bytes(16))


def test_a_bundle_is_open_while_it_lives() -> None:
    bundle = collect(script("def work(): pass")["work"])
    key = bundle.key
    assert shipped.bundles[key] is bundle
    del bundle
    gc.collect()
    assert key not in shipped.bundles


def test_a_module_made_in_memory_goes_by_value() -> None:
    module = ModuleType("made_in_memory")
    exec("X = 3\ndef f(): return X", vars(module))
    sys.modules["made_in_memory"] = module
    try:
        bundle = collect(module.f)
    finally:
        del sys.modules["made_in_memory"]

    assert not bundle.modules and [thing.__name__ for thing in bundle.things] == ["f"]


def test_source_of_the_library_is_not_shipped_for_tracebacks() -> None:
    names = script("import typing\nclass P(typing.NamedTuple):\n    x: int\ndef work(): return P")
    bundle = collect(names["work"])

    assert not any(os.sep + "lib" + os.sep in name for name in bundle.sources)

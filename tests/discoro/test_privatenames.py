from __future__ import annotations

import pytest

from discoro.shipping.privatenames import (
    package_of,
    plain_file,
    plain_module,
    plain_text,
    private_file,
    split,
)

KEY = "0123456789abcdef" * 2
PACKAGE = package_of(KEY)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (PACKAGE, (KEY, "")),
        (f"{PACKAGE}.helper", (KEY, "helper")),
        (f"{PACKAGE}.a.b.c", (KEY, "a.b.c")),
        ("helper", None),
        ("discoro_c_", None),
        ("discoro_c_short.helper", None),
        (f"{PACKAGE}x.helper", None),
        (f"my.{PACKAGE}.helper", None),
    ],
)
def test_a_private_module_name_splits_into_bundle_and_plain_name(
    name: str, parts: tuple[str, str] | None
) -> None:
    assert split(name) == parts
    assert plain_module(name) == (parts[1] or name if parts else name)


@pytest.mark.parametrize("folder", ["", "/var/lib/x", "/a folder/y/"])
@pytest.mark.parametrize(
    "name", ["/home/me/work.py", "<cell 3>", "work.py", "<stdin>", "/a b/c.py"]
)
def test_a_file_name_comes_back_from_its_private_form(name: str, folder: str) -> None:
    private = private_file(KEY, name, folder)

    assert PACKAGE in private and plain_file(private) == name
    assert plain_text(f'  File "{private}", line 3, in f\n') == f'  File "{name}", line 3, in f\n'


@pytest.mark.parametrize("name", ["/home/discoro_c_/x.py", "x.py", "/a/discoro_c_1/b.py"])
def test_other_file_names_stay(name: str) -> None:
    assert plain_file(name) == name


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (f"<class '{PACKAGE}.helper.Thing'>", "<class 'helper.Thing'>"),
        (f"module '{PACKAGE}.pkg' has no attribute 'x'", "module 'pkg' has no attribute 'x'"),
        (f"{PACKAGE}.a and {PACKAGE}.b", "a and b"),
        (
            f"cannot import name 'x' from '{PACKAGE}.h' ({PACKAGE}/home/me/h.py)",
            "cannot import name 'x' from 'h' (/home/me/h.py)",
        ),
        (f"see /tmp/d-1/{PACKAGE}/home/me/h.py:3", "see /home/me/h.py:3"),
        ("nothing private, not even discoro_c_", "nothing private, not even discoro_c_"),
    ],
)
def test_text_for_users_holds_plain_names(text: str, plain: str) -> None:
    assert plain_text(text) == plain

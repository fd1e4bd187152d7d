from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import discoro
from discoro.cli.secretsource import FoundSecret, SecretUnusable, find_secret, hidden_parts
from discoro.statefolder import StateFolder
from discoro.transport.secret import is_generated

LONG = "long enough for everybody"


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "discoro"))


def test_an_option_wins_over_a_file_over_the_environment_over_the_generated_one(
    folder: StateFolder, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(LONG + " of the file\r\n")
    environment = {"DISCORO_SECRET": LONG + " of the environment"}

    assert find_secret(LONG, str(file), dict(environment), folder).text == LONG
    found = find_secret(None, str(file), dict(environment), folder)
    assert found.text == LONG + " of the file" and found.source == f"--secret-file {file}"
    found = find_secret(None, None, dict(environment), folder)
    assert found == FoundSecret(environment["DISCORO_SECRET"], "DISCORO_SECRET")
    for nothing in ({}, {"DISCORO_SECRET": ""}):
        found = find_secret(None, None, nothing, folder)
        assert is_generated(found.text) and not found.given
        assert found.source == folder.secret_path
    assert not found.fresh


def test_a_file_that_others_can_read_warns_and_says_what_to_type(
    folder: StateFolder, tmp_path: Path
) -> None:
    file = tmp_path / "a secret"
    file.write_text(LONG)
    file.chmod(0o640)
    (warning,) = find_secret(None, str(file), {}, folder).warnings
    assert f"chmod 600 '{file}'" in warning
    file.chmod(0o600)
    assert find_secret(None, str(file), {}, folder).warnings == ()


def test_children_do_not_inherit_the_variable(folder: StateFolder) -> None:
    for option in (None, LONG):
        environment = {"DISCORO_SECRET": LONG, "HOME": "/"}
        find_secret(option, None, environment, folder)
        assert environment == {"HOME": "/"}


def test_a_generated_secret_is_fresh_once(folder: StateFolder) -> None:
    first = find_secret(None, None, {}, folder)
    second = find_secret(None, None, {}, folder)
    assert (first.fresh, second.fresh) == (True, False) and first.text == second.text
    assert first.warnings == second.warnings == ()


def test_only_an_option_and_a_short_secret_warn(folder: StateFolder) -> None:
    def warned(option: str | None, variable: str) -> int:
        return len(find_secret(option, None, {"DISCORO_SECRET": variable}, folder).warnings)

    assert warned(None, LONG) == 0
    assert warned(None, "elevenchars") == 1
    assert warned(None, "twelve chars") == 0
    assert warned(LONG, "") == 1
    assert warned("short", "") == 2


def test_it_does_not_show_in_a_repr(folder: StateFolder) -> None:
    assert LONG not in repr(find_secret(LONG, None, {}, folder))


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b"\n", "empty"), (b"a\nb\n", "more than one line"), (b"\xff\xfe", "no text")],
)
def test_a_file_without_one_secret_is_refused_by_name(
    folder: StateFolder, tmp_path: Path, content: bytes, why: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SecretUnusable, match=why) as caught:
        find_secret(None, str(file), {}, folder)
    assert str(file) in str(caught.value) and str(file) in caught.value.source


def test_a_slip_in_a_generated_secret_is_told(folder: StateFolder) -> None:
    text = find_secret(None, None, {}, folder).text
    slipped = text[:-1] + ("a" if text[-1] != "a" else "b")
    with pytest.raises(SecretUnusable, match="character"):
        find_secret(slipped, None, {}, folder)


def test_only_the_secrets_own_words_are_hidden() -> None:
    arguments = (
        b"python\0-m\0discoro\0-s\0secret\0--secret-file\0/my/secret\0-ssecret\0--secret=secret\0"
    )
    parts = hidden_parts(arguments, (b"", b"-s", b"--secret="), b"secret")
    assert [arguments[at : at + length] for at, length in parts] == [b"secret"] * 3
    assert [arguments[at - 2 : at] for at, _ in parts] == [b"s\0", b"-s", b"t="]
    environment = b"HOME=/home/secret\0SECRET=secret\0DISCORO_SECRET=other\0LANG=C\0"
    parts = hidden_parts(environment, (b"DISCORO_SECRET=",), b"secret")
    assert [environment[at : at + length] for at, length in parts] == [b"other"]


def test_hiding_writes_over_this_processs_memory_and_nothing_else() -> None:
    code = (
        "import os, sys; from discoro.cli.secretsource import hide\n"
        "assert hide('se cret'); os.environ.pop('DISCORO_SECRET')\n"
        "show = lambda name: open(f'/proc/self/{name}', 'rb').read()\n"
        "print(show('cmdline').split(b'\\0')[-3:-1], b'se cret' in show('environ'), sys.argv[2])\n"
        "print(os.popen('echo $KEPT').read().strip())\n"
    )
    home = Path(discoro.__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(home), "DISCORO_SECRET": "se cret"}
    environment["KEPT"] = "se cret in another variable"
    done = subprocess.run(
        [sys.executable, "-c", code, "-s", "se cret"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    # The other variable still holds it: that one is the user's.
    assert done.stdout.splitlines() == [
        "[b'-s', b'*******'] True se cret",
        "se cret in another variable",
    ], done.stderr

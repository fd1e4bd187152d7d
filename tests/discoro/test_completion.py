"""The completion scripts: what they offer is what the parsers take; bash runs its own for real, the others where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import discoro
from discoro.cli.completion import FILE, FOLDER, NODE, options_of, script
from discoro.cli.main import main
from discoro.cli.parsers import SHELLS, VERBS, node_parser, stop_parser

HOME = Path(discoro.__file__).resolve().parent.parent


def test_options_are_those_of_the_parser_and_hidden_ones_stay_hidden() -> None:
    found = {
        spelling: option for option in options_of(node_parser()) for spelling in option.spellings
    }
    assert found["--cpus"] is found["-c"] and found["--cpus"].value
    assert found["--secret-file"].value == FILE and found["--dest_path"].value == FOLDER
    assert found["--debug"].value == "" and found["--peer"].again
    assert "--lifeline" not in found
    assert [o.value for o in options_of(stop_parser()) if not o.spellings] == [NODE]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_has_every_verb_and_option(shell: str) -> None:
    text = script(shell)
    for verb in VERBS:
        assert verb in text
    for option in options_of(node_parser()):
        for spelling in option.spellings:
            if spelling.startswith("--"):
                assert spelling.removeprefix("--") in text, spelling


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_can_read_its_script(shell: str, tmp_path: Path) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    file = tmp_path / "script"
    file.write_text(script(shell))
    done = subprocess.run([found, "-n", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def completed(folder: Path, *words: str, before: str = "") -> list[str]:
    """Return what bash offers for the last of ``words``."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
{before}
{script("bash")}
COMP_WORDS=({quoted}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
case ${{COMP_WORDS[0]}} in discoro) _discoro ;; *) _discoro_python ;; esac
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOME),
        "XDG_STATE_HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )
    return done.stdout.split()


@pytest.mark.parametrize("command", [["discoro"], ["python", "-m", "discoro"]])
def test_bash_offers_verbs_options_and_files_where_they_belong(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secret.txt").touch()

    def offered(*words: str) -> list[str]:
        return completed(tmp_path, *command, *words)

    assert offered("") == [*VERBS]
    assert offered("sta") == ["status"]
    assert offered("--se") == ["--secret", "--secret-file"]
    assert offered("-c", "2", "--tcp") == ["--tcp_port"]
    assert offered("-c", "") == []
    assert sorted(offered("--secret-file", "sec")) == ["secret.txt", "secrets"]
    assert offered("--dest_path", "sec") == ["secrets"]
    assert offered("--dest_path", "=", "sec") == ["secrets"]
    assert offered("status", "--") == ["--help", "--json", "--most"]
    assert offered("completion", "") == [*SHELLS]
    assert offered("stop", "") == []


def test_what_bash_completes_after_python_stays_as_it_was(tmp_path: Path) -> None:
    others = "_their() { COMPREPLY=(theirs); }\ncomplete -F _their python"
    assert completed(tmp_path, "python", "x", before=others) == ["theirs"]
    assert completed(tmp_path, "python", "-m", "disc", before=others) == ["theirs"]
    assert completed(tmp_path, "python", "-m", "discoro", "sto", before=others) == ["stop"]
    assert completed(tmp_path, "python", "x") == []


def test_the_command_prints_the_script_and_wants_to_know_the_shell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script("bash")
    for arguments in ([], ["tcsh"]):
        with pytest.raises(SystemExit) as caught:
            main(["completion", *arguments])
        assert caught.value.code == 2
        assert "bash" in capsys.readouterr().err

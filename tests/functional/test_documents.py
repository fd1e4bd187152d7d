"""The documents are true: their programs and commands run and print what is claimed, their figures and names are those of the code."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import discoro
from discoro.transport.limits import Limits
from tests.documents import CHECKOUT, DOCUMENTS, Block, Scenario, agrees, blocks, pattern, title

#: Commands that are shown and not executed here, and why.
NOT_RUN = {
    "pip install .": "the tests run in an environment that has discoro, and need no network",
    "pip install -e .[test]": "the same",
    ".ci/run": "it runs these very tests",
    "tox -e lint,types": "it makes environments of its own",
    "tox -e docs": "the same",
    "python -m pytest": "it runs these very tests",
    "python -m pytest tests/scheduler": "it runs tests",
    "python -m pytest -m slow": "it runs tests",
    "tox -e nightly": "it runs the nightly tests, for hours",
    "tox -e nightly -- -k sessions_at_length": "the same",
    "python -m tests.chaos --seconds 600 --seed 2": "ten minutes",
    "python -m benchmarks": "half an hour",
    "python -m benchmarks echo runs --rounds 9": "minutes",
    "python -m benchmarks --quick": "it measures what is installed",
    "tox -e bench": "it makes an environment of its own, and takes half an hour",
}
EXECUTED = [
    path for path in DOCUMENTS if any(block.language == "console" for block in blocks(path))
]


@pytest.mark.parametrize("document", EXECUTED, ids=title)
def test_what_a_document_tells_to_type_works_and_prints_what_it_claims(
    document: Path, tmp_path: Path
) -> None:
    found = blocks(document)
    if any("from aiohttp" in block.text for block in found if block.file):
        pytest.importorskip("aiohttp")
    scenario = Scenario(tmp_path, NOT_RUN)
    try:
        scenario.run(found)
    finally:
        left = scenario.close()
    assert not left, f"left behind: {left}"


def test_the_program_of_the_readme_gets_over_a_server_that_dies(tmp_path: Path) -> None:
    died = tmp_path / "died"
    plug = f"""
    import os, pathlib
    if low == 30_000 and not pathlib.Path({str(died)!r}).exists():
        pathlib.Path({str(died)!r}).touch()
        os.kill(os.getpid(), 9)
"""
    start = '"""Runs on a server."""\n'
    found = blocks(CHECKOUT / "README.md")
    first = next(i for i, block in enumerate(found) if block.file == "primes.py")
    assert start in found[first].text
    program = replace(found[first], text=found[first].text.replace(start, start + plug))
    scenario = Scenario(tmp_path, NOT_RUN)
    try:
        scenario.run([*found[:first], program, found[first + 1]])
    finally:
        left = scenario.close()
    assert died.exists()
    assert not left, f"left behind: {left}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_every_program_of_a_document_is_executed(document: Path) -> None:
    """A file is run by a command, or imported by one that is; nothing with code in it goes unseen."""
    found = blocks(document)
    typed = "\n".join(block.text for block in found if block.language == "console")
    files = {block.file: block for block in found if block.file}
    imported = {name for block in files.values() for name in imports_of(block)}
    for block in found:
        if block.language == "python" and not block.is_cell:
            assert block.file, f"{block.where}: a program begins with '# name.py'"
            run = f"python {block.file}" in typed
            assert run or Path(block.file).stem in imported, f"{block.where} is not executed"
        known = ("python", "console", "text", "mermaid", "")
        theirs = block.language == "py" and document.name == "coming-from.md"
        assert block.language in known or theirs, f"{block.where}: {block.language}"


def imports_of(block: Block) -> set[str]:
    return {
        name.name
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Import)
        for name in node.names
    }


def test_every_command_that_is_not_executed_is_shown_somewhere() -> None:
    shown = {
        command
        for document in DOCUMENTS
        for block in blocks(document)
        if block.language == "console"
        for _, command, _ in block.steps()
    }
    assert set(NOT_RUN) <= shown, f"not shown any more: {sorted(set(NOT_RUN) - shown)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_every_relative_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        there = document.parent / path if path else document
        assert there.exists(), f"{title(document)}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{title(document)}: {target}"


def test_every_document_stands_in_the_index() -> None:
    """Whose lists are the navigation of the site."""
    index = CHECKOUT / "docs/index.md"
    linked = {
        (index.parent / target).resolve()
        for target in re.findall(r"^\* \[[^]]*\]\(([^)#]+)\)", index.read_text(), re.MULTILINE)
    }
    assert linked == {*DOCUMENTS} - {index}


def test_every_file_that_a_document_names_exists() -> None:
    for document in DOCUMENTS:
        for name in re.findall(
            r"`((?:tests|discoro|scheduler|transport|docs)/[\w/]+\.(?:py|md))`",
            document.read_text(),
        ):
            assert (CHECKOUT / name).exists(), f"{title(document)} names {name}"


def test_every_public_name_is_documented() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    assert not set(discoro.__all__) - words


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    from discoro import errors

    text = (CHECKOUT / "docs/reference/errors.md").read_text()
    rows = re.findall(r"^( *)(\w+)  +\S", text.split("```")[1], re.MULTILINE)
    above: list[type] = []
    for spaces, name in rows:
        del above[len(spaces) // 2 :]
        error = getattr(errors, name)
        assert not above or above[-1] in error.__bases__, name
        above.append(error)
    told = [name for _, name in rows]
    assert len(set(told)) == len(told)
    own = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert set(told) == own - {"HotSwapException"}


def test_every_name_in_the_table_of_names_is_public() -> None:
    text = (CHECKOUT / "docs/reference/names.md").read_text()
    first = " ".join(re.findall(r"^\| (\[?`.*?) \|", text, re.MULTILINE))
    names = {re.match(r"\w*", code)[0] for code in re.findall(r"`([^`]+)`", first)}  # type: ignore[index]
    assert names == set(discoro.__all__)


def folders() -> list[str]:
    """Every folder with modules of ours, as its table is headed; the old names have a document of their own."""
    return sorted(
        str(path.relative_to(CHECKOUT))
        for top in ("scheduler", "transport", "discoro")
        for path in [CHECKOUT / top, *(CHECKOUT / top).rglob("*")]
        if any(path.glob("*.py")) and "compat" not in path.parts
    )


def test_every_module_stands_in_the_table_of_its_folder_and_no_other() -> None:
    from tests.test_layers import PURE

    text = (CHECKOUT / "docs/architecture.md").read_text()
    headed = re.findall(r"^### ([\w/]+)/$", text, re.MULTILINE)
    assert sorted(headed) == folders()
    marked: dict[str, set[str]] = {top: set() for top in PURE}
    for folder in headed:
        section = re.search(rf"^### {folder}/$(.*?)^##", text, re.MULTILINE | re.DOTALL)
        assert section, f"a section {folder}/"
        rows = re.findall(r"^\| `(\w+)` \| ([PS]) \|", section[1], re.MULTILINE)
        names = {path.stem for path in (CHECKOUT / folder).glob("*.py")} - {"__init__", "__main__"}
        assert {name for name, _ in rows} == names, folder
        assert len(rows) == len(names), folder
        top, _, below = folder.partition("/")
        marked[top] |= {f"{below}.{name}".lstrip(".") for name, kind in rows if kind == "P"}
    assert marked == PURE


SIZES = {
    "": 1,
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "s": 1,
    "ms": 0.001,
    "min": 60,
}


def test_the_table_of_limits_is_that_of_the_code() -> None:
    text = (CHECKOUT / "docs/reliability.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,.]+) ?(\w*)[^|]*\|", text, re.MULTILINE)
    assert rows
    limits = Limits()
    told = {name: float(number.replace(",", "")) * SIZES[unit] for name, number, unit in rows}
    assert len(told) == len(rows), "a limit stands there twice"
    assert told == {name: getattr(limits, name) for name in told}
    assert set(told) == set(Limits.__dataclass_fields__), "every limit is in the table"


def test_the_tests_of_what_is_promised_and_measured_exist() -> None:
    text = (CHECKOUT / "docs/reliability.md").read_text()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (CHECKOUT / path).exists(), path
    sources = [path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py")]
    names = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    figures = text.split("## Figures")[1].split("\n## ")[0]
    rows = re.findall(r"^\|.*\| (`[^|]*`) \|$", figures, re.MULTILINE)
    assert len(rows) > 20
    for told in re.findall(r"`(\w+)`", " ".join(rows)):
        assert any(told in name for name in names), told


def test_the_figures_of_the_protocol_are_those_of_the_code() -> None:
    from discoro import messages
    from discoro.transport.bulkframes import FrameType as BulkFrameType
    from discoro.transport.frames import FrameType, Kind, ResetCode
    from discoro.transport.handshake import FailCode

    text = (CHECKOUT / "docs/protocol.md").read_text()
    rows = set(re.findall(r"^\| (\d+) \| ([\w ]+?) \|", text, re.MULTILINE))
    for numbers in (FrameType, Kind, ResetCode, FailCode, BulkFrameType):
        for one in numbers:
            assert (str(int(one)), one.name) in rows, f"{numbers.__name__}.{one.name} = {int(one)}"
    for tag, message in messages._BY_TAG.items():
        assert (str(tag), message.__name__) in rows, f"{message.__name__} = {tag}"
        row = re.search(rf"^\| {tag} \| {message.__name__} \| ([^|]*)\|", text, re.MULTILINE)
        assert row is not None
        fields = re.findall(r"`(\w+)`", row[1])
        assert fields == list(messages._FIELDS[message]), message.__name__


def test_every_text_that_the_tutorial_explains_is_one_of_ours() -> None:
    section = (
        (CHECKOUT / "docs/tutorial.md").read_text().split("| On the screen |")[1].split("\n## ")[0]
    )
    source = "\n".join(
        literals(path)
        for package in ("discoro", "scheduler", "transport")
        for path in (CHECKOUT / package).rglob("*.py")
    )
    rows = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert len(rows) > 10
    for text in rows:
        assert re.search(pattern(text), source), f"nowhere in the sources: {text}"


def literals(path: Path) -> str:
    """All texts of a module, a line each; what an f-string computes is a %."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "%" for part in node.values]
            lines.append("".join(str(part) for part in parts).replace("\n", " "))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines.append(node.value.replace("\n", " "))
    return "\n".join(lines)


# --- these tests themselves


@pytest.mark.parametrize(
    ("claimed", "printed", "true"),
    [
        (["one", "two"], "one\ntwo\n", True),
        (["one", "two"], "one\n", False),
        (["one"], "one\ntwo\n", False),
        ([], "", True),
        ([], "something\n", False),
        (["a ... c"], "a b c\n", True),
        (["a ... c"], "a b\n", False),
        (["...", "end"], "one\ntwo\nend\n", True),
        (["...", "end"], "one\nend of it\n", False),
        (["(x+y)"], "(x+y)\n", True),
    ],
)
def test_a_claim_is_compared_with_all_that_is_printed(
    claimed: list[str], printed: str, true: bool
) -> None:
    assert agrees(claimed, printed) is true


@pytest.mark.parametrize(
    "document",
    [
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ false\n```\n",
        "```python\n# In [1]:\nprint(1)\n```\n\n```text\n2\n```\n",
        "```console\nmore$ echo one\ntwo\n```\n",
        "```python\n# fails.py\nraise ValueError\n```\n\n```console\n$ python fails.py\n```\n",
    ],
    ids=["command", "status", "notebook", "terminal", "program"],
)
def test_a_false_document_is_found_out(document: str, tmp_path: Path) -> None:
    file = tmp_path / "false.md"
    file.write_text(document)
    scenario = Scenario(tmp_path, {})
    try:
        with pytest.raises(AssertionError, match=r"false\.md:\d"):
            scenario.run(blocks(file))
    finally:
        assert not scenario.close()

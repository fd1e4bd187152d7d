"""The reference is whole: every public name, method and error stands in it once, with a docstring that tells of every argument."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import discoro
from discoro import errors
from discoro.cli.commands import NO_NODE
from discoro.cli.main import FAILED, INTERRUPTED, USAGE
from discoro.cli.parsers import VERBS, Parser, node_parser
from discoro.running import _OURS
from tests.documents import CHECKOUT

# Methods without an underscore that are for the other packages, or for the layer for old programs.
INTERNAL = {
    "Channel": {"number", "put"},
    "Condition": {"notifyAll", "notify_next"},
    "RCI": {"add_monitor", "called", "network", "number"},
    "Scheduler": {
        *("ask_stop", "arm", "begin", "call", "changed", "check_thread", "counts", "drain"),
        *("drain_turn", "end_drain_soon", "export", "find", "flush_later", "forget_names"),
        *("interrupt", "live", "new_loop", "refuse_blocking", "register", "spawn"),
        *("start_thread", "terminate_all", "unasked", "unregister", "waited_for"),
    },
}
# A lock is described with the other one.
INHERITS = {"Lock": "RLock"}
DIRECTIVE = re.compile(r"^( *)\.\. (?:auto|py:)(\w+):: ([\w.]+)", re.MULTILINE)


def documented() -> dict[str, list[str]]:
    """Each name of the reference with the members that stand below it."""
    found: dict[str, list[str]] = {}
    members: list[str] = []
    for page in sorted((CHECKOUT / "docs/reference").glob("*.md")):
        for indent, _, name in DIRECTIVE.findall(page.read_text()):
            if indent:
                assert name not in members, f"{name} stands there twice"
                members.append(name)
            else:
                short = name.removeprefix("discoro.")
                assert short not in found, f"{name} stands there twice"
                members = found[short] = []
    return found


def public(kind: type) -> set[str]:
    """What a class of ours has that begins with no underscore."""
    return {
        name
        for cls in kind.__mro__
        if cls.__module__.startswith("discoro")
        for name, value in vars(cls).items()
        if not name.startswith("_") and (callable(value) or hasattr(value, "__get__"))
    } - set(getattr(kind, "__slots__", ()))


def described() -> Iterator[tuple[str, Any, str]]:
    """(name, thing, docstring) of all that the reference takes from docstrings."""
    for name, members in documented().items():
        if name in ("OWN", "AsynCoro"):
            continue
        thing = getattr(errors, name.removeprefix("errors."), None) or getattr(discoro, name)
        yield name, thing, inspect.getdoc(thing) or ""
        for member in members:
            yield f"{name}.{member}", getattr(thing, member), getattr(thing, member).__doc__ or ""


def test_every_public_name_stands_in_the_reference() -> None:
    named = {name for name in documented() if not name.startswith("errors.")}
    assert named == set(discoro.__all__) - {"errors", "__version__"}


def test_every_error_stands_in_the_reference() -> None:
    named = {name.removeprefix("errors.") for name in documented() if name.startswith("errors.")}
    assert named == {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}


@pytest.mark.parametrize(
    "name", [name for name in documented() if isinstance(getattr(discoro, name, None), type)]
)
def test_every_public_method_stands_in_the_reference(name: str) -> None:
    kind = getattr(discoro, name)
    told = {member for member in documented()[name] if not member.startswith("_")}
    if name == "AsynCoro":
        assert kind is discoro.Scheduler
        return
    if name in INHERITS:
        assert public(kind) == public(getattr(discoro, INHERITS[name]))
        return
    assert told == public(kind) - INTERNAL.get(name, set())
    assert INTERNAL.get(name, set()) <= public(kind), "not there any more"


@pytest.mark.parametrize(("thing", "text"), [pytest.param(t, d, id=n) for n, t, d in described()])
def test_every_docstring_of_the_reference_tells_of_its_arguments(thing: Any, text: str) -> None:
    assert re.match(r"[^\n]+[.:]\n?", text), "it begins with one sentence"
    if isinstance(thing, property) or thing in ERRORS:
        return
    if "as :meth:`AsyncFile" in text or "those of :meth:`AsyncFile" in text:
        return
    said = "The other options are those of the command" in text
    for name, parameter in inspect.signature(thing).parameters.items():
        if name == "self" or name in _OURS or (said and parameter.kind is parameter.KEYWORD_ONLY):
            continue
        assert re.search(rf"\b{name}\b", text), f"nothing is said of {name}"
        if name == "timeout":
            assert re.search(r"(?i)seconds", text), "its unit is not told"


def test_every_option_of_the_command_stands_in_the_reference() -> None:
    text = (CHECKOUT / "docs/reference/command.md").read_text()
    node, beside, *_ = text.split("\n## ")[1:]
    told = [option for row in ROW.findall(node) for option in OPTION.findall(row)]
    assert sorted(told) == sorted(options(node_parser()))
    rows = re.findall(r"^\| `(\w+)`[^|]*\| *(?:`(--\w+)`)?", beside, re.MULTILINE)
    expected = {
        (verb, option)
        for verb, parser in VERBS.items()
        for option in ["", *options(parser())]
        if option not in ("-h", "--help")
    }
    assert set(rows) == expected


ROW = re.compile(r"^\| (`-[^|]*) \|", re.MULTILINE)
OPTION = re.compile(r"`(-[-\w]+)`")


def options(parser: Parser) -> list[str]:
    return [
        option
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
    ]


def test_every_exit_status_stands_in_the_reference() -> None:
    text = (CHECKOUT / "docs/reference/command.md").read_text()
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert told == {0, FAILED, USAGE, NO_NODE, INTERRUPTED}


ERRORS = {getattr(errors, name) for name in errors.__all__} | {discoro.MonitorException}

"""The pictures in the documents, which are drawn from text, are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from discoro.transport.errors import ProtocolError, SessionClosed, SessionLost
from discoro.transport.frames import Kind
from discoro.transport.session import Session, State
from tests.documents import CHECKOUT, DOCUMENTS, Block, blocks
from tests.transport.pairs import make_session

PICTURES = [
    block for document in DOCUMENTS for block in blocks(document) if block.language == "mermaid"
]


def picture(document: str, kind: str) -> str:
    """The one picture of a kind in a document."""
    found = [
        block.text
        for block in PICTURES
        if block.document == CHECKOUT / document and block.text.startswith(kind)
    ]
    assert len(found) == 1
    return found[0]


def attach(session: Session) -> None:
    session.attach(lambda data: None, epoch=session.epoch + 1, peer_last=0, now=0.0)


CALLS: list[Callable[[Session], None]] = [
    attach,
    lambda session: session.detach(0.0),
    lambda session: session.end(SessionLost("gone")),
    lambda session: session.end(SessionClosed(by_peer=True), closed=True),
]


def reached(calls: list[Callable[[Session], None]]) -> State:
    session = make_session()
    for call in calls:
        try:
            call(session)
        except ProtocolError:
            pass  # refused: nothing has changed
    return session.state


def test_the_states_of_a_session_are_those_of_the_code() -> None:
    ways: dict[State, list[Callable[[Session], None]]] = {State.NEW: []}
    arrows: set[tuple[str, str]] = set()
    looking = [State.NEW]
    while looking:
        state = looking.pop()
        for call in CALLS:
            after = reached([*ways[state], call])
            if after is not state:
                arrows.add((state.name, after.name))
            if after not in ways:
                ways[after] = [*ways[state], call]
                looking.append(after)
    assert set(ways) == set(State)
    drawn = re.findall(r"^ +(\w+) --> (\w+)", picture("docs/reliability.md", "state"), re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == arrows


def test_the_ends_of_a_session_are_final() -> None:
    text = picture("docs/reliability.md", "state")
    final = set(re.findall(r"^ +(\w+) --> \[\*\]", text, re.MULTILINE))
    left = set(re.findall(r"^ +(\w+) --> \w", text, re.MULTILINE))
    assert final == {state.name for state in State} - left


def test_the_entries_on_the_way_of_a_run_are_those_of_the_code() -> None:
    text = picture("docs/architecture.md", "sequence")
    named = set(re.findall(r"\b[A-Z]{3,}\b", text)) - {"TLS"}
    assert {"RUN", "STARTED", "RESULT", "SEND"} == named
    assert named <= {kind.name for kind in Kind}


@pytest.mark.parametrize("block", PICTURES, ids=lambda block: block.where)
def test_a_picture_is_of_a_kind_that_viewers_draw(block: Block) -> None:
    assert re.match(r"(stateDiagram-v2|sequenceDiagram|flowchart TB)\n", block.text)
    assert Path(block.document).suffix == ".md"

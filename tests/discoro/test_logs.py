from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from discoro import logs


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name in ("discoro", "mylib"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_level_alone_is_that_of_our_loggers() -> None:
    assert logs.levels("debug") == {"": logging.WARNING, "discoro": logging.DEBUG}
    assert logs.levels("") == {"": logging.WARNING, "discoro": logging.WARNING}
    assert logs.levels("", debug=True)["discoro"] == logging.DEBUG


def test_loggers_have_levels_of_their_own() -> None:
    found = logs.levels("info, discoro.transport=debug,mylib=Error,x=15")
    assert found["discoro"] == logging.INFO
    assert found["discoro.transport"] == logging.DEBUG
    assert (found["mylib"], found["x"]) == (logging.ERROR, 15)


@pytest.mark.parametrize("text", ["loud", "mylib=loud", "=info", "a=b=c"])
def test_what_is_no_level_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="debug"):
        logs.levels(text)


def test_records_go_to_stderr(
    restored: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCORO_LOG", "info,mylib=error")
    logs.set_up()
    logging.getLogger("discoro.x").info("a fact of %s", "ours")
    logging.getLogger("mylib").warning("unheard")
    assert "INFO discoro.x: a fact of ours" in capsys.readouterr().err

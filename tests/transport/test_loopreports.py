"""Reports of the loop: what uvloop calls fatal and is not, said in the log alone; all others as before."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import uvloop

from discoro.transport.loopreports import LoopReports, watch

CLOSED = RuntimeError(
    "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
)


class SSLProtocol:
    """As uvloop's is called."""


@pytest.fixture
def loop() -> Any:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


def report(loop: asyncio.AbstractEventLoop, exception: Exception, protocol: object) -> None:
    context = {"message": "Fatal error", "exception": exception, "protocol": protocol}
    loop.call_exception_handler(context)


def test_a_lost_connection_that_uvloop_calls_fatal_prints_nothing(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    watch(loop)
    report(loop, CLOSED, SSLProtocol())
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize(
    ("exception", "protocol"),
    [(CLOSED, object()), (RuntimeError("else"), SSLProtocol()), (ValueError("x"), None)],
)
def test_everything_else_is_reported_as_before(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    exception: Exception,
    protocol: object,
) -> None:
    watch(loop)
    report(loop, exception, protocol)
    assert [record.name for record in caplog.records] == ["asyncio"]


def test_the_handler_of_a_program_gets_what_is_not_ours(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    watch(loop)
    watch(loop)
    report(loop, CLOSED, SSLProtocol())
    report(loop, ValueError("x"), None)
    assert [type(context["exception"]) for context in seen] == [ValueError]
    assert isinstance(loop.get_exception_handler(), LoopReports)

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from discoro.errors import from_transport
from discoro.node.deaths import Death
from discoro.node.settings import ServerSettings
from discoro.node.standin import AnswerForDead, NobodyAnswers, ParentEndpoint
from discoro.transport.credentials import Credentials
from discoro.transport.endpoint import Endpoint
from discoro.transport.errors import AuthenticationFailed, PeerUnreachable, TransportError
from discoro.transport.frames import Hello
from discoro.transport.limits import Limits
from discoro.transport.secret import Secret
from discoro.transport.session import Session

PRS = bytes(range(32))


class Observer:
    def session_opened(self, session: Session) -> None: ...
    def session_lost(self, session: Session, error: TransportError) -> None: ...
    def session_busy(self, session: Session, busy: bool) -> None: ...
    def session_down(self, session: Session) -> None: ...
    def session_up(self, session: Session) -> None: ...


def client(prs: bytes = PRS) -> Endpoint:
    process = bytes(16)
    return Endpoint(
        process_id=process,
        hello=lambda: Hello(process_id=process),
        credentials=Credentials(Secret.from_prs(prs), "default"),
        limits=Limits(),
        handlers=(),
        observer=Observer(),
        flush_later=lambda session: None,
    )


def settings(key: bytes = PRS) -> ServerSettings:
    return ServerSettings(name="bob-1", node="bob", number=1, key=key.hex(), dest_path="/")


def test_who_calls_a_dead_server_is_told_how_it_ended_again_and_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        parent, ours = ParentEndpoint(settings()), client()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            standin = AnswerForDead(parent, [listener])
            for signal in (11, 9, 6):
                standin.start(Death(signal=signal))
                with pytest.raises(PeerUnreachable) as caught:
                    await ours.connect("127.0.0.1", port, timeout=10)
                assert f"ended by signal {signal}" in str(from_transport(caught.value))
                standin.start(Death(exit_code=3))  # the next one has ended before it was ready
                with pytest.raises(PeerUnreachable, match="exit code 3"):
                    await ours.connect("127.0.0.1", port, timeout=10)
                standin.stop()
                standin.stop()
                await asyncio.sleep(0)
            await ours.close()
            await parent.close()
            assert listener.fileno() >= 0  # it stays the parent's

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(main(), 30), debug=False)
    assert caplog.messages == []


def test_who_was_let_in_before_the_next_process_was_ready_hears_of_the_death_all_the_same() -> None:
    async def main() -> None:
        parent, ours = ParentEndpoint(settings()), client()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            standin = AnswerForDead(parent, [listener])
            standin.start(Death(signal=9))
            call = asyncio.ensure_future(
                ours.connect("127.0.0.1", listener.getsockname()[1], timeout=10)
            )
            while not parent.get()._reception._raw:
                await asyncio.sleep(0)
            standin.stop()  # in the middle of the handshake
            with pytest.raises(PeerUnreachable, match="ended by signal 9"):
                await call
            await ours.close()
            await parent.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_only_who_knows_the_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        parent, stranger = ParentEndpoint(settings()), client(bytes(32))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            standin = AnswerForDead(parent, [listener])
            standin.start(Death(signal=11))
            with pytest.raises(AuthenticationFailed) as caught:
                await stranger.connect("127.0.0.1", listener.getsockname()[1], timeout=10)
            assert "signal" not in str(caught.value)
            standin.stop()
            await stranger.close()
            await parent.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_without_sockets_there_is_nothing_to_answer() -> None:
    async def main() -> None:
        parent = ParentEndpoint(settings())
        for standin in (AnswerForDead(parent, []), NobodyAnswers()):
            standin.start(Death(signal=11))
            standin.stop()
        await parent.close()

    asyncio.run(main())

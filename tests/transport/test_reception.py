"""What strangers and proved peers get when they call: bounded places, no words, one frame."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import struct

import pytest

from discoro.transport.arrival import Arrival, Frame
from discoro.transport.credentials import Credentials
from discoro.transport.dialling import Dialler
from discoro.transport.errors import PeerUnreachable, TransportError
from discoro.transport.frames import HEADER, FrameType, Hello, ResetCode, bare
from discoro.transport.greeting import Open, Reset, claim
from discoro.transport.handshake import resume_proof
from discoro.transport.limits import Limits
from discoro.transport.network import TlsNetwork
from discoro.transport.secret import Secret
from discoro.transport.tls import client_context
from tests.kit import eventually, run_async
from tests.transport.ends import SECRET, End, ends

FAST = Limits(dial_first=0.002, dial_most=0.01, handshake_timeout=0.3)


class Caller:
    """Somebody with the secret who says a first frame of his own making."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[Frame] = []
        credentials, limits = Credentials(Secret(SECRET)), Limits()
        self.dialler = Dialler(TlsNetwork(credentials, limits), credentials, limits)

    async def say(self, make: object) -> Frame | None:
        """Say bytes, or what a function makes of the connection's proof; return the answer, None for a closed door."""

        def accepted(arrival: Arrival) -> None:
            assert arrival.proof is not None
            data = make(arrival.proof.transcript) if callable(make) else make
            assert isinstance(data, bytes)
            arrival.write(data)

        def frame(arrival: Arrival, frame: Frame) -> None:
            self.answers.append(frame)
            arrival.hand_on()

        try:
            arrival = await self.dialler.reach(
                "127.0.0.1", self.port, accepted=accepted, frame=frame
            )
        except TransportError:
            return None
        assert arrival.transport is not None
        arrival.transport.abort()
        return self.answers[-1]


def hello() -> Hello:
    return Hello(process_id=os.urandom(16))


def test_strangers_learn_nothing_and_go_when_their_time_is_up() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            readers = []
            for first in (
                b"",
                b"GET / HTTP/1.0\r\n\r\n",
                b"\x80\x04K\x01.",
                b"\x16\x03\x01",
                bytes(5000),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(first)
                readers.append((reader, writer))
            assert await one.endpoint.connect("127.0.0.1", port, timeout=5), "others are served"
            for reader, writer in readers:
                try:
                    answer = await reader.read(1000)
                except ConnectionError:
                    answer = b""
                assert len(answer) < 20, "a TLS alert at most"
                writer.close()
            await eventually(lambda: not other.endpoint._reception._raw)
            assert other.endpoint._reception._throttle.connections == 0

    run_async(main)


@pytest.mark.parametrize("seed", range(3))
def test_garbage_behind_tls_and_behind_the_proof_changes_nothing(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            context = client_context()
            for size in (1, 4, 50, 3000):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(rng.randbytes(size))
                try:
                    assert len(await reader.read(1000)) <= 16
                except (ConnectionError, ssl.SSLError):
                    pass
                writer.close()
            caller = Caller(port)
            for size in (24, 100, 3000):
                assert await caller.say(rng.randbytes(size)) is None
            assert not other.events
            assert await one.endpoint.connect("127.0.0.1", port, timeout=5)

    run_async(main)


def test_a_first_frame_that_cannot_be_closes_the_door() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (_, other):
            caller = Caller(await other.listen())
            wish = Open(b"s" * 16, hello())
            for wrong in (
                bare(FrameType.PING, 1, 0),
                bare(FrameType.OPENED, 1, 0),
                bare(FrameType.OPEN, 1, 0),
                bare(FrameType.OPEN, 1, 0, b"\xc1"),
                bare(FrameType.RESUME, 1, 0, b"short"),
                bare(FrameType.BULK, 1, 0, b"short"),
                b"\0\0\0\x14\x63" + bytes(19),
                b"\x00\x01\x00\x00\x01" + bytes(19),
                b"\xff\xff\xff\xff\x01" + bytes(19),
                Open(b"s" * 16, hello()).encode(1, Limits())[:40] + bytes(60),
                wish.encode(0, Limits()),
            ):
                assert await caller.say(wrong) is None, wrong
            assert not other.events and not other.endpoint.sessions

    run_async(main)


def test_a_session_can_be_taken_over_only_with_its_key_and_only_forwards() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            session.send(1, 1, 1, b"x")
            await eventually(lambda: other.got)
            caller = Caller(port)

            async def code(epoch: int, last: int, key: bytes, session_id: bytes) -> ResetCode:
                answer = await caller.say(
                    lambda transcript: claim(
                        FrameType.RESUME,
                        epoch,
                        last,
                        session_id,
                        resume_proof(key, transcript, epoch, last),
                    )
                )
                assert answer is not None and answer.type is FrameType.RESET
                return Reset.decode(answer.number, answer.body, Limits()).code

            key = session.key
            assert await code(9, 0, key, b"?" * 16) is ResetCode.UNKNOWN
            assert await code(9, 0, bytes(32), session.id) is ResetCode.BAD_PROOF
            assert await code(1, 0, key, session.id) is ResetCode.OLD_EPOCH
            assert not other.told("down"), "none of these has touched the session"
            assert await code(9, 5, key, session.id) is ResetCode.RANGE
            assert other.told("lost")

    run_async(main)


def test_a_recorded_claim_is_worth_nothing_on_another_connection() -> None:
    async def main() -> None:
        async with ends(limits=FAST) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            caller = Caller(port)
            made: list[bytes] = []

            def make(transcript: bytes) -> bytes:
                proof = resume_proof(session.key, transcript, 5, 0)
                made.append(claim(FrameType.RESUME, 5, 0, session.id, proof))
                return bare(FrameType.PING, 0, 0)

            await caller.say(make)
            answer = await caller.say(made[0])
            assert answer is not None and answer.number == ResetCode.BAD_PROOF
            assert not other.told("down")

    run_async(main)


def test_a_full_house_says_busy_and_sessions_of_others_cannot_be_claimed_by_open() -> None:
    async def main() -> None:
        limits = Limits(max_sessions=1)
        async with ends(limits=limits) as (one, other):
            port = await other.listen()
            session = await one.endpoint.connect("127.0.0.1", port, timeout=5)
            caller = Caller(port)
            answer = await caller.say(Open(b"s" * 16, hello()).encode(1, limits))
            assert answer is not None and answer.number == ResetCode.BUSY
            assert await caller.say(Open(session.id, hello()).encode(1, limits)) is None or (
                caller.answers[-1].number == ResetCode.BUSY
            )
            assert other.session.process_id == one.process_id

    run_async(main)


def test_strangers_beyond_their_number_are_turned_away_at_once() -> None:
    async def main() -> None:
        limits = Limits(handshake_per_loopback=3)
        async with ends(1, limits=limits) as (one,):
            port = await one.listen()
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await eventually(lambda: one.endpoint._reception._throttle.connections == 3)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                assert await reader.read(10) == b""
            except ConnectionError:
                pass
            for stream in (writer, *(w for _, w in held)):
                stream.close()

    run_async(main)


def test_a_server_that_stops_in_the_middle_of_the_handshake_does_not_hold_us() -> None:
    async def main() -> None:
        other = End()
        context = other.endpoint.credentials.certificate.server_context()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
        async with ends(1, limits=Limits(handshake_timeout=0.1)) as (one,):
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(PeerUnreachable, match="in the middle of the handshake"):
                await one.endpoint.connect("127.0.0.1", port, timeout=5)
        server.close()
        await other.endpoint.close()

    run_async(main)


def test_a_header_is_read_before_its_body_is_waited_for() -> None:
    """A first frame may be 8 KiB; one that announces more is refused from its first 24 bytes."""

    async def main() -> None:
        async with ends(limits=FAST) as (_, other):
            caller = Caller(await other.listen())
            assert (
                await caller.say(struct.pack(">I", 9000) + bytes([FrameType.OPEN]) + bytes(19))
                is None
            )
            assert HEADER.size == 24

    run_async(main)


def test_a_connection_whose_welcome_is_cancelled_before_it_begins_is_closed() -> None:
    """As happens when an endpoint closes in the turn in which somebody calls."""

    async def main() -> None:
        here, there = socket.socketpair()

        class Once:
            address = ("127.0.0.1", 0)
            taken = False

            async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
                if not self.taken:
                    self.taken = True
                    return there, ("127.0.0.1", 1)
                for task in asyncio.all_tasks():
                    if task.get_name() == "discoro-welcome":
                        task.cancel()
                return await asyncio.get_running_loop().create_future()

            def close(self) -> None:
                pass

            def fileno(self) -> int:
                return -1

        async with ends(1) as (one,):
            accepting = asyncio.create_task(one.endpoint._reception._accept(Once(), None))
            await eventually(lambda: there.fileno() == -1)
            accepting.cancel()
            await asyncio.wait({accepting})
        here.close()

    run_async(main)

"""The TLS transport on real sockets: order, turns, back pressure, both ways to end, strangers who do not speak TLS."""

from __future__ import annotations

import _ssl
import asyncio
import contextlib
import ctypes
import os
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from discoro.transport.tls import Certificate, client_context
from discoro.transport.tlstransport import MOST_ANSWERS, STRANGERS_TURN, TlsTransport
from tests.kit import eventually, run_async

SERVER, CLIENT = Certificate.ephemeral().server_context(), client_context()
BUFFER = 64 << 10


class Recorder(asyncio.BufferedProtocol):
    """Keeps what comes, in views of a given size."""

    def __init__(self, view: int = 256 << 10) -> None:
        self.came = bytearray()
        self.turns: list[int] = [0]
        self.told: list[Any] = []
        self.broken: Exception | None = None
        self._data = bytearray(view)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._data)

    def buffer_updated(self, nbytes: int) -> None:
        if not self.turns[-1]:
            asyncio.get_running_loop().call_soon(self.turns.append, 0)
        self.turns[-1] += nbytes
        self.came += self._data[:nbytes]
        if self.broken is not None:
            raise self.broken

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)


def transport_of(sock: socket.socket, server_side: bool, timeout: float = 2.0) -> TlsTransport:
    return TlsTransport(
        sock,
        SERVER if server_side else CLIENT,
        server_side=server_side,
        buffer=memoryview(bytearray(BUFFER)),
        shutdown_timeout=timeout,
    )


def sockets() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    for sock in (here, there):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return here, there


def deaf(transport: TlsTransport) -> None:
    """Let what arrives wait, as with a process that computes."""
    transport._loop.remove_reader(transport._descriptor)


def hears(transport: TlsTransport) -> None:
    transport._loop.add_reader(transport._descriptor, transport._readable)


class Pair:
    """Two transports, TLS up between them."""

    def __init__(self, view: int = 256 << 10, timeout: float = 2.0) -> None:
        self.raw = sockets()
        self.here = transport_of(self.raw[0], False, timeout)
        self.there = transport_of(self.raw[1], True, timeout)
        self.mine, self.theirs = Recorder(), Recorder(view)


@contextlib.asynccontextmanager
async def pair(
    view: int = 256 << 10, timeout: float = 2.0, *, known: bool = True
) -> AsyncIterator[Pair]:
    both = Pair(view, timeout)
    await asyncio.gather(both.here.handshake(), both.there.handshake())
    both.here.start(both.mine)
    both.there.start(both.theirs)
    if known:
        both.here.set_protocol(both.mine)
        both.there.set_protocol(both.theirs)
    try:
        yield both
    finally:
        both.here.abort()
        both.there.abort()
        await asyncio.sleep(0)
        assert [sock.fileno() for sock in both.raw] == [-1, -1]


@pytest.mark.parametrize("view", [1, 1000, 16_384, 16_385, 1 << 20])
def test_everything_arrives_in_order_whatever_the_pieces(view: int) -> None:
    async def main() -> None:
        dice = random.Random(view)
        sent = b""
        async with pair(view) as both:
            for _ in range(60):
                data = dice.randbytes(dice.choice((1, 100, 16_383, 16_384, 16_385, 70_000)))
                data = data if view > 1 else data[:500]
                sent += data
                both.here.write(dice.choice((bytes, bytearray, memoryview))(data))
                if dice.random() < 0.3:
                    await asyncio.sleep(0)
            await eventually(lambda: len(both.theirs.came) == len(sent))
            assert both.theirs.came == sent
            both.here.write(b"")
            both.there.write(b"back")
            await eventually(lambda: both.mine.came == b"back")

    run_async(main)


def test_a_turn_takes_as_much_as_the_buffer_holds_and_no_more() -> None:
    async def main() -> None:
        async with pair() as both:
            both.here.write(bytes(4 << 20))
            await eventually(lambda: len(both.theirs.came) == 4 << 20)
            assert max(both.theirs.turns) <= BUFFER + 16_384

    run_async(main)


def test_a_turn_takes_little_from_a_connection_that_was_not_handed_on() -> None:
    async def main() -> None:
        async with pair(known=False) as both:
            both.here.write(bytes(1 << 20))
            await eventually(lambda: len(both.theirs.came) == 1 << 20)
            assert max(both.theirs.turns) <= STRANGERS_TURN + 16_384

    run_async(main)


def test_what_the_kernel_does_not_take_is_counted_and_the_protocol_told() -> None:
    async def main() -> None:
        async with pair() as both:
            both.here.set_write_buffer_limits(high=1 << 20)
            deaf(both.there)
            size = 0
            while not both.mine.told:
                both.here.write(bytes(1 << 20))
                size += 1 << 20
            assert both.mine.told == ["pause"] and both.here.get_write_buffer_size() > 1 << 20
            await asyncio.sleep(0.01)
            assert not both.theirs.came
            hears(both.there)
            await eventually(lambda: len(both.theirs.came) == size)
            assert both.mine.told == ["pause", "resume"]
            assert both.here.get_write_buffer_size() == 0

    run_async(main)


def test_what_comes_with_the_end_of_the_handshake_is_given_to_the_protocol() -> None:
    async def main() -> None:
        both = Pair()
        await asyncio.gather(both.here.handshake(), both.there.handshake())
        both.here.start(both.mine)
        both.here.write(b"early")
        both.there._incoming.write(await asyncio.get_running_loop().sock_recv(both.raw[1], 1000))
        both.there.start(both.theirs)
        await eventually(lambda: both.theirs.came == b"early")
        both.here.abort()
        both.there.abort()

    run_async(main)


def test_a_connection_can_be_handed_on_in_the_middle() -> None:
    async def main() -> None:
        async with pair() as both:
            second = Recorder()
            receive = both.theirs.buffer_updated

            def hand_on(nbytes: int) -> None:
                receive(nbytes)
                both.there.set_protocol(second)

            both.theirs.buffer_updated = hand_on  # type: ignore[method-assign]
            both.here.write(b"first")
            await eventually(lambda: both.theirs.came == b"first")
            both.here.write(b"second")
            await eventually(lambda: second.came == b"second")
            assert both.there.get_protocol() is second

    run_async(main)


# --- the end --------------------------------------------------------------------------------------------------------


def test_closing_sends_everything_first_though_the_peer_has_sent_what_nobody_reads() -> None:
    """A socket that is closed with unread bytes resets the connection: the peer would lose the end."""

    async def main() -> None:
        async with pair() as both:
            deaf(both.there)
            both.here.write(b"x" * (8 << 20))
            both.there.write(bytes(100_000))
            both.here.close()
            assert both.here.is_closing()
            both.here.write(b"after the end")
            hears(both.there)
            await eventually(lambda: both.theirs.told and both.mine.told[-1] is None)
            assert both.theirs.came == b"x" * (8 << 20)
            assert both.theirs.told == ["eof", None] and both.mine.told[-1:] == [None]

    run_async(main)


def test_a_peer_that_does_not_close_is_waited_for_and_then_left() -> None:
    async def main() -> None:
        async with pair(timeout=0.05) as both:
            deaf(both.there)
            both.here.close()
            both.here.close()
            await eventually(lambda: both.mine.told == [None])
            assert both.raw[0].fileno() == -1

    run_async(main)


def test_an_aborted_connection_has_no_socket_any_more_and_says_so_once() -> None:
    async def main() -> None:
        async with pair() as both:
            both.here.write(bytes(100))
            both.here.abort()
            assert both.raw[0].fileno() == -1 and both.mine.told == []
            both.here.abort()
            both.here.close()
            both.here.write(b"x")
            await eventually(lambda: both.theirs.told)
            assert both.mine.told == [None] and both.theirs.told[0] == "eof"

    run_async(main)


def test_a_connection_that_is_reset_is_lost_with_that_error() -> None:
    async def main() -> None:
        async with pair() as both:
            linger = struct.pack("ii", 1, 0)
            both.raw[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            both.here.abort()
            await eventually(lambda: both.theirs.told)
            assert [type(one) for one in both.theirs.told] == [ConnectionResetError]
        async with pair() as both:
            both.raw[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            deaf(both.there)
            both.here.abort()
            while not both.theirs.told:
                both.there.write(bytes(1000))  # raises nothing
                await asyncio.sleep(0)
            assert isinstance(both.theirs.told[0], ConnectionError)

    run_async(main)


@pytest.mark.parametrize("size", [100, 10_000, 70_000])
def test_what_had_arrived_before_a_break_arrives_and_the_break_too(size: int) -> None:
    """uvloop tells of a broken connection once, and watches it no longer."""

    async def main() -> None:
        async with pair() as both:
            deaf(both.there)
            both.here.write(bytes(size))
            await eventually(lambda: both.here.get_write_buffer_size() == 0)
            await asyncio.sleep(0.01)
            both.raw[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            both.here.abort()
            await asyncio.sleep(0.01)
            hears(both.there)
            await eventually(lambda: both.theirs.told)
            assert len(both.theirs.came) == size
            assert isinstance(both.theirs.told[-1], ConnectionResetError)

    run_async(main)


def test_data_and_goodbye_that_come_with_the_end_of_the_handshake_arrive() -> None:
    async def main() -> None:
        both = Pair()
        await asyncio.gather(both.here.handshake(), both.there.handshake())
        both.here.start(both.mine)
        both.here.write(b"early")
        loop = asyncio.get_running_loop()
        both.there._incoming.write(await loop.sock_recv(both.raw[1], 1000))
        both.here.close()
        await asyncio.sleep(0.01)
        both.there.start(both.theirs)
        await eventually(lambda: both.theirs.told[-1:] == [None])
        assert both.theirs.came == b"early" and both.theirs.told == ["eof", None]
        await eventually(lambda: both.mine.told)

    run_async(main)


def test_an_end_that_nobody_heard_of_is_told_to_the_next_protocol() -> None:
    """A connection may end between the protocol that proves the peer and the one that works with it."""

    async def main() -> None:
        async with pair() as both:
            both.there.abort()
            await eventually(lambda: both.theirs.told)
            second = Recorder()
            both.there.set_protocol(second)
            await eventually(lambda: second.told == [None])
            assert both.theirs.told == [None]

    run_async(main)


def test_a_protocol_that_fails_at_the_peers_goodbye_is_not_asked_again() -> None:
    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        async with pair() as both:

            def fail() -> bool:
                raise ValueError("a bug")

            both.theirs.eof_received = fail  # type: ignore[method-assign]
            both.raw[0].shutdown(socket.SHUT_WR)
            await eventually(lambda: both.theirs.told)
            assert len(seen) == 1

    run_async(main)


def test_a_big_write_leaves_no_big_buffer_behind() -> None:
    """The buffers of OpenSSL grow and never shrink: what lies in one at a time is 64 KiB."""

    async def main() -> None:
        async with pair() as both:
            most, send = [0], both.here._send

            def look() -> None:
                most.append(both.here._outgoing.pending)
                send()

            both.here._send = look  # type: ignore[method-assign]
            both.here.write(bytes(1 << 20))
            await eventually(lambda: len(both.theirs.came) == 1 << 20)
            assert max(most) < 80_000

    run_async(main)


def test_a_handshake_whose_connection_ends_while_it_waits_ends() -> None:
    async def main() -> None:
        here, there = sockets()
        client = transport_of(here, False)
        task = asyncio.create_task(client.handshake())
        await asyncio.sleep(0.01)
        client.abort()
        with pytest.raises(ConnectionResetError):
            await task
        there.close()

    run_async(main)


def test_bytes_that_are_not_tls_end_the_connection() -> None:
    async def main() -> None:
        async with pair() as both:
            both.raw[0].send(b"\x17\x03\x03\x00\x20" + os.urandom(32))
            await eventually(lambda: both.theirs.told)
            assert isinstance(both.theirs.told[0], ssl.SSLError)

    run_async(main)


def test_a_protocol_that_fails_loses_its_connection_and_the_loop_is_told() -> None:
    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        async with pair() as both:
            both.theirs.broken = ValueError("a bug")
            both.here.write(b"x")
            await eventually(lambda: both.theirs.told)
            assert both.theirs.told == [both.theirs.broken]
            assert seen[0]["exception"] is both.theirs.broken
            assert "ended" in repr(both.there)

    run_async(main)


# --- the handshake --------------------------------------------------------------------------------------------------


def test_a_handshake_with_somebody_else_fails_and_leaves_no_socket() -> None:
    async def main() -> None:
        here, there = sockets()
        server = transport_of(there, True)
        here.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await server.handshake()
        assert there.fileno() == -1
        here.close()

    run_async(main)


def test_a_handshake_that_is_cut_or_cancelled_leaves_no_socket() -> None:
    async def main() -> None:
        here, there = sockets()
        server = transport_of(there, True)
        here.close()
        with pytest.raises(OSError):
            await server.handshake()
        assert there.fileno() == -1
        here, there = sockets()
        client = asyncio.create_task(transport_of(here, False).handshake())
        await asyncio.sleep(0.01)
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        assert here.fileno() == -1
        there.close()

    run_async(main)


def test_a_handshake_whose_answer_cannot_be_sent_fails() -> None:
    async def main() -> None:
        here, there = sockets()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        await asyncio.sleep(0.01)
        with pytest.raises(OSError):
            await transport_of(here, False).handshake()
        assert here.fileno() == -1

    run_async(main)


def test_a_handshake_whose_last_words_cannot_be_sent_fails() -> None:
    async def main() -> None:
        here, there = sockets()
        client, server = transport_of(here, False), transport_of(there, True)
        serving = asyncio.create_task(server.handshake())
        send, sent = client._send, [0]

        def cut_before_the_last() -> None:
            sent[0] += bool(client._outgoing.pending)
            if sent[0] == 2:
                here.shutdown(socket.SHUT_WR)
            send()

        client._send = cut_before_the_last  # type: ignore[method-assign]
        with pytest.raises(ConnectionResetError):
            await client.handshake()
        assert here.fileno() == -1
        with pytest.raises(OSError):
            await serving

    run_async(main)


# --- TLS itself -----------------------------------------------------------------------------------------------------


def ask_for_new_keys(transport: TlsTransport) -> None:
    """Let OpenSSL send a KeyUpdate that wants an answer (RFC 8446, 4.6.3); Python has no call for it."""
    if transport.is_closing():
        return
    library = ctypes.CDLL(_ssl.__file__)
    inner = transport.tls._sslobj  # type: ignore[attr-defined]
    # struct PySSLSocket: the head of every object, the socket, then SSL *ssl.
    head = object.__basicsize__
    pointer = ctypes.c_void_p.from_address(id(inner) + head + ctypes.sizeof(ctypes.c_void_p))
    assert library.SSL_key_update(pointer, 1) == 1
    transport.write(b".")


def test_new_keys_are_answered_for_a_peer_that_reads() -> None:
    async def main() -> None:
        async with pair() as both:
            for _ in range(50):
                ask_for_new_keys(both.here)
                both.there.write(b"y")
            await eventually(lambda: len(both.mine.came) == len(both.theirs.came) == 50)

    run_async(main)


def test_a_peer_that_asks_for_new_keys_and_reads_no_answer_is_left() -> None:
    async def main() -> None:
        async with pair() as both:
            both.raw[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
            deaf(both.here)
            most = 0
            while not both.theirs.told:
                for _ in range(50):
                    ask_for_new_keys(both.here)
                await asyncio.sleep(0)
                most = max(most, both.there.get_write_buffer_size())
            assert isinstance(both.theirs.told[0], ConnectionAbortedError)
            assert 0 < most <= MOST_ANSWERS

    run_async(main)


def test_a_stranger_who_asks_for_new_keys_again_is_left_at_once() -> None:
    """The first answer goes with our next bytes, and is not seen before."""

    async def main() -> None:
        async with pair(known=False) as both:
            ask_for_new_keys(both.here)
            ask_for_new_keys(both.here)
            await eventually(lambda: both.theirs.told)
            assert isinstance(both.theirs.told[0], ConnectionAbortedError)

    run_async(main)

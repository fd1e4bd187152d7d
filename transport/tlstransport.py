"""One TLS connection: an asyncio transport over a socket that the loop watches. Shell.

TLS itself is OpenSSL's, between two buffers in memory (:class:`ssl.MemoryBIO`). asyncio and uvloop do the same; this
differs from theirs where it matters here:

* One turn of the loop takes at most as much from a connection as its receive buffer holds. uvloop reads on as long as there is
  something, and a bulk transfer then holds up every coroutine of the process. From a stranger it takes less.
* What has arrived is deciphered while it is still in the processor's cache.
* What TLS answers on its own is bounded.
* A socket is closed in the moment its connection is given up, whoever still holds the transport.

A socket of OpenSSL's own would spare two copies and cost the bound: one call would then read for as long as a stranger sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from typing import Any, cast

#: What TLS may answer on its own (to a peer that asks for new keys) before the peer has read any of it, in bytes.
MOST_ANSWERS = 64 * 1024
#: What is enciphered at a time, all of it. OpenSSL's buffers grow to what they once held, and never shrink.
_MOST_ENCIPHERED = 64 * 1024
#: How many buffers of what nobody wants are read in one turn.
_MOST_DRAINED = 16
#: What a turn takes from a connection that was not handed on yet. 27 bytes that ask for new keys cost us 30 us, and whoever sends
#: them here is a stranger.
STRANGERS_TURN = 4 * 1024


class TlsTransport(asyncio.Transport):
    """A TLS connection. Call :meth:`handshake`, then :meth:`start`; :meth:`abort` at any time.

    Args:
        sock: A connected socket that does not block; it is ours from here on.
        context: With what TLS is spoken.
        server_side: Whether the peer has dialled.
        buffer: Where bytes arrive before they are deciphered; all connections of a loop can have the same.
        shutdown_timeout: Seconds that a closing connection waits for the peer to close as well.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        buffer: memoryview,
        shutdown_timeout: float,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._descriptor = sock.fileno()
        self._buffer = buffer
        # Until the connection is handed on; from then on all of the buffer is used.
        self._stranger = True
        self._arrives = buffer[:STRANGERS_TURN]
        self._shutdown_timeout = shutdown_timeout
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._protocol: asyncio.BufferedProtocol | None = None
        # Ciphertext that the kernel has not taken yet.
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._answered = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._writing_paused = False
        # Nothing more is given to the protocol or taken from it; then: the socket is closed.
        self._closing = False
        self._ended = False
        # The peer will send nothing more.
        self._peer_closed = False
        # What a handshake waits for.
        self._arrival: asyncio.Future[None] | None = None
        # More may have arrived, and is taken in the next turn.
        self._more_due = False
        self._deadline: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "ended" if self._ended else "closing" if self._closing else "open"
        return f"<TlsTransport {self._descriptor} {state}, {self._unsent_bytes} bytes unsent>"

    # --- the beginning ---------------------------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Bring up TLS; it takes as long as it takes. If this raises, or is cancelled, the socket is closed.

        Raises:
            OSError: If the connection ends (ssl.SSLEOFError), or the peer does not speak TLS as we do (ssl.SSLError).
        """
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self._send()  # also the alert that says what is wrong
                await self._more()
            self._check()
        except BaseException:
            self._end(None)
            raise

    async def _more(self) -> None:
        """Wait for bytes of the handshake."""
        self._check()
        self._arrival = self._loop.create_future()
        self._loop.add_reader(self._descriptor, _wake, self._arrival)
        try:
            await self._arrival
        finally:
            if not self._ended:  # its number may belong to another connection by now
                self._loop.remove_reader(self._descriptor)
        self._check()
        with contextlib.suppress(BlockingIOError):
            size = self._sock.recv_into(self._arrives)
            if size:
                self._incoming.write(self._arrives[:size])
            else:
                self._incoming.write_eof()

    def _check(self) -> None:
        if self._ended:
            raise ConnectionResetError("cut in the middle of TLS")

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """TLS is up: give what arrives to ``protocol``, a BufferedProtocol."""
        self._protocol = cast(asyncio.BufferedProtocol, protocol)
        protocol.connection_made(self)
        if not self._closing:
            self._loop.add_reader(self._descriptor, self._readable)
            if self._incoming.pending:
                self._more_due = True
                self._loop.call_soon(self._receive)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """The loop says that something has arrived, or that the connection has ended."""
        if not self._more_due:
            self._receive()

    def _receive(self) -> None:
        """Take what has arrived, as much as the buffer holds; what there is beyond that in the next turn.

        The kernel is asked until it has nothing more, not only when the loop says so: when a connection breaks, uvloop says so once, and
        watches no longer. What had arrived before, and the break behind it, would be forgotten.
        """
        self._more_due = False
        if self._closing:
            return
        arrives = self._arrives
        filled, ended, error = 0, False, None
        try:
            filled = self._sock.recv_into(arrives)
            ended = not filled
            if 0 < filled < len(arrives):
                more = self._sock.recv_into(arrives[filled:])  # in most cases there is nothing
                ended = not more
                filled += more
            self._more_due = not ended
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            error = exc
        if filled:
            self._incoming.write(arrives[:filled])
        self._decipher()
        if ended:
            self._peer_has_closed()
        elif error is not None:
            self._end(error)
        elif self._more_due:
            self._loop.call_soon(self._receive)

    def _decipher(self) -> None:
        """Give the protocol what has arrived, view by view."""
        try:
            while not self._closing and self._fill():
                pass
        except ssl.SSLError as exc:
            self._send()  # the alert that says what is wrong
            self._end(exc)
        except Exception as exc:
            self._loop.call_exception_handler(
                {
                    "message": "a protocol failed",
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
            self._end(exc)
        if self._outgoing.pending:
            self._answer()

    def _fill(self) -> bool:
        """Fill one view of the protocol, as far as there is something; return whether there may be more."""
        protocol, incoming, read = self._protocol, self._incoming, self._tls.read
        assert protocol is not None
        view = cast(memoryview, protocol.get_buffer(-1))
        room, filled, ended = len(view), 0, False
        try:
            while True:
                size = cast(int, read(room - filled, view[filled:] if filled else view))
                if not size:
                    ended = True
                    break
                filled += size
                if filled == room or not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        if filled:
            protocol.buffer_updated(filled)
        if ended:
            self._peer_has_closed()
        # A view that was filled may have ended in the middle of a record, the rest of which lies in OpenSSL.
        return filled == room

    def _answer(self) -> None:
        """Send what TLS has to say on its own while we read; strangers have no reason to ask for it."""
        if not self._unsent:
            self._answered = 0
        self._answered += self._outgoing.pending
        if self._stranger or self._answered > MOST_ANSWERS:
            self._end(ConnectionAbortedError("the peer asks TLS for answers that it does not read"))
        else:
            self._send()

    def _peer_has_closed(self) -> None:
        self._peer_closed = True
        if not self._closing:
            assert self._protocol is not None
            try:
                self._protocol.eof_received()
            finally:
                self.close()

    # --- writing ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; nothing is kept of ``data`` itself. Does nothing on a connection that is closing."""
        if self._closing or not data:
            return
        try:
            if len(data) <= _MOST_ENCIPHERED:
                self._tls.write(data)
                self._send()
                return
            view = memoryview(data)
            for at in range(0, len(view), _MOST_ENCIPHERED):
                if self._closing:
                    break
                self._tls.write(view[at : at + _MOST_ENCIPHERED])
                self._send()
        except ssl.SSLError as exc:
            self._end(exc)

    def _send(self) -> None:
        """Give the kernel what TLS has made."""
        data = self._outgoing.read()
        if not data or self._ended:
            return
        sent = 0
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self._end(exc)
                return
            if sent == len(data):
                return
            self._loop.add_writer(self._descriptor, self._writable)
        self._unsent.append(memoryview(data)[sent:])
        self._unsent_bytes += len(data) - sent
        if self._unsent_bytes > self._high and not self._writing_paused:
            self._writing_paused = True
            if self._protocol is not None:
                self._protocol.pause_writing()

    def _writable(self) -> None:
        """The kernel takes more."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self._sock.send(unsent[0])
                self._unsent_bytes -= sent
                if sent < len(unsent[0]):
                    unsent[0] = unsent[0][sent:]
                else:
                    unsent.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            self._end(exc)
            return
        if not unsent:
            self._loop.remove_writer(self._descriptor)
            if self._closing:
                self._all_sent()
        if self._writing_paused and self._unsent_bytes <= self._low:
            self._writing_paused = False
            if self._protocol is not None and not self._closing:
                self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set above which unsent bytes the protocol is asked to pause, and below which to resume."""
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the kernel has not taken yet."""
        return self._unsent_bytes

    # --- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close once everything is sent, and the peer has closed as well: what it has not read yet would be lost otherwise."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._descriptor)
        self._deadline = self._loop.call_later(self._shutdown_timeout, self.abort)
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # says goodbye, and complains that the peer has not
        self._send()
        if not (self._unsent or self._ended):
            self._all_sent()

    def _all_sent(self) -> None:
        """The kernel has everything, our goodbye too."""
        if self._peer_closed:
            self._end(None)
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._end(exc)
            return
        self._loop.add_reader(self._descriptor, self._drain)

    def _drain(self) -> None:
        """Read what nobody wants any more: a socket closed before would take back what the peer has not read yet."""
        try:
            for _ in range(_MOST_DRAINED):
                if not self._sock.recv_into(self._buffer):
                    break
            else:
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._end(None)

    def abort(self) -> None:
        """Close now; what was not sent is lost."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        """Close the socket; the protocol hears of it in the next turn of the loop."""
        if self._ended:
            return
        self._ended = self._closing = True
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        if self._deadline is not None:
            self._deadline.cancel()
        self._sock.close()
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._arrival is not None:
            _wake(self._arrival)
        if self._protocol is not None:
            self._loop.call_soon(self._say_lost, error)

    def _say_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        assert protocol is not None
        protocol.connection_lost(error)

    # --- what is asked of it ---------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject:
        """TLS, for what the peer has shown."""
        return self._tls

    def is_closing(self) -> bool:
        """Whether it is closed, or closing."""
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the ``socket``."""
        return self._sock if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what arrives from here on to another protocol, which trusts the peer more than the first one."""
        self._stranger = False
        self._arrives = self._buffer
        if self._ended and self._protocol is None:
            # The one before has heard it, this one has not.
            self._loop.call_soon(self._say_lost, None)
        self._protocol = cast(asyncio.BufferedProtocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return to whom what arrives is given."""
        assert self._protocol is not None
        return self._protocol


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

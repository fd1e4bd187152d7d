"""Dialling: from an address to a connection whose other end has proved itself. Shell.

A dial that connects and hears nothing is not over: while the other kernel acknowledges what we send, the process behind
it is busy (it computes, or is stopped), and the dial stays open for as long as its caller waits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from .arrival import Arrival, ConnectionLostEarly, Frame
from .credentials import Credentials
from .errors import PeerUnreachable
from .handshake import ClientHandshake
from .limits import Limits
from .network import Network


class Dialler:
    """Makes proved connections for one endpoint."""

    def __init__(self, network: Network, credentials: Credentials, limits: Limits) -> None:
        self._network = network
        self._credentials = credentials
        self._limits = limits

    async def reach(
        self,
        host: str,
        port: int,
        *,
        accepted: Callable[[Arrival], None],
        frame: Callable[[Arrival, Frame], None],
        connect_timeout: float | None = None,
        waiting: Callable[[float], None] = lambda seconds: None,
        given_up: Callable[[Arrival], None] = lambda arrival: None,
    ) -> Arrival:
        """Dial, bring up TLS, prove the secret, and let ``accepted`` and ``frame`` do the rest.

        Cancelling is safe: the connection is dropped.

        Args:
            host: Name or address.
            port: TCP port.
            accepted: Called after the proofs; writes our first frame.
            frame: Called with the answer; hands the connection on, or fails it.
            connect_timeout: Seconds for the TCP connection alone.
            waiting: Called every second with the seconds that a busy peer was waited for.
            given_up: Called when the call is cancelled after ``accepted``: may write a last word, and close.

        Raises:
            TransportError: Whatever went wrong; PeerUnreachable has the OSError as its cause.
        """
        try:
            async with asyncio.timeout(connect_timeout):
                raw = await self._network.dial(host, port)
        except TimeoutError as exc:
            raise PeerUnreachable(host, port, f"no answer within {connect_timeout} s") from exc
        arrival = Arrival(accepted, frame)
        try:
            fingerprint = await self._secured(raw, arrival, host, port, waiting)
            prs = await self._stretched()
            now = asyncio.get_running_loop().time()
            handshake = ClientHandshake(
                prs,
                fingerprint,
                self._credentials.cluster,
                os.urandom,
                now,
                self._limits,
                who=f"{host}:{port}",
            )
            arrival.begin(handshake)
            try:
                async with asyncio.timeout(self._limits.handshake_timeout):
                    await asyncio.shield(arrival.done)
            except TimeoutError as exc:
                reason = "it stopped in the middle of the handshake"
                raise PeerUnreachable(host, port, reason) from exc
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and arrival.proof is not None:
                given_up(arrival)
            await arrival.leave(self._limits.tls_shutdown_timeout)
            raise
        return arrival

    async def _stretched(self) -> bytes:
        """Return what the secret stands for; the first use takes 60 ms, which a thread does without our lock."""
        secret = self._credentials.secret
        if secret.stretched:
            return secret.prs
        return await asyncio.get_running_loop().run_in_executor(None, lambda: secret.prs)

    async def _secured(
        self, raw: Any, arrival: Arrival, host: str, port: int, waiting: Callable[[float], None]
    ) -> bytes:
        """Bring up TLS, for as long as the peer is alive or busy; return its certificate's fingerprint."""
        loop = asyncio.get_running_loop()
        network, limits = self._network, self._limits
        task = loop.create_task(network.secure(raw, arrival, host, port), name="discoro-tls")
        try:
            silent = talking = 0.0
            while True:
                await asyncio.wait({task}, timeout=limits.tick)
                if task.done():
                    return task.result()[1]
                if network.heard(raw):
                    talking += limits.tick
                    if talking > limits.handshake_timeout:
                        raise PeerUnreachable(host, port, "it stopped in the middle of TLS")
                elif network.answers(raw):
                    waiting(limits.tick)
                    silent = 0.0
                else:
                    silent += limits.tick
                    if silent > limits.silence:
                        raise PeerUnreachable(host, port, "its kernel does not answer any more")
        except OSError as exc:
            raise ConnectionLostEarly(exc) from exc
        finally:
            if not task.done():
                task.cancel()
                # A callback: this may be cancelled once more while it waits.
                task.add_done_callback(partial(self._given_up, raw))
                await asyncio.wait({task})

    def _given_up(self, raw: Any, task: asyncio.Task[Any]) -> None:
        """Drop a connection whose TLS was given up; where TLS was up in the same moment the arrival has it."""
        if task.cancelled() or task.exception() is not None:
            self._network.drop(raw)

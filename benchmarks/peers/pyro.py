"""Pyro5: blocking calls over TLS."""

from __future__ import annotations

import statistics
import threading
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor import tls
from benchmarks.serving import ServerProcess


def _configure() -> Any:
    import Pyro5.api

    certificate, key = tls.certificate()
    config = Pyro5.api.config
    config.SSL = True
    config.SSL_REQUIRECLIENTCERT = False
    config.SSL_SERVERCERT, config.SSL_SERVERKEY = certificate, key
    config.SSL_CACERTS = certificate
    return Pyro5.api


async def serve() -> int:
    """Serve one object."""
    api = _configure()

    class Same:
        @api.expose  # type: ignore[untyped-decorator]
        def same(self, value: Any) -> Any:
            return value

    daemon = api.Daemon(host="localhost")
    daemon.register(Same(), "same")
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    port: int = daemon.sock.getsockname()[1]
    return port


class Echo(Contestant):
    """A call."""

    label = "Pyro5"

    async def start(self) -> None:
        api = _configure()
        self._server = ServerProcess("benchmarks.peers.pyro:serve")
        self._proxy = api.Proxy(f"PYRO:same@localhost:{self._server.port}")
        self._proxy.same(0)

    async def round(self) -> float:
        same = self._proxy.same
        times = []
        for _ in range(self.size):
            begun = perf_counter()
            same({"i": 1, "x": "abc"})
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6

    async def stop(self) -> None:
        self._proxy._pyroRelease()
        self._server.close()

"""RPyC: blocking calls over TLS, a thread per connection at the server."""

from __future__ import annotations

import logging
import socket
import statistics
import threading
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor import tls
from benchmarks.serving import ServerProcess
from benchmarks.start import Script


async def serve() -> int:
    """Serve with a ThreadedServer."""
    import rpyc
    from rpyc.utils.authenticators import SSLAuthenticator
    from rpyc.utils.server import ThreadedServer

    class Service(rpyc.Service):  # type: ignore[misc]  # untyped
        def exposed_same(self, value: Any) -> Any:
            return value

    server = ThreadedServer(
        Service(),
        hostname="127.0.0.1",
        port=0,
        authenticator=SSLAuthenticator(*tls.certificate()),
        logger=logging.getLogger("benchmarks"),
    )
    threading.Thread(target=server.start, daemon=True).start()
    port: int = server.port
    return port


class Connected(Contestant):
    """With a connection."""

    label = "RPyC"

    async def start(self) -> None:
        import rpyc

        self._server = ServerProcess("benchmarks.peers.rpyc:serve")
        plain = socket.create_connection(("127.0.0.1", self._server.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = rpyc.SocketStream(tls.client_context().wrap_socket(plain))
        self._connection = rpyc.connect_stream(stream)

    async def stop(self) -> None:
        self._connection.close()
        self._server.close()


class Echo(Connected):
    """A call, with a tuple: a dict would stay there and be asked for each item."""

    async def round(self) -> float:
        same = self._connection.root.same
        times = []
        for _ in range(self.size):
            begun = perf_counter()
            same((1, "abc"))
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6


class Calls(Connected):
    """Asynchronous calls, all in flight."""

    async def round(self) -> float:
        import rpyc

        same = rpyc.async_(self._connection.root.same)
        begun = perf_counter()
        for each in [same(value) for value in range(self.size)]:
            result = each.value
        assert result == self.size - 1
        return self.size / (perf_counter() - begun)


class Client(Script):
    """A classic server and one call."""

    label = "RPyC"
    encrypted = False
    text = """
import socket, subprocess, sys, time
import rpyc
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
server = subprocess.Popen([sys.executable, "-c", "from rpyc.utils.classic import DEFAULT_SERVER_PORT; from rpyc.utils.server import ThreadedServer; from rpyc.core import SlaveService; ThreadedServer(SlaveService, hostname='127.0.0.1', port=%d).start()" % port], stderr=subprocess.DEVNULL)
while True:
    try:
        connection = rpyc.classic.connect("127.0.0.1", port)
        break
    except OSError:
        time.sleep(0.005)
assert connection.eval("1 + 2") == 3
print("done", flush=True)
server.terminate()
"""

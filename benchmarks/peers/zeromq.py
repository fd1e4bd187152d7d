"""pyzmq with pickle, not encrypted."""

from __future__ import annotations

import pickle
import statistics
import threading
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.serving import ServerProcess


async def echo() -> int:
    """Serve with a ROUTER."""
    import zmq

    router: Any = zmq.Context.instance().socket(zmq.ROUTER)
    port: int = router.bind_to_random_port("tcp://127.0.0.1")

    def serve() -> None:
        while True:
            who, data = router.recv_multipart()
            router.send_multipart([who, pickle.dumps(pickle.loads(data), 5)])

    threading.Thread(target=serve, daemon=True).start()
    return port


async def pull() -> int:
    """Serve with a PULL; answers to the last of so many on a PUSH, at the next port."""
    import zmq

    context: Any = zmq.Context.instance()
    pulling, pushing = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    while True:
        port: int = pulling.bind_to_random_port("tcp://127.0.0.1")
        try:
            pushing.bind(f"tcp://127.0.0.1:{port + 1}")
            break
        except zmq.ZMQError:
            pulling.unbind(f"tcp://127.0.0.1:{port}")

    def serve() -> None:
        left = 0
        while True:
            message = pickle.loads(pulling.recv())
            left = message if type(message) is int else left - 1
            if not left:
                pushing.send(b"done")

    threading.Thread(target=serve, daemon=True).start()
    return port


class Echo(Contestant):
    """DEALER and ROUTER."""

    label = "ZeroMQ"
    encrypted = False

    async def start(self) -> None:
        import zmq

        self._server = ServerProcess("benchmarks.peers.zeromq:echo")
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.connect(f"tcp://127.0.0.1:{self._server.port}")

    async def round(self) -> float:
        times = []
        for _ in range(self.size):
            begun = perf_counter()
            self._socket.send(pickle.dumps({"i": 1, "x": "abc"}, 5))
            pickle.loads(self._socket.recv())
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6

    async def stop(self) -> None:
        self._socket.close(0)
        self._server.close()


class PushPull(Contestant):
    """PUSH and PULL."""

    label = "ZeroMQ"
    encrypted = False

    async def start(self) -> None:
        import zmq

        self._server = ServerProcess("benchmarks.peers.zeromq:pull")
        context: Any = zmq.Context.instance()
        self._push: Any = context.socket(zmq.PUSH)
        self._push.set_hwm(0)
        self._push.connect(f"tcp://127.0.0.1:{self._server.port}")
        self._pull: Any = context.socket(zmq.PULL)
        self._pull.connect(f"tcp://127.0.0.1:{self._server.port + 1}")

    async def round(self) -> float:
        send = self._push.send
        begun = perf_counter()
        send(pickle.dumps(self.size, 5))
        for i in range(self.size):
            send(pickle.dumps({"i": i, "x": "abc"}, 5))
        self._pull.recv()
        return self.size / (perf_counter() - begun)

    async def stop(self) -> None:
        self._push.close(0)
        self._pull.close(0)
        self._server.close()

"""A server process for floors and peers: ``python -m benchmarks.serving module:function``.

The function is a coroutine function that begins to serve and returns the port, or several. It is printed; the process ends with stdin.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

from benchmarks.worker import named


class ServerProcess:
    """Such a process, seen from the one that starts it. What it serves is named by ``module:function``."""

    def __init__(self, what: str, *arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving", what, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{what} does not serve")
        self.ports = [int(port) for port in line.split()]
        self.port = self.ports[0]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


async def serve(what: str, *arguments: str) -> None:
    """Serve until stdin ends."""
    print(await named(what)(*arguments), flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        _runner.run(serve(*sys.argv[1:]))

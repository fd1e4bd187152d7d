"""What the fault tests ship."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any


async def echo(client: Any, coro: Any = None) -> None:
    """Send back whatever comes, until None comes."""
    while (message := await coro.receive()) is not None:
        client.send(message)


async def block(seconds: float) -> str:
    """Stand still, and the whole process with it."""
    time.sleep(seconds)
    return "blocked"


async def sleepy(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    return value


async def hang(coro: Any = None) -> None:
    await coro.suspend()


async def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    await asyncio.sleep(60)


async def own_pid() -> int:
    return os.getpid()


async def deaf(seconds: float = 3600.0) -> None:
    """Never receive."""
    await asyncio.sleep(seconds)


async def big(size: int) -> bytes:
    return bytes(size)


async def flood(client: Any, count: int, size: int) -> str:
    """Send as fast as it goes, never waiting for anything."""
    from discoro.errors import MailboxFull

    try:
        for _ in range(count):
            client.send(bytes(size))
    except MailboxFull:
        return "full"
    return "sent"


async def deliver_to(peer: Any, count: int, size: int, coro: Any = None) -> int:
    """Deliver to another one; receive nothing."""
    done = 0
    for _ in range(count):
        done += await peer.deliver(bytes(size), timeout=0.5)
    return done


async def meet(coro: Any = None) -> int:
    """Get a peer, and deliver to it while it delivers to us; nobody receives until both have given up."""
    peer, count, size = await coro.receive()
    done = 0
    for _ in range(count):
        done += await peer.deliver(bytes(size), timeout=0.4)
    got = 0
    while await coro.receive(timeout=2.0) is not None:
        got += 1
    return done - got if peer is None else done * 1_000_000 + got


async def count_messages(count: int, coro: Any = None) -> int:
    """Receive so many numbers, and see that they come in order."""
    for expected in range(count):
        number = await coro.receive()
        assert number == expected, (number, expected)
    return count


async def census(coro: Any = None) -> dict[str, int]:
    """What this server holds: coroutines, lanes, peers, tasks, threads, descriptors, memory."""
    import gc
    import threading

    import psutil

    await asyncio.sleep(0.05)
    gc.collect()
    scheduler = coro.scheduler
    network = scheduler.network
    process = psutil.Process()
    return {
        "coroutines": len(scheduler.coros),
        "numbers": len(scheduler.by_number),
        "granted": network.budget.given,
        "holders": sum(map(len, network.inbound._holders.values())),
        "peers": len(network.peers),
        "tasks": len(asyncio.all_tasks()),
        "computations": scheduler.network.server.counts()["computations"],
        "threads": threading.active_count(),
        "descriptors": process.num_fds(),
        "children": len(process.children()),
        "memory": process.memory_info().rss,
    }


async def remember_values(size: int) -> bytes:
    return os.urandom(8) * (size // 8)


async def grow(step: int) -> None:
    """Take more and more memory, politely."""
    taken = []
    while True:
        taken.append(bytearray(step))
        await asyncio.sleep(0)


async def take(size: int) -> int:
    """Take it all at once, in C code that keeps Python's lock."""
    return len(bytearray(size))


async def seize(count: int) -> int:
    """Keep Python's lock in C code: no thread of the process runs."""
    return sum(range(count))


def spin() -> None:
    while True:
        pass


class Hangs:
    """Its unpickling does not end."""

    def __reduce__(self) -> Any:
        return spin, ()


class Swells:
    """A few bytes that become very many."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return bytearray, (self.size,)


async def receive_one(coro: Any = None) -> Any:
    return Hangs, Swells, await coro.receive()


async def echo_to_the_end(client: Any, path: str, coro: Any = None) -> None:
    """Send back whatever comes; leave a file when this ends, however that is."""
    try:
        while True:
            client.send(await coro.receive())
    finally:
        open(path, "w").close()


async def take_descriptors(client: Any, coro: Any = None) -> str:
    """Open files until there are no descriptors left, and hold them until a message comes."""
    held = []
    try:
        while True:
            held.append(open(os.devnull, "rb"))  # noqa: SIM115
    except OSError as error:
        client.send(error.strerror)
    await coro.receive()
    for file in held:
        file.close()
    return "released"


async def end_badly(how: str) -> None:
    """Take this process, or only this coroutine, to a bad end."""
    import ctypes

    if how == "segfault":
        ctypes.string_at(0)
    elif how == "_exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    elif how == "fork":
        if os.fork() == 0:
            time.sleep(60)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "memory":
        bytearray(1 << 60)
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}.get(how, ValueError)(how)

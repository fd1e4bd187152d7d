"""What the acceptance tests ship: generator functions and coroutine functions, as users write them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from discoro import Channel, Coro, Scheduler

seen: list[Any] = []


def add(a: int, b: int = 10, *, c: int = 0) -> Any:
    yield None
    return a + b + c


async def multiply(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a * b


async def compute_until(path: str) -> str:
    """Hold the server, as a long computation does, until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.001)
    return path


def fail(text: str) -> Any:
    yield None
    raise ValueError(text)


class Odd(Exception):
    """An exception of the client's own, with data."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text, number)
        self.number = number


async def fail_oddly(number: int) -> None:
    raise Odd("odd", number)


def echo(client: Any, coro: Any = None) -> Any:
    """Send back whatever comes, until None comes."""
    while True:
        message = yield coro.receive()
        if message is None:
            return "done"
        client.send(message)


async def gather_messages(count: int, coro: Any = None) -> list[Any]:
    return [await coro.receive() for _ in range(count)]


async def wait(coro: Any = None) -> Any:
    """Wait for one message and return it."""
    return await coro.receive()


async def hang(client: Any = None, coro: Any = None) -> None:
    """Wait for ever; say so first, and say at the end how it went."""
    if client is not None:
        client.send("here")
    try:
        await coro.suspend()
    finally:
        if client is not None:
            client.send("ended")


async def flood(client: Any, count: int, ending: str = "return") -> Any:
    """Send many messages and end."""
    for number in range(count):
        client.send(number)
    if ending == "raise":
        raise ValueError("after the flood")
    return "flooded"


async def remember(value: Any) -> list[Any]:
    seen.append(value)
    return seen


def set_up(value: Any) -> None:
    """Called by setup: a plain function."""
    seen.append(value)


def set_up_slowly(value: Any) -> Any:
    """Called by setup: a generator function."""
    yield asyncio.sleep(0.01)
    seen.append(value)


async def set_up_async(value: Any, *, extra: Any = None) -> None:
    await asyncio.sleep(0.01)
    seen.append((value, extra))


def set_up_badly() -> None:
    raise RuntimeError("no good")


def write(path: str, text: str) -> None:
    """Called by close."""
    with open(path, "w") as file:
        file.write(text)


async def where() -> tuple[int, Any]:
    """Which process this is."""
    return os.getpid(), Scheduler.instance().location


async def relay(to: Any, message: Any) -> Any:
    """Deliver a message to somebody, wherever that is."""
    return await to.deliver(message)


async def identity(value: Any) -> Any:
    return value


async def start_inner(coro: Any = None) -> Any:
    """Start a coroutine of one's own and return it."""
    return Coro(wait)


async def keywords(**given: Any) -> dict[str, Any]:
    return given


async def suspended(client: Any, coro: Any = None) -> Any:
    client.send("here")
    return await coro.suspend()


async def block(client: Any, seconds: float) -> str:
    """Hold up the whole process for a while."""
    import time

    client.send("blocking")
    await asyncio.sleep(0.002)  # so that the word goes out
    time.sleep(seconds)
    return "blocked"


async def unsendable(value: Any) -> Any:
    import threading

    return {"deep": [threading.Lock()]}


counted = bytearray()


async def count_in_place(size: int) -> Any:
    """Return something global and big that the next run changes."""
    if len(counted) != size:
        counted[:] = bytes(size)
    counted[:] = bytes([counted[0] + 1]) * size
    return counted


async def make(size: int) -> bytes:
    return bytes(size)


async def make_later(size: int, ending: str, coro: Any = None) -> Any:
    """End with something big once a message comes."""
    await coro.receive()
    if ending == "raise":
        raise ValueError("x" * size)
    return bytes(size)


async def finish(other: Any) -> Any:
    """Wait for somebody else's end; give its kind and length."""
    try:
        return "returned", len(await other.finish())
    except ValueError as error:
        return "ValueError", len(str(error))


async def own_channel(client: Any, coro: Any = None) -> None:
    """Make a channel, tell of it, stay."""
    client.send(Channel("one's own"))
    await coro.suspend()


async def send_sizes(to: Any, sizes: Any) -> None:
    for size in sizes:
        to.send(bytes(size))


async def counts_when_told(coro: Any = None) -> list[Any]:
    """Leave the mailbox alone until resumed; then take everything up to "stop"."""
    await coro.suspend()
    got: list[Any] = []
    while not got or got[-1] != "stop":
        got.append(await coro.receive())
    return got


def _broken() -> Any:
    raise ValueError("not on this side")


class Undecodable:
    """Pickles, and fails where it is unpickled."""

    def __reduce__(self) -> Any:
        return _broken, ()


async def flood_when_told(client: Any, count: int, ending: str, coro: Any = None) -> Any:
    await coro.receive()
    result = await flood(client, count, ending)
    if ending == "terminate":
        await coro.suspend()
    return result


async def finish_and_monitor(other: Any, coro: Any = None) -> Any:
    result = await other.finish(5)
    await coro.monitor(other)
    message = await coro.receive(5)
    return result, message.args[1][0].__name__, message.args[1][1].value


async def tell_of_monitor(client: Any, coro: Any = None) -> None:
    """Tell the client of the one monitor message that comes."""
    message = await coro.receive()
    kind, value = message.args[1]
    client.send((kind.__name__, value.value, isinstance(message.args[0], Coro)))


async def monitor_and_tell(client: Any, observed: Any, coro: Any = None) -> None:
    await coro.monitor(observed)
    client.send("watching")
    await tell_of_monitor(client, coro)


async def is_own(other: Any, coro: Any = None) -> bool:
    return bool(other == coro)


async def is_itself(coro: Any = None) -> bool:
    return await coro.receive() is coro


async def register_when_told(client: Any, coro: Any = None) -> None:
    while (name := await coro.receive()) != "end":
        coro.register(name)


async def locate_and_greet(name: str, timeout: float) -> bool:
    found = await Coro.locate(name, timeout=timeout)
    if found is None:
        return False
    return await found.deliver("greetings") == 1


async def touch_at_end(path: str, seconds: float) -> None:
    """Say in a file how it ended."""
    how = "cancelled"
    try:
        await asyncio.sleep(seconds)
        how = "returned"
    finally:
        with open(path, "w") as file:
            file.write(how)


async def note(number: int | None) -> Any:
    """Keep what was run, to see whether anything ran twice."""
    if number is None:
        return seen
    seen.append(number)
    return number


async def kill_own_process() -> None:
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


async def host_channel(name: str, count: int, coro: Any = None) -> list[Any]:
    """Make a channel that others can find, and listen to it."""
    channel = Channel(name)
    channel.register()
    await channel.subscribe(coro)
    return [await coro.receive() for _ in range(count)]


async def subscribe_and_wait(channel: Any, coro: Any = None) -> Any:
    await channel.subscribe(coro)
    return await coro.receive()


async def host_and_close(name: str, coro: Any = None) -> str:
    channel = Channel(name)
    channel.register()
    await coro.receive()
    channel.close()
    return "closed"


def _die() -> None:
    os._exit(3)


class Deadly:
    """Ends the process in which it is unpickled."""

    def __reduce__(self) -> Any:
        return _die, ()


async def raise_base(name: str) -> None:
    raise {
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
    }[name]("raised by the coroutine")


async def register_and_wait(name: str, coro: Any = None) -> Any:
    """Stay after the client has gone; the code must stay as well."""
    coro.register(name)
    message = await coro.receive()
    seen.append(message)
    return message, len(seen)


def leave(how: Any, coro: Any = None) -> Any:
    """Do what ends a process, anywhere else."""
    yield coro.sleep(0.01)
    raise how("by the user's code")


KEPT: list[Any] = []
_SIZE = 3 << 20


async def note_lent() -> None:
    """From now on note of each big result whether its memory was lent, not copied."""
    from discoro.peers.big import BigMessages

    post = BigMessages.post_result
    noted: list[bool] = []

    def noting(self: Any, *args: Any, lent: bool = False) -> None:
        noted.append(lent)
        post(self, *args, lent=lent)

    def forget() -> list[bool]:
        BigMessages.post_result = post  # type: ignore[method-assign]
        return noted

    noting.forget = forget  # type: ignore[attr-defined]
    BigMessages.post_result = noting  # type: ignore[method-assign]


async def lent() -> list[bool]:
    """What was noted; nothing is from now on."""
    from discoro.peers.big import BigMessages

    noted: list[bool] = BigMessages.post_result.forget()  # type: ignore[attr-defined]
    return noted


async def fresh(how: str) -> Any:
    """Return what nobody else has, or somebody has, in one of several ways."""
    import numpy

    if how == "after a wait":
        await asyncio.sleep(0.01)
    array = numpy.zeros(_SIZE, "u1")
    match how:
        case "in containers":
            return array, {"more": [bytearray(_SIZE), 5, "text"]}
        case "somebody has it":
            KEPT.append(array)
        case "somebody has a part":
            KEPT.append(array[5:])
        case "somebody has what is in it":
            KEPT.append(array)
            return [array]
        case "somebody can find it":
            import weakref

            KEPT.append(weakref.ref(array))
        case "of a class":
            return array.view(numpy.matrix)
    return array


def fresh_of_a_generator() -> Any:
    """The same of a generator."""
    yield
    return bytearray(_SIZE)


async def awaited(coro: Any = None) -> Any:
    """Return what another coroutine of this process waits for."""

    async def wait(run: Any) -> None:
        await run

    Coro(wait, coro)
    await asyncio.sleep(0.01)
    return bytearray(_SIZE)


async def changed_afterwards() -> bytearray:
    """Return what another coroutine changes at once."""
    data = bytearray(_SIZE)

    async def change() -> None:
        data[:] = bytes([1]) * _SIZE

    Coro(change)
    return data

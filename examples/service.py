"""A function that others call by name, and a monitor that hears how each call ends.

``python service.py serve`` in one terminal, ``python service.py`` in another: no code travels, only the call.
"""

import sys

from discoro import OWN, RCI, Coro, run


def divide(a, b, coro=None):
    """Runs where it is registered; gets messages as any coroutine does."""
    word = yield coro.receive()
    return f"{word}: {a // b}"


async def serve(coro: Coro = OWN):
    RCI(divide).register()
    print("divide is registered; Ctrl-C ends it", flush=True)
    await coro.suspend()


async def watch(count, coro: Coro = OWN):
    """Gets one message for the end of each call."""
    ends = [await coro.receive() for _ in range(count)]
    for end in sorted(ends, key=lambda end: end.type.__name__):
        if end.type is StopIteration:
            print("returned", end.value.value)
        else:
            print("failed with", end.value)


async def call():
    rci = await RCI.locate("divide")
    watcher = Coro(watch, 2)
    await rci.monitor(watcher)
    for b in (4, 0):
        coro = await rci(12, b)
        coro.send(f"12 / {b}")
    await watcher


if __name__ == "__main__":
    try:
        run(serve if sys.argv[1:] == ["serve"] else call)
    except KeyboardInterrupt:
        print("ended")

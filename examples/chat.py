"""Chat between terminals: ``python chat.py room`` in one, ``python chat.py NAME`` in the others; an empty line leaves.

The room is a channel that the terminals find by its name; each subscribes, and sends what is typed.
"""

import sys

from discoro import OWN, Channel, Coro, run, to_thread


def shown(channel, message):
    """What subscribers get of a message; None drops it."""
    name, text = message
    return None if text.isupper() else f"{name}: {text}"


async def room(coro: Coro = OWN):
    Channel("chat", transform=shown).register()
    print("the room is open; Ctrl-C closes it", flush=True)
    await coro.suspend()


async def show(coro: Coro = OWN):
    while True:
        print(await coro.receive(), flush=True)


async def talk(name):
    channel = await Channel.locate("chat")
    listener = Coro(show)
    await channel.subscribe(listener)
    await channel.deliver((name, "is here"))
    while line := (await to_thread(sys.stdin.readline)).strip():
        await channel.deliver((name, line))
    await channel.unsubscribe(listener)
    await channel.deliver((name, "has left"))


if __name__ == "__main__":
    try:
        run(*([room] if sys.argv[1:] == ["room"] else [talk, sys.argv[1]]))
    except KeyboardInterrupt:
        print("closed")

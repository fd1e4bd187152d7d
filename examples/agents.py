"""Agents on two servers find each other by name and talk directly; their client only starts them.

Start ``python -m discoro -c 2`` first.
"""

from discoro import Computation, Coro, Scheduler, run


def agent(name, friend_name, client, coro=None):
    """Runs on a server."""
    coro.register(name)
    friend = yield Coro.locate(friend_name)
    yield friend.deliver(f"hello, I am {name}")
    message = yield coro.receive()
    yield client.deliver(f"{name} was told: {message}")


def main(coro=None):
    computation = Computation(agent)
    names = [("alice", "bob"), ("bob", "alice")]
    Scheduler.instance().peer_status(lambda name, where, here: here and coro.send(where))
    for pair in names:
        server = yield coro.receive()
        yield computation.setup(server)
        yield computation.run(server, *pair, coro)
    words = []
    while len(words) < len(names):
        word = yield coro.receive()
        words += [word] if isinstance(word, str) else []
    print(*sorted(words), sep="\n")


run(main)

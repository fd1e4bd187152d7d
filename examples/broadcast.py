"""One message to everybody: a channel here, and a subscriber on each of two servers.

Start ``python -m discoro -c 2`` first. ``deliver(n=2)`` waits until two have subscribed, and says how many have the message.
"""

from discoro import Channel, Computation, Scheduler, run


def listener(channel, client, coro=None):
    """Runs on a server: hears what is sent over the channel."""
    yield channel.subscribe(coro)
    heard = []
    while (message := (yield coro.receive())) != "END":
        heard.append(message)
    yield client.deliver(heard)


def main(coro=None):
    channel = Channel("news", transform=lambda name, message: message.upper())
    computation = Computation(listener)
    servers = []
    Scheduler.instance().peer_status(lambda name, location, here: here and coro.send(location))
    while len(servers) < 2:
        server = yield coro.receive()
        yield computation.setup(server)
        yield computation.run(server, channel, coro)
        servers.append(server)
    for message in ("first", "second"):
        count = yield channel.deliver(message, n=2)
        print(f"{message}: {count} have it")
    channel.send("end")
    for _ in servers:
        print("heard", (yield coro.receive()))


run(main)

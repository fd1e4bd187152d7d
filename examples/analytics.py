"""Live analytics: numbers are streamed to an analyser on a server; averages and alarms come back while they flow.

Start ``python -m discoro`` first. ``send`` never waits; ``deliver`` does, so the source keeps the pace of the analyser.
"""

import math

from discoro import Computation, Coro, run


def analyse(window, limit, client, coro=None):
    """Runs on a server: a rolling average of what comes, and an alarm above the limit."""
    values = []
    while (value := (yield coro.receive())) is not None:
        values = [*values, value][-window:]
        average = sum(values) / len(values)
        if average > limit:
            client.send(("alarm", round(average, 3)))
    client.send(("end", len(values)))


def source(analyser, count):
    for step in range(count):
        yield analyser.deliver(math.sin(step / 50))
    analyser.send(None)


def main(coro=None):
    server = yield Coro.locate("discoro_server")
    computation = Computation(analyse)
    yield computation.setup(server)
    analyser = yield computation.run(server, 10, 0.995, coro)
    Coro(source, analyser, 1000)
    alarms = []
    while True:
        kind, value = yield coro.receive()
        if kind == "end":
            break
        alarms.append(value)
    print(f"{len(alarms)} alarms, the highest {max(alarms)}")


run(main)

"""A program runs on a server; its output arrives here line by line, while it runs.

Start ``python -m discoro`` first. ``deliver`` waits until the line is in our mailbox: a program that prints without end is held
up by a client that does not keep up.
"""

import subprocess
import sys

from discoro import AsyncPipe, Computation, Coro, run


def execute(command, client):
    """Runs on a server."""
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pipe = AsyncPipe(program)
    while line := (yield pipe.readline()):
        yield client.deliver(line.decode())
    yield client.deliver(None)
    return (yield pipe.wait())


def main(coro=None):
    command = sys.argv[1:] or [
        "sh",
        "-c",
        "for n in 1 2 3; do echo line $n; sleep 0.1; done; exit 7",
    ]
    server = yield Coro.locate("discoro_server")
    computation = Computation(execute)
    yield computation.setup(server)
    program = yield computation.run(server, command, coro)
    while (line := (yield coro.receive())) is not None:
        print(line, end="", flush=True)
    print("exit status", (yield program.finish()))


run(main)

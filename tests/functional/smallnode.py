"""A node whose servers obey lines of text over TCP: the command and its parent without coroutines and sessions.

Run as a script it is ``python -m discoro`` with that program. It listens for real, prints, dies, blocks, and counts.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import time

from discoro.cli.main import main
from discoro.node import console
from discoro.node.childchannel import Channel
from discoro.node.serverprocess import run_server
from discoro.node.settings import ServerSettings

NEVER_READY = "SMALLNODE_NEVER_READY"


class Small:
    """One small server."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.jobs = 0
        self.children: list[subprocess.Popen[bytes]] = []

    async def job(self, seconds: float) -> None:
        self.jobs += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.jobs -= 1

    async def obey(self, verb: str, words: list[str]) -> object:
        if verb == "pid":
            return os.getpid()
        if verb == "settings":
            return json.loads(self.settings.to_json())
        if verb == "where":
            return {"cwd": os.getcwd(), "environ": dict(os.environ), "argv": sys.argv}
        if verb == "kill":
            os.kill(os.getpid(), int(words[0]))
        elif verb == "exit":
            os._exit(int(words[0]))
        elif verb == "block":
            time.sleep(float(words[0]))
        elif verb == "seize":  # Python's lock
            ctypes.PyDLL(None).sleep(int(words[0]))
        elif verb == "job":
            self.task = asyncio.create_task(self.job(float(words[0])))
        elif verb == "print":
            console.speaker.set(words[0])
            print(*words[1:])
        elif verb == "cprint":
            libc = ctypes.CDLL(None)
            libc.puts(words[0].encode())
            libc.fflush(None)
        elif verb == "spawn":
            self.children.append(subprocess.Popen(["sleep", "1000"]))
            return self.children[-1].pid
        elif verb == "fork":
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
                os._exit(0)
            return pid
        return "done"

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode().split():
            answer = await self.obey(line[0], line[1:])
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


async def serve(settings: ServerSettings, listeners: list[socket.socket], channel: Channel) -> None:
    if os.path.exists(os.environ.get(NEVER_READY, "/nonexistent")):
        raise SystemExit(3)
    small = Small(settings)
    for listener in listeners:
        await asyncio.start_server(small.connection, sock=listener)
    counting = asyncio.create_task(channel.report_counts(lambda: {"coroutines": small.jobs}))
    channel.report("ready", id="00" * 16)
    await channel.drain.wait()
    while small.jobs and not channel.terminate.is_set():
        await asyncio.sleep(0.01)
    counting.cancel()


class SmallProgram:
    answers_for_dead = False

    def preload(self) -> None:
        pass

    def run(
        self, channel: socket.socket, lifeline: socket.socket, listeners: list[socket.socket]
    ) -> int:
        return run_server(channel, lifeline, listeners, serve)

    def command(self, name: str) -> list[str]:
        return [sys.executable, __file__, "server"]


def server() -> int:
    channel, lifeline = (socket.socket(fileno=int(text)) for text in sys.argv[2:4])
    listeners = [socket.socket(fileno=int(text)) for text in sys.argv[4].split(",") if text]
    return run_server(channel, lifeline, listeners, serve)


if __name__ == "__main__":
    sys.exit(server() if sys.argv[1:2] == ["server"] else main(program=SmallProgram()))

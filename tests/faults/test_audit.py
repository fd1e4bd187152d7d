"""What a node shows of itself: its listening sockets, and nothing of its secret."""

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from discoro import Computation, Location, Scheduler
from discoro.errors import DiscoroError
from discoro.transport.credentials import Credentials
from discoro.transport.secret import Secret
from tests.faults import faultjobs
from tests.functional.nodes import REAL, NodeProcess, ended_at_last, until
from tests.kit import run_async
from tests.processes import World, free_port

SECRET = "a secret of somebody 4711"


def listening(pids: set[int]) -> set[tuple[int, str]]:
    """Inode and address (as in /proc) of the listening TCP sockets of these processes."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
            except FileNotFoundError:
                continue
            if found:
                inodes.add(int(found[1]))
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[9]) in inodes:
                sockets.add((int(fields[9]), fields[1].rpartition(":")[0]))
    return sockets


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def everybody(node: NodeProcess) -> set[int]:
    parent = psutil.Process(node.process.pid)
    return {parent.pid, *(child.pid for child in parent.children(recursive=True))}


def test_without_a_secret_every_listening_socket_is_loopback(tmp_path: Path) -> None:
    """Also of a server that was started anew, and of children of user code; found by inode, not by what we say."""
    node = NodeProcess(tmp_path, "-u", str(free_port()), "-c", "2", command=REAL)
    with ended_at_last(node):
        node.ready()
        first = node.server(0)["pid"]
        os.kill(first, signal.SIGKILL)
        until(
            lambda: (
                node.server(0)["pid"] not in (0, None, first)
                and node.server(0)["state"] == "running"
            )
        )
        found = listening(everybody(node))
        assert len(found) >= 2
        assert {address for _, address in found} <= LOOPBACK, found
        secret = (tmp_path / "discoro/secret").read_text().strip()
        derived = Secret(secret).prs
        for pid in everybody(node):
            for name in ("cmdline", "environ"):
                shown = Path(f"/proc/{pid}/{name}").read_bytes()
                assert secret.encode() not in shown and derived.hex().encode() not in shown
        node.process.terminate()
        assert node.ends() == 0


def test_the_secret_is_in_no_argument_environment_or_log_of_a_node_at_debug_level(
    own: World,
) -> None:
    folder = own.folder / "state"
    folder.mkdir()
    file = own.folder / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    options = (
        "-u",
        str(own.udp_port),
        "-c",
        "1",
        "-d",
        "--secret-file",
        str(file),
        "-i",
        "127.0.0.1",
    )
    node = NodeProcess(folder, *options, command=REAL)
    needles = [SECRET, Secret(SECRET).prs.hex(), repr(Secret(SECRET).prs)[2:-1]]

    async def use() -> None:
        where = Location("127.0.0.1", node.server(0)["addresses"][0][1])
        async with own.scheduler(secret=SECRET):
            computation: Computation[Any, Any] = Computation(faultjobs.sleepy)
            await computation.setup(where)
            assert await (await computation.run(where, 0, 1)) == 1
        async with own.scheduler(secret="wrong wrong wrong"):
            with pytest.raises(DiscoroError):
                await Computation(faultjobs.sleepy).setup(where, timeout=5)

    with ended_at_last(node):
        node.ready()
        run_async(use)
        os.kill(node.server(0)["pid"], signal.SIGKILL)
        until(lambda: node.server(0)["state"] == "running")
        for pid in everybody(node):
            for name in ("cmdline", "environ"):
                shown = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
                assert not any(needle in shown for needle in needles)
        node.process.terminate()
        assert node.ends() == 0
    assert not any(needle in node.text for needle in needles)
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            assert not any(needle in text for needle in needles), path


def test_the_secret_is_in_no_repr_traceback_pickle_or_log_of_a_program(
    own: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Secret(SECRET)
    needles = [SECRET, secret.prs.hex(), repr(secret.prs)[2:-1]]
    said: list[str] = []

    async def main() -> None:
        async with own.scheduler(secret=SECRET, tcp_port=0) as scheduler:
            network = scheduler.network
            await network.publish()
            things = [scheduler, network, network.options, network.requests, network._endpoint]
            said.extend(repr(thing) for thing in things)
            said.append(str(vars(network.options) if hasattr(network.options, "__dict__") else ""))
            async with own.scheduler(secret="wrong wrong wrong") as other:
                try:
                    await other.peer(scheduler.location, timeout=5)
                except DiscoroError as error:
                    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                    said.extend(shown.format())

    run_async(main)
    credentials = Credentials(secret, "default")
    said += [repr(secret), str(secret), f"{secret}", repr(credentials), caplog.text]
    text = "\n".join(said)
    assert not any(needle in text for needle in needles)
    for thing in (secret, credentials):
        try:
            pickled = pickle.dumps(thing)
        except Exception:
            continue
        assert SECRET.encode() not in pickled and secret.prs not in pickled
    with pytest.raises(TypeError) as caught:
        Scheduler(secret=SECRET, no_such_option=1)  # type: ignore[call-arg]
    assert SECRET not in str(caught.value)

"""What the kernel says about a connection whose process does not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from discoro.transport import kernel
from discoro.transport.limits import Limits

LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
time.sleep(60)
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")


@linux
def test_the_kernel_of_a_stopped_process_answers() -> None:
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGSTOP)
            with socket.create_connection(("127.0.0.1", port)) as sock:
                kernel.prepare(sock, Limits())
                sock.sendall(b"are you there?")
                deadline = time.monotonic() + 5
                while not kernel.answers(sock, 1.0) and time.monotonic() < deadline:
                    time.sleep(0.005)
                assert kernel.answers(sock, 1.0)
                assert kernel.bytes_heard(sock) == 0
        finally:
            process.kill()


@linux
def test_bytes_heard_counts_what_nobody_has_read() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
    ):
        far, _ = server.accept()
        with far:
            far.sendall(b"x" * 1000)
            deadline = time.monotonic() + 5
            while kernel.bytes_heard(near) != 1000 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert kernel.bytes_heard(near) == 1000


def test_a_socket_that_is_gone_does_not_answer() -> None:
    sock = socket.socket()
    sock.close()
    assert not kernel.answers(sock, 1.0) and kernel.bytes_heard(sock) is None
    assert not kernel.answers(None, 1.0)
    kernel.prepare(sock, Limits())


@linux
def test_probes_are_set_as_the_limits_say() -> None:
    with socket.socket() as sock:
        kernel.prepare(sock, Limits())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == Limits().probe_idle
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == Limits().probe_count

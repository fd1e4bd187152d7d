"""Sockets, pipes, thread pools and the small things of the old systems."""

from __future__ import annotations

import asyncio
import io
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from discoro import Scheduler
from discoro.compat import asyncoro, pycos
from discoro.compat.pycos import asyncfile
from discoro.compat.toolkit import Struct
from tests.kit import run_async


def pair() -> tuple[Any, Any]:
    return tuple(asyncoro.AsyncSocket(end) for end in socket.socketpair())  # type: ignore[return-value]


def listening(**tls: Any) -> Any:
    sock = asyncoro.AsyncSocket(socket.socket(), **tls)
    sock.bind(("127.0.0.1", 0))
    sock.listen(5)
    return sock


async def connected(address: Any, **tls: Any) -> Any:
    sock = asyncoro.AsyncSocket(socket.socket(), **tls)
    try:
        assert await sock.connect(address) == 0
    except OSError:
        sock.close()
        raise
    return sock


def inside(function: Any, *args: Any) -> Any:
    """Run a coroutine function or generator function in a scheduler."""

    async def main() -> Any:
        async with Scheduler() as scheduler:
            return await scheduler.spawn(function, args)

    return run_async(main)


def test_bytes_and_messages_cross_a_pair_of_sockets() -> None:
    def talk(coro: Any = None) -> Any:
        here, there = pair()
        with here, there:
            assert (yield here.send(b"one")) == 3
            assert (yield there.recv(10)) == b"one"
            reading = coro.scheduler.spawn(whole, (there, 3_000_000))
            assert (yield here.sendall(bytes(3_000_000))) == 0
            assert (yield reading) == 3_000_000
            yield here.send_msg(b"message")
            yield here.send_msg(b"")
            assert (yield there.recv_msg()) == b"message"
            assert (yield there.recv_msg()) == b""
            assert sorted([here, there]) and here.fileno() > 0
            here.close()
            assert (yield there.recv_msg()) == b""
            assert (yield there.recvall(3)) == b""

    def whole(sock: Any, size: int) -> Any:
        data = yield sock.recvall(size)
        return len(data)

    inside(talk)


def test_a_timeout_raises_or_gives_what_there_is() -> None:
    def talk() -> Any:
        here, there = pair()
        with here, there:
            there.settimeout(0.02)
            assert there.gettimeout() == 0.02
            with pytest.raises(socket.timeout):
                yield there.recv(10)
            with pytest.raises(socket.timeout):
                yield there.recvall(10)
            yield here.send(b"some")
            assert (yield there.recvall(10)) == b"some"
            there.settimeout(None)
            here.settimeout(0.05)
            sent = yield here.sendall(bytes(50_000_000))
            assert 0 < sent < 50_000_000

    inside(talk)


def test_closing_a_socket_wakes_who_waits_for_it() -> None:
    async def main(coro: Any = None) -> None:
        here, there = pair()
        waiting = asyncio.ensure_future(there.recv(10))
        await asyncio.sleep(0.01)
        there.close()
        with pytest.raises(OSError, match="closed"):
            await waiting
        here.close()
        here, there = pair()
        waiting = asyncio.ensure_future(here.recv(10))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        there.close()
        assert here.unwrap().fileno() > 0
        here.close()

    inside(main)


def test_connections_are_accepted_and_refused() -> None:
    async def main(coro: Any = None) -> None:
        server = listening()
        accepting = asyncio.ensure_future(server.accept())
        client = await connected(("localhost", server.getsockname()[1]))
        connection, address = await accepting
        assert isinstance(connection, asyncoro.AsyncSocket)
        assert address == client.getsockname()
        port = server.getsockname()[1]
        for sock in (client, connection, server):
            sock.close()
        with pytest.raises(ConnectionRefusedError):
            await connected(("127.0.0.1", port))
        other = listening()
        client = asyncoro.AsyncSocket(socket.socket())
        made = client.create_connection(
            other.getsockname(), timeout=5, source_address=("127.0.0.1", 0)
        )
        assert await made == 0
        assert client.gettimeout() == 5
        client.close()
        other.close()

    inside(main)


def test_datagrams() -> None:
    def talk() -> Any:
        server = asyncoro.AsyncSocket(socket.socket(type=socket.SOCK_DGRAM))
        server.bind(("127.0.0.1", 0))
        client = asyncoro.AsyncSocket(socket.socket(type=socket.SOCK_DGRAM))
        assert (yield client.sendto(b"x", server.getsockname())) == 1
        data, address = yield server.recvfrom(10)
        assert data == b"x"
        yield server.sendto(b"y", address)
        assert (yield client.recvfrom(10))[0] == b"y"
        server.close()
        client.close()

    inside(talk)


def test_blocking_sockets_block() -> None:
    here, there = (asyncoro.AsyncSocket(end, blocking=True) for end in socket.socketpair())
    here.send_msg(b"message")
    assert there.recv_msg() == b"message"
    assert here.sendall(b"more") == 0
    assert there.recvall(4) == b"more"
    there.settimeout(0.01)
    with pytest.raises(socket.timeout):
        there.recv(1)
    here.close()
    assert there.recvall(1) == there.recv_msg() == b""
    there.close()
    server = listening(blocking=True)
    client = asyncoro.AsyncSocket(socket.socket(), blocking=True)
    assert client.create_connection is not None
    client.connect(server.getsockname())
    connection, _ = server.accept()
    for sock in (client, connection, server):
        sock.close()
    again = asyncoro.AsyncSocket(asyncoro.AsyncSocket(socket.socket()))
    again.close()
    asyncoro.AsyncSocket.setdefaulttimeout(3)
    fresh = asyncoro.AsyncSocket(socket.socket())
    assert fresh.gettimeout() == asyncoro.AsyncSocket.getdefaulttimeout() == 3
    fresh.close()
    asyncoro.AsyncSocket.setdefaulttimeout(None)
    asyncoro.AsyncSocket.set_ssl_version(asyncoro.AsyncSocket.get_ssl_version())


def certificate(folder: Path) -> dict[str, str]:
    """A self-signed certificate and its key, as both ends had them."""
    keyfile, certfile = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -days 2"
    files = ["-keyout", str(keyfile), "-out", str(certfile)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return {"keyfile": str(keyfile), "certfile": str(certfile)}


def test_tls_with_one_certificate_at_both_ends(tmp_path: Path) -> None:
    ours = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    theirs = certificate(tmp_path / "other")

    async def main(coro: Any = None) -> None:
        server = listening(**ours)
        accepting = asyncio.ensure_future(server.accept())
        client = await connected(server.getsockname(), **ours)
        connection, _ = await accepting
        reading = asyncio.ensure_future(connection.recv_msg())
        await client.send_msg(bytes(1_000_000))
        assert await reading == bytes(1_000_000)
        client.close()
        connection.close()
        accepting = asyncio.ensure_future(server.accept())
        with pytest.raises(OSError):
            await connected(server.getsockname(), **theirs)
        with pytest.raises(OSError):
            await accepting
        server.close()

    inside(main)


# --- pipes and files


def errors_of(program: Any) -> Any:
    program.communicate()
    program.stdin = program.stdout = None
    return asyncfile.AsyncPipe(program)


def popen(*command: str, **ends: Any) -> Any:
    known = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, **{**known, **ends})


def test_pipes_are_written_and_read() -> None:
    def talk() -> Any:
        with asyncfile.AsyncPipe(popen("cat")) as pipe:
            assert (yield pipe.write(b"one\ntwo\nthree", full=True)) == 13
            assert (yield pipe.readline()) == b"one\n"
            assert (yield pipe.readline(size=2)) == b"tw"
            assert pipe.poll() is None
            with pytest.raises(TimeoutError):
                yield pipe.read(timeout=0.01)
            pipe.stdin.close()
            assert (yield pipe.read()) == b"o\nthree"
        assert pipe.wait() == 0
        assert pipe.pid > 0
        errors = asyncfile.AsyncPipe(
            popen("sh", "-c", "echo a >&2; echo b >&2", stderr=subprocess.PIPE)
        )
        assert (yield errors.readline_stderr()) == b"a\n"
        assert (yield errors.read_stderr()) == b"b\n"
        errors.close()
        errors.wait()
        with pytest.raises(ValueError, match="stderr"):
            yield errors_of(popen("true")).read_stderr()

    with pytest.raises(ValueError, match="Popen"):
        asyncfile.AsyncPipe("cat")
    inside(talk)


@pytest.mark.parametrize("source", ["text", b"bytes", "file", "reader", None])
def test_communicate_takes_what_it_took(source: Any) -> None:
    def talk() -> Any:
        given: Any = source
        if source == "file":
            given = tempfile.TemporaryFile()  # noqa: SIM115  # communicate closes it
            given.write(b"from a file")
            given.seek(0)
        elif source == "reader":
            given = Reader()
        pipe = asyncfile.AsyncPipe(popen("cat", stdin=None if source is None else subprocess.PIPE))
        if source is None:
            pipe.terminate()
        out, err = yield pipe.communicate(given)
        return out, err

    class Reader:
        parts = ("from ", b"a reader", "")

        def __init__(self) -> None:
            self._left = list(self.parts)

        def read(self, size: int) -> Any:
            return self._left.pop(0)

        def close(self) -> None:
            pass

    expected = {
        "text": b"text",
        b"bytes": b"bytes",
        "file": b"from a file",
        "reader": b"from a reader",
        None: b"",
    }
    assert inside(talk) == (expected[source], None)


def test_a_program_that_does_not_read_all_is_no_error() -> None:
    def talk() -> Any:
        pipe = asyncfile.AsyncPipe(popen("head", "-c", "3"))
        return (yield pipe.communicate(bytes(1_000_000)))

    assert inside(talk) == (bytes(3), None)


def test_files_by_object_and_by_socket(tmp_path: Path) -> None:
    def talk() -> Any:
        with asyncfile.AsyncFile((tmp_path / "f").open("wb")) as file:
            assert (yield file.write(b"one\ntwo\n", full=True)) == 8
            assert file.name == str(tmp_path / "f")
        with asyncfile.AsyncFile((tmp_path / "f").open("rb")) as file:
            assert (yield file.readlines()) == [b"one\n", b"two\n"]
        here, there = pair()
        one, two = asyncfile.AsyncFile(here), asyncfile.AsyncFile(there)
        yield one.write(b"line\n")
        assert (yield two.readline()) == b"line\n"
        yield one.write(b"12345")
        assert (yield two.read(5, full=True)) == b"12345"
        one.close()
        two.close()

    inside(talk)


# --- the rest


def test_threads_run_what_blocks() -> None:
    pool = pycos.AsyncThreadPool(2)

    def work(coro: Any = None) -> Any:
        assert (yield pool.async_task(sum, [1, 2])) == 3
        assert (yield pool.async_task(dict, args=(), kwargs={"a": 1})) == {"a": 1}
        with pytest.raises(ZeroDivisionError):
            yield pool.async_task(divmod, 1, 0)

    inside(work)
    pool.join()
    pool.terminate()


def test_a_database_cursor_runs_in_a_thread() -> None:
    pool = pycos.AsyncThreadPool(1)

    def work() -> Any:
        database = yield pool.async_task(sqlite3.connect, ":memory:")
        cursor = pycos.AsyncDBCursor(pool, (yield pool.async_task(database.cursor)))
        yield cursor.execute("create table t (n)")
        yield cursor.executemany("insert into t values (?)", [(1,), (2,)])
        yield cursor.execute("select sum(n) from t where n > ?", (0,))
        row = yield pool.async_task(cursor.fetchone)
        with pytest.raises(AttributeError):
            yield cursor.callproc("x")
        yield pool.async_task(database.close)
        return row

    assert inside(work) == (3,)
    pool.terminate()


def test_the_logger_writes_what_its_level_lets_through() -> None:
    stream = io.StringIO()
    with pycos.Logger("test", stream=stream, level=pycos.Logger.WARNING) as logger:
        logger.debug("no")
        logger.info("no")
        logger.warning("yes %s", 1)
        logger.warn("yes")
        logger.setLevel(pycos.Logger.DEBUG)
        logger.show_ms(True)
        logger.debug("100%")
        logger.nolog("no")
        logger.critical("yes")
    lines = stream.getvalue().splitlines()
    assert [line.split(" test - ")[1] for line in lines] == ["yes 1", "yes", "100%", "yes"]
    assert lines[2].split(" test")[0][-4] == "."
    other = pycos.Logger("test")
    other.stream = stream
    assert other.stream is stream
    assert (asyncoro.logger.name, pycos.logger.name) == ("asyncoro", "pycos")


@pytest.mark.parametrize("level", [10, "DEBUG", "debug", asyncoro.Logger.debug])
def test_the_level_of_a_logger_is_a_number_a_name_or_a_method(level: Any) -> None:
    logger = asyncoro.Logger("test", stream=io.StringIO())
    logger.setLevel(level)
    logger.debug("yes")
    assert logger.stream.getvalue().endswith("test - yes\n")


@pytest.mark.parametrize("level", [None, "loud", asyncoro.Logger.setLevel, 1.5])
def test_what_is_no_level_is_refused_where_it_is_given(level: Any) -> None:
    with pytest.raises(ValueError, match=r"Logger\.DEBUG"):
        asyncoro.Logger("test").setLevel(level)


def test_structures_and_single_instances() -> None:
    struct = Struct(a=1)
    struct.a = 2
    assert (struct.a, struct.b) == (2, None)
    with pytest.raises(AttributeError):
        struct.b = 3

    class One(metaclass=pycos.Singleton):
        def __init__(self, n: int) -> None:
            self.n = n

    first = One(1)
    assert One(2) is first
    assert pycos.Singleton.instance(One) is first
    pycos.Singleton.discard(One)
    assert One(2).n == 2
    pycos.Singleton.discard(One)


def test_values_are_serialized_and_back() -> None:
    value = {"a": [1, (2, 3)], "b": b"x"}
    assert pycos.deserialize(pycos.serialize(value)) == value
    assert asyncoro.unserialize(asyncoro.serialize(value)) == value


def test_what_is_no_function_of_one_message_is_no_category() -> None:
    def work(coro: Any = None) -> Any:
        categories = pycos.CategorizeMessages(coro)
        for wrong in (3, len, lambda: 1, lambda a, b: 1):
            categories.add(wrong)
        assert categories._native._functions == []
        categories.remove(len)
        categories.add(lambda message: "x" if message > 1 else None)
        coro.send(1)
        coro.send(2)
        assert (yield categories.recv("x")) == 2
        assert (yield categories.receive()) == 1
        assert (yield categories.receive("x", timeout=0, alarm_value="none")) == "none"

    inside(work)


def test_a_pool_that_can_start_no_thread_takes_those_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(count: int) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("discoro.compat.toolkit.Pool", refused)
    pool = pycos.AsyncThreadPool(1)

    def work() -> Any:
        return (yield pool.async_task(sum, [1, 2]))

    assert inside(work) == 3
    pool.terminate()

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import discoro.statefolder
from discoro.statefolder import (
    NodeRecord,
    ServerRecord,
    StateFolder,
    StateFolderUnusable,
    default_path,
    machine_id,
)

HOME = Path(discoro.statefolder.__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "discoro")).make()


def record(id: str = "a1", **changes: object) -> NodeRecord:
    servers = [ServerRecord("bob-1", [("127.0.0.1", 9700), ("::1", 9700)])]
    known = NodeRecord(id, "bob", "default", 51350, os.getpid(), servers, machine_id())
    return replace(known, **changes)  # type: ignore[arg-type]


def listening(folder: StateFolder, id: str = "a1") -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    with folder.socket_address(id) as address:
        listener.bind(address)
    listener.listen()
    return listener


def test_the_environment_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/my state")
    assert default_path() == "/var/my state/discoro"
    monkeypatch.setenv("HOME", "/home/me")
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_path() == "/home/me/.local/state/discoro"


def test_it_is_closed_to_everybody_else(folder: StateFolder) -> None:
    os.chmod(folder.path, 0o755)
    folder.make()
    for path in (folder.path, folder.nodes_path):
        assert os.stat(path).st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateFolderUnusable, match="XDG_STATE_HOME") as caught:
        StateFolder(str(tmp_path / "file" / "discoro")).make()
    assert caught.value.path.startswith(str(tmp_path))


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StateFolderUnusable, match="belongs to user"):
        StateFolder(str(tmp_path)).make()


def test_the_secret_is_made_once_and_kept_to_its_user(folder: StateFolder) -> None:
    assert folder.read_secret() is None
    assert folder.secret(lambda: "first") == ("first", True)
    assert folder.secret(lambda: "second") == ("first", False)
    assert os.stat(folder.secret_path).st_mode & 0o777 == 0o600
    assert os.listdir(folder.path) == ["nodes", "secret"] or set(os.listdir(folder.path)) == {
        "nodes",
        "secret",
    }


def test_of_processes_that_start_at_once_one_makes_the_secret(folder: StateFolder) -> None:
    code = (
        "import os, sys; from discoro.statefolder import StateFolder;"
        "print(*StateFolder(sys.argv[1]).secret(lambda: str(os.getpid())))"
    )
    command = [sys.executable, "-c", code, folder.path]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=30)[0].split() for process in started]

    assert len({secret for secret, _ in answers}) == 1
    assert [made for _, made in answers].count("True") == 1


def test_an_empty_secret_file_is_an_error_and_not_a_secret(folder: StateFolder) -> None:
    Path(folder.secret_path).touch()
    with pytest.raises(StateFolderUnusable, match="empty"):
        folder.secret(lambda: "new")


def test_a_living_node_is_found_by_cluster_and_port(folder: StateFolder) -> None:
    with listening(folder):
        folder.announce(record())

        assert folder.nodes() == [record()]
        assert folder.nodes(cluster="default", udp_port=51350) == [record()]
        assert folder.nodes(cluster="other") == []
        assert folder.nodes(udp_port=1) == []
        folder.withdraw("a1")
        assert os.listdir(folder.nodes_path) == []


def test_what_a_dead_node_left_is_removed(folder: StateFolder) -> None:
    listening(folder).close()
    folder.announce(record())
    folder.announce(record("b2"))  # this one never had a socket

    assert folder.nodes() == []
    assert os.listdir(folder.nodes_path) == []


def test_a_node_before_the_last_boot_is_stale_and_one_of_another_machine_is_not_ours(
    folder: StateFolder,
) -> None:
    folder.announce(record("before", machine=f"{socket.gethostname()}/another-boot"))
    folder.announce(record("elsewhere", machine="another-host/boot"))

    assert folder.nodes() == []
    assert os.listdir(folder.nodes_path) == ["elsewhere.json"]


def test_a_node_whose_queue_is_full_lives(folder: StateFolder) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with folder.socket_address("a1") as address:
            listener.bind(address)
        listener.listen(0)
        folder.announce(record())
        waiting = []
        for _ in range(3):
            connection = socket.socket(socket.AF_UNIX)
            connection.setblocking(False)
            waiting.append(connection)
            try:
                with folder.socket_address("a1") as address:
                    connection.connect(address)
            except BlockingIOError:
                break
        folder_nodes = folder.nodes()
        for connection in waiting:
            connection.close()
    assert folder_nodes == [record()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '{"id": "x"}',
        json.dumps({**record().__dict__, "servers": [1]}),
        json.dumps({**record().__dict__, "servers": [], "pid": "1"}),
        json.dumps({**record().__dict__, "servers": [], "name": None}),
        json.dumps({**record().__dict__, "servers": [], "format": 99}),
    ],
)
def test_a_record_that_cannot_be_read_is_passed_over(folder: StateFolder, text: str) -> None:
    Path(folder.nodes_path, "x.json").write_text(text)
    assert NodeRecord.from_json(text) is None
    assert folder.nodes() == []


def test_a_socket_may_lie_deeper_than_108_bytes(tmp_path: Path) -> None:
    deep = StateFolder(str(tmp_path / ("d" * 60) / ("e" * 60))).make()
    with listening(deep):
        deep.announce(record())
        assert deep.nodes() == [record()]

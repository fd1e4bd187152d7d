"""Programs in the manner of asyncoro and pycos, as real processes, with their import lines changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.old import PROGRAMS, Old, changed, serve
from tests.processes import World, free_port, until, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as own:
        yield own


def test_only_import_lines_are_changed() -> None:
    for path in PROGRAMS.iterdir():
        text = path.read_text()
        for old, new in zip(text.splitlines(), changed(text).splitlines(), strict=True):
            if old != new:
                assert old.strip().startswith(("import ", "from ")), old
                assert "discoro.compat." in new
        assert "discoro.compat" in changed(text)


def test_ten_sleepers_end_before_the_script(here: World) -> None:
    lines = Old(here, "sleepers").ends()
    assert sorted(lines) == sorted(f"coroutine {n} ends" for n in range(10))


def test_many_clients_of_one_server_in_one_process(here: World) -> None:
    assert Old(here, "many_clients").ends() == ["clients 45", "total 135", "late -1 -1"]


def test_a_channel_with_a_transform_below_another_and_none_as_the_end(here: World) -> None:
    lines = Old(here, "sum_prod").ends()
    assert lines[0] == "subscribed 0 0"
    assert set(lines) >= {"delivered 2", "left 0 0", "nobody 0 0", "sum: 10", "prod: 30"}


def test_names_of_2012_serve_an_object_with_a_socket(here: World) -> None:
    assert Old(here, "echo").ends() == ["logged heard hello", "olleh"]


def test_categories_come_first(here: World) -> None:
    assert Old(here, "categories").ends() == ["[0, 2, 4, 1, 3, 5]"]


def test_code_is_swapped_from_the_main_thread_and_messages_stay(here: World) -> None:
    program = Old(here, "hotswap")
    program.feed("1")
    program.says("old 1")
    program.feed("other")
    program.says("ignored other")
    program.feed("wrong", "2")
    program.says("old 2")
    program.feed("swap")
    program.says("new function: server_proc2, 2")
    assert program.ends("3", "end") == [
        "old 1",
        "new function: other, 1",
        "ignored other",
        "old 2",
        "new function: server_proc2, 2",
        "new #3",
        "ended [0, -1, 0]",
    ]


def test_the_output_of_a_program_by_communicate_and_by_writer_and_reader(here: World) -> None:
    script = PROGRAMS / "checksum.txt"
    digest = hashlib.sha1(script.read_bytes()).hexdigest()
    program = Old(here, "checksum", script)
    assert program.ends() == [f"communicate {digest} None 0", f"feeder {digest}"]


def test_chained_programs_are_read_line_by_line(here: World, tmp_path: Path) -> None:
    text = tmp_path / "log"
    text.write_text("an Error\nnothing\nerror again\n")
    assert Old(here, "grep", text).ends() == ["AN ERROR", "ERROR AGAIN", "lines 2", "status 0 0 0"]


def test_a_registered_coroutine_is_found_from_another_process(here: World) -> None:
    port = free_port()
    client = Old(here, "coro_client", port)  # it may start first
    server = Old(here, "coro_server", port)
    assert client.ends() == [
        "same True True",
        "at True server_proc",
        "MESSAGE 0",
        "MESSAGE 1",
        "MESSAGE 2",
        "delivered 1 LAST",
        "nobody None None",
        "not here -1 -1 -1",
        "peers 1",
    ]
    lines = server.ends("")
    assert lines[:2] == ["registered 0 0", "taken -1"]
    assert lines[2:] == [f"message {n} from client_proc" for n in range(3)] + [
        "last from client_proc"
    ]


def test_a_channel_has_subscribers_in_two_processes(here: World) -> None:
    server = Old(here, "channel_server")
    client = Old(here, "channel_client")
    lines = client.ends()
    assert lines[0] == "True 2clients -1"
    assert lines.count("delivered to 2") == 3
    assert [line for line in lines if line.startswith("client got")] == [
        f'client got "message {n}" from sender_proc' for n in range(3)
    ]
    assert set(lines) >= {"nobody 0", "left 0"}
    lines = server.ends("")
    assert lines[0] == "registered 0"
    assert lines[1:4] == [f'server got "message {n}" from sender_proc' for n in range(3)]
    assert lines[-1] == "unregistered 0 -1"


def test_a_chat_of_two_over_a_channel(here: World) -> None:
    port = free_port()
    server = Old(here, "chat_server", port)
    first = Old(here, "chat_client", port)
    first.says("1 joined")
    second = Old(here, "chat_client", port)
    first.says("2 joined")
    first.feed("hello", "SHOUTING")
    second.says("1 says: hello")
    second.feed("good bye")
    first.says("2 says: good bye")
    second.ends("quit")
    first.says("2 left")
    lines = first.ends("exit")
    assert lines[:5] == ["1 joined", "2 joined", "1 says: hello", "2 says: good bye", "2 left"]
    assert server.ends("") == ["ended False"]


def test_calls_of_a_service_are_monitored(here: World) -> None:
    port = free_port()
    server = Old(here, "rci_server", port)
    lines = Old(here, "rci_client", port).ends()
    assert lines == [
        "RCI is at True rci_1 -1",
        *["monitored 0"] * 4,
        "wrong arguments None",
        "rci_1 failed with: invalid invocation: 1",
        "rci_1 failed with: invalid invocation: 3",
        "rci_1 finished with: msg:0",
        "rci_1 finished with: msg:2",
    ]
    assert server.ends("") == ["registered 0 -1", "unregistered 0 -1"]


def test_a_service_with_monitor_status_and_files(here: World) -> None:
    port = free_port()
    server = Old(here, "rps_server", port)
    lines = Old(here, "rps_client", port).ends()
    assert sorted(lines) == sorted(
        [
            "monitor 0 -1",
            "MonitorStatus ValueError True",
            "('test1', 'msg:1')",
            "wrong None None",
            "service ValueError failed with: ValueError: invalid invocation: 0, 1",
            "service finished with: ('test1', 'msg:1')",
            "send 0",
            "again 0",
            "missing -1",
            "size True",
            "delete 0 -1",
            "closed 0 None",
        ]
    )
    assert server.ends("") == ["registered 0 0"]
    received = Path(here.folder, "state", "discoro", "received")
    assert os.listdir(received) == ["inner"]


def test_the_client_of_2014_uses_each_server_that_comes(here: World) -> None:
    serve(here, 2)
    client = Old(here, "discoro_client", here.udp_port)
    client.says("is done", times=2)
    lines = client.ends("")
    assert lines.count("results [(0, 10.0), (1, 14.142)] 4") == 2
    assert lines.count("close 0") == 2
    assert lines.count("ping -1 run None") == 2
    assert lines.count("close again -1") == 2


def test_the_jobs_of_2016_go_to_whatever_server_is_free(here: World) -> None:
    serve(here, 2)
    lines = Old(here, "jobs", here.udp_port).ends()
    assert sorted(lines) == sorted(
        [
            "early None",
            "results [7, 14, ('MonitorException', 'three'), 28]",
            "servers 2 ['127.0.0.1']",
            "at 35 42 None None",
            "each [24, 24] 1",
            "late None",
            "status [23, 1, 2, 3, 25] ['StopIteration', 'ValueError'] True",
        ]
    )


@pytest.mark.slow
def test_a_client_of_2016_chooses_its_nodes_and_sees_them_come_and_go(here: World) -> None:
    client = Old(here, "jobs_node", here.udp_port)
    client.says("waiting")
    serve(here, 1)
    client.says("running")
    here.programs[-1].kill()
    lines = client.ends()
    assert [line for line in lines if not line.startswith("status")] == [
        "waiting",
        "node 127.0.0.1 1 linux 127.0.0.1",
        "value 1",
        "running",
        "lost MonitorException PeerLost",
        "servers [] []",
        "jobs 2 2",
    ]
    assert [line for line in lines if line.startswith("status")] == [
        "status 2",
        "status 12",
        "status 15",
        "status 5",
    ]


def test_the_tasks_of_2020_go_to_whatever_server_is_free(here: World) -> None:
    serve(here, 1)
    assert sorted(Old(here, "tasks_client", here.udp_port).ends()) == [
        "0 0 True",
        "1 5 True",
        "2 10 True",
        "3 ValueError ValueError: three",
        "4 20 True",
        "at 10 True",
        "closed None",
        "ends ['StopIteration', 'ValueError'] True",
        "suspended 0 0 -1",
    ]


def test_the_job_scheduler_of_2015_runs_one_job_at_each_server(here: World) -> None:
    serve(here, 1)
    client = Old(here, "jobs_2015", here.udp_port)
    until(lambda: "failed, and nobody has asked" in client.err, "the failed job is told of")
    assert client.ends("") == [
        "result: 0",
        "result: 1",
        "result: 4",
        "finish 0 False",
        "[0, 1, 4]",
        "0",
    ]
    assert "coroutine compute at server-0@" in client.err
    assert "ValueError: ten" in client.err


def test_numbers_are_streamed_to_a_remote_analyser(here: World) -> None:
    serve(here, 1)
    assert Old(here, "analytics", here.udp_port).ends() == [
        "setup 0",
        "kept 3",
        "average 1.00",
        "average 1.50",
        "average 2.00",
        "alarm 8.00",
        "average 4.33",
        "average 5.00",
        "close 0",
    ]


def test_agents_on_two_servers_talk_without_their_client(here: World) -> None:
    serve(here, 2)
    assert Old(here, "agents", here.udp_port).ends() == [
        "alice was told: hello from bob",
        "bob was told: hello from alice",
    ]

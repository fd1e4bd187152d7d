"""The command itself, in real processes: what it says, and that it starts, restarts, ends and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from discoro.statefolder import StateFolder
from tests.functional.nodes import (
    HOME,
    SMALL_NODE,
    NodeProcess,
    alive,
    ended_at_last,
    environment_of,
    run,
    until,
)
from tests.processes import free_port

Start = Callable[..., NodeProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*options: str, **more: object) -> NodeProcess:
            node = NodeProcess(tmp_path, *options, **more)  # type: ignore[arg-type]
            stack.enter_context(ended_at_last(node))
            return node

        yield start


# --- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_asking_for_help_or_version_imports_only_the_standard_library(option: str) -> None:
    code = (
        "import sys\n"
        "from discoro.cli.main import main\n"
        "try: main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "own = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(own - set(sys.stdlib_module_names) - {'discoro', '__main__'}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, option], env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done


def test_a_generated_secret_is_shown_once_and_the_node_listens_on_loopback_only(
    start: Start, tmp_path: Path
) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    secret = (tmp_path / "discoro/secret").read_text().strip()
    assert f"DISCORO_SECRET={secret} python" in node.text
    assert "node bob, 1 server," in node.text and "this machine only" in node.text
    assert (tmp_path / "discoro/secret").stat().st_mode & 0o777 == 0o600
    for pid in node.pids:
        for found in psutil.Process(pid).net_connections():
            assert found.status != psutil.CONN_LISTEN or found.laddr.ip in ("127.0.0.1", "::1")
    node.process.terminate()
    assert node.ends() == 0

    again = start("-c", "1").ready()
    assert secret not in again.text
    again.process.terminate()
    assert again.ends() == 0


def test_a_secret_given_opens_all_addresses_and_appears_in_no_argument_and_no_environment(
    start: Start,
) -> None:
    secret = "long enough for everybody"
    for options, environment in (
        (["-s", secret], {}),
        ([f"--secret={secret}"], {}),
        ([], {"DISCORO_SECRET": secret}),
    ):
        node = start("-c", "1", *options, environment=environment).ready()
        first = node.server()["pid"]
        os.kill(first, signal.SIGKILL)  # the next one is started by exec
        until(lambda: node.server()["state"] == "running" and node.server()["pid"] != first)  # noqa: B023
        where = node.ask("where")
        assert secret not in json.dumps(where) and secret not in node.text
        for pid in node.pids:
            if alive(pid):
                for name in ("cmdline", "environ"):
                    assert secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
        assert node.server()["addresses"][0][0] == "0.0.0.0"
        assert ("ps" in node.text) == bool(options)
        node.process.terminate()
        assert node.ends() == 0


def test_a_short_secret_warns_and_names_the_way_to_a_better_one(start: Start) -> None:
    node = start("-c", "1", environment={"DISCORO_SECRET": "short"}).ready()
    assert node.text.count("--new-secret") == 1
    node.process.terminate()
    node.ends()


def test_a_secret_from_a_file_is_named_by_its_source(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "its secret"
    file.write_text("a long secret of a file\n")
    node = start("-c", "1", "--secret_file", str(file)).ready()
    assert f"from --secret-file {file}" in node.text and "a long secret" not in node.text
    node.process.terminate()
    node.ends()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", "9999"], "usable here ("),
        (["-c", "-9999"], "leaves none"),
        (["-c", "2.5"], "no whole number"),
        (["--tcp-prot", "1"], "did you mean --tcp_port?"),
        (["--peer", "bob:port"], "no port"),
        (["--join", "bob"], "names no port"),
        (["--name", "a/b"], "--name"),
        (["-s", ""], "--new-secret"),
        (["--secret-file", "/nonexistent/file"], "--new-secret > /nonexistent/file"),
        (["statu"], "did you mean status?"),
        (["--join", "bob:1", "--tcp_port", "5"], "listens nowhere"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_to_type(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_level_of_logging_is_wrong_usage(tmp_path: Path) -> None:
    done = run(tmp_path, DISCORO_LOG="loud")
    assert done.returncode == 2 and "'loud' is no level" in done.stderr


def test_an_unreadable_certificate_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = run(tmp_path, "--certfile", str(tmp_path / "none.pem"))
    assert done.returncode == 1 and "none.pem" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_servers_cannot_keep_files_in_is_said_once_before_anything_starts(
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        done = run(tmp_path, "-c", "1", "--dest_path", str(path))
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"cannot keep their files in {path}: it is no folder" in done.stderr
        assert "--dest_path DIR" in done.stderr


@pytest.mark.parametrize(
    ("spoilt", "arguments"), [("secret", ["-c", "1"]), ("nodes", ["status"]), ("nodes", ["stop"])]
)
def test_a_state_folder_that_cannot_be_read_is_named(
    spoilt: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "discoro").mkdir(mode=0o700)
    if spoilt == "secret":
        (tmp_path / "discoro/secret").mkdir()
    else:
        (tmp_path / "discoro/nodes").touch()
    done = run(tmp_path, *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"the state folder {tmp_path}/discoro cannot be used: " in done.stderr
    assert "Set XDG_STATE_HOME" in done.stderr


def test_new_secret_prints_a_good_one(tmp_path: Path) -> None:
    from discoro.transport.secret import is_generated

    first, second = (
        run(tmp_path, option).stdout.strip() for option in ("--new-secret", "--new_secret")
    )
    assert is_generated(first) and is_generated(second) and first != second


def test_more_servers_than_cpus_start_when_forced(start: Start) -> None:
    count = (os.cpu_count() or 1) + 1
    node = start("-c", str(count), "--force").ready()
    assert len(node.status()["servers"]) == count
    node.process.terminate()
    assert node.ends() == 0


# --- ports -------------------------------------------------------------------------------------------------------------


def test_servers_listen_on_consecutive_ports_from_the_one_given(start: Start) -> None:
    port = free_port(count=2)
    node = start("-c", "2", "--force", "--tcp-port", str(port)).ready()
    ports = [{p for _, p in server["addresses"]} for server in node.status()["servers"]]
    assert ports == [{port}, {port + 1}]
    assert [s["name"][-2:] for s in node.status()["servers"]] == ["-1", "-2"]
    node.process.terminate()
    assert node.ends() == 0


def test_a_port_that_is_taken_names_its_owner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "-c", "1", "--tcp_port", str(port))
    assert done.returncode == 1
    assert f"TCP port {port} on 127.0.0.1 is taken by pid {os.getpid()} (" in done.stderr


def test_a_folder_for_files_is_made(start: Start, tmp_path: Path) -> None:
    free = tmp_path / "new" / "folder"
    node = start("-c", "1", "--dest_path", str(free)).ready()
    assert free.is_dir() and not os.listdir(free)
    node.process.terminate()
    assert node.ends() == 0


def test_exactly_the_given_addresses_are_bound(start: Start) -> None:
    environment = {"DISCORO_SECRET": "long enough for everybody"}
    node = start("-c", "1", "-i", "127.0.0.2", "--ip-addr=127.0.0.3", environment=environment)
    node.ready()
    assert [host for host, _ in node.server()["addresses"]] == ["127.0.0.2", "127.0.0.3"]
    node.process.terminate()
    node.ends()


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "-i", "192.0.2.1")
    assert done.returncode == 1 and "cannot listen on 192.0.2.1: " in done.stderr
    assert "addresses of this machine: " in done.stderr and "127.0.0.1" in done.stderr


# --- the ends ----------------------------------------------------------------------------------------------------------


def test_sigterm_ends_an_idle_node_at_once_with_status_0(start: Start, tmp_path: Path) -> None:
    node = start("-c", "2", "--force").ready()
    node.process.terminate()
    assert node.ends(8.0) == 0
    assert os.listdir(tmp_path / "discoro/nodes") == []
    assert "Traceback" not in node.text


def test_end_of_file_on_stdin_does_not_end_it(start: Start) -> None:
    node = start("-c", "1").ready()  # its stdin is the null device
    assert node.ask("pid") == node.server()["pid"]
    assert node.process.poll() is None
    node.process.terminate()
    assert node.ends() == 0


def test_sigterm_lets_running_work_end(start: Start) -> None:
    node = start("-c", "1").ready()
    node.ask("job 0.7")
    node.process.terminate()
    began = time.monotonic()
    until(lambda: node.status()["state"] == "ending")
    assert node.ends() == 0
    assert time.monotonic() - began < 5.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "least", "most"), [("job 1000", 4.5, 8.0), ("block 1000", 8.0, 10.0)]
)
def test_sigterm_ends_work_that_does_not_end_within_10_s(
    start: Start, work: str, least: float, most: float
) -> None:
    node = start("-c", "1").ready()
    node.tell(work)
    node.process.terminate()
    began = time.monotonic()
    assert node.ends() == 0
    assert least < time.monotonic() - began < most


def test_ctrl_c_ends_with_130_and_a_second_one_at_once(start: Start) -> None:
    node = start("-c", "1").ready()
    node.process.send_signal(signal.SIGINT)
    assert node.ends() == 130

    node = start("-c", "1").ready()
    node.tell("block 1000")
    node.process.send_signal(signal.SIGINT)
    node.says("Ctrl-C again")
    node.process.send_signal(signal.SIGINT)
    assert node.ends(8.0) == 130
    assert "Traceback" not in node.text


@pytest.mark.parametrize("word", ["quit", "exit"])
def test_quit_on_a_terminal_waits_for_the_work(start: Start, word: str) -> None:
    terminal, its_end = pty.openpty()
    try:
        node = start("-c", "1", terminal=its_end).ready()
        os.close(its_end)
        os.write(terminal, b"\x04")  # Ctrl-D means nothing
        node.ask("job 1.5")
        time.sleep(0.05)
        os.write(terminal, word.encode() + b"\n")
        node.says("waiting for the running work")
        assert node.server()["counts"]["coroutines"] == 1
        assert node.ends() == 0
    finally:
        os.close(terminal)


def test_quit_works_on_a_terminal_that_is_nobodys_controlling_one(start: Start) -> None:
    """As of a program that opens a pseudo-terminal and starts a node at its other end."""
    terminal, its_end = pty.openpty()
    try:
        node = start("-c", "1", stdin=its_end).ready()
        os.close(its_end)
        os.write(terminal, b"quit\n")
        assert node.ends() == 0
    finally:
        os.close(terminal)


def test_ctrl_c_typed_at_a_terminal_reaches_the_parent_alone(start: Start) -> None:
    terminal, its_end = pty.openpty()
    try:
        node = start("-c", "1", terminal=its_end).ready()
        os.close(its_end)
        os.write(terminal, b"\x03")
        assert node.ends() == 130
        assert "restarting" not in node.text and "KeyboardInterrupt" not in node.text
    finally:
        os.close(terminal)


def left(node: NodeProcess) -> list[str]:
    """Return what still runs of a node, for a failure to show."""
    found = []
    for pid in node.pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process} {process.cmdline()}")
        except psutil.NoSuchProcess:
            pass
    return found


def test_the_death_of_the_parent_ends_servers_and_what_they_have_started(
    start: Start, tmp_path: Path
) -> None:
    node = start("-c", "2", "--force").ready()
    node.pids.update([node.ask("spawn"), node.ask("fork")])
    first = node.server(1)["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: node.server(1)["pid"] not in (None, first))  # that one has been started by exec
    until(lambda: node.server(1)["state"] == "running")
    node.pids.add(node.ask("spawn", 1))
    node.tell("block 1000")
    os.kill(node.server(1)["pid"], signal.SIGSTOP)
    node.process.kill()
    node.process.wait(5)
    until(lambda: not left(node), lambda: left(node), 5.0)

    done = run(tmp_path, "status")
    assert done.returncode == 3 and "no node of yours" in done.stderr
    assert os.listdir(tmp_path / "discoro/nodes") == []


def test_nodes_of_one_name_are_stopped_by_their_pid_and_all_at_once(
    start: Start, tmp_path: Path
) -> None:
    first, second, third = (start("-c", "1", "-n", "bob").ready() for _ in range(3))
    done = run(tmp_path, "stop", "bob")
    assert done.returncode == 1 and "3 nodes of that name" in done.stderr
    assert f"(pid {second.process.pid})" in done.stderr and "--all" in done.stderr
    assert run(tmp_path, "stop", "bob", "--all").returncode == 2
    assert run(tmp_path, "stop", str(first.process.pid)).returncode == 0
    assert first.ends(1.0) == 0
    done = run(tmp_path, "stop", "--all")
    assert done.returncode == 0 and done.stdout.count("node bob has ended") == 2
    assert second.ends(1.0) == third.ends(1.0) == 0


def test_stop_ends_the_only_node_and_asks_which_of_several(start: Start, tmp_path: Path) -> None:
    assert run(tmp_path, "stop").returncode == 3
    bob = start("-c", "1", "-n", "bob").ready()
    eve = start("-c", "1", "-n", "eve").ready()
    done = run(tmp_path, "stop")
    assert done.returncode == 1 and "bob" in done.stderr and "eve" in done.stderr
    done = run(tmp_path, "stop", "carol")
    assert done.returncode == 3 and f"There are: bob (pid {bob.process.pid})" in done.stderr
    assert run(tmp_path, "completion", "nodes").stdout.split() == ["bob", "eve"]
    done = run(tmp_path, "stop", "bob")
    assert done.returncode == 0 and "node bob has ended" in done.stdout
    assert bob.ends(1.0) == 0
    assert run(tmp_path, "stop").returncode == 0
    assert eve.ends(1.0) == 0


# --- servers that end --------------------------------------------------------------------------------------------------


def restarted(node: NodeProcess, before: int, index: int = 0) -> int:
    def pid() -> int:
        server = node.server(index)
        return int(server["pid"]) if server["state"] == "running" and server["pid"] != before else 0

    return int(until(pid, "a restart"))


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("kill 11", "ended by SIGSEGV (signal 11)"),
        ("kill 9", "ended by SIGKILL (signal 9)"),
        ("exit 7", "ended with exit code 7"),
        ("exit 0", "ended by itself (exit code 0)"),
    ],
)
def test_a_server_that_dies_is_restarted_on_its_port_and_the_terminal_says_why(
    start: Start, order: str, why: str
) -> None:
    node = start("-c", "1").ready()
    before = node.server()
    left = node.ask("spawn")
    node.tell(order)
    restarted(node, before["pid"])
    after = node.server()
    assert after["addresses"] == before["addresses"] and after["restarts"] == 1
    assert f"process {before['pid']} {why}; restarting" in node.text
    assert not alive(left)
    assert node.ask("settings")["last_end"].split()[-1] == order.split()[-1]
    node.process.terminate()
    assert node.ends() == 0


def test_a_connection_made_while_no_server_runs_is_served_by_the_next_one(start: Start) -> None:
    node = start("-c", "1").ready()
    pid = node.server()["pid"]
    host, port = node.server()["addresses"][0]
    os.kill(pid, signal.SIGKILL)
    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(b"pid\n")
        assert int(connection.recv(100)) not in (0, pid)
    node.process.terminate()
    assert node.ends() == 0


def test_a_server_that_never_gets_ready_waits_longer_each_time(
    start: Start, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    node = start("-c", "1", environment={"SMALLNODE_NEVER_READY": str(never)}).ready()
    pid = node.server()["pid"]
    never.touch()
    os.kill(pid, signal.SIGKILL)
    node.says("next start in 1 s")
    node.says("next start in 2 s")
    assert node.server()["state"] == "waiting to restart"
    never.unlink()
    restarted(node, pid)
    assert node.server()["restarts"] == 3
    node.process.terminate()
    assert node.ends() == 0


def test_a_node_whose_server_waits_to_be_restarted_ends_at_once(
    start: Start, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    never.touch()
    node = start("-c", "1", environment={"SMALLNODE_NEVER_READY": str(never)})
    node.says("next start in 2 s")
    node.process.terminate()
    assert node.ends(8.0) == 0


def test_children_of_user_code_hold_none_of_our_sockets(start: Start) -> None:
    """One that did would keep a dead server's connections open, and its port taken."""
    node = start("-c", "1").ready()
    for verb in ("spawn", "fork"):
        pid = node.ask(verb)
        node.pids.add(pid)
        ours = sockets_of(node.process.pid)
        until(lambda: not sockets_of(pid) & ours, verb)  # noqa: B023 - a forked child closes them first
    node.process.terminate()
    node.ends()


def sockets_of(pid: int) -> set[str]:
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(link))
        except FileNotFoundError:  # closed meanwhile
            pass
    return {name for name in held if name.startswith("socket:")}


# --- what servers print, and what they do ------------------------------------------------------------------------------


def test_what_coroutines_and_c_code_print_is_carried_with_their_names(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    node.ask("print worker-7 hello from here")
    node.ask("cprint from-C")
    node.says("[bob-1 worker-7] hello from here\n")
    node.says("[bob-1] from-C\n")
    node.process.terminate()
    node.ends()


def test_what_a_dying_server_wrote_last_is_shown(start: Start) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    node.tell("kill 11")
    node.says("SIGSEGV")
    assert "[bob-1] Fatal Python error: Segmentation fault" in node.text
    node.process.terminate()
    node.ends()


def test_status_works_while_a_server_computes_and_names_the_line(start: Start) -> None:
    node = start("-c", "1").ready()
    node.tell("block 1000")
    blocked = until(lambda: node.server()["blocked"], "blocked")
    line = next(
        number
        for number, text in enumerate(SMALL_NODE.read_text().splitlines(), 1)
        if "time.sleep(float(words[0]))" in text
    )
    assert f"at {SMALL_NODE}:{line} in Small.obey" in blocked
    node.process.send_signal(signal.SIGINT)
    node.says("Ctrl-C again")
    node.process.send_signal(signal.SIGINT)
    node.ends()


def test_status_works_while_c_code_keeps_pythons_lock(start: Start, tmp_path: Path) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    node.tell("seize 1000")
    until(lambda: node.server()["silent"], "silence")
    text = run(tmp_path, "status").stdout
    assert " busy\n" in text and "none of its threads runs" in text
    for _ in range(2):
        node.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert node.ends() == 130


def test_a_stopped_server_is_called_stopped_and_not_lost(start: Start, tmp_path: Path) -> None:
    node = start("-c", "1").ready()
    pid = node.server()["pid"]
    os.kill(pid, signal.SIGSTOP)
    node.says(f"process {pid} is stopped")
    assert node.server()["stopped"]
    assert "stopped (SIGSTOP)" in run(tmp_path, "status").stdout
    os.kill(pid, signal.SIGCONT)
    until(lambda: not node.server()["stopped"])
    assert node.server()["pid"] == pid
    node.process.terminate()
    assert node.ends() == 0


def test_a_stopped_node_is_named_at_once_and_a_question_does_not_lie_in_wait_for_it(
    start: Start, tmp_path: Path
) -> None:
    node = start("-c", "1", "-n", "bob").ready()
    pid = node.process.pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    for verb in ("status", "stop"):
        done = run(tmp_path, verb)
        assert done.returncode == 1
        assert (
            f"node bob (pid {pid}) is stopped (SIGSTOP, or Ctrl-Z); kill -CONT {pid}" in done.stderr
        )
    os.kill(pid, signal.SIGCONT)
    assert node.status()["state"] == "running"
    assert run(tmp_path, "stop").returncode == 0
    assert node.ends() == 0


def test_who_asks_and_does_not_wait_for_the_answer_leaves_no_trace(
    start: Start, tmp_path: Path
) -> None:
    node = start("-c", "1", "-n", "bob", environment={"PYTHONASYNCIODEBUG": "0"}).ready()
    before = node.text
    (where,) = (tmp_path / "discoro/nodes").glob("*.sock")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as impatient:
            with StateFolder(str(tmp_path / "discoro")).socket_address(where.stem) as address:
                impatient.connect(address)
            impatient.sendall(b'{"ask": "status"}\n')
    assert node.status()["state"] == "running"
    node.process.terminate()
    assert node.ends() == 0
    assert node.text == before


def test_closed_standard_descriptors_do_no_harm(start: Start, tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "{sys.executable}" "{SMALL_NODE}" -c 1 -n shut <&- >&- 2>&-'],
        env=environment_of(tmp_path),
    )
    try:
        until(lambda: '"running"' in run(tmp_path, "status", "--json").stdout)
        assert run(tmp_path, "stop", "shut").returncode == 0
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()

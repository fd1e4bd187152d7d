"""Options to settings; what a whole command does stands in tests/functional/test_command.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from discoro.cli.main import main, node_settings
from discoro.cli.parsers import node_parser
from discoro.node.settings import NodeSettings
from discoro.statefolder import StateFolder

EVERYTHING = """
    -c 1 -i 10.0.0.1 --ip_addr 10.0.0.2 --ext_ip_addr 192.0.2.7 -u 5000 --tcp_port 9700 -n bob --dest_path d
    --max_file_size 20M -s s3cret-enough -d --cluster blue --max_rss 2G --max-stall 5min --peer alice --peer [::1]:9700 --force
"""


def settings(folder: Path, *arguments: str) -> NodeSettings:
    parser = node_parser()
    found, _ = node_settings(parser, parser.parse(arguments), StateFolder(str(folder)))
    return found


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISCORO_SECRET", "DISCORO_LOG"):
        monkeypatch.delenv(name, raising=False)


def test_underscores_and_hyphens_mean_the_same(tmp_path: Path) -> None:
    a = settings(tmp_path, "--tcp_port", "9700", "--max_file_size=1K", "--dest_path", "/a-b_c")
    b = settings(tmp_path, "--tcp-port=9700", "--max-file-size", "1K", "--dest-path", "/a-b_c")
    assert (a.tcp_port, a.max_file_size, a.dest_path) == (9700, 1024, "/a-b_c")
    assert a.secret == b.secret
    assert (b.tcp_port, b.max_file_size, b.dest_path) == (9700, 1024, "/a-b_c")


def test_every_option_of_the_contract_is_taken(tmp_path: Path) -> None:
    found = settings(tmp_path, *EVERYTHING.split())
    assert found.servers == 1 and found.server_name(1) == "bob-1"
    assert found.addresses == ("10.0.0.1", "10.0.0.2") and found.ext_ip_addr == "192.0.2.7"
    assert (found.udp_port, found.tcp_port, found.max_file_size) == (5000, 9700, 20 << 20)
    assert found.dest_path.startswith("/") and found.secret == "s3cret-enough" and not found.local
    assert found.debug and found.cluster == "blue" and found.peers == ("alice", "[::1]:9700")
    assert (found.max_rss, found.max_stall) == (2 << 30, 300.0)
    assert settings(tmp_path, "--urp_port", "5001").udp_port == 5001
    assert settings(tmp_path, "--join", "alice:9700").join == "alice:9700"


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    import socket

    found = settings(tmp_path)
    assert found.udp_port == 51350 and found.tcp_port == 0 and found.cluster == "default"
    assert found.local and found.secret_shown
    assert socket.gethostname().startswith(found.name) and found.servers >= 1
    assert (
        found.max_file_size == settings(tmp_path, "--max_file_size", "0").max_file_size == 1 << 30
    )
    assert found.max_rss is None and found.max_stall is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--tcp_port 65535 -c 2 --force", "beyond 65535"),
        ("--tcp_port x", "no port"),
        ("--udp_port 70000", "no port"),
        ("-s a --secret-file b", "not allowed with"),
        ("--max_rss 2X", "20M, 1.5G are"),
        ("--max-rss 20M", "at least 128 MiB"),
        ("--max-stall soon", "30s, 1.5min"),
        ("--max-stall 0", "at least 1 s, or leave it out"),
        ("--keyfile k", "needs --certfile"),
        ("--name .hidden", "--name"),
        ("--cluster \x01", "cluster"),
        ("serve", "unknown argument: serve"),
        ("--hlep", "did you mean --help"),
    ],
)
def test_wrong_usage_says_what_is_meant(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        settings(tmp_path, *arguments.split(" "))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and said in error, error
    assert error.count("\n") <= 3  # not the pages of usage


def test_ctrl_c_ends_any_command_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("discoro.cli.main.node", interrupted)
    assert main([]) == 130

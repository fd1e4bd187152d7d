from __future__ import annotations

from dataclasses import replace

from discoro.node.banner import banner
from discoro.node.settings import NodeSettings

SETTINGS = NodeSettings(
    name="bob", servers=2, secret="s3cret", secret_source="DISCORO_SECRET", cluster="blue"
)


def shown(settings: NodeSettings = SETTINGS, ports: tuple[int, ...] = (9, 4), **more: bool) -> str:
    terminal = more.get("terminal", False)
    return banner(settings, ["0.0.0.0", "::"], ports, pid=7, python="3.11.7", terminal=terminal)


def test_it_says_what_runs_where_it_listens_and_how_to_connect() -> None:
    first, second, third, fourth, fifth = shown().splitlines()
    assert first.endswith("node bob, 2 servers, Python 3.11.7, cluster blue, pid 7")
    assert second == "    listens on 0.0.0.0, ::, TCP 9, 4, UDP 51350; TLS 1.3"
    assert third == "    connect with:  DISCORO_SECRET=... python your_program.py"
    assert "from DISCORO_SECRET" in fourth
    assert fifth == "        and in the program:  run(main, cluster='blue')"


def test_nothing_is_said_of_options_that_are_the_defaults() -> None:
    assert "run(main" not in shown(replace(SETTINGS, cluster="default"))
    assert "udp_port=7" in shown(replace(SETTINGS, udp_port=7))


def test_only_a_fresh_generated_secret_is_shown() -> None:
    own = replace(SETTINGS, local=True, secret_source="/state/secret")
    assert "s3cret" not in shown() + shown(own)
    assert "connect with:  python your_program.py" in shown(own)
    assert "this machine only" in shown(own)
    assert "this machine only" not in shown(replace(own, addresses=("10.0.0.1",)))
    fresh = shown(replace(own, secret_shown=True))
    assert "DISCORO_SECRET=s3cret python" in fresh and "/state/secret" in fresh


def test_many_ports_stay_short() -> None:
    assert "TCP 9700 to 9703," in shown(ports=(9700, 9701, 9702, 9703))
    assert "TCP 1, 3, 5, 7, 9, 11 and 94 more (" in shown(ports=tuple(range(1, 200, 2)))


def test_a_joined_node_says_whom_it_joins_and_nothing_of_connecting() -> None:
    text = shown(replace(SETTINGS, join="alice:9700"), ())
    assert "joins alice:9700" in text and "connect with" not in text


def test_only_at_a_terminal_it_says_what_to_type() -> None:
    assert "type quit" not in shown()
    assert "type quit" in shown(terminal=True)

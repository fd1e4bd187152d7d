from __future__ import annotations

import pytest

from discoro.errors import ServerKilled, from_transport
from discoro.node.deaths import Death, Restarts, oom_kills, signal_name
from discoro.transport.errors import SessionLost


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (-11, "ended by SIGSEGV (signal 11)"),
        (-9, "ended by SIGKILL (signal 9)"),
        (-63, "ended by SIG63 (signal 63)"),
        (0, "ended by itself (exit code 0)"),
        (7, "ended with exit code 7"),
    ],
)
def test_a_death_is_told_in_words(status: int, text: str) -> None:
    assert str(Death.of(status)) == text


def test_only_a_kill_is_put_down_to_memory() -> None:
    assert str(Death.of(-9, out_of_memory=True)) == "killed by the kernel: out of memory"
    assert not Death.of(-11, out_of_memory=True).out_of_memory
    assert not Death.of(1, out_of_memory=True).out_of_memory


def test_what_the_node_ended_itself_says_why_and_blames_nobody_else() -> None:
    death = Death.of(-9, out_of_memory=True, by_node="it took 3 GiB")
    assert str(death) == "ended by the node because it took 3 GiB" and not death.out_of_memory
    assert str(Death.of(-11, by_node="it took 3 GiB")) == "ended by SIGSEGV (signal 11)"
    assert str(Death.of(0, by_node="it took 3 GiB")) == "ended by itself (exit code 0)"


def test_clients_are_told_why_where_the_signal_says_little() -> None:
    for death, why in [
        (
            Death.of(-9, by_node="it took 3 GiB: 1 too many"),
            "the node ended it because it took 3 GiB: 1 too many",
        ),
        (Death.of(-9, out_of_memory=True), "the kernel ended it, out of memory"),
        (Death.of(-9), None),
    ]:
        error = from_transport(SessionLost("the process has ended", death.wire))
        assert isinstance(error, ServerKilled) and error.signal == 9
        assert error.why == why and (why or "SIGKILL (9)") in str(error)


def test_signals_have_names() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(9999) == "SIG9999"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5", 5),
        ("nr_free_pages 7\noom_kill 12\nother 1\n", 12),
        ("", 0),
        ("oom_kill x", 0),
    ],
)
def test_the_kernels_counter_is_found_in_each_of_its_files(text: str, count: int) -> None:
    assert oom_kills(text) == count


def test_a_server_that_was_ready_is_restarted_at_once_others_wait_longer_each_time() -> None:
    restarts = Restarts()
    assert [restarts.delay(was_ready=False) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    restarts.ready()
    assert restarts.delay(was_ready=True) == 0
    assert restarts.delay(was_ready=False) == 1
    assert restarts.count == 9


def test_waits_do_not_overflow() -> None:
    restarts = Restarts()
    assert {restarts.delay(was_ready=False) for _ in range(2000)} <= {1, 2, 4, 8, 16, 30}


@pytest.mark.parametrize(
    ("status", "signal", "exit_code"), [(-11, 11, None), (3, None, 3), (0, None, 0)]
)
def test_clients_read_signal_and_exit_code_from_the_words_on_the_wire(
    status: int, signal: int | None, exit_code: int | None
) -> None:
    error = from_transport(SessionLost("the process has ended", Death.of(status).wire))
    assert isinstance(error, ServerKilled)
    assert (error.signal, error.exit_code) == (signal, exit_code)

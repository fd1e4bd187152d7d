"""Each return code of the old systems, and the case in which it is given."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import discoro
from discoro.compat import asyncoro, pycos, start
from discoro.compat.asyncoro import discoro as old_discoro
from tests.processes import World, world

pytestmark = pytest.mark.filterwarnings("ignore:`raise StopIteration:DeprecationWarning")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A state folder of its own, and no scheduler before or after."""
    with world(tmp_path) as own:
        monkeypatch.setenv("DISCORO_SECRET", own.secret)
        yield own
        scheduler = start._Ours.scheduler
        if scheduler is not None and scheduler.is_open:
            scheduler.close(cancel=True)


def run(function: Callable[..., Any], *args: Any, coro: Any = asyncoro.Coro) -> Any:
    """Run a generator function as an old program's coroutine; an error in it is the test's."""
    errors: list[BaseException] = []

    def watched(**own: Any) -> Any:
        try:
            return (yield function(*args, **own))
        except BaseException as error:
            errors.append(error)

    def of_asyncoro(coro: Any = None) -> Any:
        return (yield watched(coro=coro))

    def of_pycos(task: Any = None) -> Any:
        return (yield watched(task=task))

    main = coro(of_asyncoro if coro is asyncoro.Coro else of_pycos)
    result = main.value(20)
    if errors:
        raise errors[0]
    assert not main.is_alive(), "it does not end"
    return result


def sleeper(coro: Any = None) -> Any:
    yield coro.suspend()


def failing(coro: Any = None) -> Any:
    yield coro.sleep(0)
    raise ValueError("broken")


def answer(value: Any, coro: Any = None) -> Any:
    yield coro.sleep(0)
    raise StopIteration(value)


def returned(value: Any, coro: Any = None) -> Any:
    yield coro.sleep(0)
    return value


def ended() -> Any:
    coro = asyncoro.Coro(answer, 1)
    coro.value()
    return coro


# --- coroutines


def test_what_is_no_generator_function_is_refused() -> None:
    for wrong in (len, None, 3):
        with pytest.raises(Exception, match="generator"):
            asyncoro.Coro(wrong)


def test_send_deliver_resume_terminate_and_throw_give_0_or_1_and_minus_1_once_it_has_ended() -> (
    None
):
    def main(coro: Any = None) -> Any:
        alive = asyncoro.Coro(sleeper)
        gone = asyncoro.Coro(answer, 1)
        assert (yield gone.finish()) == 1
        assert (alive.send(1), gone.send(1)) == (0, -1)
        assert (yield alive.deliver(1)) == 1
        assert (yield gone.deliver(1)) == -1
        yield coro.sleep(0)
        assert (alive.resume(), gone.resume()) == (0, -1)
        again = asyncoro.Coro(sleeper)
        yield coro.sleep(0)
        assert (again.throw(ValueError("x")), gone.throw(ValueError("x"))) == (0, -1)
        third = asyncoro.Coro(sleeper)
        assert (third.terminate(), gone.terminate()) == (0, -1)
        assert (yield third.finish()) is None
        assert not third.is_alive()

    run(main)


def test_finish_and_value_give_none_at_the_timeout_and_of_a_terminated_one() -> None:
    def main(coro: Any = None) -> Any:
        alive = asyncoro.Coro(sleeper)
        assert (yield alive.finish(0.01)) is None
        alive.terminate()
        assert (yield alive.finish()) is None
        assert (yield asyncoro.Coro(answer, (1, 2)).finish()) == (1, 2)
        assert (yield asyncoro.Coro(failing).finish()) is None

    run(main)
    alive = asyncoro.Coro(sleeper)
    assert alive.value(0.01) is None
    alive.terminate()
    assert alive.value() is None
    assert asyncoro.Coro(failing).value() is None


def test_a_coroutine_of_asyncoro_returns_what_its_last_yield_gave() -> None:
    def inner(value: Any) -> Any:
        yield value

    async def awaited() -> None:
        await asyncio.sleep(0)

    def last(value: Any, coro: Any = None, task: Any = None) -> Any:
        yield (coro or task).sleep(0)
        yield inner(value)

    def nothing(coro: Any = None) -> Any:
        yield 5
        yield awaited()

    def caught(coro: Any = None) -> Any:
        try:
            yield coro.receive()
        except ValueError:
            return

    assert asyncoro.Coro(last, 7).value() == 7
    assert asyncoro.Coro(nothing).value() is None
    coro = asyncoro.Coro(caught)
    while "receive" not in coro.where():
        time.sleep(0.001)
    coro.throw(ValueError("x"))
    assert coro.value() is None
    assert asyncoro.Coro(awaited).value() is None
    assert pycos.Task(last, 7).value() is None  # pycos had ended that


def test_a_task_that_failed_gives_a_monitor_status() -> None:
    def failing_task(task: Any = None) -> Any:
        yield task.sleep(0)
        raise ValueError("broken")

    task = pycos.Task(failing_task)
    status = task.value()
    assert isinstance(status, pycos.MonitorStatus)
    assert (status.info, status.type) == (task, ValueError)
    assert "ValueError: broken" in status.value

    def main(task: Any = None) -> Any:
        other = pycos.Task(failing_task)
        assert (yield other()).type is ValueError
        assert repr((yield other.finish())).startswith("failing_task")

    run(main, coro=pycos.Task)


def test_a_failure_with_timeouterror_is_no_timeout() -> None:
    def late(task: Any = None) -> Any:
        yield task.sleep(0)
        raise TimeoutError

    assert pycos.Task(late).value(5).type is TimeoutError


def test_receive_and_sleep_give_their_alarm_value_and_minus_1_when_misused() -> None:
    def main(coro: Any = None) -> Any:
        other = asyncoro.Coro(sleeper)
        assert (yield coro.receive(0)) is None
        assert (yield coro.receive(timeout=0.01, alarm_value="late")) == "late"
        assert (yield coro.sleep(0.01, "over")) == "over"
        assert (yield coro.suspend(0, "over")) == "over"
        assert (yield coro.sleep("x")) == -1
        assert (yield other.sleep(1)) == -1
        assert (yield 5) == 5
        other.terminate()

    run(main)


def test_register_gives_minus_1_for_a_taken_or_wrong_name() -> None:
    def main(coro: Any = None) -> Any:
        other = asyncoro.Coro(sleeper)
        assert coro.register("x") == 0
        assert other.register("x") == -1
        assert other.register(3) == -1
        assert other.register("^x") == -1
        assert (yield asyncoro.Coro.locate("x")) is coro
        assert (other.unregister("x"), coro.unregister("x"), coro.unregister("x")) == (-1, 0, -1)
        assert (yield asyncoro.Coro.locate("x", timeout=0.01)) is None
        assert (yield asyncoro.Coro.locate("x", asyncoro.Location("127.0.0.1", 1), 0.2)) is None
        other.terminate()

    run(main)
    coro = asyncoro.Coro(sleeper)
    assert (coro.register("from the main thread"), coro.set_daemon()) == (0, 0)
    assert coro.hot_swappable(True) == -1
    coro.terminate()
    assert ended().register() == -1


def test_monitor_gives_minus_1_for_what_has_ended_or_is_none() -> None:
    def main(coro: Any = None) -> Any:
        gone = ended_in_loop = asyncoro.Coro(answer, 1)
        yield gone.finish()
        assert (yield coro.monitor(ended_in_loop)) == -1
        assert (yield coro.monitor("nobody")) == -1
        assert (yield gone.notify("nobody")) == -1
        failed, done, stopped = (asyncoro.Coro(f, *a) for f, a in ENDS)
        assert (yield coro.monitor(failed)) == 0
        assert (yield done.notify(coro)) == 0
        assert (yield coro.monitor(stopped)) == 0
        stopped.terminate()
        ends = {}
        for _ in range(3):
            message = yield coro.receive()
            assert isinstance(message, asyncoro.MonitorException)
            ends[message.args[0]] = message.args[1]
        assert ends[failed][0] is ValueError
        assert ends[failed][1].args == ("broken",)
        assert ends[done][0] is StopIteration
        assert ends[done][1].args[0] == "yes"
        assert ends[stopped][0] is StopIteration
        assert ends[stopped][1].args[0] is None

    run(main)


ENDS: list[tuple[Any, tuple[Any, ...]]] = [(failing, ()), (answer, ("yes",)), (sleeper, ())]


def test_tasks_are_told_of_ends_by_monitor_status() -> None:
    def main(task: Any = None) -> Any:
        failed, done, stopped = (pycos.Task(f, *a) for f, a in ENDS)
        for one in (failed, done, stopped):
            assert (yield task.monitor(one)) == 0
        stopped.terminate()
        ends = {}
        for _ in range(3):
            status = yield task.recv()
            ends[status.info] = status
        assert ends[failed].type is ValueError
        assert "broken" in ends[failed].value
        assert (ends[done].type, ends[done].value) == (StopIteration, "yes")
        assert (ends[stopped].type, ends[stopped].value) == (StopIteration, None)

    run(main, coro=pycos.Task)


def test_hot_swap_gives_minus_1_for_what_is_no_generator_function_or_has_ended() -> None:
    def swappable(task: Any = None) -> Any:
        task.hot_swappable(True)
        yield task.receive()

    def new(value: Any, task: Any = None) -> Any:
        return value, (yield task.receive())

    task = pycos.Task(swappable)
    assert task.hot_swap(len) == -1
    assert task.hot_swap(target=new, args=("x",)) == 0
    task.send(1)
    assert task.value() == ("x", 1)
    assert task.hot_swap(new, "x") == -1


def test_the_own_coroutine_is_filled_in_and_never_overridden() -> None:
    def both(a: Any, task: Any = None) -> Any:
        yield None
        return a, task

    task = pycos.Task(both, 1)
    assert task.value() == (1, task)
    assert pycos.Task(both, 1, 2).value() == (1, 2)
    assert pycos.Task(both, 1, task=3).value() == (1, 3)
    assert pycos.Task(target=both, kwargs={"a": 4, "task": 5}).value() == (4, 5)
    assert pycos.Task(both(6)).value() == (6, None)

    class Holder:
        def method(self, task: Any = None) -> Any:
            yield None
            return self, task

    holder = Holder()
    task = pycos.Task(holder.method)
    assert task.value() == (holder, task)


def test_every_coroutine_is_an_instance_and_knows_its_scheduler() -> None:
    def main(coro: Any = None) -> Any:
        assert isinstance(coro, asyncoro.Coro)
        assert isinstance(coro, pycos.Task)
        assert not isinstance(3, asyncoro.Coro)
        assert asyncoro.AsynCoro.cur_coro() is coro
        assert pycos.Pycos.cur_task() is coro
        assert pycos.Task.scheduler() is coro.scheduler
        assert coro._id == coro.number
        assert coro.location == asyncoro.AsynCoro.instance().location
        assert isinstance(coro.location, asyncoro.Location)
        assert repr(coro) == f"{coro.name}/{coro._id}"
        yield None

    run(main)

    class Own(asyncoro.Coro):
        pass

    own = Own(answer, 1)
    assert isinstance(own, Own)
    assert not isinstance(asyncoro.Coro(answer, 1), Own)
    assert own.value() == 1


# --- channels


def test_channel_codes() -> None:
    def main(coro: Any = None) -> Any:
        channel = asyncoro.Channel("one", transform="nothing")
        other = asyncoro.Channel("one")
        assert (channel.register(), other.register()) == (0, -1)
        assert (yield asyncoro.Channel.locate("one")) is channel
        assert (yield asyncoro.Channel.locate("two", timeout=0.01)) is None
        assert (yield channel.subscribe(coro)) == 0
        assert (yield channel.subscribe("nobody")) == -1
        assert (yield channel.unsubscribe("nobody")) == -1
        assert (yield channel.subscribe(other)) == 0
        assert (yield other.subscribe(channel)) == -1
        assert channel.send("m") == 0
        assert (yield channel.deliver("n", n=1)) == 1
        assert [(yield coro.receive()), (yield coro.receive())] == ["m", "n"]
        assert (yield channel.deliver("o", timeout=0.01, n=3)) == 0
        assert (yield channel.unsubscribe(coro)) == 0
        assert channel.set_transform(3) == -1
        assert channel.set_transform(lambda name, message: (name, message)) == 0
        yield channel.subscribe(coro)
        channel.send(1)
        assert (yield coro.receive()) == ("one", 1)
        assert isinstance(channel, asyncoro.Channel)
        assert channel.location == coro.location
        assert (channel.unregister(), channel.unregister(), channel.close()) == (0, -1, 0)

    run(main)
    from_main = asyncoro.Channel("main")
    assert (from_main.register(), from_main.unregister(), from_main.close()) == (0, 0, 0)


# --- services


def test_service_codes() -> None:
    def main(coro: Any = None) -> Any:
        rci = asyncoro.RCI(answer)
        other = asyncoro.RCI(failing, name="answer")
        assert rci.name == "answer"
        assert (rci.register(), other.register()) == (0, -1)
        found = yield asyncoro.RCI.locate("answer")
        assert found == rci
        assert hash(found) == hash(rci)
        assert (yield asyncoro.RCI.locate("nobody", timeout=0.01)) is None
        assert (yield asyncoro.RCI.locate("x", asyncoro.Location("127.0.0.1", 1), 0.2)) is None
        assert (found.monitor(coro), found.monitor(3)) == (0, -1)
        call = yield found(7)
        assert isinstance(call, asyncoro.Coro)
        assert (yield call.finish()) == 7
        assert (yield coro.receive()).args[1][1].value == 7
        assert (yield found()) is None
        assert (rci.unregister(), rci.unregister()) == (0, -1)
        assert rci.close() == 0
        assert (yield rci(1)) is None
        assert rci.register() == -1

    run(main)
    with pytest.raises(TypeError):
        asyncoro.RCI(len)


# --- the scheduler


def test_the_first_scheduler_constructed_is_the_one(here: World) -> None:
    first = asyncoro.AsynCoro(udp_port=here.udp_port, node="127.0.0.1", name="first", secret="")
    assert asyncoro.AsynCoro(name="second") is first is asyncoro.AsynCoro.instance()
    assert asyncoro.AsynCoro.scheduler() is first
    assert first.name == "first"
    assert first.is_alive()
    assert first.location.name == "first"
    assert first.locations[0].port > 0
    assert repr(first) == str(first.location)


def test_peer_codes(here: World) -> None:
    server = here.server(name="there", dest_path=str(here.folder / "there"))
    scheduler = asyncoro.AsynCoro(udp_port=here.udp_port, node="127.0.0.1", name="here")
    told: list[Any] = []

    def main(coro: Any = None) -> Any:
        port = server.port
        assert (yield scheduler.peer("127.0.0.1", tcp_port=port, stream_send=True)) == 0
        assert (yield scheduler.peer(asyncoro.Location("127.0.0.1", port))) == 0
        assert (yield scheduler.peer("127.0.0.1", tcp_port=1)) == -1
        assert (yield scheduler.peer("no.such.host.invalid")) == -1
        assert (yield scheduler.peer(None)) == -1
        assert (yield scheduler.peer("127.0.0.1")) == 0  # asked in the background
        assert (yield scheduler.locate("nobody", timeout=0.05)) is None
        there = yield scheduler.locate("there", timeout=10)
        assert there.port == port
        assert scheduler.peers() == [there]
        assert scheduler.peer_status(lambda *word: told.append(word)) == 0
        assert scheduler.peer_status(3) == -1
        assert scheduler.peer_status(coro) == 0
        status = yield coro.receive(timeout=10)
        assert isinstance(status, asyncoro.PeerStatus)
        assert (status.name, status.location, status.status) == ("there", there, 1)
        assert scheduler.discover_peers() == 0
        yield from files(scheduler, there)
        assert (yield scheduler.close_peer(there)) == 0
        status = yield coro.receive(timeout=10)
        assert status.status == asyncoro.PeerStatus.Offline
        assert (yield scheduler.close_peer(asyncoro.Location("127.0.0.1", 1))) == -1
        assert scheduler.peer_status(None) == 0

    run(main)
    assert told == [("there", told[0][1], 1)]


def files(scheduler: Any, there: Any) -> Any:
    """send_file and del_file."""
    path = os.path.abspath(__file__)
    name = os.path.basename(path)
    assert (yield scheduler.send_file(there, path)) == 0
    assert (yield scheduler.send_file(there, path)) == 0
    assert (yield scheduler.send_file(there, "/no/such/file")) == -1
    assert (yield scheduler.send_file(there, path, dir="../outside")) == -1
    assert (yield scheduler.send_file(there, path, dir="inside")) == 0
    assert (yield scheduler.del_file(there, path)) == 0
    assert (yield scheduler.del_file(there, name)) == -1
    assert (yield scheduler.del_file(there, name, dir="inside")) == 0


def test_dest_path_is_there_and_can_be_changed(here: World) -> None:
    scheduler = pycos.Pycos(host="127.0.0.1", udp_port=here.udp_port)
    assert os.path.isdir(scheduler.dest_path)
    other = str(here.folder / "other")
    scheduler.dest_path = other
    assert scheduler.dest_path == other
    assert scheduler.dest_path_prefix == other
    assert scheduler.max_file_size > 0
    assert pycos.Pycos.host_ipaddr("localhost") in ("127.0.0.1", "::1")
    assert pycos.Pycos.host_ipaddr("no.such.host.invalid") is None
    assert pycos.Pycos.host_addrinfo("127.0.0.1").ip == "127.0.0.1"
    assert pycos.Pycos.host_addrinfo("no.such.host.invalid") is None


def test_join_finish_and_what_is_called_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = asyncoro.AsynCoro.instance()
    called: list[Any] = []
    waiting = asyncoro.Coro(sleeper)
    assert scheduler.join(show_running=True, timeout=0.05) is False
    assert "sleeper" in capsys.readouterr().out
    scheduler.atexit(5, called.append, "later")
    scheduler.atexit(10, called.append, "first")
    scheduler.atexit(called.append, "of 2014")
    scheduler.atexit(1, called.remove, "never")
    scheduler.drop_atexit(1, called.remove)
    threading.Timer(0.05, waiting.resume).start()
    assert scheduler.join() is True
    asyncoro.Coro(sleeper)
    scheduler.terminate()
    assert called == ["first", "of 2014", "later"]
    assert not scheduler.is_alive()
    assert scheduler.join() is True
    again = asyncoro.AsynCoro.instance()
    assert again is not scheduler
    asyncoro.Coro(answer, 1)
    again.finish()
    assert not again.is_alive()


# --- references


def test_references_give_codes(here: World) -> None:
    server = here.program(
        """
        import sys
        import discoro.compat.asyncoro as asyncoro

        def echo(coro=None):
            coro.register('echo')
            while True:
                message, client = yield coro.receive()
                if message == 'end':
                    return 'ended'
                client.send((message, coro))

        asyncoro.AsynCoro(udp_port=int(sys.argv[1]), node='127.0.0.1', name='there')
        asyncoro.Coro(echo).value()
        """,
        here.udp_port,
    )
    asyncoro.AsynCoro(udp_port=here.udp_port, node="127.0.0.1", name="here")

    def main(coro: Any = None) -> Any:
        echo = yield asyncoro.Coro.locate("echo", timeout=20)
        assert type(echo) is asyncoro.RemoteCoro
        echo.send((1, coro))
        message, reference = yield coro.receive(timeout=20)
        assert type(reference) is asyncoro.RemoteCoro
        assert (message, reference) == (1, echo)
        assert (reference.register(), reference.set_daemon(), reference.hot_swap(main)) == (-1,) * 3
        assert reference.hot_swappable(True) == -1
        assert (yield reference.finish(0.05)) is None
        assert (yield coro.monitor(reference)) == 0
        assert (yield reference.deliver(("end", coro), 20)) == 1
        assert (yield reference.finish(20)) == "ended"
        message = yield coro.receive(20)
        assert message.args[1][1].args[0] == "ended"
        assert (reference.send(1), reference.terminate(), reference.resume()) == (-1, -1, -1)
        while server.process.poll() is None:
            yield coro.sleep(0.01)
        assert (yield reference.deliver(1, 1)) == -1
        assert (yield asyncoro.Coro.locate("echo", reference.location, 1)) is None

    run(main)


# --- computations of 2014


def test_computation_codes(here: World) -> None:
    server = here.server(name="server")
    scheduler = asyncoro.AsynCoro(udp_port=here.udp_port, node="127.0.0.1", name="here")
    with pytest.raises(TypeError):
        old_discoro.Computation(len)
    computation = old_discoro.Computation(returned)

    def main(coro: Any = None) -> Any:
        nowhere = asyncoro.Location("127.0.0.1", 1)
        peer = yield asyncoro.Coro.locate("discoro_server", server.location, timeout=20)
        assert isinstance(peer, asyncoro.Coro)
        assert (yield computation.run(peer, 1)) is None
        assert (yield computation.ping(peer)) == -1
        assert (yield computation.setup(nowhere, timeout=1)) == -1
        assert (yield computation.setup("nowhere")) == -1
        assert (yield computation.setup(peer, func=failing_setup)) == -1
        assert (yield computation.setup(peer, timeout=20)) == 0
        assert (yield computation.setup(peer)) == 0
        assert (yield computation.ping(peer)) == 0
        assert (yield computation.run(peer, 1, 2, 3)) is None
        run = yield computation.run(peer, "x")
        assert type(run) is asyncoro.RemoteCoro
        assert (yield run.finish()) == "x"
        assert (yield computation.close(peer)) == 0
        assert (yield computation.close(peer)) == -1
        assert (yield computation.ping(peer)) == -1
        assert (yield computation.run(peer, 1)) is None

    assert scheduler.name == "here"
    run(main)


def test_a_computation_says_what_it_does_not_take() -> None:
    for wrong in (5, "file.py", None):
        with pytest.raises(TypeError, match="components is a list"):
            old_discoro.Computation(wrong)
    with pytest.raises(TypeError, match="no generator function"):
        old_discoro.Computation([returned], server_setup=len)
    with pytest.raises(TypeError, match="'node_alocations'"):
        old_discoro.Computation([returned], node_alocations=[])
    computation = old_discoro.Computation([returned])

    def main(coro: Any = None) -> Any:
        computation.status_coro = "nobody"
        assert (yield computation.schedule()) == -1
        assert (yield computation.run(returned, 1)) is None
        assert (yield computation.run_result(returned, 1)) is None
        assert (yield computation.setup(asyncoro.Location("127.0.0.1", 1))) == -1
        assert (yield computation.ping(asyncoro.Location("127.0.0.1", 1))) == -1
        assert (yield computation.close()) == 0
        assert (computation.enable_node("127.0.0.1"), (yield computation.servers())) == (-1, [])

    run(main)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"node": "*", "cpus": 2}, 2),
        ({"node": "127.0.0.*", "cpus": 4}, 4),
        ({"node": "127.0.0.1", "cpus": 5}, 0),
        ({"node": "*", "cpus": -1}, 3),
        ({"node": "*", "cpus": -5}, 0),
        ({"node": "*", "cpus": 0}, 0),
        ({"node": "127.0.0.2", "cpus": 2}, -1),
        ({"node": "127x0x0x1", "cpus": 2}, -1),
        ({"node": "*", "platform": "Windows", "cpus": 0}, -1),
        ({"node": "*", "platform": "Linux", "cpus": 1}, 1),
    ],
)
def test_how_many_servers_of_a_node_an_allocation_takes(
    options: dict[str, Any], allowed: int
) -> None:
    allocation = old_discoro.DiscoroNodeAllocate(**options)
    assert allocation.allocate("127.0.0.1", "name", "linux", 4, None, None) == allowed


def failing_setup() -> None:
    raise ValueError("not today")


# --- options


def test_an_option_that_there_is_not_is_told_with_the_one_that_may_have_been_meant() -> None:
    with pytest.raises(TypeError, match=r"AsynCoro has no option 'udp_prot'; 'udp_port' may"):
        asyncoro.AsynCoro(udp_prot=5)
    with pytest.raises(
        TypeError, match=r"Pycos has no option 'colour'\. It has: udp_port, tcp_port"
    ):
        pycos.Pycos.instance(colour=5)


def test_options_that_come_too_late_are_told(caplog: pytest.LogCaptureFixture) -> None:
    first = asyncoro.AsynCoro(name="first", secret="a b c d")
    assert asyncoro.AsynCoro(name="first", secret="a b c d") is first
    assert asyncoro.AsynCoro() is first
    assert not caplog.records
    assert asyncoro.AsynCoro(udp_port=7, name="second", secret="another") is first
    (record,) = caplog.records
    text = record.getMessage()
    assert "AsynCoro: name, udp_port, secret without effect: the scheduler 'first'" in text
    assert "before the first coroutine" in text


# --- a native program beside


def test_a_default_scheduler_of_discoros_own_is_taken_as_the_one() -> None:
    native = discoro.Scheduler(name="native", udp_port=1)
    try:
        assert discoro.Scheduler.instance() is native
        assert asyncoro.AsynCoro(name="old").name == "native"
        assert asyncoro.Coro(answer, 3).value() == 3
    finally:
        native.close()


def test_the_end_of_the_script_waits(here: World) -> None:
    program = here.program(
        """
        import discoro.compat.pycos as pycos

        def late(task=None):
            yield task.sleep(0.2)
            print('late')

        pycos.Task(late)
        print('script ends')
        """
    )
    started = time.monotonic()
    assert program.ends().splitlines() == ["script ends", "late"]
    assert time.monotonic() > started

"""What the contract says of wrong input, wrong threads, time limits and errors: the words that users read."""

from __future__ import annotations

import asyncio
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import discoro
from discoro import RCI, Channel, Computation, Coro, Location, Node, Scheduler, errors
from discoro.errors import (
    AuthenticationFailed,
    ComputationClosed,
    FileRefused,
    NotACoroutine,
    NotPicklable,
    PeerUnreachable,
    RunRefused,
    SchedulerClosed,
    WrongThread,
)
from discoro.hosting import Hosting
from discoro.scheduler import errors as local_errors
from discoro.scheduler.default import innermost
from discoro.shipping import errors as codeerrors
from discoro.transport.limits import Limits
from discoro.transport.secret import generate
from discoro.transport.workdir import Workdir
from tests.functional import jobs
from tests.kit import run_async
from tests.processes import ServerProgram, World, until

# --- peers added by hand


def test_a_machine_whose_processes_are_peers_already_is_one_at_once(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            await scheduler.peer("127.0.0.1", tcp_port=server.port)
            for host in ("127.0.0.1", "localhost"):
                assert await scheduler.peer(host, udp_port=shared.udp_port, timeout=3) == 0

    run_async(main)


def test_a_machine_with_another_secret_refuses_at_once(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        assert server.port
        async with shared.scheduler(secret=generate()) as scheduler:
            for _ in range(2):
                with pytest.raises(AuthenticationFailed):
                    await scheduler.peer("127.0.0.1", udp_port=shared.udp_port, timeout=8)

    run_async(main)


def test_a_machine_where_nobody_answers_says_so(own: World) -> None:
    async def main() -> None:
        async with own.scheduler() as scheduler:
            with pytest.raises(TimeoutError, match=r"nobody at 127\.0\.0\.1 has become a peer"):
                await scheduler.peer("127.0.0.1", udp_port=own.udp_port, timeout=0.3)
            with pytest.raises(PeerUnreachable, match="no-such-host"):
                await scheduler.peer("no-such-host.invalid", udp_port=own.udp_port, timeout=5)

    run_async(main)


def test_oneself_is_no_peer_and_no_error(own: World) -> None:
    async def main() -> None:
        async with own.scheduler() as scheduler:
            assert await scheduler.peer(scheduler.location, timeout=3) == 0

    run_async(main)


# --- threads and loops


def test_what_is_awaited_in_a_loop_without_a_scheduler_starts_none(own: World) -> None:
    scheduler = own.scheduler(name="not-open")
    here = Location("127.0.0.1", 1)
    computation: Computation[Any, Any] = Computation(jobs.add)

    async def main() -> None:
        for call in (
            lambda: computation.setup(here),
            lambda: computation.run(here),
            lambda: computation.ping(here),
            lambda: computation.close(here),
            lambda: Channel.locate("x"),
            lambda: scheduler.locate("x"),
            lambda: scheduler.peer("127.0.0.1"),
            lambda: scheduler.send_file(here, "x"),
            lambda: scheduler.del_file(here, "x"),
            lambda: scheduler.ping(here),
        ):
            with pytest.raises(SchedulerClosed, match="no scheduler runs in this event loop"):
                await call()  # type: ignore[no-untyped-call]
        assert innermost() is None

    try:
        asyncio.run(main())
    finally:
        scheduler.close()


def test_what_is_awaited_in_another_loop_than_the_schedulers_is_refused(own: World) -> None:
    here = Location("127.0.0.1", 1)
    computation: Computation[Any, Any] = Computation(jobs.add)

    with own.scheduler() as scheduler:
        sleeper = Coro(_sleep)

        async def main() -> None:
            for call in (
                lambda: computation.setup(here),
                lambda: computation.run(here),
                lambda: computation.ping(here),
                lambda: computation.close(here),
                lambda: scheduler.locate("x"),
                lambda: scheduler.peer("127.0.0.1"),
                lambda: scheduler.send_file(here, "x"),
                lambda: scheduler.del_file(here, "x"),
                lambda: sleeper.sleep(0),
                lambda: sleeper.receive(0),
                lambda: sleeper.finish(),
                lambda: sleeper.deliver(1),
                lambda: Channel.locate("x"),
            ):
                with pytest.raises(WrongThread, match="outside the scheduler's thread"):
                    await call()  # type: ignore[no-untyped-call]

        asyncio.run(main())
        with pytest.raises(TimeoutError, match=r"'_sleep' has not ended after 0\.01 s; it goes on"):
            sleeper.value(0.01)
        sleeper.terminate()


def test_value_in_the_schedulers_thread_says_what_to_write() -> None:
    async def main() -> None:
        coro = Coro(_sleep)
        with pytest.raises(
            WrongThread,
            match=r"^value\(\) would block the scheduler's loop: use yield/await coro\.finish\(\)$",
        ):
            coro.value()
        coro.terminate()

    discoro.run(main)


async def _sleep(coro: Any = None) -> None:
    await coro.sleep(60)


# --- two plain schedulers


def test_a_second_plain_scheduler_with_other_options_names_them(own: World) -> None:
    program = own.program("""
        from discoro import Coro, Scheduler
        from discoro.errors import SchedulerConflict

        def f(coro=None):
            yield coro.sleep(0)
            return 1

        first = Scheduler(name="a", node="127.0.0.1", secret="one and only")
        assert Coro(f).value() == 1
        try:
            Scheduler(name="b", node="127.0.0.1", secret="another one")
        except SchedulerConflict as error:
            print(error)
        assert Coro(f).scheduler is first and Scheduler.instance() is first
        Scheduler(name="a", node="127.0.0.1", secret="one and only")
    """)
    said = program.ends()
    assert "name='a' and 'b', secret)" in said and "one and only" not in said


# --- computations


def test_what_is_no_coroutine_function_says_what_to_write() -> None:
    async def both() -> Any:
        yield 1

    for given, words in (
        (None, "None is neither a generator function"),
        (print, "print is an ordinary function: write `async def print`, or put a `yield` in it"),
        (lambda: 1, "a lambda is an ordinary function"),
        (both, "yield and async def do not go together"),
    ):
        with pytest.raises(NotACoroutine) as caught:
            Computation(given)  # type: ignore[arg-type]
        assert words in str(caught.value)
    with pytest.raises(TypeError, match=r"depends is a list: depends=\['abc'\]"):
        Computation(jobs.add, depends="abc")


def test_wrong_input_of_a_computation_is_refused_before_anything_is_sent(own: World) -> None:
    here = Location("127.0.0.1", 1)  # nobody is there: who dials hears something else
    computation: Computation[Any, Any] = Computation(jobs.add)

    async def main() -> None:
        async with own.scheduler():
            for call in (computation.setup, computation.close):
                for wrong in (
                    {"func": 5},
                    {"args": 5},
                    {"args": "ab"},
                    {"kwargs": [1]},
                    {"timeout": "soon"},
                ):
                    with pytest.raises(TypeError):
                        await call(here, **wrong)  # type: ignore[arg-type]
            for timeout in ("soon", True):
                with pytest.raises(TypeError, match="a timeout is a number of seconds or None"):
                    await computation.ping(here, timeout=timeout)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="a timeout is a number of seconds or None"):
                computation.options(timeout=float("nan"))
            for where in (None, "127.0.0.1", 5):
                with pytest.raises(TypeError, match="a Location or a reference"):
                    await computation.setup(where)  # type: ignore[arg-type]

    run_async(main)


def test_what_cannot_be_sent_is_named_as_the_caller_knows_it(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add)
            await computation.setup(server.location)
            with pytest.raises(NotPicklable, match=r"^argument 2 of add\(\) cannot be sent: it is"):
                await computation.run(server.location, 1, threading.Lock())
            with pytest.raises(NotPicklable, match=r"^argument 'c' of add\(\) cannot be sent: "):
                await computation.run(server.location, 1, 2, c=[threading.Lock()])
            endless: list[Any] = [threading.Lock()]
            for _ in range(40):
                endless = [endless]
            with pytest.raises(NotPicklable) as caught:
                await computation.run(server.location, endless)
            assert len(str(caught.value)) < 400 and "34 more" in str(caught.value)
            locks: Computation[Any, Any] = Computation(_lock)
            await locks.setup(server.location)
            run = await locks.run(server.location)
            with pytest.raises(NotPicklable, match=r"^the result of _lock\(\) cannot be sent: "):
                await run
            await locks.close(server.location)
            await computation.close(server.location)

    run_async(main)


async def _lock() -> Any:
    return threading.Lock()


def test_a_forgotten_yield_is_named(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.add)
        await computation.setup(server.location)
        with pytest.raises(NotPicklable, match=r"a yield or await is missing before coro\.receive"):
            await computation.run(server.location, coro.receive(), 1)
        with pytest.raises(NotPicklable, match=r"a yield or await is missing before coro\.sleep"):
            await computation.run(server.location, coro.sleep(1), 1)
        located = Coro.locate("x")
        with pytest.raises(NotPicklable, match=r"a yield or await is missing before Coro\.locate"):
            await computation.run(server.location, located, 1)
        located.close()  # type: ignore[attr-defined]
        await computation.close(server.location)

    shared.scheduler().run(main)


def test_time_limits_say_what_has_not_happened(shared: World, server: ServerProgram) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(_sleep)
            with pytest.raises(
                TimeoutError, match=r"^_sleep is not set up at .* after 0 s; nothing"
            ):
                await computation.setup(server.location, timeout=0)
            await computation.setup(server.location)
            run = await computation.run(server.location)
            with pytest.raises(TimeoutError, match=r"has not ended after 0\.01 s; it goes on"):
                await run.finish(0.01)
            hurried = computation.options(timeout=0)
            with pytest.raises(TimeoutError, match=r"^_sleep has not begun at .* after 0 s"):
                await hurried.run(server.location)
            with pytest.raises(TimeoutError, match=r"^_sleep is not closed at .* after 0 s"):
                await computation.close(server.location, timeout=0)

    run_async(main)


def test_a_server_about_to_end_takes_no_runs() -> None:
    hosting = Hosting(max_runs=10, max_computations=10)
    hosted = hosting.offer(b"c" * 16, b"o" * 16, "f")
    hosting.begin(hosted)
    handle = hosting.ready(hosted)
    hosting.draining = True
    with pytest.raises(RunRefused, match="this server is about to end and takes no new runs"):
        hosting.for_run(handle, b"o" * 16)


# --- errors


def test_every_error_that_users_meet_is_in_errors() -> None:
    assert set(errors.__all__) <= set(dir(errors))
    for name in errors.__all__:
        found = getattr(errors, name)
        if isinstance(found, type):
            assert issubclass(found, BaseException)
            assert found.__module__ == "discoro.errors", found
            assert name in (errors.__doc__ or "") + (local_errors.__doc__ or "") + (
                codeerrors.__doc__ or ""
            )
    too_big = pickle.loads(pickle.dumps(errors.MessageTooBig(5, 4)))
    assert type(too_big) is errors.MessageTooBig and too_big.limit == 4


# --- messages, names and locations


def test_a_message_that_cannot_be_decoded_is_logged_on_both_sides(
    shared: World, server: ServerProgram, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            remote = await Coro.locate("discoro_server", server.location)
            assert remote is not None
            for _ in range(3):
                remote.send(_Undecodable())
            while "could not decode a message" not in caplog.text:
                await asyncio.sleep(0.005)

    run_async(main)
    until(lambda: "could not be decoded and was not queued" in server.err)


class _Undecodable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_wrong_input_is_refused_by_the_caller_and_the_session_lives_on(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            remote: Any = await Coro.locate("discoro_server", server.location)
            here: Any = Coro(_sleep)
            channel: Any = Channel("news")
            for thing in (remote, here, channel):
                for wrong in (5, b"x", "half \ud800"):
                    with pytest.raises((TypeError, ValueError), match="a name is a text"):
                        thing.register(wrong)
                    with pytest.raises((TypeError, ValueError), match="a name is a text"):
                        thing.unregister(wrong)
            for locate in (Coro.locate, Channel.locate, RCI.locate, scheduler.locate):
                for wrong in (None, 5, "half \ud800"):
                    with pytest.raises((TypeError, ValueError), match="a name is a text"):
                        await locate(wrong)  # type: ignore[operator]
                with pytest.raises(TypeError, match="a timeout is a number"):
                    await locate("x", timeout="soon")  # type: ignore[operator]
            with pytest.raises(TypeError, match="names are looked for at a Location"):
                await Coro.locate("x", "127.0.0.1")  # type: ignore[arg-type]
            for call in (
                lambda: remote.deliver(1, "soon"),
                lambda: remote.finish("soon"),
                lambda: here.finish("soon"),
                lambda: here.deliver(1, "soon"),
                lambda: channel.deliver(1, "soon"),
                lambda: scheduler.peer("127.0.0.1", timeout="soon"),  # type: ignore[arg-type]
                lambda: scheduler.send_file(server.location, "x", timeout="soon"),  # type: ignore[arg-type]
                lambda: scheduler.del_file(server.location, "x", timeout="soon"),  # type: ignore[arg-type]
            ):
                with pytest.raises(TypeError, match="a timeout is a number"):
                    await call()
            for n in ("two", -1, 1.5):
                with pytest.raises((TypeError, ValueError), match=r"^n is "):
                    await channel.deliver(1, n=n)
            with pytest.raises(TypeError, match="who hears of peers is a function"):
                scheduler.peer_status(5)  # type: ignore[arg-type]
            here.terminate()
            assert await scheduler.ping(server.location) == 0

    run_async(main)


def test_wrong_options_and_locations_are_refused() -> None:
    for wrong in ({"max_mailbox": "x"}, {"name": ""}, {"host": "127.0.0.1", "node": "127.0.0.2"}):
        with pytest.raises(TypeError):
            Scheduler(**wrong)  # type: ignore[arg-type]
    for arguments in ((None, 1), ("a", 1, None, "x"), ("a", 1, 5), (b"a", 1)):
        with pytest.raises(TypeError):
            Location(*arguments)  # type: ignore[arg-type]


def test_this_process_as_a_peer_of_its_own(own: World, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("x")

    async def main() -> None:
        async with own.scheduler() as scheduler:
            computation: Computation[Any, Any] = Computation(jobs.add)
            with pytest.raises(
                ComputationClosed, match="hosts no computations: it runs no"
            ) as none:
                await computation.setup(scheduler.location)
            assert "Offer" not in str(none.value)
            with pytest.raises(FileRefused, match="this process itself"):
                await scheduler.send_file(scheduler.location, path)
            with pytest.raises(FileRefused, match="this process itself"):
                await scheduler.del_file(scheduler.location, "data")

    run_async(main)


def test_who_holds_a_file_is_named_as_people_do(own: World) -> None:
    node = own.folder / "work"
    limits = Limits()

    async def main() -> None:
        with_folder = Workdir.shared(str(node), limits)
        async with own.scheduler(workdir=with_folder) as scheduler:
            files = scheduler.network.files
            await files.admit("aa" * 16, "work of client-1", [("d", 1, b"h" * 32, 0o644)])
            with pytest.raises(FileRefused, match="by computation work of client-1: close"):
                await files.admit("bb" * 16, "more of client-2", [("d", 2, b"i" * 32, 0o644)])

    run_async(main)


def test_a_node_that_does_not_start_says_why_in_the_error(own: World) -> None:
    with pytest.raises(errors.NodeFailed, match="10000000 asks for more servers than") as caught:
        Node(10_000_000, udp_port=own.udp_port).start()
    assert "10000000 asks for" in caught.value.said and caught.value.exit_code == 2
    with pytest.raises(errors.NodeFailed, match="--keyfile needs --certfile"):
        Node(1, udp_port=own.udp_port, keyfile="key.pem").start()


def test_coro_is_two_classes_behind_one_name_and_cannot_be_derived_from() -> None:
    with pytest.raises(TypeError, match="Mine cannot be derived from Coro"):
        type("Mine", (Coro,), {})
    assert issubclass(discoro.localcoro.LocalCoro, Coro) and issubclass(
        discoro.remotecoro.RemoteCoro, Coro
    )

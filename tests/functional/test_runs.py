"""Computations at a real server: setup, run, ping, close, and every way in which a run can end or be refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from discoro import Computation, Coro
from discoro.errors import (
    ComputationClosed,
    NotPicklable,
    RunRefused,
    SetupFailed,
    Terminated,
)
from tests.functional import jobs
from tests.kit import run_async
from tests.processes import ServerProgram, World


def test_a_generator_function_and_an_async_function_run_at_a_server(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            for function, expected in ((jobs.add, 12), (jobs.multiply, 20)):
                computation: Computation[Any, Any] = Computation(function)
                assert await computation.setup(server.location) == 0
                run = await computation.run(server.location, 2, 10)
                assert await run == expected
                assert await run.finish() == expected
                assert not run.is_alive()
                assert await computation.ping(server.location) == 0
                assert await computation.close(server.location) == 0

    run_async(main)


def test_a_generator_client_works_with_yield(shared: World, server: ServerProgram) -> None:
    def client(coro: Any = None) -> Any:
        peer = yield Coro.locate("discoro_server", server.location)
        computation: Computation[Any, Any] = Computation(jobs.add)
        done = yield computation.setup(peer)
        assert done == 0
        run = yield computation.run(peer, 1, 2, c=3)
        result = yield run.finish()
        pinged = yield computation.ping(peer)
        closed = yield computation.close(peer)
        return result, pinged, closed

    assert shared.scheduler().run(client) == (6, 0, 0)


def test_a_run_that_computes_is_there_before_it_is_through(
    shared: World, server: ServerProgram, other: ServerProgram, tmp_path: Path
) -> None:
    """So `await computation.run` in a loop keeps all servers busy, not one after the other."""

    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.compute_until)
            for each in (server, other):
                await computation.setup(each.location)
            for turn in range(3):
                names = [str(tmp_path / f"{turn} {place}") for place in "ab"]
                runs = [
                    await computation.run(each.location, name)
                    for each, name in zip((server, other), names, strict=True)
                ]
                with pytest.raises(TimeoutError):
                    await runs[0].finish(timeout=0.05)
                for name in names:
                    Path(name).touch()
                assert [await run for run in runs] == names

    run_async(main)


def test_setup_twice_gives_0_and_many_runs_share_globals(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.remember)
            other: Computation[Any, Any] = Computation(jobs.remember)
            for one in (computation, computation, other):
                assert await one.setup(server.location) == 0
            assert await (await computation.run(server.location, 1)) == [1]
            assert await (await computation.run(server.location, 2)) == [1, 2]
            assert await (await other.run(server.location, 3)) == [3]
            await computation.close(server.location)
            assert await computation.setup(server.location) == 0
            assert await (await computation.run(server.location, 4)) == [4]

    run_async(main)


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "expected"),
    [
        (jobs.set_up, (1,), {}, [1]),
        (jobs.set_up_slowly, (2,), {}, [2]),
        (jobs.set_up_async, (3,), {"extra": 4}, [(3, 4)]),
    ],
)
def test_the_function_of_setup_runs_first_in_the_same_globals(
    shared: World,
    server: ServerProgram,
    function: Any,
    arguments: Any,
    keywords: Any,
    expected: list[Any],
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.remember, [function])
            await computation.setup(server.location, func=function, args=arguments, kwargs=keywords)
            assert await (await computation.run(server.location, "run")) == [*expected, "run"]

    run_async(main)


def test_a_function_of_setup_that_raises_is_setup_failed_and_leaves_nothing_set_up(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add, [jobs.set_up_badly])
            with pytest.raises(SetupFailed, match=r"set_up_badly.*no good"):
                await computation.setup(server.location, func=jobs.set_up_badly)
            assert await computation.ping(server.location) == -1
            with pytest.raises(ComputationClosed):
                await computation.run(server.location, 1)
            assert await computation.setup(server.location) == 0
            assert await (await computation.run(server.location, 1)) == 11

    run_async(main)


def test_the_function_of_close_runs_after_the_coroutines_have_ended(
    shared: World, server: ServerProgram, tmp_path: Path
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.hang, [jobs.write])
            await computation.setup(server.location)
            run = await computation.run(server.location)
            path = tmp_path / "closed"
            args = (str(path), "it was closed")
            assert await computation.close(server.location, func=jobs.write, args=args) == 0
            assert path.read_text() == "it was closed"
            with pytest.raises(Terminated):
                await run

    run_async(main)


def test_a_failing_function_of_close_is_told_and_it_is_closed_all_the_same(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add, [jobs.set_up_badly])
            await computation.setup(server.location)
            with pytest.raises(SetupFailed, match="no good"):
                await computation.close(server.location, func=jobs.set_up_badly)
            assert await computation.ping(server.location) == -1
            assert await computation.setup(server.location) == 0

    run_async(main)


def test_after_close_run_raises_and_ping_gives_minus_1(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add)
            with pytest.raises(ComputationClosed, match=r"not set up.*setup"):
                await computation.run(server.location, 1)
            assert await computation.ping(server.location) == -1
            await computation.setup(server.location)
            await computation.close(server.location)
            with pytest.raises(ComputationClosed, match=r"closed.*setup"):
                await computation.run(server.location, 1)
            with pytest.raises(ComputationClosed):
                await computation.close(server.location)
            assert await computation.ping(server.location) == -1

    run_async(main)


def test_arguments_that_do_not_fit_are_refused(shared: World, server: ServerProgram) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add)
            await computation.setup(server.location)
            for arguments, keywords in (((), {}), ((1, 2, 3), {}), ((1,), {"d": 1})):
                with pytest.raises(RunRefused, match="add"):
                    await computation.run(server.location, *arguments, **keywords)
            assert await (await computation.run(server.location, 1)) == 11

    run_async(main)


def test_keywords_of_the_users_function_are_never_taken(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.keywords)
            await computation.setup(server.location)
            given = {"peer": 1, "timeout": 2, "detach": 3, "self": 4, "where": 5, "func": 6}
            assert await (await computation.run(server.location, **given)) == given

    run_async(main)


def test_what_a_run_raises_is_raised_at_the_client_with_the_remote_traceback(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.fail)
            await computation.setup(server.location)
            run = await computation.run(server.location, "broken")
            with pytest.raises(ValueError, match="broken") as caught:
                await run
            import traceback

            text = "".join(traceback.format_exception(caught.value))
            assert "raise ValueError(text)" in text and "jobs.py" in text
            with pytest.raises(ValueError, match="broken"):
                await run.finish()

    run_async(main)


def test_an_exception_of_the_clients_own_class_comes_home_as_that_class(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.fail_oddly)
            await computation.setup(server.location)
            with pytest.raises(jobs.Odd) as caught:
                await (await computation.run(server.location, 7))
            assert caught.value.number == 7 and type(caught.value) is jobs.Odd

    run_async(main)


def test_a_terminated_run_raises_terminated_and_cleans_up(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.hang)
        await computation.setup(server.location)
        run = await computation.run(server.location, coro)
        assert await coro.receive() == "here"
        assert run.is_alive()
        assert run.terminate() == 0
        assert await coro.receive() == "ended"
        with pytest.raises(Terminated):
            await run
        with pytest.raises(Terminated):
            await run.finish(1)
        assert not run.is_alive()
        assert run.terminate() == 0

    shared.run(main)


def test_finish_with_a_timeout_leaves_the_run_alone(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.wait)
        await computation.setup(server.location)
        run = await computation.run(server.location)
        with pytest.raises(TimeoutError):
            await run.finish(0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await run
        assert run.is_alive()
        run.send("go on")
        assert await run == "go on"

    shared.run(main)


def test_resume_and_throw_reach_a_run(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.suspended)
        await computation.setup(server.location)
        run = await computation.run(server.location, coro)
        assert await coro.receive() == "here"
        assert run.resume({"with": 1}) == 0
        assert await run == {"with": 1}
        run = await computation.run(server.location, coro)
        assert await coro.receive() == "here"
        assert run.throw(ValueError("thrown")) == 0
        with pytest.raises(ValueError, match="thrown"):
            await run
        run = await computation.run(server.location, coro)
        assert await coro.receive() == "here"
        assert run.throw(KeyError, "by type") == 0
        with pytest.raises(KeyError, match="by type"):
            await run

    shared.run(main)


def test_a_start_that_takes_too_long_raises_timeout_error(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.block)
        await computation.setup(server.location)
        blocking = await computation.run(server.location, coro, 1.0)
        assert await coro.receive() == "blocking"
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await computation.options(timeout=0.1).run(server.location, coro, 0)
        assert await blocking == "blocked"
        # What was given up at the client has been cancelled there: it never said anything.
        assert await coro.receive(0.2) is None

    shared.run(main)


def test_cancelling_the_wait_for_a_run_cancels_the_start(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.block)
        await computation.setup(server.location)
        await computation.run(server.location, coro, 1.0)
        assert await coro.receive() == "blocking"
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await computation.run(server.location, coro, 0)
        assert await coro.receive(1.5) is None

    shared.run(main)


def test_an_argument_or_result_that_cannot_be_sent_is_named(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.unsendable)
            await computation.setup(server.location)
            with pytest.raises(NotPicklable, match="lock"):
                import threading

                await computation.run(server.location, {"inner": threading.Lock()})
            with pytest.raises(Exception, match="lock"):
                await (await computation.run(server.location, 1))
            assert await computation.ping(server.location) == 0

    run_async(main)


def test_a_computation_is_a_generator_function_or_a_coroutine_function() -> None:
    for wrong in (jobs.set_up, 5, "text", print, jobs.Odd, None):
        with pytest.raises(TypeError, match=r"generator function|ordinary function"):
            Computation(wrong)  # type: ignore[arg-type]


def test_a_peer_of_a_wrong_type_is_a_type_error(shared: World) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.add)
            for wrong in (5, "localhost", None, object()):
                with pytest.raises(TypeError, match="Location"):
                    await computation.setup(wrong)  # type: ignore[arg-type]

    run_async(main)


def test_a_run_gets_its_own_coro_and_runs_coroutines_of_its_own(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.start_inner)
            await computation.setup(server.location)
            inner = await (await computation.run(server.location))
            assert inner.location.id == bytes.fromhex(server.where[1])
            assert await inner.deliver("to the inner one") == 1
            assert await inner.finish(5) == "to the inner one"

    run_async(main)


def test_thousands_of_runs_at_once_return_in_their_own_places(
    shared: World, server: ServerProgram
) -> None:
    async def main() -> None:
        async with shared.scheduler():
            computation: Computation[Any, Any] = Computation(jobs.multiply)
            await computation.setup(server.location)

            async def one(number: int) -> int:
                result: int = await (await computation.run(server.location, number, 2))
                return result

            results = await asyncio.gather(*(one(number) for number in range(2000)))
            assert results == [number * 2 for number in range(2000)]

    run_async(main)


def test_a_computation_set_up_at_home_runs_at_home(shared: World) -> None:
    async def main(coro: Any = None) -> None:
        from discoro import discoro_server

        Coro(discoro_server)
        peer = await Coro.locate("discoro_server")
        assert peer is not None
        computation: Computation[Any, Any] = Computation(jobs.add)
        await computation.setup(peer)
        assert await (await computation.run(peer, 1, 2)) == 3
        echo: Computation[Any, Any] = Computation(jobs.echo)
        await echo.setup(peer)
        run = await echo.run(peer, coro)
        run.send("there and back")
        assert await coro.receive(5) == "there and back"
        await computation.close(peer)

    shared.run(main, local=True)


def test_setups_at_the_same_time_are_one(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.remember, [jobs.set_up_slowly])
        setups = [
            computation.setup(server.location, func=jobs.set_up_slowly, args=(number,))
            for number in range(5)
        ]
        assert await asyncio.gather(*setups) == [0] * 5
        assert await (await computation.run(server.location, "run")) == [0, "run"]

    shared.run(main)


def test_a_setup_that_takes_too_long_raises_and_leaves_nothing(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.add, [jobs.hang])
        with pytest.raises(TimeoutError):
            await computation.setup(server.location, timeout=1.5, func=jobs.hang, args=(coro,))
        assert await coro.receive(5) == "here"
        assert await coro.receive(5) == "ended"
        assert await computation.ping(server.location) == -1
        with pytest.raises(ComputationClosed):
            await computation.run(server.location, 1)
        assert await computation.setup(server.location, timeout=10) == 0
        assert await (await computation.run(server.location, 1)) == 11

    shared.run(main)


def test_a_close_that_is_cancelled_is_carried_out(shared: World, server: ServerProgram) -> None:
    async def main(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.hang, [jobs.hang])
        await computation.setup(server.location)
        run = await computation.run(server.location)
        with pytest.raises(TimeoutError):
            await computation.close(server.location, func=jobs.hang, args=(coro,), timeout=1.0)
        assert await coro.receive(5) == "here"
        with pytest.raises(Terminated):
            await run.finish(5)
        assert await computation.ping(server.location) == -1

    shared.run(main)


def test_two_watchers_get_one_message_each_however_often_they_asked(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        async def watch(run: Any, coro: Any = None) -> Any:
            for _ in range(3):
                assert await coro.monitor(run) == 0
            first = await coro.receive()
            return first.args[1][0], await coro.receive(0.1)

        computation: Computation[Any, Any] = Computation(jobs.wait)
        await computation.setup(server.location)
        run = await computation.run(server.location)
        watchers: list[Coro[Any]] = [Coro(watch, run) for _ in range(2)]
        await asyncio.sleep(0.05)
        run.send("end")
        for watcher in watchers:
            assert await watcher == (StopIteration, None)

    shared.run(main)


def test_a_detached_run_outlives_its_client_and_another_one_finds_it(
    shared: World, server: ServerProgram
) -> None:
    async def first(coro: Any = None) -> None:
        computation: Computation[Any, Any] = Computation(jobs.register_and_wait)
        await computation.setup(server.location)
        await computation.options(detach=True).run(server.location, "left behind")
        assert await Coro.locate("left behind", server.location, timeout=5) is not None

    async def second(coro: Any = None) -> None:
        found: Any = await Coro.locate("left behind", server.location, timeout=5)
        await coro.monitor(found)
        finishing = asyncio.ensure_future(found.finish(10))
        await asyncio.sleep(0.05)
        assert await found.deliver("from another client") == 1
        assert await finishing == ("from another client", 1)
        assert (await coro.receive(5)).args[1][0] is StopIteration
        assert await found.finish(5) == ("from another client", 1)

    shared.run(first)
    shared.run(second)


def test_a_reference_that_was_received_works_from_the_main_thread(
    shared: World, server: ServerProgram
) -> None:
    async def fetch(coro: Any = None) -> Any:
        computation: Computation[Any, Any] = Computation(jobs.start_inner)
        await computation.setup(server.location)
        return await (await computation.run(server.location))

    with shared.scheduler():
        inner = Coro(fetch).value(20)
        assert inner.send("from the main thread") == 0
        assert inner.value(20) == "from the main thread"


def test_wrong_arguments_for_the_function_of_setup_are_setup_failed(
    shared: World, server: ServerProgram
) -> None:
    async def main(coro: Any = None) -> None:
        for function in (jobs.set_up, jobs.set_up_slowly, jobs.set_up_async):
            computation: Computation[Any, Any] = Computation(jobs.add, [function])
            with pytest.raises(SetupFailed, match=function.__name__):
                await computation.setup(server.location, func=function, args=(1, 2, 3))

    shared.run(main)

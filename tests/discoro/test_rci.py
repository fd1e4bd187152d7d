"""RCI: services called here and from other processes, their ends, monitors, and what goes wrong."""

from __future__ import annotations

import asyncio
import functools
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from discoro import RCI, Coro, MonitorException, Scheduler
from discoro.errors import (
    DiscoroError,
    NameTaken,
    NoSuchCoro,
    NotACoroutine,
    NotPicklable,
    RunRefused,
    Terminated,
)
from discoro.rci import RemoteRCI
from tests.kit import eventually, run_async
from tests.processes import World, world


def generator(a: Any, b: int = 1, coro: Any = None) -> Any:
    message = yield coro.receive()
    if b % 2:
        raise ValueError(f"odd: {b}")
    return a, b, message


async def add(a: int, b: int = 1) -> int:
    return a + b


async def echo(value: Any) -> Any:
    return value


async def unsendable() -> Any:
    return threading.Lock()


async def forever(coro: Any = None) -> None:
    await coro.suspend()


class Counter:
    def __init__(self) -> None:
        self.count = 0

    async def step(self, by: int, coro: Any = None) -> int:
        self.count += by
        await coro.sleep(0)
        return self.count


def two(folder: Path, work: Any) -> None:
    """Run ``work(server, client, World)`` with two schedulers of one process that meet over TCP."""

    async def main() -> None:
        with world(folder) as here:
            async with (
                here.scheduler(name="server") as server,
                here.scheduler(name="client") as client,
            ):
                await work(server, client, here)

    run_async(main)


async def inside(scheduler: Scheduler, function: Any, *args: Any) -> Any:
    """Run a coroutine of one of the two schedulers."""
    return await scheduler.spawn(function, args)


def test_a_service_is_called_here_and_gives_its_coroutine() -> None:
    async def main() -> None:
        async with Scheduler():
            rci: RCI[Any] = RCI(generator)
            assert rci.name == "generator"
            coro = await rci("x", b=2)
            assert coro.name == "generator"
            coro.send("hello")
            assert await coro == ("x", 2, "hello")
            counter = Counter()
            for method in (counter.step, functools.partial(counter.step)):
                service: RCI[Any] = RCI(method, "step")
                await (await service(2))
            assert counter.count == 4

    run_async(main)


@pytest.mark.parametrize("func", [None, 3, "add", len, lambda: 1, Counter])
def test_what_is_no_coroutine_function_is_refused(func: Any) -> None:
    async def main() -> None:
        async with Scheduler():
            with pytest.raises(NotACoroutine):
                RCI(func)

    run_async(main)


def test_wrong_arguments_are_run_refused_and_name_the_service() -> None:
    async def main() -> None:
        async with Scheduler():
            with pytest.raises(RunRefused, match=r"add: .*unexpected keyword"):
                await RCI(add)(1, c=3)

    run_async(main)


def test_names_are_taken_and_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        with world(tmp_path) as here:
            async with here.scheduler():
                first, second = RCI(add), RCI(echo, "add")
                assert first.register() == 0
                assert first.register() == 0
                with pytest.raises(NameTaken):
                    second.register()
                assert await RCI.locate("add") is first
                assert first.unregister() == 0
                assert second.register() == 0
                assert await RCI.locate("add") is second
                assert await RCI.locate("nobody", timeout=0.01) is None

    run_async(main)


def test_a_reference_that_comes_home_is_the_service() -> None:
    async def main() -> None:
        async with Scheduler():
            rci = RCI(add)
            assert pickle.loads(pickle.dumps(rci)) is rci
            rci.close()
            stale = pickle.loads(pickle.dumps(RCI(echo)))
            assert isinstance(stale, RCI)

    run_async(main)


def test_a_closed_service_ends_its_coroutines_and_takes_no_calls() -> None:
    async def main() -> None:
        async with Scheduler():
            rci = RCI(forever)
            rci.register()
            coro = await rci()
            assert rci.close() == 0
            with pytest.raises(Terminated):
                await coro
            with pytest.raises(DiscoroError, match="'forever' was closed"):
                await rci()
            with pytest.raises(DiscoroError, match="closed"):
                rci.register()

    run_async(main)


def test_a_monitor_hears_of_every_end_once() -> None:
    async def main(coro: Any = None) -> None:
        rci = RCI(generator)
        assert await rci.monitor(coro) == 0
        assert await rci.monitor(coro) == 0
        calls = [await rci("x", b=b) for b in (1, 2)]
        for call in calls:
            call.send("m")
        ends = {}
        for _ in calls:
            end = await coro.receive(5)
            assert isinstance(end, MonitorException)
            ends[end.coro] = end
        assert ends[calls[0]].type is ValueError
        assert ends[calls[1]].value.value == ("x", 2, "m")
        assert await coro.receive(0.01) is None
        with pytest.raises(TypeError, match="a monitor is a coroutine"):
            await rci.monitor(3)  # type: ignore[arg-type]

    Scheduler().run(main)


def test_a_remote_call_runs_there_and_its_reference_does_all_that_references_do(
    tmp_path: Path,
) -> None:
    async def work(server: Scheduler, client: Scheduler, here: World) -> None:
        async def serve() -> None:
            RCI(generator).register()
            RCI(add).register()
            RCI(echo).register()
            RCI(unsendable).register()
            RCI(forever).register()

        async def ask(coro: Any = None) -> None:
            rci = await RCI.locate("generator", timeout=10)
            assert isinstance(rci, RemoteRCI)
            assert rci.location == server.location
            assert await RCI.locate("generator", rci.location, 5) == rci
            await rci.monitor(coro)
            calls = [await rci("x", b=b) for b in (1, 2)]
            assert all(isinstance(call, Coro) for call in calls)
            for call in calls:
                assert call.name == "generator"
                assert call.is_alive()
                assert await call.deliver("m", 5) == 1
            with pytest.raises(ValueError, match="odd: 1"):
                await calls[0].finish(5)
            assert await calls[1] == ("x", 2, "m")
            ends = {}
            for _ in calls:
                end = await coro.receive(5)
                ends[end.coro] = end
            assert set(ends) == set(calls)
            assert ends[calls[1]].value.value == ("x", 2, "m")
            with pytest.raises(NoSuchCoro):
                await calls[1].deliver("late", 5)

            quick = await RCI.locate("add", timeout=5)
            assert quick is not None
            results = await asyncio.gather(*[_result(quick, n) for n in range(50)])
            assert results == [n + 1 for n in range(50)]
            with pytest.raises(RunRefused, match="add: "):
                await quick(1, 2, 3)
            with pytest.raises(NotPicklable):
                await quick(asyncio.get_running_loop())
            same = await RCI.locate("echo", timeout=5)
            assert same is not None
            big = bytes(3 << 20)
            assert await (await same(big)) == big
            again = await (await same(same))
            assert isinstance(again, RCI)
            assert again.number == same.number
            assert len({same, await RCI.locate("echo", server.location, 5)}) == 1
            lock = await RCI.locate("unsendable", timeout=5)
            assert lock is not None
            with pytest.raises(NotPicklable, match="lock"):
                await (await lock())

            endless = await RCI.locate("forever", timeout=5)
            assert endless is not None
            first, second = await endless(), await endless()
            first.terminate()
            with pytest.raises(Terminated):
                await first
            assert endless.close() == 0
            with pytest.raises(Terminated):
                await second
            with pytest.raises(DiscoroError, match="closed"):
                await endless()
            with pytest.raises(DiscoroError, match="registered there"):
                rci.unregister()

        await inside(server, serve)
        await inside(client, ask)
        assert not [c for c in server.coros if c.name == "generator"]

    two(tmp_path, work)


async def _result(rci: RCI[Any], n: int) -> Any:
    return await (await rci(n))


def test_a_service_sent_in_a_message_can_be_called_without_a_name(tmp_path: Path) -> None:
    async def work(server: Scheduler, client: Scheduler, here: World) -> None:
        async def take(coro: Any = None) -> Any:
            coro.register("taker")
            rci = await coro.receive()
            return await (await rci(4, 5))

        async def give() -> None:
            taker = await Coro.locate("taker", timeout=10)
            assert taker is not None
            taker.send(RCI(add))

        taking = server.spawn(take)
        await inside(client, give)
        assert await taking == 9

    two(tmp_path, work)


def test_a_call_of_a_closed_service_says_so(tmp_path: Path) -> None:
    async def work(server: Scheduler, client: Scheduler, here: World) -> None:
        services: list[RCI[Any]] = []

        async def serve() -> None:
            services.append(RCI(add))
            services[0].register()

        async def ask() -> None:
            rci = await RCI.locate("add", timeout=10)
            assert rci is not None
            services[0].close()
            with pytest.raises(DiscoroError, match="no such service"):
                await rci(1)

        await inside(server, serve)
        await inside(client, ask)

    two(tmp_path, work)


def test_the_coroutines_of_a_caller_end_with_its_session_and_monitors_hear_of_the_servers_end(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        with world(tmp_path) as here:
            async with here.scheduler(name="server") as server:

                async def serve() -> None:
                    RCI(forever).register()

                async def ask(coro: Any = None) -> None:
                    rci = await RCI.locate("forever", timeout=10)
                    assert rci is not None
                    await rci()

                async def watch(coro: Any = None) -> None:
                    rci = await RCI.locate("forever", timeout=10)
                    assert rci is not None
                    await rci.monitor(coro)
                    run = await rci()
                    with pytest.raises(Terminated):
                        await run
                    end = await coro.receive(5)
                    assert end.type is Terminated

                await inside(server, serve)
                async with here.scheduler(name="client") as client:
                    await inside(client, ask)
                    assert [c.name for c in server.coros] == ["forever"]
                await eventually(lambda: not server.coros)
                other = here.scheduler(name="other")
                async with other:
                    watching = other.spawn(watch)
                    await eventually(lambda: server.coros)
                    await server.close(cancel=True)
                    await watching

    run_async(main)


def test_cancelling_a_call_cancels_the_start(tmp_path: Path) -> None:
    async def work(server: Scheduler, client: Scheduler, here: World) -> None:
        async def serve() -> None:
            RCI(forever).register()

        async def ask() -> None:
            rci = await RCI.locate("forever", timeout=10)
            assert rci is not None
            call = asyncio.ensure_future(rci())
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        await inside(server, serve)
        await inside(client, ask)
        await eventually(lambda: not server.coros)

    two(tmp_path, work)


def test_the_server_monitors_calls_that_come_from_elsewhere(tmp_path: Path) -> None:
    async def work(server: Scheduler, client: Scheduler, here: World) -> None:
        async def serve(coro: Any = None) -> Any:
            rci = RCI(add)
            await rci.monitor(coro)
            rci.register()
            return (await coro.receive()).value.value

        async def ask() -> None:
            rci = await RCI.locate("add", timeout=10)
            assert rci is not None
            await (await rci(1, 6))

        serving = server.spawn(serve)
        await inside(client, ask)
        assert await serving == 7

    two(tmp_path, work)

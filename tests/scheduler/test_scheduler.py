from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import (
    Channel,
    Coro,
    Mark,
    NameTaken,
    Scheduler,
    SchedulerClosed,
    SchedulerConflict,
    Terminated,
    WrongThread,
    to_thread,
)
from tests.kit import run_async

Yields = Generator[Any, Any, Any]


def returns(value: Any, coro: Any = None) -> Yields:
    yield coro.sleep(0.001)
    return value


def waits(coro: Any = None) -> Yields:
    return (yield coro.receive())


# -- the four ways ----------------------------------------------------------------------------------


def test_run_gives_the_result_and_raises_the_failure() -> None:
    def fails() -> Yields:
        yield
        raise ValueError("x")

    def leaves() -> Yields:
        yield
        raise SystemExit(3)

    assert Scheduler().run(returns, 5) == 5
    with pytest.raises(ValueError, match="x"):
        Scheduler().run(fails)
    with pytest.raises(SystemExit) as caught:
        Scheduler().run(leaves)
    assert caught.value.code == 3


def test_run_cancels_what_is_left_which_may_clean_up() -> None:
    log: list[str] = []

    def left(coro: Any = None) -> Yields:
        try:
            yield coro.receive()
        finally:
            yield coro.sleep(0.001)
            log.append("cleaned")

    def main() -> Yields:
        Coro(left)
        yield

    Scheduler().run(main)
    assert log == ["cleaned"]


def test_run_in_a_running_loop_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="running event loop"):
            Scheduler().run(returns, 5)

    run_async(main)


def test_async_with_cancels_what_is_left_on_an_exception_too() -> None:
    async def main() -> Coro[Any]:
        with pytest.raises(ValueError):
            async with Scheduler() as scheduler:
                coro = scheduler.spawn(waits)
                raise ValueError
        return coro

    assert run_async(main).cancelled()


def test_with_runs_a_thread_and_waits_for_what_is_no_daemon() -> None:
    log: list[str] = []

    def slow(coro: Any = None) -> Yields:
        yield coro.sleep(0.01)
        log.append("slow")

    def daemon(coro: Any = None) -> Yields:
        coro.set_daemon()
        try:
            yield coro.receive()
        finally:
            log.append("daemon")

    with Scheduler() as scheduler:
        Coro(daemon)
        first = Coro(slow)
        assert Scheduler.instance() is scheduler and first.scheduler is scheduler
        assert Coro(returns, 5).value() == 5
        with pytest.raises(WrongThread):
            scheduler.spawn(waits)
    assert log == ["slow", "daemon"]


def test_with_cancels_on_an_exception() -> None:
    with pytest.raises(ValueError), Scheduler():
        coro = Coro(waits)
        raise ValueError
    assert coro.cancelled()


def test_start_and_close_do_the_same_without_a_loop() -> None:
    scheduler = Scheduler().start()
    coro = Coro(returns, 5)
    scheduler.close()

    assert coro.value() == 5 and not scheduler.is_open
    scheduler.close()


def test_start_and_close_are_awaited_in_a_running_loop() -> None:
    async def main() -> Any:
        scheduler = await Scheduler().start()
        assert scheduler.loop is asyncio.get_running_loop()
        coro = Coro(returns, 5)
        left = Coro(waits)
        asyncio.get_running_loop().call_later(0.01, left.send, 6)
        await scheduler.close()
        second = await Scheduler().start()
        other = Coro(waits)
        await second.close(cancel=True)
        return coro.outcome, left.outcome, other.cancelled()

    first, left, cancelled = run_async(main)
    assert (first.result(), left.result(), cancelled) == (5, 6, True)


def test_what_nobody_closed_ends_with_asyncio_run() -> None:
    """asyncio.run cancels all tasks at its end; coroutines are not in its list, a guard is."""
    coros: list[Coro[Any]] = []

    async def main() -> None:
        await Scheduler().start()
        coros.append(Coro(waits))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert coros[0].cancelled()


def test_a_closed_scheduler_is_not_opened_again_and_takes_no_coroutine() -> None:
    async def main() -> None:
        scheduler = Scheduler()
        async with scheduler:
            with pytest.raises(SchedulerClosed):
                await scheduler.__aenter__()
        with pytest.raises(SchedulerClosed):
            async with scheduler:
                pass

    run_async(main)
    scheduler = Scheduler()
    with scheduler:
        pass
    with pytest.raises(SchedulerClosed):
        scheduler.spawn(waits)


def test_a_coroutine_may_ask_its_own_scheduler_to_close() -> None:
    def closes(coro: Any = None) -> Yields:
        coro.scheduler.close(cancel=True)
        yield coro.receive()

    scheduler = Scheduler().start()
    coro = Coro(closes)
    with pytest.raises(Terminated):
        coro.value(10)
    assert scheduler.thread is not None
    scheduler.thread.join(10)
    assert not scheduler.is_open


# -- which scheduler --------------------------------------------------------------------------------


def test_the_current_coroutines_scheduler_comes_before_the_innermost_one() -> None:
    def asks(coro: Any = None) -> Yields:
        yield
        child = Coro(returns, 1)
        in_thread = yield to_thread(Scheduler.instance)
        in_task = yield asyncio.ensure_future(asyncio.sleep(0, Scheduler.instance()))
        return coro.scheduler is child.scheduler is in_thread is in_task

    async def main() -> Any:
        async with Scheduler() as outer, Scheduler() as inner:
            assert Scheduler.instance() is inner
            return await outer.spawn(asks)

    assert run_async(main) is True


def test_the_default_one_starts_when_it_is_needed_and_stays_the_same() -> None:
    try:
        first = Coro(returns, 5)
        assert first.value() == 5
        default = Scheduler.instance()
        assert default is first.scheduler and default.thread is not None
        with Scheduler() as inner:
            assert Coro(returns, 6).scheduler is inner
        assert Scheduler.instance() is default
    finally:
        Scheduler.instance().close(cancel=True)


def test_a_plain_scheduler_becomes_the_default_and_a_second_with_other_options_raises() -> None:
    first, second = Scheduler(max_mailbox=10), Scheduler(max_mailbox=20)
    try:
        with pytest.raises(SchedulerConflict):
            Coro(returns, 5)
        second.close()
        assert Coro(returns, 5).scheduler is first
        third = Scheduler(max_mailbox=10)
        assert Scheduler.instance() is first
        third.close()
    finally:
        first.close(cancel=True)
        second.close()


# -- threads ----------------------------------------------------------------------------------------


def test_calls_from_threads_keep_their_order() -> None:
    def collects(n: int, coro: Any = None) -> Yields:
        got = []
        for _ in range(n):
            got.append((yield coro.receive()))
        return got

    with Scheduler():
        coro = Coro(collects, 400)

        def sends(name: int) -> None:
            for number in range(100):
                coro.send((name, number))

        threads = [threading.Thread(target=sends, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        got = coro.value(10)
        for thread in threads:
            thread.join()
    for name in range(4):
        assert [number for who, number in got if who == name] == list(range(100))


def test_from_threads_the_rest_raises_wrong_thread() -> None:
    with Scheduler():
        coro = Coro(waits)
        for call in (
            lambda: coro.register("x"),
            lambda: coro.unregister("x"),
            lambda: coro.throw(ValueError()),
            lambda: coro.set_daemon(),
            lambda: coro.hot_swappable(True),
            lambda: coro.hot_swap(waits),
            lambda: Channel("c").register(),
        ):
            with pytest.raises(WrongThread):
                call()
        coro.resume()
        assert coro.is_alive()
        coro.terminate()
        with pytest.raises(Terminated):
            coro.value(10)


def test_awaiting_a_coroutine_of_another_thread_raises_wrong_thread() -> None:
    async def main(coro: Coro[Any]) -> None:
        for call in (lambda: coro, coro.finish, lambda: coro.deliver(1)):
            with pytest.raises(WrongThread):
                await call()

    with Scheduler():
        coro = Coro(waits)
        asyncio.run(main(coro))
        coro.send(1)


def test_value_times_out_and_is_refused_in_the_loops_own_thread() -> None:
    def asks() -> Yields:
        yield
        target = Coro(waits)
        try:
            target.value(1)
        finally:
            target.terminate()

    with Scheduler():
        coro = Coro(waits)
        with pytest.raises(TimeoutError):
            coro.value(0.001)
        coro.send(5)
        assert coro.value() == 5
        with pytest.raises(WrongThread):
            Coro(asks).value()


def test_to_thread_gives_the_result_or_the_exception_in_both_styles() -> None:
    def generator() -> Yields:
        me = threading.get_ident()
        other = yield to_thread(threading.get_ident)
        with pytest.raises(ZeroDivisionError):
            yield to_thread(divmod, 1, 0)
        return me != other

    async def coroutine() -> bool:
        return await to_thread(sum, [1, 2], start=3) == 6

    assert Scheduler().run(generator) and Scheduler().run(coroutine)


def test_many_blocking_calls_run_side_by_side() -> None:
    barrier = threading.Barrier(4)

    def meets() -> Yields:
        yield to_thread(barrier.wait, 10)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(to_thread(barrier.wait, 10))

    Scheduler().run(main)


# -- names and numbers ------------------------------------------------------------------------------


def test_locate_finds_what_is_registered_now_or_later_and_none_at_its_timeout() -> None:
    async def main() -> None:
        target = Coro(waits)
        assert await Coro.locate("here", timeout=0.001) is None
        asyncio.get_running_loop().call_later(0.001, target.register, "here")
        assert await Coro.locate("here", timeout=10) is target
        assert await Coro.locate("here") is target
        with pytest.raises(NameTaken):
            Coro(waits).register("here")
        target.register()
        assert await Coro.locate("waits") is target
        target.unregister("here")
        assert await Coro.locate("here", timeout=0) is None
        target.terminate()
        await asyncio.wait([target])
        assert await Coro.locate("waits", timeout=0) is None

    async def outer() -> None:
        async with Scheduler() as scheduler:
            await scheduler.spawn(main)

    run_async(outer)


class Network:
    """An `Elsewhere` that notes what it hears."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    async def opened(self, scheduler: Any) -> None:
        self.log.append("opened")

    async def closing(self) -> None:
        self.log.append("closing")

    def published(self, kind: str, name: str, thing: Any) -> None:
        self.log.append(("published", kind, name))

    def withdrawn(self, kind: str, name: str) -> None:
        self.log.append(("withdrawn", kind, name))

    async def locate(self, kind: str, name: str, location: Any, timeout: float | None) -> Any:
        if name == "never":
            await asyncio.sleep(10)
        return f"{kind} {name} at {location}" if name == "there" else None

    def monitor(self, watcher: Any, observed: Any) -> bool:
        self.log.append(("monitor", observed))
        return observed == "reference"


def test_the_network_hears_of_names_and_is_asked_for_what_is_not_here() -> None:
    network = Network()

    async def main(coro: Any = None) -> None:
        coro.register("me")
        assert await Coro.locate("me") is coro
        assert await Coro.locate("there") == "coro there at None"
        assert await Coro.locate("there", "L") == "coro there at L"
        assert await Coro.locate("nowhere") is None
        asyncio.get_running_loop().call_later(0.001, coro.register, "never")
        assert await Coro.locate("never") is coro
        assert await coro.monitor("reference") == 0
        with pytest.raises(TypeError):
            await coro.monitor("something else")

    async def outer() -> None:
        async with Scheduler(elsewhere=network) as scheduler:
            await scheduler.spawn(main)

    run_async(outer)
    assert network.log == [
        "opened",
        ("published", "coro", "me"),
        ("published", "coro", "never"),
        ("monitor", "reference"),
        ("monitor", "something else"),
        ("withdrawn", "coro", "me"),
        ("withdrawn", "coro", "never"),
        "closing",
    ]


def test_numbers_are_unique_and_exported_ones_end_with_their_coroutine() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            one, two = scheduler.spawn(waits), scheduler.spawn(waits, number=1 << 40)
            assert one.number == 1 and one.number == 1 and two.number == 1 << 40
            assert scheduler.by_number == {1 << 40: two}
            assert scheduler.export(one) == 1 and scheduler.export(one) == 1
            assert scheduler.by_number[1] is one
            one.send(1)
            two.terminate()
            await asyncio.wait([one, two])
            assert scheduler.by_number == {}
            assert scheduler.spawn(waits, name="other").name == "other"

    run_async(main)


# -- the turn ---------------------------------------------------------------------------------------


def test_flush_later_flushes_once_at_the_end_of_the_drain_or_soon() -> None:
    class Thing:
        flushes: list[int]

        def flush(self) -> None:
            self.flushes.append(len(log))

    thing = Thing()
    thing.flushes = []
    log: list[int] = []

    def sends(coro: Any = None) -> Yields:
        coro.scheduler.flush_later(thing)
        for number in range(5):
            yield
            log.append(number)

    async def main() -> None:
        async with Scheduler() as scheduler:
            await scheduler.spawn(sends)
            assert thing.flushes == [5]
            scheduler.flush_later(thing)
            await asyncio.sleep(0)
            assert thing.flushes == [5, 5]

    run_async(main)


def test_end_drain_soon_lets_the_flush_come_before_the_next_step() -> None:
    log: list[str] = []

    class Thing:
        def flush(self) -> None:
            log.append("flush")

    def first(coro: Any = None) -> Yields:
        coro.scheduler.flush_later(Thing())
        coro.scheduler.end_drain_soon()
        log.append("first")
        yield coro.receive(0)

    def second() -> Yields:
        log.append("second")
        yield

    async def main() -> None:
        async with Scheduler() as scheduler:
            one, two = scheduler.spawn(first), scheduler.spawn(second)
            await one
            await two

    run_async(main)
    assert log == ["first", "flush", "second"]


def test_a_drain_called_by_hand_runs_what_is_ready_now() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            coro = scheduler.spawn(waits)
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def read() -> None:
                coro.put("message")
                if scheduler.ready and not scheduler.in_drain:
                    scheduler.drain()
                done.set_result(coro.done())

            await asyncio.sleep(0)
            loop.call_soon(read)
            assert await done is True
            coro = scheduler.spawn(waits)
            scheduler.drain()  # in a task: it cannot run now, and does so soon
            coro.put("message")
            assert await coro == "message"

    run_async(main)


def test_marks_in_a_mailbox_are_told_when_all_before_them_was_taken() -> None:
    taken: list[Any] = []

    class Noted(Mark):
        def __init__(self, name: str) -> None:
            self.name = name

        def taken(self) -> None:
            taken.append((self.name, list(got)))

    got: list[int] = []

    def receives(coro: Any = None) -> Yields:
        yield coro.sleep(0.001)
        for _ in range(3):
            got.append((yield coro.receive()))

    async def main() -> None:
        async with Scheduler() as scheduler:
            coro = scheduler.spawn(receives)
            coro.put(Noted("at once"))
            coro.put(1)
            coro.put(2)
            coro.put(Noted("after two"))
            coro.put(3)
            await coro

    run_async(main)
    assert taken == [("at once", []), ("after two", [1])]


def test_a_coroutine_that_does_not_end_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discoro.scheduler import life, reports

    monkeypatch.setattr(reports, "TERMINATE_GRACE", 0.01)
    monkeypatch.setattr(life, "TERMINATE_GRACE", 0.03)

    def stays(coro: Any = None) -> Yields:
        for _ in range(3):  # terminated, closed; then Python's collector comes
            try:
                yield coro.receive()
            except GeneratorExit:
                pass

    async def main() -> None:
        async with Scheduler() as scheduler:
            coro = scheduler.spawn(stays)
            await asyncio.sleep(0)
            coro.terminate()
            await asyncio.sleep(0.03)

    run_async(main)
    texts = [record.getMessage() for record in caplog.records]
    assert any("has not ended; it is in receive, at " in text for text in texts)
    assert any("did not end" in text for text in texts)
    assert any("did not let itself be closed" in text for text in texts)

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Generator, Iterator
from typing import Any, ClassVar

import pytest

from discoro.scheduler import (
    Coro,
    DiscoroError,
    HotSwapException,
    HotSwapRefused,
    MailboxBusy,
    MailboxFull,
    MonitorException,
    NoSuchCoro,
    NotACoroutine,
    NotTheCoroutine,
    Scheduler,
    SchedulerClosed,
    Terminated,
)
from tests.kit import run_async

Yields = Generator[Any, Any, Any]


def run(func: Any, *args: Any, max_mailbox: int | None = None) -> Any:
    """Run one coroutine in a scheduler of its own, and give its result."""

    async def main() -> Any:
        async with Scheduler(max_mailbox=max_mailbox) as scheduler:
            return await scheduler.spawn(func, args)

    return run_async(main)


async def turns(n: int = 3) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


# -- what a yield means -----------------------------------------------------------------------------


def test_a_generator_gets_back_what_it_yields_and_its_return_is_the_result() -> None:
    def main() -> Yields:
        assert (yield 5) == 5
        assert (yield None) is None
        assert (yield [1, 2]) == [1, 2]
        return (1, 2)

    assert run(main) == (1, 2)


def test_a_yielded_generator_runs_and_gives_its_return_or_its_exception() -> None:
    def inner(x: int) -> Yields:
        y = yield x
        if y > 1:
            raise ValueError(y)
        return y * 10

    def main() -> Yields:
        first = yield inner(1)
        try:
            yield inner(2)
        except ValueError as error:
            return first, error.args
        return None

    assert run(main) == (10, (2,))


def test_a_yielded_awaitable_is_awaited() -> None:
    class Awaitable:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return "done"

    def main() -> Yields:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        task = loop.create_task(asyncio.sleep(0, 2))
        failing = loop.create_future()
        failing.set_exception(ValueError("x"))
        values = [(yield future), (yield task), (yield asyncio.sleep(0, 3)), (yield Awaitable())]
        with pytest.raises(ValueError):
            yield failing
        return values

    assert run(main) == [1, 2, 3, "done"]


def test_async_functions_await_our_calls_and_asyncios() -> None:
    async def main(coro: Any = None) -> Any:
        coro.send("a")
        first = await coro.receive()
        await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0, "b"))
        return first, task.result(), await coro.receive(0.001, "late"), await coro.sleep(0, "slept")

    assert run(main) == ("a", "b", "late", "slept")


def test_what_belongs_to_another_framework_is_refused_in_words() -> None:
    class Strange:
        def __await__(self) -> Iterator[Any]:
            yield "trap"

    async def main() -> Any:
        with pytest.raises(RuntimeError, match="another framework"):
            await Strange()
        return 1

    assert run(main) == 1


@pytest.mark.filterwarnings("ignore:.raise StopIteration:DeprecationWarning")
def test_raise_stop_iteration_counts_as_return_and_a_leaked_one_as_failure() -> None:
    def old(value: int) -> Yields:
        yield
        raise StopIteration(value)

    def leaks() -> Yields:
        yield
        next(iter(()))

    def main() -> Yields:
        nested = yield old(1)
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            yield Coro(leaks)
        return nested, (yield Coro(old, 2))

    assert run(main) == (1, 2)


def test_raise_stop_iteration_warns() -> None:
    def old() -> Yields:
        yield
        raise StopIteration(5)

    with pytest.warns(DeprecationWarning, match="return value"):
        assert run(old) == 5


def test_deep_stacks_and_endless_yields_leave_the_loop_its_turn() -> None:
    def deep(n: int) -> Yields:
        if n:
            return (yield deep(n - 1)) + 1
        yield
        return 0

    def spins(coro: Any = None) -> Yields:
        while True:
            yield deep(1)

    def spins_on_errors(other: Any) -> Yields:
        while True:
            try:
                yield other.receive()
            except NotTheCoroutine:
                pass

    async def main() -> Any:
        async with Scheduler() as scheduler:
            one = scheduler.spawn(spins)
            scheduler.spawn(spins_on_errors, (one,))
            await asyncio.sleep(0.005)
            return await scheduler.spawn(deep, (500,))

    assert run_async(main) == 500


# -- messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["generator", "async"])
def test_messages_arrive_once_in_order(kind: str) -> None:
    """Those that wait, those handed over, and those that come during the receiver's own turn."""
    got: list[int] = []

    def by_generator(coro: Any = None) -> Yields:
        while (message := (yield coro.receive())) is not None:
            got.append(message)
            if message == 50:
                coro.send(1000)

    async def by_async(coro: Any = None) -> None:
        while (message := await coro.receive()) is not None:
            got.append(message)
            if message == 50:
                coro.send(1000)

    async def main() -> None:
        async with Scheduler() as scheduler:
            receiver = scheduler.spawn(by_generator if kind == "generator" else by_async)
            for number in range(150):
                assert receiver.send(number) == 0
            await turns(20)
            for number in range(150, 300):
                receiver.send(number)
                await turns(1)
            receiver.send(None)
            await receiver

    run_async(main)

    assert sorted(got) == [*range(300), 1000]
    assert [n for n in got if n != 1000] == list(range(300))


def test_receive_gives_its_alarm_value_at_the_timeout_and_polls_with_zero() -> None:
    def main(coro: Any = None) -> Yields:
        polled = yield coro.receive(0)
        late = yield coro.receive(timeout=0.001, alarm_value="alarm")
        coro.send("message")
        return polled, late, (yield coro.receive(0, "alarm")), (yield coro.recv(0, "empty"))

    assert run(main) == (None, "alarm", "message", "empty")


def test_a_late_timer_does_not_end_the_next_wait() -> None:
    async def main(coro: Any = None) -> Any:
        asyncio.get_running_loop().call_later(0.002, coro.send, "in time")
        first = await coro.receive(0.01)
        return first, await coro.receive(0.03, "alarm")

    assert run(main) == ("in time", "alarm")


def test_only_the_coroutine_itself_receives_and_sleeps() -> None:
    def other(coro: Any = None) -> Yields:
        yield coro.suspend()

    async def main(coro: Any = None) -> Any:
        target = Coro(other)
        for call in (target.receive, target.sleep, target.suspend):
            with pytest.raises(NotTheCoroutine) as caught:
                await call()
            assert caught.value.name == "other"
        with pytest.raises(NotTheCoroutine):
            await target.receive(1)

        def by_yield() -> Yields:
            yield target.receive()

        with pytest.raises(NotTheCoroutine):
            await Coro(by_yield)
        return 1

    assert run(main) == 1


def test_a_task_may_receive_for_its_coroutine_and_a_cancel_loses_nothing() -> None:
    async def main(coro: Any = None) -> Any:
        asyncio.get_running_loop().call_soon(coro.send, 1)
        first, slept = await asyncio.gather(coro.receive(), coro.sleep(0.001, "slept"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(coro.receive(), 0.001)
        task = asyncio.ensure_future(coro.receive(10))
        await asyncio.sleep(0)
        with pytest.raises(MailboxBusy):
            await asyncio.gather(coro.receive())
        coro.send(2)
        task.cancel()
        await asyncio.wait([task])
        late = await asyncio.gather(coro.receive(0.001, "alarm"), return_exceptions=True)
        return first, slept, late, await coro.receive(0.001, "alarm")

    assert run(main) == (1, "slept", [2], "alarm")


def test_deliver_gives_1_and_to_an_ended_coroutine_it_raises_while_send_gives_0() -> None:
    def receiver(coro: Any = None) -> Yields:
        return (yield coro.receive())

    def main() -> Yields:
        target = Coro(receiver)
        taken = yield target.deliver("x")
        result = yield target
        sent = target.send("y")
        with pytest.raises(NoSuchCoro):
            yield target.deliver("z")
        return taken, result, sent

    assert run(main) == (1, "x", 0)


def test_a_full_mailbox_refuses_send_and_lets_deliver_wait() -> None:
    def receiver(coro: Any = None) -> Yields:
        yield coro.sleep()
        got = []
        for _ in range(3):
            got.append((yield coro.receive()))
        return got

    async def main() -> Any:
        target = Coro(receiver)
        await turns()
        target.send(1)
        target.send(2)
        with pytest.raises(MailboxFull) as caught:
            target.send("refused")
        assert (caught.value.limit, target.waiting) == (2, 2)
        assert await target.deliver("late", timeout=0.001) == 0
        assert await target.deliver("polled", timeout=0) == 0
        waiting = asyncio.ensure_future(target.deliver(3))
        await turns()
        target.resume()
        assert await waiting == 1
        return await target

    assert run(main, max_mailbox=2) == [1, 2, 3]


def test_a_deliver_that_waits_for_room_hears_of_the_end() -> None:
    def receiver(coro: Any = None) -> Yields:
        yield coro.sleep()

    async def main() -> None:
        target = Coro(receiver)
        await turns()
        target.send(1)
        waiting = asyncio.ensure_future(target.deliver(2))
        await turns()
        target.terminate()
        with pytest.raises(NoSuchCoro):
            await waiting

    run(main, max_mailbox=1)


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_what_waits_for_room_is_there_when_a_receive_has_made_it(timeout: float | None) -> None:
    """Also with a receive that has a timeout, and takes its message while it begins to wait."""

    async def receiver(coro: Any = None) -> list[Any]:
        await coro.sleep()
        got = [await coro.receive(timeout)]
        assert await coro.sleep(0.01, "slept") == "slept"  # nothing has woken it
        got += [await coro.receive(timeout) for _ in range(3)]
        return got

    async def main() -> None:
        target = Coro(receiver)
        await turns()
        delivering = [asyncio.ensure_future(target.deliver(number)) for number in range(4)]
        await turns()
        target.resume()
        assert await asyncio.gather(*delivering) == [1, 1, 1, 1]
        assert await target == [0, 1, 2, 3]

    run(main, max_mailbox=1)


def test_a_deliver_that_was_given_up_leaves_nothing_at_the_mailbox() -> None:
    def receiver(coro: Any = None) -> Yields:
        yield coro.sleep()
        return (yield coro.receive()), coro.waiting

    async def main() -> None:
        target = Coro(receiver)
        await turns()
        target.send("first")
        for _ in range(3):
            assert await target.deliver(Weak(), timeout=0.001) == 0
            cancelled = asyncio.ensure_future(target.deliver(Weak()))
            await turns()
            cancelled.cancel()
            await asyncio.wait([cancelled])
        del cancelled
        gc.collect()
        assert not Weak.alive
        target.resume()
        assert await target == ("first", 0)

    run(main, max_mailbox=1)


class Weak:
    """A message that can be seen to be gone."""

    alive: ClassVar[weakref.WeakSet[Weak]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


# -- time -------------------------------------------------------------------------------------------


def test_resume_ends_a_sleep_with_its_value_and_is_ignored_otherwise() -> None:
    def sleeper(coro: Any = None) -> Yields:
        first = yield coro.suspend()
        second = yield coro.sleep(100, "alarm")
        third = yield coro.sleep(0.001, "alarm")
        fourth = yield coro.receive()
        return first, second, third, fourth

    async def main() -> Any:
        target = Coro(sleeper)
        await turns()
        target.resume("a")
        await turns()
        target.resume("b")
        await asyncio.sleep(0.01)
        assert target.resume("ignored") == 0
        target.send("message")
        return await target

    assert run(main) == ("a", "b", "alarm", "message")


def test_a_timeout_that_is_no_number_is_refused() -> None:
    def main(coro: Any = None) -> Yields:
        for call in (coro.receive, coro.sleep, coro.finish):
            with pytest.raises(TypeError):
                yield call("soon")
        return 1

    assert run(main) == 1


# -- the end ----------------------------------------------------------------------------------------


def test_finish_gives_the_result_raises_the_failure_and_times_out() -> None:
    def fails() -> Yields:
        yield
        raise ValueError("x")

    def sleeps(coro: Any = None) -> Yields:
        yield coro.sleep(0.01)
        return "slept"

    def main() -> Yields:
        with pytest.raises(ValueError):
            yield Coro(fails).finish()
        target = Coro(sleeps)
        for timeout in (0, 0.001):
            with pytest.raises(TimeoutError):
                yield target.finish(timeout)
        joined = yield target.finish(10)
        return joined, (yield target), (yield target.finish(0)), target.result()

    assert run(main) == ("slept",) * 4


def test_cancelling_a_wait_for_a_coroutine_leaves_it_alone() -> None:
    def waits(coro: Any = None) -> Yields:
        return (yield coro.receive())

    async def main() -> Any:
        target = Coro(waits)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await target
        waiting = asyncio.ensure_future(target.finish())
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert target.is_alive()
        target.send("there")
        gathered = await asyncio.gather(target, asyncio.shield(target))
        return gathered

    assert run(main) == ["there", "there"]


def test_gather_and_wait_take_coroutines_and_their_cancel_terminates() -> None:
    def sleeps(coro: Any = None) -> Yields:
        yield coro.sleep(10)

    async def main() -> None:
        target = Coro(sleeps)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.gather(target)
        with pytest.raises(Terminated):
            await target

    run(main)


def test_a_coroutine_that_waits_for_itself_is_told() -> None:
    async def main(coro: Any = None) -> Any:
        with pytest.raises(DiscoroError, match="own end"):
            await coro
        return 1

    assert run(main) == 1


@pytest.mark.parametrize("kind", ["generator", "async", "mixed"])
def test_terminate_throws_what_the_frame_expects_and_a_clean_up_may_wait(kind: str) -> None:
    log: list[Any] = []

    def generator(coro: Any = None) -> Yields:
        try:
            yield coro.sleep()
        except GeneratorExit:
            log.append((yield coro.sleep(0.001, "cleaned")))
            raise

    async def coroutine(coro: Any = None) -> None:
        try:
            await coro.sleep()
        except asyncio.CancelledError:
            log.append(await coro.sleep(0.001, "cleaned"))
            raise

    def mixed(coro: Any = None) -> Yields:
        def inner() -> Yields:
            try:
                yield coroutine_of(coro)
            except GeneratorExit:
                log.append("inner")
                raise

        async def coroutine_of(coro: Any) -> None:
            await coroutine(coro)

        yield inner()

    async def main() -> None:
        target = Coro({"generator": generator, "async": coroutine, "mixed": mixed}[kind])
        await turns()
        assert target.terminate() == 0 and target.terminate() == 0
        with pytest.raises(Terminated):
            await target
        assert target.cancelled() and not target.is_alive() and target.terminate() == 0

    run(main)
    assert log == (["cleaned", "inner"] if kind == "mixed" else ["cleaned"])


def test_terminate_before_the_first_step_and_by_itself() -> None:
    ran: list[int] = []

    def never() -> Yields:
        ran.append(1)
        yield

    async def itself(coro: Any = None) -> None:
        coro.terminate()
        ran.append(2)
        await asyncio.sleep(10)
        ran.append(3)

    async def main() -> None:
        for func in (never, itself):
            target = Coro(func)
            if func is never:
                target.terminate()
            with pytest.raises(Terminated):
                await target

    run(main)
    assert ran == [2]


def test_a_coroutine_may_refuse_to_end() -> None:
    def stays(coro: Any = None) -> Yields:
        try:
            yield coro.receive()
        except GeneratorExit:
            return (yield coro.receive())

    async def main() -> Any:
        target = Coro(stays)
        await turns()
        target.terminate()
        await turns()
        target.send("kept")
        return await target

    assert run(main) == "kept"


def test_terminate_cancels_what_is_awaited() -> None:
    async def main() -> Any:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        target = Coro(waits)
        await turns()
        target.terminate()
        with pytest.raises(Terminated):
            await target
        return future.cancelled()

    assert run(main) is True


def test_system_exit_and_keyboard_interrupt_end_only_the_coroutine() -> None:
    def leaves(error: type[BaseException]) -> Yields:
        yield
        raise error("x")

    def main() -> Yields:
        for error in (SystemExit, KeyboardInterrupt):
            with pytest.raises(error):
                yield Coro(leaves, error)
        return "alive"

    assert run(main) == "alive"


def test_throw_raises_where_the_coroutine_waits_and_gives_the_message_back() -> None:
    def victim(coro: Any = None) -> Yields:
        try:
            yield coro.receive()
        except KeyError:
            return (yield coro.receive(0, "lost"))

    async def main() -> Any:
        target = Coro(victim)
        await turns()
        target.send("message")
        target.throw(KeyError, "x")
        first = await target

        def waits() -> Yields:
            yield asyncio.get_running_loop().create_future()

        other = Coro(waits)
        await turns()
        other.throw(KeyError("y"))
        with pytest.raises(KeyError):
            await other
        with pytest.raises(TypeError):
            other.throw(5)
        return first

    assert run(main) == "message"


def test_a_cancel_wins_over_a_throw_and_keeps_the_message_in_hand() -> None:
    def victim(coro: Any = None) -> Yields:
        try:
            yield coro.receive()
        except GeneratorExit:
            return (yield coro.receive(0, "lost"))

    async def main() -> Any:
        target = Coro(victim)
        await turns()
        target.send("message")
        target.terminate()
        target.throw(KeyError())
        return await target

    assert run(main) == "message"


def test_set_result_and_set_exception_are_refused() -> None:
    async def main(coro: Any = None) -> None:
        with pytest.raises(RuntimeError):
            coro.set_result(1)
        with pytest.raises(RuntimeError):
            coro.set_exception(ValueError())

    run(main)


def test_a_function_that_is_no_coroutine_function_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(NotACoroutine):
            Coro(len, [])

    run(main)


def test_a_failure_that_nobody_asks_for_is_logged_and_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(text: str) -> Yields:
        yield
        raise ValueError(text)

    async def main() -> None:
        Coro(fails, "unseen")
        asked = Coro(fails, "asked for later")
        await turns()
        with pytest.raises(ValueError):
            await asked

    run(main)
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["unseen"]


def test_nothing_is_left_for_the_garbage_collector() -> None:
    class Local:
        pass

    def uses(coro: Any = None) -> Yields:
        local = Local()
        alive.append(weakref.ref(local))
        yield coro.receive()
        yield coro.sleep(0.001)

    alive: list[weakref.ref[Local]] = []

    async def main() -> None:
        async with Scheduler() as scheduler:
            gc.collect()
            gc.disable()
            try:
                target = scheduler.spawn(uses)
                reference = weakref.ref(target)
                await turns()
                target.send(1)
                await target
                del target
                await turns()
                assert alive[0]() is None and reference() is None
            finally:
                gc.enable()

    run_async(main)


# -- monitors ---------------------------------------------------------------------------------------


def test_a_monitor_gets_one_message_after_all_that_the_coroutine_sent_it() -> None:
    def returns(watcher: Any) -> Yields:
        yield
        watcher.send("before the end")
        return 5

    def fails() -> Yields:
        yield
        raise ValueError("x")

    def sleeps(coro: Any = None) -> Yields:
        yield coro.sleep()

    def main(coro: Any = None) -> Yields:
        target = Coro(returns, coro)
        assert (yield coro.monitor(target)) == 0
        assert (yield coro.monitor(target)) == 0
        assert (yield coro.receive()) == "before the end"
        message = yield coro.receive()
        assert isinstance(message, MonitorException)
        assert message.args[0] is target and message.args[1][0] is StopIteration
        ends = [message.value.value]
        failing, sleeping = Coro(fails), Coro(sleeps)
        yield coro.monitor(failing)
        message = yield coro.receive()
        ends.append(message.args[1][0])
        yield coro.monitor(sleeping)
        sleeping.terminate()
        message = yield coro.receive()
        ends.append(message.args[1][0])
        yield coro.monitor(target)  # it has ended: its real outcome
        message = yield coro.receive()
        ends.append(message.value.value)
        return ends, (yield coro.receive(0.001, "no more"))

    assert run(main) == ([5, ValueError, Terminated, 5], "no more")


def test_only_coroutines_can_be_monitored() -> None:
    def main(coro: Any = None) -> Yields:
        with pytest.raises(TypeError):
            yield coro.monitor("text")
        return 1

    assert run(main) == 1


def test_watchers_are_called_in_order_at_the_end_and_at_once_after_it() -> None:
    log: list[Any] = []

    def returns() -> Yields:
        yield
        return 5

    async def main() -> None:
        target = Coro(returns)
        target.watch(1, lambda coro, outcome: log.append((1, outcome.result())))
        target.watch(2, lambda coro, outcome: 1 / 0)
        target.watch(3, lambda coro, outcome: log.append((3, coro is target)))
        target.watch(4, lambda coro, outcome: log.append("unwatched"))
        target.unwatch(4)
        await target
        target.watch(5, lambda coro, outcome: log.append(5))

    run(main)
    assert log == [(1, 5), (3, True), 5]


# -- hot swap ---------------------------------------------------------------------------------------


def test_a_hot_swap_keeps_reference_and_mailbox_and_waits_for_its_occasion() -> None:
    def old(coro: Any = None) -> Yields:
        yield asyncio.sleep(0.001)  # no call of ours: nothing happens here
        log.append((yield coro.receive()))
        coro.hot_swappable(True)
        while True:
            try:
                log.append(("old", (yield coro.receive())))
            except HotSwapException:
                log.append("cleaned")
                raise

    def new(greeting: str, coro: Any = None) -> Yields:
        log.append(greeting)
        while (message := (yield coro.receive())) != "end":
            log.append(("new", message))
        return "result"

    log: list[Any] = []

    async def main() -> Any:
        target = Coro(old)
        target.send(0)
        assert target.hot_swap(new, "hello") == 0
        for message in (1, 2, "end"):
            target.send(message)
        result = await target
        return result, target.name

    assert run(main) == ("result", "old")
    assert log == [0, "cleaned", "hello", ("new", 1), ("new", 2)]


def test_a_hot_swap_happens_at_once_where_the_coroutine_waits_and_can_be_swallowed() -> None:
    async def old(coro: Any = None) -> Any:
        coro.hot_swappable(True)
        try:
            await coro.receive()
        except HotSwapException:
            return "stayed"

    async def new() -> Any:
        return "new"

    async def main() -> Any:
        target = Coro(old)
        await turns()
        target.hot_swap(new)
        return await target

    assert run(main) == "stayed"


def test_a_hot_swap_of_another_kind_or_of_an_ended_coroutine_is_refused() -> None:
    def old(coro: Any = None) -> Yields:
        yield coro.receive()

    async def new() -> None:
        pass

    async def main() -> None:
        target = Coro(old)
        with pytest.raises(HotSwapRefused):
            target.hot_swap(new)
        with pytest.raises(NotACoroutine):
            target.hot_swap(len)
        target.send(1)
        await target
        with pytest.raises(HotSwapRefused):
            target.hot_swap(old)

    run(main)


# -- many -------------------------------------------------------------------------------------------


def test_a_hundred_thousand_suspended_coroutines_are_no_problem() -> None:
    def waits(coro: Any = None) -> Yields:
        return (yield coro.receive())

    async def main() -> int:
        async with Scheduler() as scheduler:
            coros = [scheduler.spawn(waits) for _ in range(100_000)]
            await turns()
            assert len(scheduler.coros) == 100_000
            for number, coro in enumerate(coros):
                coro.send(number)
            total = 0
            for coro in coros:
                total += await coro
            assert not scheduler.coros
            left = [scheduler.spawn(waits) for _ in range(50_000)]
            await turns()
        assert all(coro.cancelled() for coro in left)
        return total

    assert run_async(main) == sum(range(100_000))


def test_a_coroutine_cannot_be_started_in_a_closed_scheduler() -> None:
    def noop() -> Yields:
        yield

    async def main() -> None:
        async with Scheduler() as scheduler:
            pass
        with pytest.raises(SchedulerClosed):
            scheduler.spawn(noop)

    run_async(main)


# -- what was forgotten -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forgotten", "call"),
    [
        (lambda coro: coro.sleep(1), "coro.sleep()"),
        (lambda coro: coro.receive(1), "coro.receive()"),
        (lambda coro: coro.deliver("lost"), "coro.deliver()"),
        (lambda coro: coro.finish(), "coro.finish()"),
        (lambda coro: coro.monitor(coro), "coro.monitor()"),
    ],
)
def test_a_call_that_was_neither_yielded_nor_awaited_warns_in_its_line(
    forgotten: Any, call: str
) -> None:
    async def main(coro: Any = None) -> None:
        with pytest.warns(RuntimeWarning, match="was neither yielded nor awaited") as caught:
            forgotten(coro)
            gc.collect()
        (warning,) = caught
        assert f"`{call}`" in str(warning.message)
        assert warning.filename == __file__

    run(main)


def test_what_was_yielded_awaited_or_refused_does_not_warn() -> None:
    def yields(coro: Any = None) -> Yields:
        yield coro.sleep(0)
        yield coro.receive(0)
        yield coro.deliver(1)

    async def awaits(coro: Any = None) -> None:
        await coro.sleep(0)
        await coro.receive(0)
        with pytest.raises(TypeError):
            coro.sleep("soon")
        await asyncio.gather(coro.sleep(0.001))

    async def main() -> None:
        await Coro(yields)
        await Coro(awaits)
        gc.collect()

    run(main)

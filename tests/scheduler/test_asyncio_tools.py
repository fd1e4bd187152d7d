"""asyncio's own tools, and those built on its tasks, inside coroutines of both kinds."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import Coro, Scheduler, Terminated, to_thread
from tests.kit import run_async

Yields = Generator[Any, Any, Any]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def run(func: Any) -> Any:
    """Run an async function as a coroutine, and again yielded by a generator coroutine."""

    def stacked(coro: Any = None) -> Yields:
        return (yield func(coro))

    async def main() -> Any:
        async with Scheduler() as scheduler:
            return await scheduler.spawn(func), await scheduler.spawn(stacked)

    first, second = run_async(main)
    assert first == second
    return first


def test_timeout_ends_a_wait_of_ours_and_one_of_asyncios() -> None:
    async def main(coro: Any) -> Any:
        ended = []
        for wait in (coro.receive, coro.sleep, lambda: asyncio.sleep(10)):
            try:
                async with asyncio.timeout(0.001):
                    await wait()
            except TimeoutError:
                ended.append(asyncio.current_task().cancelling())  # type: ignore[union-attr]
        return ended

    assert run(main) == [0, 0, 0]


def test_a_timeout_inside_a_terminated_coroutine_does_not_hide_the_end() -> None:
    async def victim(coro: Any) -> None:
        async with asyncio.timeout(10):
            await coro.receive()

    async def main(coro: Any) -> None:
        target = Coro(victim)
        await asyncio.sleep(0)
        target.terminate()
        with pytest.raises(Terminated):
            await target

    run(main)


def test_wait_for_loses_no_message_at_its_timeout() -> None:
    async def main(coro: Any) -> Any:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(coro.receive(), 0.001)
        coro.send("kept")
        return await asyncio.wait_for(coro.receive(), 10)

    assert run(main) == "kept"


def test_a_task_group_gives_results_and_cancels_its_parent_when_a_child_fails() -> None:
    async def fails() -> None:
        raise ValueError("x")

    async def main(coro: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "result"))
        with pytest.raises(BaseExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await coro.receive()
        return child.result(), len(caught.value.exceptions), coro.cancelling()

    assert run(main) == ("result", 1, 0)


def test_a_group_inside_a_timeout_inside_a_terminate() -> None:
    async def victim(coro: Any) -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(10))
            await coro.receive()

    async def main(coro: Any) -> None:
        target = Coro(victim)
        await asyncio.sleep(0.001)
        target.terminate()
        with pytest.raises(Terminated):
            await target

    run(main)


def test_the_coroutine_is_the_current_task() -> None:
    async def main(coro: Any) -> Any:
        task = asyncio.current_task()
        assert task is coro and Scheduler.cur_coro() is coro
        task.set_name("other")
        assert task.get_name() == coro.name == "other"
        assert task.get_stack() and task.get_coro() is not None
        assert task.get_context() is not None
        return True

    assert run(main)


def test_no_coroutine_is_current_outside() -> None:
    assert Scheduler.cur_coro() is None

    async def main() -> None:
        assert Scheduler.cur_coro() is None

    run_async(main)


def test_each_coroutine_has_a_context_of_its_own_copied_from_its_starter() -> None:
    async def child() -> str:
        before = variable.get()
        variable.set("child")
        await asyncio.sleep(0)
        return before + variable.get()

    async def main(coro: Any) -> Any:
        variable.set("parent")
        result = await Coro(child)
        in_thread = await to_thread(variable.get)
        return result, variable.get(), in_thread

    assert run(main) == ("parentchild", "parent", "parent")


def test_gather_wait_and_as_completed_take_coroutines() -> None:
    def gives(value: int, coro: Any = None) -> Yields:
        yield coro.sleep(0.001 * value)
        return value

    async def main(coro: Any) -> Any:
        gathered = await asyncio.gather(*[Coro(gives, n) for n in (2, 1)])
        done, _ = await asyncio.wait([Coro(gives, 3)])
        first = [await future for future in asyncio.as_completed([Coro(gives, 4)])]
        return gathered, [d.result() for d in done], first

    assert run(main) == ([2, 1], [3], [4])


def test_sleep_zero_gives_the_event_loop_its_turn() -> None:
    async def main(coro: Any) -> Any:
        log: list[int] = []
        asyncio.get_running_loop().call_soon(log.append, 1)
        await asyncio.sleep(0)
        return log

    assert run(main) == [1]


def test_queues_locks_and_streams_of_asyncio_work() -> None:
    async def main(coro: Any) -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def produce() -> None:
            for number in range(5):
                await queue.put(number)

        Coro(produce)
        got = [await queue.get() for _ in range(5)]
        lock = asyncio.Lock()
        async with lock:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return got, line

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    assert run(main) == ([0, 1, 2, 3, 4], b"hello\n")


def test_a_future_of_another_loop_is_refused() -> None:
    other = asyncio.new_event_loop()

    async def main(coro: Any) -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await other.create_future()

    try:
        run(main)
    finally:
        other.close()


def test_an_eager_task_may_run_inside_a_step() -> None:
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")

    async def child(coro: Any) -> Any:
        assert asyncio.current_task() is not coro
        return await coro.receive()

    async def main(coro: Any) -> Any:
        task = asyncio.Task(child(coro), loop=asyncio.get_running_loop(), eager_start=True)  # type: ignore[call-arg]
        assert asyncio.current_task() is coro
        coro.send(1)
        first = await task
        coro.send(2)
        return first, await coro.receive()

    assert run(main) == (1, 2)


def test_anyio_works_inside() -> None:
    anyio = pytest.importorskip("anyio")

    async def main(coro: Any) -> Any:
        with anyio.move_on_after(0.001) as scope:
            await coro.receive()
        with anyio.move_on_after(0.001) as second:
            await asyncio.sleep(10)
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await anyio.sleep(10)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 10)
            group.cancel_scope.cancel()
        value = await anyio.to_thread.run_sync(lambda: 5)
        return scope.cancelled_caught, second.cancelled_caught, value

    assert run(main) == (True, True, 5)

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import pytest

from discoro.scheduler import Channel, Coro, DiscoroError, NameTaken, NoSuchCoro, Scheduler
from discoro.scheduler.mailbox import Mark
from tests.kit import run_async

Yields = Generator[Any, Any, Any]


def run(func: Any, *args: Any, max_mailbox: int | None = None) -> Any:
    async def main() -> Any:
        async with Scheduler(max_mailbox=max_mailbox) as scheduler:
            return await scheduler.spawn(func, args)

    return run_async(main)


def collects(n: int, coro: Any = None) -> Yields:
    got = []
    for _ in range(n):
        got.append((yield coro.receive()))
    return got


def test_all_who_have_subscribed_get_each_message_in_order() -> None:
    def main() -> Yields:
        channel = Channel("news")
        coros = [Coro(collects, 3) for _ in range(2)]
        for coro in coros:
            assert (yield channel.subscribe(coro)) == 0
        channel.send(1)
        taken = yield channel.deliver(2)
        channel.send(3)
        return taken, (yield coros[0]), (yield coros[1])

    assert run(main) == (2, [1, 2, 3], [1, 2, 3])


def test_who_unsubscribes_or_ends_gets_no_more() -> None:
    def main() -> Yields:
        channel = Channel("news")
        stays, leaves, ends = Coro(collects, 2), Coro(collects, 2), Coro(collects, 1)
        for coro in (stays, leaves, ends):
            yield channel.subscribe(coro)
        first = yield channel.deliver(1)
        yield channel.unsubscribe(leaves)
        yield ends
        second = yield channel.deliver(2)
        leaves.terminate()
        return first, second, (yield stays), len(channel.subscribers)

    assert run(main) == (3, 1, [1, 2], 0)


def test_a_transform_changes_or_drops_messages_and_a_failing_one_drops_them() -> None:
    def double(name: str, message: int) -> int | None:
        assert name == "news"
        return 100 // message if message % 2 else None

    def main() -> Yields:
        channel = Channel("news", double)
        coro = Coro(collects, 2)
        yield channel.subscribe(coro)
        dropped = yield channel.deliver(2)
        channel.send(1)
        channel.set_transform(lambda name, message: 1 // 0)
        failed = yield channel.deliver(5)
        channel.set_transform(None)
        channel.send(7)
        return dropped, failed, (yield coro)

    assert run(main) == (0, 0, [100, 7])


def test_deliver_waits_for_n_subscribers_and_gives_0_at_the_timeout() -> None:
    async def main() -> Any:
        channel = Channel("news")
        coros = [Coro(collects, 1) for _ in range(2)]
        await channel.subscribe(coros[0])
        late = await channel.deliver("lost", timeout=0.001, n=2)
        asyncio.get_running_loop().call_later(0.001, channel._subscribe, coros[1])
        taken = await channel.deliver("x", timeout=10, n=2)
        return late, taken, [await coro for coro in coros]

    assert run(main) == (0, 2, [["x"], ["x"]])


def test_a_hierarchy_counts_its_end_recipients_and_refuses_a_ring() -> None:
    async def main() -> Any:
        top, left, right = Channel("top"), Channel("left", lambda n, m: m * 2), Channel("right")
        coros = [Coro(collects, 1) for _ in range(3)]
        await top.subscribe(left)
        await top.subscribe(right)
        await left.subscribe(coros[0])
        await left.subscribe(coros[1])
        await right.subscribe(coros[2])
        with pytest.raises(DiscoroError, match="round"):
            await right.subscribe(top)
        with pytest.raises(DiscoroError):
            await top.subscribe(top)
        return await top.deliver(21), [await coro for coro in coros]

    assert run(main) == (3, [[42], [42], [21]])


class Remote:
    """Offers what a reference to a remote channel does."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.sent: list[Any] = []

    def send(self, message: Any) -> int:
        self.sent.append(message)
        return 0

    async def deliver(self, message: Any, timeout: float | None = None) -> int:
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        result: int = self.answer
        return result


def test_anything_with_send_subscribes_and_awaitable_delivers_are_summed() -> None:
    class OnlySend:
        def send(self, message: Any) -> int:
            return 0

    async def main() -> Any:
        channel = Channel("news")
        remotes = [Remote(1), Remote(4), Remote(NoSuchCoro("x")), Remote(OSError("y"))]
        for subscriber in (*remotes, OnlySend()):
            await channel.subscribe(subscriber)
        with pytest.raises(TypeError):
            await channel.subscribe("text")
        channel.send("m")
        return await channel.deliver("n"), [remote.sent for remote in remotes]

    assert run(main) == (6, [["m"]] * 4)


def test_deliver_does_not_count_a_full_mailbox_at_the_timeout() -> None:
    def slow(coro: Any = None) -> Yields:
        yield coro.sleep()

    async def main() -> Any:
        channel = Channel("news")
        full, coro = Coro(slow), Coro(collects, 2)
        await asyncio.sleep(0)
        await channel.subscribe(full)
        await channel.subscribe(coro)
        first = await channel.deliver(1)
        channel.send(2)  # refused by the full one, which costs the other nothing
        return first, await channel.deliver(3, timeout=0.001), await coro

    assert run(main, max_mailbox=1) == (2, 0, [1, 2])


def test_channels_are_found_by_name_and_closed() -> None:
    async def main() -> Any:
        channel = Channel("news")
        scheduler = channel.scheduler
        channel.register()
        with pytest.raises(NameTaken):
            Channel("news").register()
        found = await Channel.locate("news")
        missing = await Channel.locate("other", timeout=0.001)
        number = scheduler.export(channel)
        assert scheduler.by_number[number] is channel
        channel.close()
        assert number not in scheduler.by_number
        gone = await Channel.locate("news", timeout=0.001)
        return found is channel, missing, gone, await channel.deliver(1)

    assert run(main) == (True, None, None, 0)


def test_send_may_be_called_from_a_thread_and_keeps_its_order() -> None:
    async def main() -> Any:
        channel = Channel("news")
        coro = Coro(collects, 100)
        await channel.subscribe(coro)

        def sends() -> None:
            for number in range(100):
                channel.send(number)

        thread = threading.Thread(target=sends)
        thread.start()
        result = await coro
        thread.join()
        return result

    assert run(main) == list(range(100))


def test_a_mark_is_taken_at_once() -> None:
    taken: list[int] = []

    class Noted(Mark):
        def taken(self) -> None:
            taken.append(1)

    async def main() -> None:
        Channel("news").put(Noted())

    run(main)
    assert taken == [1]


@pytest.mark.parametrize("name", ["", None])
def test_a_channel_has_a_name(name: Any) -> None:
    with pytest.raises(TypeError):
        Channel(name)


def test_none_is_a_message_like_any_other() -> None:
    async def main() -> None:
        async with Scheduler():

            async def take(coro: Any = None) -> list[Any]:
                return [await coro.receive(), await coro.receive()]

            channel = Channel("ends")
            taker = Coro(take)
            await channel.subscribe(taker)
            channel.send(None)
            assert await channel.deliver(None) == 1
            assert await taker == [None, None]

    run_async(main)

"""bulk: real TLS connections that are cut, memory and files, fairness, cancelling from both sides."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from discoro.transport.bulk import Bulk
from discoro.transport.bulkends import HashedFile, MemoryTarget
from discoro.transport.bulkframes import FrameType, encode
from discoro.transport.bulklink import chunks
from discoro.transport.credentials import Credentials
from discoro.transport.errors import (
    FileRefused,
    PeerUnreachable,
    SessionClosed,
    SessionLost,
    TransferFailed,
)
from discoro.transport.folder import describe
from discoro.transport.limits import Limits
from discoro.transport.network import TlsNetwork
from discoro.transport.secret import Secret, generate
from discoro.transport.workdir import Workdir
from tests.kit import eventually, run_async
from tests.transport.ends import ends

LIMITS = Limits(dial_first=0.001, dial_most=0.01)
CLOSED = SessionClosed(by_peer=False)


class Hold(asyncio.BufferedProtocol):
    """Keeps a fresh connection still until a Bulk takes it."""


class Proxy:
    """Passes bytes on, and cuts every connection after as many as ``budget`` says."""

    def __init__(self, port: int, budget: Callable[[], int | None]) -> None:
        self.port = port
        self.budget = budget
        self.cuts = 0

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        left = [self.budget()]

        async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if left[0] is not None:
                    data = data[: left[0]]
                    left[0] -= len(data)
                sink.write(data)
                if left[0] == 0:
                    self.cuts += 1
                    break
                await sink.drain()
            writer.transport.abort()
            there_writer.transport.abort()

        await asyncio.gather(
            one_way(reader, there_writer), one_way(there_reader, writer), return_exceptions=True
        )


class World:
    """A dialling and a dialled Bulk, TLS between them."""

    def __init__(
        self, limits: Limits = LIMITS, budget: Callable[[], int | None] | None = None
    ) -> None:
        self.limits = limits
        self.budget = budget
        self.dials = 0

    async def __aenter__(self) -> World:
        self.there = Bulk(None, self.limits, name="there")
        network = TlsNetwork(Credentials(Secret(generate())), self.limits)
        self.listener = await network.listen("127.0.0.1", 0)
        port = self.listener.address[1]
        self.proxy = None
        if self.budget is not None:
            self.proxy = Proxy(port, self.budget)
            port = await self.proxy.start()

        async def accept() -> None:
            while True:
                raw, _ = await self.listener.accept()
                with contextlib.suppress(OSError):
                    self.there.attach(await network.secure_accepted(raw, Hold()))

        async def dial() -> tuple[asyncio.Transport, bytes]:
            self.dials += 1
            raw = await network.dial("127.0.0.1", port)
            transport, _ = await network.secure(raw, Hold(), "127.0.0.1", port)
            return transport, b""

        self.accepting = asyncio.create_task(accept())
        self.here = Bulk(dial, self.limits, name="here")
        return self

    async def __aexit__(self, *exc: object) -> None:
        for bulk in (self.here, self.there):
            bulk.close(CLOSED)
            await bulk.wait_closed()
        self.accepting.cancel()
        await asyncio.wait({self.accepting})
        self.listener.close()
        if self.proxy is not None:
            self.proxy.server.close()
        await asyncio.sleep(0)


def in_world(
    main: Callable[[World], Awaitable[None]],
    limits: Limits = LIMITS,
    budget: Callable[[], int | None] | None = None,
) -> None:
    async def run() -> None:
        async with World(limits, budget) as world:
            await main(world)
        await asyncio.sleep(0.01)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if "discoro" in task.get_name()]

    run_async(run, guard=12)
    assert not [thread for thread in threading.enumerate() if "discoro-bulk" in thread.name]


class Sink:
    """A writer that keeps what it gets, and can be slow or broken."""

    def __init__(self, *, fail_at: int | None = None, pause: threading.Event | None = None) -> None:
        self.data = bytearray()
        self.fail_at = fail_at
        self.pause = pause
        self.aborted = 0
        self.finished = 0

    def write(self, data: memoryview) -> None:
        assert threading.current_thread() is not threading.main_thread()
        if self.pause is not None:
            assert self.pause.wait(10)
        if self.fail_at is not None and len(self.data) >= self.fail_at:
            raise OSError(28, "No space left on device")
        self.data += data

    def finish(self) -> str:
        self.finished += 1
        return hashlib.sha256(self.data).hexdigest()

    def abort(self) -> None:
        self.aborted += 1


@pytest.mark.parametrize("size", [0, 1, 24, 4095, 65536, 65512, (1 << 20) + 1, 3_000_000])
@pytest.mark.parametrize("dialled", [False, True])
def test_bytes_arrive_in_the_final_buffer_in_either_direction(size: int, dialled: bool) -> None:
    async def main(world: World) -> None:
        sender, receiver = (world.there, world.here) if dialled else (world.here, world.there)
        data = random.Random(size).randbytes(size)
        transfer = sender.send([data])
        into = bytearray(size)

        assert await receiver.expect(transfer.number, size, into) is None
        await transfer.done
        assert into == data

    in_world(main)


def test_many_small_buffers_arrive_as_one() -> None:
    async def main(world: World) -> None:
        parts = [os.urandom(n) for n in (0, 1, 70_000, 3, 0, 200_000, 65_536, *range(1, 300))]
        data = b"".join(parts)
        transfer = world.here.send([memoryview(part) for part in parts], len(data))
        into = bytearray(len(data))
        await world.there.expect(transfer.number, transfer.size, lambda: memoryview(into))
        assert into == data

    in_world(main)


@pytest.mark.parametrize("open_file", [False, True])
def test_a_file_goes_from_disk_to_a_writer(tmp_path: Path, open_file: bool) -> None:
    data = random.Random(1).randbytes(2_500_000)
    path = tmp_path / "big"
    path.write_bytes(data)

    async def main(world: World) -> None:
        for size in (len(data), 0, 1, 262_144):
            sink = Sink()
            with open(path, "rb") as file:
                transfer = world.here.send(file if open_file else path, size)
                digest = await world.there.expect(transfer.number, size, sink)
                await transfer.done
            assert sink.data == data[:size]
            assert digest == hashlib.sha256(data[:size]).hexdigest()
            assert (sink.finished, sink.aborted) == (1, 0)

    in_world(main)


@pytest.mark.parametrize("seed", range(6))
def test_transfers_go_on_where_they_stopped_after_cuts_at_random_offsets(
    seed: int, tmp_path: Path
) -> None:
    """TLS connections are cut after a random number of bytes, some inside the TLS handshake."""
    dice = random.Random(seed)
    data = [dice.randbytes(dice.randrange(1, 3_000_000)) for _ in range(6)]
    cuts = [dice.randrange(1, 900_000) for _ in range(25)] + [
        dice.randrange(100, 3000) for _ in range(3)
    ]
    dice.shuffle(cuts)
    (tmp_path / "0").write_bytes(data[0])

    async def main(world: World) -> None:
        assert world.proxy is not None
        waits: list[Awaitable[Any]] = []
        targets: list[Any] = []
        for index, body in enumerate(data):
            sender, receiver = (world.here, world.there) if index % 2 else (world.there, world.here)
            source: Any = tmp_path / "0" if index == 0 else [body]
            if index == 2:
                (tmp_path / "2").write_bytes(body)
                source = hashed(tmp_path / "2")
                data[2] = body = body + hashlib.sha256(body).digest()
            transfer = sender.send(source, len(body))
            into: Any = Sink() if index < 3 else bytearray(len(body))
            targets.append(into)
            waits += [transfer.done, receiver.expect(transfer.number, len(body), into)]
        await asyncio.gather(*waits)
        for body, into in zip(data, targets, strict=True):
            assert (into.data if isinstance(into, Sink) else into) == body
        assert world.proxy.cuts >= 8
        # Nothing was sent twice: what a cut took away is at most what was under way.
        assert world.dials > world.proxy.cuts // 2

    in_world(main, budget=lambda: cuts.pop() if cuts else None)


def test_a_turn_of_the_loop_takes_so_many_bytes_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that has arrived, in one turn, would let small messages stand behind it."""
    most, size = 32 << 10, 8 << 20
    in_turn = [0]
    took = MemoryTarget.came

    def came(self: MemoryTarget, count: int) -> None:
        if not in_turn[-1]:
            asyncio.get_running_loop().call_soon(in_turn.append, 0)
        in_turn[-1] += count
        took(self, count)

    monkeypatch.setattr(MemoryTarget, "came", came)

    async def main(world: World) -> None:
        transfer = world.here.send([bytes(size)])
        await world.there.expect(transfer.number, size, bytearray(size))
        assert sum(in_turn) == size
        # Of the records that such a piece ends in the middle of, one was begun by the piece before.
        assert max(in_turn) <= most + (16 << 10)

    in_world(main, Limits(bulk_write=1 << 20, tls_receive=most))


def test_two_transfers_share_the_connection_fairly() -> None:
    async def main(world: World) -> None:
        size = 8 << 20
        order: list[int] = []
        seen = []
        for _ in range(2):
            transfer = world.here.send([bytes(size)])
            done = world.there.expect(transfer.number, size, bytearray(size))
            done.add_done_callback(lambda _, n=transfer.number: order.append(n))
            seen.append((transfer, done))
        machine = world.there._transfers
        await seen[0][1]
        left = list(machine.incoming)
        assert left in ([], [2]) and (not left or machine.offset(2) > size * 0.8)
        await asyncio.gather(*(done for _, done in seen))
        await asyncio.sleep(
            0
        )  # from 3.12 on gather does not wait for the callbacks of what is done
        assert order == [1, 2]

    in_world(main)


def test_a_small_one_overtakes_a_big_one() -> None:
    async def main(world: World) -> None:
        big = world.here.send([bytes(64 << 20)])
        big_done = world.there.expect(big.number, big.size, bytearray(big.size))
        await eventually(lambda: world.there._transfers.offset(big.number) > 0)
        small = world.here.send([bytes(2 << 20)])
        await world.there.expect(small.number, small.size, bytearray(small.size))
        assert not big_done.done()
        await big_done

    in_world(main)


def test_a_slow_disk_holds_up_its_own_transfer_only_and_no_memory_piles_up() -> None:
    async def main(world: World) -> None:
        pause = threading.Event()
        sink = Sink(pause=pause)
        size = 16 << 20
        slow = world.here.send([bytes(size)])
        slow_done = world.there.expect(slow.number, size, sink)
        quick = world.here.send([bytes(size)])
        await world.there.expect(quick.number, size, bytearray(size))
        machine = world.there._transfers
        window = LIMITS.file_part * LIMITS.file_parts_in_flight
        await eventually(lambda: machine.offset(slow.number) == window)
        assert not slow_done.done()
        pause.set()
        await slow_done
        assert len(sink.data) == size

    in_world(main)


@pytest.mark.parametrize("who", ["sender", "receiver", "sender's future", "receiver's future"])
@pytest.mark.parametrize("when", ["before", "under way"])
def test_either_side_may_cancel(who: str, when: str) -> None:
    async def main(world: World) -> None:
        size = 200 << 20 if when == "under way" else 1 << 20
        transfer = world.here.send([bytes(size)])
        sink = Sink()
        if who.startswith("sender") and when == "before":
            world.here.cancel(transfer.number)
        done = world.there.expect(transfer.number, size, sink)
        if when == "under way":
            await eventually(lambda: world.there._transfers.offset(1) > 0)
        match who:
            case "sender":
                world.here.cancel(transfer.number, "no more")
            case "receiver":
                world.there.cancel(transfer.number, "no more", incoming=True)
            case "sender's future":
                transfer.done.cancel()
            case _:
                done.cancel()
        ends = await asyncio.gather(transfer.done, done, return_exceptions=True)
        assert all(isinstance(end, (TransferFailed, asyncio.CancelledError)) for end in ends)
        await eventually(lambda: sink.aborted == 1)
        assert sink.finished == 0
        await eventually(lambda: not world.there._transfers.busy)

        again = world.here.send([b"x"])
        into = bytearray(1)
        await world.there.expect(again.number, 1, into)
        assert world.dials == 1

    in_world(main)


@pytest.mark.parametrize("incoming", [False, True])
def test_memory_is_free_at_once_when_its_transfer_is_cancelled_in_the_middle_of_a_frame(
    incoming: bool,
) -> None:
    async def main(world: World) -> None:
        transfer = world.here.send([bytes(100 << 20)])
        into = bytearray(transfer.size)
        done = world.there.expect(transfer.number, transfer.size, into)
        link = None
        for _ in range(100_000):
            await asyncio.sleep(0)
            link = world.there._link
            if link is not None and link._left > 100_000:
                break
        assert link is not None and link._left, "in the middle of a frame"
        (world.there if incoming else world.here).cancel(1, "no more", incoming=incoming)
        for future in (done, transfer.done):
            with pytest.raises(TransferFailed):
                await future
        into.append(1)
        again = world.here.send([b"abc"])
        await world.there.expect(again.number, 3, bytearray(3))
        assert world.dials == 1

    in_world(main)


def test_a_newer_connection_takes_the_place_of_the_old_one() -> None:
    """The dialler has noticed a cut that this side has not: what is on the old connection must not count."""

    async def main(world: World) -> None:
        size = 100 << 20
        data = random.Random(5).randbytes(1 << 20) * 100
        transfer = world.here.send([data])
        into = bytearray(size)
        done = world.there.expect(transfer.number, size, into)
        await eventually(lambda: world.there._transfers.offset(1) > 1 << 20)
        old = world.there._link, world.here._link
        assert world.here._dial is not None
        world.here.attach(*await world.here._dial())
        await done
        await transfer.done
        assert into == data
        for link in old:
            assert link is not None and link.lost
        assert world.dials == 2

    in_world(main)


def test_a_writer_that_fails_ends_the_transfer_on_both_sides_with_its_reason() -> None:
    async def main(world: World) -> None:
        sink = Sink(fail_at=1 << 20)
        transfer = world.here.send([bytes(8 << 20)])
        with pytest.raises(OSError, match="No space left"):
            await world.there.expect(transfer.number, transfer.size, sink)
        with pytest.raises(TransferFailed, match="No space left"):
            await transfer.done
        assert (sink.finished, sink.aborted) == (0, 1)
        assert world.dials == 1

    in_world(main)


def test_a_target_that_cannot_be_made_refuses_and_the_next_one_starts() -> None:
    async def main(world: World) -> None:
        def no_memory() -> memoryview:
            raise MemoryError("8 EiB")

        transfers = [world.here.send([b"abc"]) for _ in range(4)]
        into = bytearray(3)
        places: list[Any] = [no_memory, bytearray(2), b"abc", into]
        dones = [
            world.there.expect(t.number, 3, place)
            for t, place in zip(transfers, places, strict=True)
        ]
        for done, kind in zip(dones, (MemoryError, ValueError, ValueError), strict=False):
            with pytest.raises(kind):
                await done
        await dones[3]
        assert into == b"abc"
        for transfer in transfers[:3]:
            with pytest.raises(TransferFailed, match="refused"):
                await transfer.done

    in_world(main)


def hashed(path: Path) -> HashedFile:
    found = path.stat()
    return HashedFile(path, found.st_size, found.st_mtime_ns)


def test_a_file_that_changes_while_it_is_hashed_fails_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    os.utime(tmp_path / "file", ns=(0, 0))

    async def main(world: World) -> None:
        file = hashed(tmp_path / "file")
        transfer = world.here.send(file, file.size)
        (tmp_path / "file").write_bytes(bytes(3 << 20))
        sink = Sink()
        with pytest.raises(TransferFailed, match="changed while it was sent"):
            await world.there.expect(transfer.number, file.size, sink)
        with pytest.raises(FileRefused, match="changed while it was sent"):
            await transfer.done
        await eventually(lambda: sink.aborted == 1)

    in_world(main)


def test_a_file_that_is_missing_or_shrinks_fails_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(300_000))

    async def main(world: World) -> None:
        for name, size in (("absent", 5), ("short", 300_001)):
            transfer = world.here.send(tmp_path / name, size)
            sink = Sink()
            with pytest.raises(TransferFailed):
                await world.there.expect(transfer.number, size, sink)
            with pytest.raises(TransferFailed):
                await transfer.done
            await eventually(lambda sink=sink: sink.aborted == 1)

    in_world(main)


def test_two_sizes_fail_on_both_sides() -> None:
    async def main(world: World) -> None:
        transfer = world.here.send([b"abc"])
        done = world.there.expect(transfer.number, 4, bytearray(4))
        for future in (transfer.done, done):
            with pytest.raises(TransferFailed, match="3 bytes are sent, 4 were expected"):
                await future

    in_world(main)


def test_a_broken_rule_costs_the_connection_and_the_transfer_goes_on_over_the_next() -> None:
    async def main(world: World) -> None:
        transfer = world.here.send([bytes(100 << 20)])
        done = world.there.expect(transfer.number, transfer.size, bytearray(transfer.size))
        await eventually(lambda: world.there._transfers.offset(1) > 0)
        evil = encode(FrameType.DATA, 99, 0, b"unasked")
        world.there._link.feed(evil) if world.there._link._left == 0 else world.there._link.close()  # type: ignore[union-attr]
        await done
        assert world.dials == 2

    in_world(main)


def test_a_peer_that_pings_and_does_not_read_takes_little_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: World) -> None:
        data = bytearray(1 << 20)
        transfer = world.here.send([data])
        await world.there.expect(transfer.number, len(data), bytearray(len(data)))
        link, answering = world.here._link, world.there._link
        assert link is not None and answering is not None
        transport, answers = cast(Any, link._transport), cast(Any, answering._transport)
        # Its kernel takes some megabytes, and nobody reads them.
        transport._loop.remove_reader(transport._descriptor)
        most = 0
        while not answering.lost:
            transport.write(encode(FrameType.PING, 1) * 2000)
            await asyncio.sleep(0)
            most = max(most, answers.get_write_buffer_size())
        assert most < 1 << 20
        assert "none is read" in caplog.text

    in_world(main)


def test_a_peer_that_goes_on_breaking_rules_ends_the_transfers_and_not_more() -> None:
    async def main(world: World) -> None:
        world.there.attach = lambda transport, leftover=b"": transport.write(b"\xff" * 64)  # type: ignore[method-assign]
        transfer = world.here.send([b"abc"])
        with pytest.raises(TransferFailed, match="type 255"):
            await transfer.done
        assert world.dials == LIMITS.protocol_errors

    in_world(main)


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_a_mistake_of_ours_is_said_aloud_and_does_not_go_on_for_ever(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        def mistake(*given: Any) -> Any:
            raise KeyError("a mistake")

        if end == "sender":
            world.here.ready = mistake  # type: ignore[method-assign]
        else:
            world.there._transfers.data_begins = mistake  # type: ignore[method-assign]
        transfer = world.here.send([b"abc"])
        coming = world.there.expect(transfer.number, transfer.size, bytearray(3))
        with pytest.raises(TransferFailed, match="KeyError: 'a mistake'"):
            await transfer.done
        with pytest.raises(TransferFailed, match="KeyError: 'a mistake'"):
            await coming
        assert world.dials <= LIMITS.protocol_errors + 1
        assert caplog.text.count("this is a bug in discoro") == LIMITS.protocol_errors
        assert "in mistake" in caplog.text  # the traceback

    in_world(main)


def test_a_dial_that_fails_is_repeated() -> None:
    async def main(world: World) -> None:
        dial, failures = world.here._dial, [1, 2, 3]

        async def stubborn() -> tuple[asyncio.Transport, bytes]:
            if failures:
                failures.pop()
                raise PeerUnreachable("127.0.0.1", 1, "refused")
            assert dial is not None
            return await dial()

        world.here._dial = stubborn
        transfer = world.here.send([b"abc"])
        await world.there.expect(transfer.number, 3, bytearray(3))
        assert not failures

    in_world(main)


def test_bytes_read_before_the_connection_was_taken_over_are_not_lost() -> None:
    async def main(world: World) -> None:
        into = bytearray(5)
        done = world.there.expect(1, 5, into)
        attach = world.there.attach
        early = encode(FrameType.PING, 3)
        world.there.attach = lambda transport: attach(transport, early)  # type: ignore[method-assign,misc,assignment]
        world.here.send([b"hello"])
        await done
        assert into == b"hello"

    in_world(main)


def test_an_idle_connection_is_closed_and_dialled_again_when_needed() -> None:
    async def main(world: World) -> None:
        for expected in (1, 2):
            transfer = world.here.send([b"abc"])
            await world.there.expect(transfer.number, 3, bytearray(3))
            assert world.dials == expected
            await eventually(lambda: not world.here.connected and not world.there.connected)

    in_world(main, Limits(tick=0.005, bulk_idle=0.01))


def test_a_silent_connection_is_dropped_while_something_is_open() -> None:
    async def main(world: World) -> None:
        first: list[asyncio.Transport] = []
        attach = world.there.attach

        def deaf_at_first(transport: asyncio.Transport, leftover: bytes = b"") -> None:
            if first:
                attach(transport, leftover)
            else:
                first.append(transport)

        world.there.attach = deaf_at_first  # type: ignore[method-assign]
        transfer = world.here.send([b"abc"])
        await world.there.expect(transfer.number, 3, bytearray(3))
        await transfer.done
        first[0].abort()
        assert world.dials == 2

    in_world(main, Limits(tick=0.005, ping_idle=0.01, silence=0.03, dial_first=0.001))


@pytest.mark.parametrize("how", ["whole", "sender", "receiver", "closed", "damaged", "too late"])
def test_a_file_lands_in_a_working_directory_whole_or_not_at_all(tmp_path: Path, how: str) -> None:
    data = random.Random(2).randbytes(12 << 20)
    (tmp_path / "source").write_bytes(data)
    facts = describe(tmp_path / "source", "in/big")
    if how == "damaged":
        (tmp_path / "source").write_bytes(bytes(len(data)))
    workdir = Workdir.locked(tmp_path / "dest", "server", Limits(free_space=0))

    async def main(world: World) -> None:
        transfer = world.here.send(tmp_path / "source", facts.size)
        writer = workdir.receive(facts)
        if how == "too late":
            world.there.close(CLOSED)
            with pytest.raises(SessionClosed):
                world.there.expect(transfer.number, facts.size, writer)
            return
        done = world.there.expect(transfer.number, facts.size, writer)
        await eventually(lambda: world.there._transfers.offset(1) > 0)
        if how == "sender":
            world.here.cancel(1)
        elif how == "receiver":
            done.cancel()
        elif how == "closed":
            world.there.close(CLOSED)
        ends = await asyncio.gather(done, return_exceptions=True)
        assert ends == [None] or how != "whole"

    in_world(main)

    files = [path for path in (tmp_path / "dest/server").rglob("*") if path.is_file()]
    if how == "whole":
        assert [path.name for path in files] == ["big"]
        assert files[0].read_bytes() == data
    else:
        assert files == []
        assert workdir.holders("in/big") == set()
    workdir.close()


def test_close_fails_everything_and_leaves_no_thread_or_file() -> None:
    async def main(world: World) -> None:
        transfer = world.here.send([bytes(1 << 20)])
        sink = Sink(pause=threading.Event())
        assert sink.pause is not None
        done = world.there.expect(transfer.number, transfer.size, sink)
        await eventually(lambda: world.there._transfers.offset(1) == 1 << 20)
        world.there.close(CLOSED)
        world.here.close(CLOSED)
        sink.pause.set()
        for future in (transfer.done, done):
            with pytest.raises(SessionClosed):
                await future
        await world.there.wait_closed()
        assert (sink.finished, sink.aborted) == (0, 1)
        for call in (
            lambda: world.here.send([b"x"]),
            lambda: world.here.expect(5, 1, bytearray(1)),
        ):
            with pytest.raises(SessionClosed):
                call()

    in_world(main)


def test_the_buffers_of_the_sender_are_released_at_the_end() -> None:
    async def main(world: World) -> None:
        data = bytearray(100_000)
        transfer = world.here.send([data])
        with pytest.raises(BufferError):
            data.append(1)
        into = bytearray(len(data))
        await world.there.expect(transfer.number, len(data), into)
        await transfer.done
        await asyncio.sleep(0)
        data.append(1)
        into.append(1)

    in_world(main)


@pytest.mark.parametrize("sender_dialled", [False, True])
def test_a_session_dials_its_bulk_connection_with_a_proof_on_first_need(
    sender_dialled: bool,
) -> None:
    """The way through the real endpoints: TLS, handshake, BULK with the session's proof, then transfers."""

    async def main() -> None:
        async with ends() as (dialler, listener):
            await listener.listen()
            session = await dialler.endpoint.connect("127.0.0.1", listener.port, timeout=5)
            await eventually(lambda: dialler.process_id in listener.endpoint.sessions)
            there = listener.endpoint.sessions[dialler.process_id]
            sender, receiver = (session, there) if sender_dialled else (there, session)
            data = random.Random(7).randbytes(5_000_000)
            for _ in range(2):
                transfer = sender.bulk.send([data])
                into = bytearray(len(data))
                await receiver.bulk.expect(transfer.number, len(data), into)
                await transfer.done
                assert into == data
            pending = sender.bulk.send([data])
            link = receiver.bulk._link
            assert link is not None
            link.close()
            into = bytearray(len(data))
            await receiver.bulk.expect(pending.number, len(data), into)
            assert into == data
            lost = sender.bulk.send([data])
        with pytest.raises(SessionLost):
            await lost.done

    run_async(main, guard=12)


def test_chunks_are_of_one_length_and_join_only_what_is_small() -> None:
    views = [memoryview(bytes(n)) for n in (5, 100, 3, 0, 250, 1)]
    got = list(chunks(b"h" * 24, views, 64))

    assert b"".join(got) == b"h" * 24 + bytes(359)
    assert [len(chunk) for chunk in got] == [64] * 5 + [63]
    assert any(isinstance(chunk, memoryview) for chunk in got)

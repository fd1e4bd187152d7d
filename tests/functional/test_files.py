"""send_file between two processes: hashed while it is sent, known where it is there already, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from discoro.errors import FileRefused, PeerError
from discoro.messages import SendFile
from discoro.peers import files as files_module
from discoro.transport.bulkends import HashedFile
from discoro.transport.errors import FileRefused as FileRefusedHere
from discoro.transport.workdir import Workdir
from tests.kit import eventually, run_async
from tests.processes import ServerProgram, World

MIB = 1 << 20


@pytest.fixture(scope="module")
def taking(shared: World) -> ServerProgram:
    return shared.server(name="taking", dest_path=str(shared.folder / "dest"))


@pytest.fixture
def dest(shared: World, taking: ServerProgram) -> Path:
    """Where files arrive; empty."""
    assert taking.port
    made = shared.folder / "dest"
    for path in made.glob("*"):
        path.unlink()
    return made


@pytest.fixture
def big(tmp_path: Path) -> Path:
    made = tmp_path / "big"
    made.write_bytes(random.Random(1).randbytes(5 * MIB + 17))
    os.utime(made, ns=(10**18, 10**18))
    made.chmod(0o640)
    return made


def offers(scheduler: Any) -> list[SendFile]:
    """What is offered from now on."""
    seen: list[SendFile] = []
    ask = scheduler.network.requests.ask

    async def asked(peer: Any, message: Any) -> Any:
        seen.append(message)
        return await ask(peer, message)

    scheduler.network.requests.ask = asked
    return seen


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def left(dest: Path) -> list[str]:
    return [path.name for path in dest.rglob("*")] if dest.exists() else []


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 4 * MIB, 4 * MIB + 1])
def test_a_long_file_is_offered_without_its_hash_and_a_short_one_with_it(
    shared: World, taking: ServerProgram, dest: Path, tmp_path: Path, size: int
) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(random.Random(size).randbytes(size))
    os.utime(sent, ns=(10**18, 10**18))

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            seen = offers(scheduler)
            assert await scheduler.send_file(taking.location, sent) == 0
            assert [offer.digest for offer in seen] == [digest(sent) if size <= MIB else b""]
        assert (dest / "sent").read_bytes() == sent.read_bytes()
        assert (dest / "sent").stat().st_mtime_ns == sent.stat().st_mtime_ns
        assert left(dest) == ["sent"]

    run_async(main)


def test_a_file_that_was_written_to_in_this_moment_is_hashed_first(
    shared: World,
    taking: ServerProgram,
    dest: Path,
    big: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the kernel counts time in ticks, it could change once more and look the same."""
    monkeypatch.setattr(files_module, "_TICK_NS", 3600 * 10**9)
    os.utime(big)

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            seen = offers(scheduler)
            assert await scheduler.send_file(taking.location, big) == 0
            assert [offer.digest for offer in seen] == [digest(big)]

    run_async(main)


def test_what_is_there_already_is_not_sent_again_and_other_content_of_that_size_is(
    shared: World, taking: ServerProgram, dest: Path, big: Path
) -> None:
    """The receiver asks for the hash of what may be there; a file of another size cannot be."""

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            await scheduler.send_file(taking.location, big)
            os.utime(big, ns=(2 * 10**18, 2 * 10**18))
            first = (dest / "big").stat()
            seen = offers(scheduler)
            assert await scheduler.send_file(taking.location, big) == 0
            assert [offer.digest for offer in seen] == [b"", digest(big)]
            again = (dest / "big").stat()
            assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, 2 * 10**18)

            big.write_bytes(bytes(big.stat().st_size))
            with pytest.raises(FileRefused, match="overwrite=True"):
                await scheduler.send_file(taking.location, big)
            assert (dest / "big").stat().st_ino == first.st_ino
            assert await scheduler.send_file(taking.location, big, overwrite=True) == 0
            assert (dest / "big").read_bytes() == big.read_bytes()

            seen.clear()
            big.write_bytes(bytes(3 * MIB))
            os.utime(big, ns=(10**18, 10**18))
            with pytest.raises(FileRefused, match="overwrite=True"):
                await scheduler.send_file(taking.location, big)
            assert await scheduler.send_file(taking.location, big, overwrite=True) == 0
            assert [offer.digest for offer in seen] == [b"", b""]
            assert (dest / "big").read_bytes() == big.read_bytes()
            assert left(dest) == ["big"]
            peer = await scheduler.network.peer_at(taking.location)
            await eventually(lambda: "0 out, 0 in" in repr(peer.bulk))

    run_async(main)


class Changing(HashedFile):
    """A file that somebody writes to, removes or cuts while it is sent."""

    how = ""

    def read_at(self, offset: int, length: int) -> bytes:
        data = super().read_at(offset, length)
        if offset == 0:
            path = Path(self._name)
            if self.how == "written":
                with path.open("r+b") as file:
                    file.seek(4 * MIB)
                    file.write(b"new")
            elif self.how == "longer":
                with path.open("ab") as file:
                    file.write(b"more")
            else:
                os.truncate(path, 2 * MIB)
        return data


class Damaging(HashedFile):
    """A sender that says another hash than that of its bytes."""

    def _behind(self) -> bytes:
        return bytes(32)


@pytest.mark.parametrize("how", ["written", "longer", "shorter"])
@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_changes_while_it_is_sent_is_refused_and_nothing_of_it_stays(
    shared: World,
    taking: ServerProgram,
    dest: Path,
    big: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    older: bool,
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            if older:
                content = big.read_bytes()
                big.write_bytes(b"older")
                await scheduler.send_file(taking.location, big)
                big.write_bytes(content)
                os.utime(big, ns=(10**18, 10**18))
            monkeypatch.setattr(files_module, "HashedFile", Changing)
            monkeypatch.setattr(Changing, "how", how)
            with pytest.raises(FileRefused, match="changed while it was sent") as caught:
                await scheduler.send_file(taking.location, big, overwrite=True)
            assert str(big) in str(caught.value)
            await eventually(lambda: left(dest) == ["big"] * older)
            assert not older or (dest / "big").read_bytes() == b"older"
            monkeypatch.undo()
            assert await scheduler.send_file(taking.location, big, overwrite=True) == 0
            assert (dest / "big").read_bytes() == big.read_bytes()

    run_async(main)


def test_a_wrong_hash_behind_the_bytes_is_refused_and_nothing_of_it_stays(
    shared: World,
    taking: ServerProgram,
    dest: Path,
    big: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            monkeypatch.setattr(files_module, "HashedFile", Damaging)
            with pytest.raises(FileRefused, match="its bytes are not those that were announced"):
                await scheduler.send_file(taking.location, big)
            assert left(dest) == []
            monkeypatch.undo()
            assert await scheduler.send_file(taking.location, big) == 0

    run_async(main)


class Unreadable(HashedFile):
    """A file on a disk that fails in the middle of it."""

    def read_at(self, offset: int, length: int) -> bytes:
        if offset >= 2 * MIB:
            folder = os.open("/", os.O_RDONLY)
            os.dup2(folder, self._fd)
            os.close(folder)
        return super().read_at(offset, length)


class Held(HashedFile):
    """A file of which the end, and with it the hash, does not come before it is let go."""

    at_the_end: threading.Event
    go_on: threading.Event

    def read_at(self, offset: int, length: int) -> bytes:
        if offset + length > self._length:
            self.at_the_end.set()
            assert self.go_on.wait(20)
        return super().read_at(offset, length)


def test_a_file_that_cannot_be_read_to_its_end_is_refused_and_nothing_of_it_stays(
    shared: World,
    taking: ServerProgram,
    dest: Path,
    big: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with shared.scheduler() as scheduler:
            monkeypatch.setattr(files_module, "HashedFile", Unreadable)
            with pytest.raises(FileRefused, match="cannot be read: Is a directory"):
                await scheduler.send_file(taking.location, big)
            await eventually(lambda: left(dest) == [])
            monkeypatch.undo()
            assert await scheduler.send_file(taking.location, big) == 0

    run_async(main)


@pytest.mark.parametrize("how", ["cancelled", "lost"])
def test_a_hash_that_never_comes_leaves_nothing_behind(
    shared: World,
    taking: ServerProgram,
    dest: Path,
    big: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """The name is held as long as somebody waits, and free afterwards; other files come through meanwhile."""
    Held.at_the_end, Held.go_on = threading.Event(), threading.Event()
    other = big.with_name("other")
    other.write_bytes(bytes(2 * MIB))

    async def main() -> None:
        async with shared.scheduler() as scheduler, shared.scheduler(name="second") as second:
            with monkeypatch.context() as patch:
                patch.setattr(files_module, "HashedFile", Held)
                sending = asyncio.ensure_future(scheduler.send_file(taking.location, big))
                await eventually(Held.at_the_end.is_set)
            assert [name.startswith(".part-") for name in left(dest)] == [True]
            if how == "cancelled":
                with pytest.raises(FileRefused, match="at this moment"):
                    await second.send_file(taking.location, big, overwrite=True)
                assert await second.send_file(taking.location, other) == 0
                assert await second.del_file(taking.location, "other") == 0
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            else:
                peer = await scheduler.network.peer_at(taking.location)
                await scheduler.network._endpoint.close_session(peer.session)
                with pytest.raises(PeerError):
                    await sending
            await eventually(lambda: left(dest) == [])
            Held.go_on.set()
            assert await second.send_file(taking.location, big) == 0

    try:
        run_async(main)
    finally:
        Held.go_on.set()


@pytest.mark.parametrize("outcome", ["taken", "refused"])
def test_a_sender_that_goes_while_its_file_is_being_admitted_leaves_nothing(
    shared: World, tmp_path: Path, big: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """The receiver looks at its disk in a thread, which cannot be cancelled."""
    dest = tmp_path / "dest"
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    receive = Workdir.receive

    def slow(workdir: Workdir, *arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        try:
            if outcome == "refused":
                raise FileRefusedHere("big", "is not wanted")
            return receive(workdir, *arguments, **options)
        finally:
            ended.set()

    async def main() -> None:
        async with (
            shared.scheduler(dest_path=str(dest), tcp_port=0) as taker,
            shared.scheduler() as sender,
        ):
            await taker.network.publish()
            with monkeypatch.context() as patch:
                patch.setattr(Workdir, "receive", slow)
                sending = asyncio.ensure_future(sender.send_file(taker.location, big))
                await eventually(begun.is_set)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                peer = await taker.network.peer_at(sender.location)
                await eventually(lambda: not taker.network.requests._tasks)
                go_on.set()
                await eventually(ended.is_set)
            await eventually(lambda: left(dest) == [])
            await eventually(lambda: "0 in>" in repr(peer.bulk))
            assert await sender.send_file(taker.location, big) == 0

    try:
        run_async(main)
    finally:
        go_on.set()

"""Hostile names, sizes and modes, through the real requests: nothing is written outside, nothing half is left inside."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discoro import Computation
from discoro.errors import DiscoroError, FileRefused, ProtocolViolation
from discoro.messages import Blob, DeleteFile, Done, Message, Offer, SendFile, decode
from discoro.shipping.collecting import collect
from discoro.shipping.values import decode_exception
from discoro.transport.errors import TransportError
from discoro.transport.frames import Kind
from tests.faults import faultjobs
from tests.faults.byhand import Member
from tests.functional.nodes import REAL, NodeProcess, ended_at_last
from tests.kit import eventually, run_async
from tests.processes import ServerProgram, World
from tests.transport.test_paths import HOSTILE

DIGEST = hashlib.sha256(b"never sent").digest()


@pytest.fixture(scope="module")
def taking(shared: World) -> ServerProgram:
    """A server that takes files, in a folder with a link that leads out of it."""
    dest = shared.folder / "dest"
    dest.mkdir()
    outside = shared.folder / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (dest / "link").symlink_to(outside)
    return shared.server(name="taking", dest_path=str(dest))


def tree(folder: Path) -> set[tuple[str, bytes]]:
    names = set()
    for path in sorted(folder.rglob("*")):
        if ".err" not in path.name and ".out" not in path.name and "state" not in path.parts:
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            names.add((str(path.relative_to(folder)), content))
    return names


def parts(folder: Path) -> set[str]:
    """Files on their way. Who hung up is given its time to come back, so there may be some of an earlier test."""
    return {path.name for path in folder.glob(".part-*")}


def refusal(member: Member, message: Message) -> str:
    """Ask, and return why it was refused."""
    reply = member.request(message.encode())
    assert reply.source == 1, f"{message} was answered with {decode(reply.payload)}"
    return str(decode_exception(reply.payload))


def sending(name: str, **fields: Any) -> SendFile:
    known = {"size": 10, "digest": DIGEST, "mode": 0o644, "modified_ns": 0}
    return SendFile(
        name=name, overwrite=True, transfer=random.randrange(1, 1 << 40), **{**known, **fields}
    )


def encodable(names: list[str]) -> list[str]:
    """Control data is UTF-8: a lone surrogate cannot even be said."""
    return [
        name
        for name in names
        if name.isprintable() or ("\ud800" not in name and "\udcff" not in name)
    ]


def generated(count: int, seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    pieces = [
        "..",
        ".",
        "/",
        "\\",
        "~",
        ":",
        "con",
        "a",
        "link/",
        "outside",
        "\0",
        " ",
        "é",
        "\n",
        "etc",
    ]
    for _ in range(count):
        kind = [chance.choice(pieces) for _ in range(chance.randrange(1, 9))]
        kind += chance.choices(string.printable, k=chance.randrange(3))
        yield "".join(kind)


def test_no_name_leads_out_of_the_folder(shared: World, taking: ServerProgram) -> None:
    """The table, generated names, and names through a symbolic link; the tree is compared, not the answers alone."""
    with Member.opened(taking.port, shared.secret) as member:
        before = tree(shared.folder)
        for name in encodable(HOSTILE):
            assert refusal(member, sending(name))
            assert refusal(member, DeleteFile(name))
        for name in ("link/x", "link/kept"):
            assert refusal(member, sending(name))
            assert refusal(member, DeleteFile(name))
        assert refusal(member, sending("link"))
        seed = random.randrange(1 << 30)
        for name in generated(60, seed):
            # An honest one among them is accepted, and waits for bytes that never come.
            member.one(Kind.REQUEST, 0, 1_000_000 + member.number, sending(name).encode())
            member.one(Kind.REQUEST, 0, 2_000_000 + member.number, DeleteFile(name).encode())
        assert refusal(member, DeleteFile("../x"))
        member.hang_up()
        outside = {
            (name, data) for name, data in tree(shared.folder) if not name.startswith("dest")
        }
        assert outside == {(name, data) for name, data in before if not name.startswith("dest")}, (
            seed
        )
    assert (shared.folder / "outside/kept").read_text() == "kept"
    assert "Traceback" not in taking.err, taking.err


@pytest.mark.parametrize(
    "fields",
    [
        {"size": -1},
        {"size": (1 << 30) + 1},
        {"size": 1 << 62},
        {"size": -1, "digest": b""},
        {"size": (1 << 30) + 1, "digest": b""},
        {"size": 1 << 62, "digest": b""},
        {"digest": b"x"},
        {"digest": b"x" * 31},
        {"digest": b"x" * 64},
    ],
    ids=str,
)
def test_sizes_and_digests_that_cannot_be_are_refused(
    fields: dict[str, Any], shared: World, taking: ServerProgram
) -> None:
    with Member.opened(taking.port, shared.secret) as member:
        assert refusal(member, sending("fine.txt", **fields))
        bundle = collect(faultjobs.sleepy, [])
        offer = Offer(bundle.id, "x", bundle.python, bundle.digest, 10, [], True, None)
        member.request(offer.encode())
        size, digest = fields.get("size", 10), fields.get("digest", DIGEST)
        assert refusal(member, Blob(digest, size, 7, bundle.id))
    assert "Traceback" not in taking.err, taking.err


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"0123456789" + bytes(32), "not those that were announced"),
        (b"0123456789" + DIGEST, "not those that were announced"),
        (b"0123456789", "42 were expected"),
        (b"0123456789" + DIGEST[:31], "42 were expected"),
        (b"0123456789" + DIGEST * 2, "42 were expected"),
        (b"", "42 were expected"),
        (bytes(5 << 20), "42 were expected"),
    ],
    ids=["zeros", "other", "none", "short", "twice", "no bytes", "many"],
)
def test_a_cheat_with_the_hash_behind_the_bytes_is_refused_and_nothing_stays(
    shared: World, taking: ServerProgram, tmp_path: Path, sent: bytes, said: str
) -> None:
    source = tmp_path / "cheat"
    source.write_bytes(b"honest")

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            requests, files = scheduler.network.requests, shared.folder / "dest"
            before = parts(files)
            peer = await scheduler.network.peer_at(taking.location)
            for _ in range(3):
                transfer = peer.bulk.send([sent], len(sent))
                offer = sending("cheat", digest=b"")
                offer = dataclasses.replace(offer, transfer=transfer.number)
                with pytest.raises(DiscoroError, match=said):
                    await requests.ask(peer, offer)
                with pytest.raises(TransportError):
                    await transfer.done
                await eventually(lambda: parts(files) <= before)
                assert not (files / "cheat").exists()
            assert await scheduler.send_file(taking.location, source) == 0
            assert await scheduler.del_file(taking.location, "cheat") == 0

    run_async(main)
    assert "Traceback" not in taking.err, taking.err


def test_one_transfer_for_two_files_is_refused_and_nothing_stays(
    shared: World, taking: ServerProgram
) -> None:
    files = shared.folder / "dest"
    before = parts(files)

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            requests = scheduler.network.requests
            peer = await scheduler.network.peer_at(taking.location)
            transfer = peer.bulk.send([b"0123456789"], 10)
            honest, other = (
                dataclasses.replace(sending(name, digest=b""), transfer=transfer.number + 1)
                for name in ("honest", "other")
            )
            waiting = asyncio.ensure_future(requests.ask(peer, honest))
            await eventually(lambda: parts(files) - before)
            with pytest.raises(ProtocolViolation, match="expected before"):
                await requests.ask(peer, other)
            await eventually(lambda: len(parts(files) - before) == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await eventually(lambda: parts(files) <= before)

    run_async(main)
    assert "Traceback" not in taking.err, taking.err


def test_modes_and_times_are_tamed_and_files_sent_are_whole(
    shared: World, taking: ServerProgram, tmp_path: Path
) -> None:
    source = tmp_path / "script"
    source.write_bytes(b"#!/bin/sh\n" * 1000)
    source.chmod(0o6777)
    os.utime(source, ns=(0, 1))

    async def main() -> None:
        async with shared.scheduler() as scheduler:
            assert await scheduler.send_file(taking.location, source) == 0
            there = shared.folder / "dest" / "script"
            assert there.read_bytes() == source.read_bytes()
            assert there.stat().st_mode & 0o7777 == 0o755
            with pytest.raises(FileRefused):
                await scheduler.send_file(taking.location, source, dir="../up")
            with pytest.raises(FileRefused):
                await scheduler.send_file(taking.location, source, dir="link")
            assert await scheduler.del_file(taking.location, "script") == 0
            assert not there.exists()

    run_async(main)


def test_an_offer_with_hostile_files_sets_nothing_up(own: World) -> None:
    """At a real node, whose servers place the files of computations."""
    folder = own.folder / "state"
    folder.mkdir()
    options = ("-u", str(own.udp_port), "-i", "127.0.0.1", "-c", "1")
    node = NodeProcess(folder, *options, command=REAL, environment={"DISCORO_SECRET": own.secret})
    with ended_at_last(node):
        node.ready()
        port = node.server(0)["addresses"][0][1]
        before = {name for name, _ in tree(own.folder)}
        bundle = collect(faultjobs.sleepy, [])
        data = bundle.encode()

        def offer(files: list[Any]) -> Offer:
            sha = bundle.digest
            return Offer(os.urandom(16), "x", bundle.python, sha, len(data), files, True, data)

        with Member.opened(port, own.secret) as member:
            for name in encodable(HOSTILE):
                assert refusal(member, offer([[name, 5, DIGEST, 0o644]]))
            for files in (
                [["a", 5, DIGEST, 0o644], ["A", 5, DIGEST, 0o644]],
                [["a", 5, DIGEST, 0o644], ["a/b", 5, DIGEST, 0o644]],
                [["a", -5, DIGEST, 0o644]],
                [["a", 5, 1 << 40, 0o644]],
                [["a", 5, b"short", 0o644]],
                [["a", 1 << 50, DIGEST, 0o644]],
                [["a"]],
                ["a"],
                [7],
                [[f"f{n}", 0, DIGEST, 0] for n in range(10_001)],
                [[f"f{n}", 1 << 30, DIGEST, 0] for n in range(5)],
            ):
                assert refusal(member, offer(files)), files[:2]
            assert isinstance(Done(0), Message)
        assert {name for name, _ in tree(own.folder)} - before <= set()
        assert "Traceback" not in node.text, node.text
        node.process.terminate()
        assert node.ends() == 0


def test_a_dependency_with_a_hostile_name_is_refused_before_anything_leaves(own: World) -> None:
    server = own.server()

    async def main() -> None:
        async with own.scheduler():
            for name in ("/nowhere/at/all", "../" * 20 + "etc/passwd", ""):
                computation: Computation[Any, Any] = Computation(faultjobs.sleepy, depends=[name])
                with pytest.raises((DiscoroError, OSError, ValueError)):
                    await computation.setup(server.location)

    run_async(main)

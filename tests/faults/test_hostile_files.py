"""Hostile names, sizes and modes, through the real requests: nothing is written outside, nothing half is left inside."""

from __future__ import annotations

import hashlib
import os
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from discoro import Computation
from discoro.errors import DiscoroError, FileRefused
from discoro.messages import Blob, DeleteFile, Done, Message, Offer, SendFile, decode
from discoro.shipping.collecting import collect
from discoro.shipping.values import decode_exception
from discoro.transport.frames import Kind
from tests.faults import faultjobs
from tests.faults.byhand import Member
from tests.functional.nodes import REAL, NodeProcess, ended_at_last
from tests.kit import run_async
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
        {"digest": b""},
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

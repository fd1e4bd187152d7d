"""workdir: files of computations and files that are sent, and nothing of it outside the folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discoro.transport.errors import FileError, FileRefused, NameHeld, QuotaExceeded, UnsafePath
from discoro.transport.folder import FileDamaged, FileFacts, PartFile, describe
from discoro.transport.ledger import FILES
from discoro.transport.limits import Limits
from discoro.transport.store import Missing, Store
from discoro.transport.workdir import AlreadyThere, HashNeeded, Workdir
from tests.transport.test_paths import HOSTILE, pieces

LIMITS = Limits(free_space=0)
ROOT = Path(__file__).parents[2]


def facts(data: bytes, name: str, mode: int = 0o644, mtime_ns: int | None = None) -> FileFacts:
    digest = hashlib.sha256(data).digest()
    return FileFacts(name=name, size=len(data), sha256=digest, mode=mode, mtime_ns=mtime_ns)


def tree(top: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything below a folder: mode, and content or target."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        content: bytes | str = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (mode, content)
    return found


class Place:
    """A working directory, a store, and a world around them that must stay as it is."""

    def __init__(self, top: Path, limits: Limits = LIMITS) -> None:
        self.outside = top / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"mine")
        self.base = top / "dest"
        self.store = Store(top / "cache", LIMITS)
        self.limits = limits
        self.workdir = Workdir.locked(self.base, "server-1", limits)
        self.path = self.workdir.path

    def put(self, owner: str, data: bytes, name: str, mode: int = 0o644) -> None:
        file = facts(data, name, mode)
        self.workdir.admit(owner, [file])
        writer = self.store.writer(file.sha256, file.size)
        writer.write(memoryview(data))
        writer.finish()
        self.workdir.place(owner, file, self.store)

    def send(self, data: bytes, name: str, *, overwrite: bool = False, mode: int = 0o644) -> None:
        writer = self.workdir.receive(facts(data, name, mode), overwrite=overwrite)
        try:
            for at in range(0, len(data), 1000):
                writer.write(memoryview(data)[at : at + 1000])
            writer.finish()
        except BaseException:
            writer.abort()
            raise

    def names(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if not p.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.workdir.close()
    made.store.close()


# --- names and links ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_changes_nothing_anywhere(place: Place, name: str) -> None:
    before = tree(place.base.parent)
    for act in (
        lambda: place.workdir.admit("c", [facts(b"x", name)]),
        lambda: place.workdir.receive(facts(b"x", name)),
        lambda: place.workdir.delete(name),
    ):
        with pytest.raises(UnsafePath):
            act()

    assert tree(place.base.parent) == before


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(pieces, max_size=5).map("/".join))
def test_generated_names_write_inside_the_folder_only(place: Place, name: str) -> None:
    try:
        place.send(b"data", name)
    except FileError:
        pass
    else:
        assert place.names() == [name]
        place.workdir.delete(name)

    assert not place.names()
    assert sorted(os.listdir(place.base)) == [".server-1.lock", "server-1"]
    assert os.listdir(place.outside) == ["secret"]


@pytest.mark.parametrize("depth", range(4))
def test_a_link_planted_at_any_part_is_not_followed(place: Place, depth: int) -> None:
    parts = ["a", "b", "c", "secret"]
    target = place.outside
    for part in parts[depth + 1 : -1]:
        target = target / part
        target.mkdir()
    if depth < 3:
        (target / "secret").write_bytes(b"mine")
    planted = place.path.joinpath(*parts[: depth + 1])
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(place.outside / "secret" if depth == 3 else place.outside)
    before = tree(place.outside)

    for overwrite in (False, True):
        with pytest.raises(FileError, match="link"):
            place.send(b"theirs", "a/b/c/secret", overwrite=overwrite)
    with pytest.raises(FileError, match="link"):
        place.put("comp", b"theirs", "a/b/c/secret")
    if depth < 3:
        with pytest.raises(UnsafePath):
            place.workdir.delete("a/b/c/secret")

    assert tree(place.outside) == before
    assert planted.is_symlink()


def test_a_link_that_comes_and_goes_while_we_write_leads_nowhere(place: Place) -> None:
    """A thread swaps a folder for a link to the outside, as fast as it can."""
    folder, link = place.path / "d", place.path / "spare"
    folder.mkdir()
    link.symlink_to(place.outside)
    before, stop = tree(place.outside), threading.Event()
    swaps = 0

    def race() -> None:
        nonlocal swaps
        hidden = place.path / "hidden"
        while not stop.is_set():
            try:
                os.rename(folder, hidden)
                os.rename(link, folder)
                os.rename(folder, link)
                os.rename(hidden, folder)
            except OSError:
                # Our own clean-up removed the empty folder: plant everything again. It may be at work still; then once more.
                with contextlib.suppress(OSError):
                    for path in (folder, link, hidden):
                        if path.is_symlink():
                            path.unlink()
                        elif path.is_dir():
                            shutil.rmtree(path, ignore_errors=True)
                    folder.mkdir(exist_ok=True)
                    link.symlink_to(place.outside)
            swaps += 1

    thread = threading.Thread(target=race)
    thread.start()
    done = 0
    try:
        for turn in range(20_000):
            if turn > 500 and swaps > 200:
                break
            try:
                place.send(b"theirs", "d/secret", overwrite=True)
                done += 1
                place.workdir.delete("d/secret")
            except (FileError, OSError):
                pass
            if turn % 100 == 0:
                assert tree(place.outside) == before
    finally:
        stop.set()
        thread.join()

    assert tree(place.outside) == before
    assert swaps > 0


def test_a_fifo_or_folder_under_the_name_is_refused_at_once(place: Place) -> None:
    os.mkfifo(place.path / "fifo")
    (place.path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(FileRefused):
            place.send(b"x", name, overwrite=True)
        with pytest.raises(NameHeld):
            place.put("comp", b"x", name)
    with pytest.raises(FileRefused, match="is a folder"):
        place.workdir.delete("folder")


# --- computations ---------------------------------------------------------------------------------------------------


def test_a_shipped_file_lies_there_with_its_mode_and_goes_with_its_folders(place: Place) -> None:
    place.put("comp", b"#!/bin/sh\n", "tools/bin/run.sh", mode=0o4777)

    path = place.path / "tools/bin/run.sh"
    assert path.read_bytes() == b"#!/bin/sh\n"
    assert path.stat().st_mode & 0o7777 == 0o755
    place.workdir.release("comp")
    assert os.listdir(place.path) == []


def test_a_copy_is_not_the_cache(place: Place) -> None:
    place.put("comp", b"original", "x")
    (place.path / "x").write_bytes(b"changed by the computation")

    place.workdir.admit("other", [facts(b"original", "y")])
    place.workdir.place("other", facts(b"original", "y"), place.store)

    assert (place.path / "y").read_bytes() == b"original"


def test_the_same_name_with_other_content_names_its_holder_and_the_same_content_is_shared(
    place: Place,
) -> None:
    place.put("first", b"one", "data.csv")
    with pytest.raises(NameHeld, match="computation first"):
        place.put("second", b"two", "data.csv")
    place.put("third", b"one", "data.csv")

    place.workdir.release("first")
    assert place.names() == ["data.csv"]
    place.workdir.release("third")
    assert place.names() == []
    place.put("second", b"two", "data.csv")


def test_a_shared_file_that_its_holder_has_changed_is_refused(place: Place) -> None:
    place.put("first", b"one", "data.csv")
    (place.path / "data.csv").write_bytes(b"mine")

    with pytest.raises(NameHeld, match="first, which has changed it"):
        place.put("second", b"one", "data.csv")


def test_touching_a_file_does_not_change_its_content(place: Place) -> None:
    place.put("first", b"one", "data.csv")
    os.utime(place.path / "data.csv", (1, 1))

    place.put("second", b"one", "data.csv")


def test_a_file_that_was_removed_by_its_computation_is_placed_again_for_the_next(
    place: Place,
) -> None:
    place.put("first", b"one", "data.csv")
    (place.path / "data.csv").unlink()

    place.put("second", b"one", "data.csv")

    assert (place.path / "data.csv").read_bytes() == b"one"


def test_what_was_left_behind_on_purpose_may_be_replaced_unless_it_was_changed(
    place: Place,
) -> None:
    place.put("first", b"one", "x")
    place.workdir.release("first", keep=True)
    assert place.names() == ["x"]
    place.put("second", b"two", "x")
    assert (place.path / "x").read_bytes() == b"two"
    place.workdir.release("second", keep=True)
    (place.path / "x").write_bytes(b"precious")
    with pytest.raises(NameHeld, match="changed"):
        place.put("third", b"three", "x")
    assert (place.path / "x").read_bytes() == b"precious"


def test_a_file_of_the_user_is_not_touched(place: Place) -> None:
    (place.path / "mine").write_bytes(b"precious")
    with pytest.raises(NameHeld, match="lies there already"):
        place.put("comp", b"other", "mine")
    place.put("comp", b"precious", "mine")
    place.workdir.release("comp")
    assert (place.path / "mine").read_bytes() == b"precious"


def test_what_comes_to_lie_there_after_admission_is_not_replaced(place: Place) -> None:
    file = facts(b"shipped", "x")
    place.workdir.admit("comp", [file])
    (place.path / "x").write_bytes(b"precious")
    writer = place.store.writer(file.sha256, file.size)
    writer.write(memoryview(b"shipped"))
    writer.finish()

    with pytest.raises(NameHeld):
        place.workdir.place("comp", file, place.store)
    assert (place.path / "x").read_bytes() == b"precious"
    assert place.names() == ["x"]


def test_admission_is_of_all_files_or_none(place: Place) -> None:
    place.put("first", b"one", "x")
    with pytest.raises(NameHeld):
        place.workdir.admit("second", [facts(b"a", "a"), facts(b"two", "x")])

    assert place.workdir.holders("a") == set()
    with pytest.raises(FileRefused, match="not admitted"):
        place.workdir.place("second", facts(b"a", "a"), place.store)


def test_two_owners_of_one_content_may_place_it_at_the_same_time(place: Place) -> None:
    file = facts(b"shared", "x")
    for owner in ("first", "second"):
        place.workdir.admit(owner, [file])
    writer = place.store.writer(file.sha256, file.size)
    writer.write(memoryview(b"shared"))
    writer.finish()

    class Slow(Store):
        def copy_into(self, part: PartFile, sha256: bytes) -> None:
            place.workdir.place("second", file, place.store)
            super().copy_into(part, sha256)

    slow = Slow(place.store.path, LIMITS)
    place.workdir.place("first", file, slow)
    slow.close()

    place.workdir.release("second")
    assert place.names() == ["x"]
    place.workdir.release("first")
    assert place.names() == []


def test_a_content_missing_in_the_store_is_said_and_leaves_no_part(place: Place) -> None:
    file = facts(b"never sent", "d/x")
    place.workdir.admit("comp", [file])
    with pytest.raises(Missing):
        place.workdir.place("comp", file, place.store)
    assert os.listdir(place.path) == []


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        (Limits(free_space=0, max_file_size=10), [10], [11]),
        (Limits(free_space=0, max_files=2), [1, 1], [1, 1, 1]),
        (Limits(free_space=0, max_files_bytes=20), [10, 10], [10, 11]),
        (Limits(free_space=1 << 60), [], [1]),
    ],
    ids=["one file", "files", "bytes", "disk"],
)
def test_quotas_hold_at_the_limit_and_before_the_first_byte(
    tmp_path: Path, limits: Limits, good: list[int], bad: list[int]
) -> None:
    place = Place(tmp_path, limits)
    for owner, sizes in (("good", good), ("bad", bad)):
        files = [facts(bytes([n]) * size, f"{owner}{n}") for n, size in enumerate(sizes)]
        if owner == "good":
            place.workdir.admit(owner, files)
        else:
            with pytest.raises(QuotaExceeded):
                place.workdir.admit(owner, files)
    assert place.workdir.holders("bad0") == set()
    if bad[0] > 10 or not good:
        with pytest.raises(QuotaExceeded):
            place.workdir.receive(facts(b"x" * bad[0], "sent"))
    assert place.names() == []
    place.workdir.close()
    place.store.close()


# --- files that are sent --------------------------------------------------------------------------------------------


def test_a_sent_file_keeps_mode_and_time_and_its_folder(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "script.py"
    source.write_bytes(b"print(1)")
    source.chmod(0o750)
    os.utime(source, ns=(10**18 + 123456789, 10**18 + 123456789))
    file = describe(source, "results/today/script.py")

    writer = place.workdir.receive(file)
    writer.write(memoryview(b"print(1)"))
    writer.finish()

    found = (place.path / "results/today/script.py").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o750, 10**18 + 123456789)
    assert place.workdir.holders("results/today/script.py") == {FILES}
    place.workdir.delete("results/today/script.py")
    assert os.listdir(place.path) == []


def test_the_same_content_is_already_there_and_gets_the_new_mode_and_time(place: Place) -> None:
    place.send(b"same", "x")
    with pytest.raises(AlreadyThere):
        place.workdir.receive(facts(b"same", "x", mode=0o700, mtime_ns=10**18))

    found = (place.path / "x").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o700, 10**18)
    with pytest.raises(AlreadyThere):
        place.workdir.receive(facts(b"same", "x"), overwrite=True)


def test_other_content_needs_overwrite(place: Place) -> None:
    place.send(b"old", "x")
    with pytest.raises(FileRefused, match="overwrite=True"):
        place.send(b"new", "x")
    assert (place.path / "x").read_bytes() == b"old"

    place.send(b"new", "x", overwrite=True)
    assert (place.path / "x").read_bytes() == b"new"
    (place.path / "plain").write_bytes(b"not ours")
    place.send(b"new", "plain", overwrite=True)
    assert (place.path / "plain").read_bytes() == b"new"


def test_what_a_computation_holds_is_neither_overwritten_nor_deleted(place: Place) -> None:
    place.put("comp", b"shipped", "x")
    with pytest.raises(NameHeld, match="computation comp"):
        place.send(b"other", "x", overwrite=True)
    with pytest.raises(NameHeld, match="computation comp"):
        place.workdir.delete("x")
    assert (place.path / "x").read_bytes() == b"shipped"


def test_a_sent_file_that_goes_wrong_leaves_the_old_one_and_no_part(place: Place) -> None:
    place.send(b"old", "d/x")
    for data in (b"wrong", b"sho", b"too long"):
        file = facts(b"right", "d/x")
        writer = place.workdir.receive(file, overwrite=True)
        with pytest.raises(FileDamaged):
            writer.write(memoryview(data))
            writer.finish()
        writer.abort()
    assert place.names() == ["d/x"]
    assert (place.path / "d/x").read_bytes() == b"old"
    assert place.workdir.holders("d/x") == {FILES}


def unhashed(data: bytes, name: str) -> FileFacts:
    """The facts of a file whose hash comes behind its bytes."""
    return dataclasses.replace(facts(data, name), sha256=b"")


@pytest.mark.parametrize("cut", range(6 + 32 + 1))
def test_a_hash_that_comes_behind_the_bytes_is_as_good_as_one_before_them(
    place: Place, cut: int
) -> None:
    data = memoryview(b"behind" + hashlib.sha256(b"behind").digest())
    writer = place.workdir.receive(unhashed(b"behind", "x"))
    for piece in (data[:cut], data[cut:]):
        writer.write(piece)
    assert not (place.path / "x").exists()
    writer.finish()

    assert (place.path / "x").read_bytes() == b"behind"
    assert place.names() == ["x"]
    place.workdir.admit("comp", [facts(b"behind", "x")])
    with pytest.raises(NameHeld):
        place.workdir.admit("comp", [facts(b"before", "x")])
    with pytest.raises(AlreadyThere):
        place.workdir.receive(facts(b"behind", "x"))


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        hashlib.sha256(b"right").digest()[:31],
        hashlib.sha256(b"right").digest() + b"x",
        hashlib.sha256(b"wrong").digest(),
        hashlib.sha256(b"right").digest() * 2,
        bytes(32),
        bytes(1 << 20),
    ],
    ids=["none", "short", "long", "other", "twice", "zeros", "much"],
)
def test_a_wrong_hash_behind_the_bytes_leaves_the_old_file_and_no_part(
    place: Place, tail: bytes
) -> None:
    place.send(b"older", "d/x")
    place.workdir.delete("d/x")
    place.send(b"old", "d/x")
    writer = place.workdir.receive(unhashed(b"right", "d/x"), overwrite=True)
    with pytest.raises(FileDamaged):
        writer.write(memoryview(b"right"))
        writer.write(memoryview(tail))
        writer.finish()
    writer.abort()

    assert place.names() == ["d/x"]
    assert (place.path / "d/x").read_bytes() == b"old"
    assert place.workdir.holders("d/x") == {FILES}
    with pytest.raises(AlreadyThere):
        place.workdir.receive(facts(b"old", "d/x"))


def test_the_hash_is_asked_for_where_it_can_spare_the_bytes(place: Place) -> None:
    """A file of the same size may be the same; one of another size cannot be."""
    place.send(b"same", "x")
    (place.path / "of the user").write_bytes(b"same")
    for name in ("x", "of the user"):
        with pytest.raises(HashNeeded):
            place.workdir.receive(unhashed(b"same", name), overwrite=True)
        with pytest.raises(FileRefused, match="overwrite=True"):
            place.workdir.receive(unhashed(b"longer", name))
        place.workdir.receive(unhashed(b"longer", name), overwrite=True).abort()
        assert (place.path / name).read_bytes() == b"same"
    assert place.names() == ["of the user", "x"]


def test_a_file_that_comes_without_its_hash_is_known_by_its_name_and_size_meanwhile(
    place: Place,
) -> None:
    writer = place.workdir.receive(unhashed(b"sent", "x"))
    with pytest.raises(FileRefused, match="at this moment"):
        place.workdir.admit("comp", [facts(b"sent", "x")])
    with pytest.raises(FileRefused, match="at this moment"):
        place.workdir.receive(facts(b"sent", "x"))
    with pytest.raises(FileRefused, match="at this moment"):
        place.workdir.delete("x")
    writer.abort()
    place.put("comp", b"shipped", "x")


def test_two_senders_of_one_name_at_a_time_are_told_apart(place: Place) -> None:
    first = place.workdir.receive(facts(b"first", "x"))
    with pytest.raises(FileRefused, match="at this moment"):
        place.workdir.receive(facts(b"other", "x"), overwrite=True)
    first.write(memoryview(b"first"))
    first.finish()
    assert (place.path / "x").read_bytes() == b"first"


def test_deleting_what_is_not_there_is_an_error(place: Place) -> None:
    with pytest.raises(FileRefused, match="not there"):
        place.workdir.delete("nothing")
    with pytest.raises(FileRefused, match="not there"):
        place.workdir.delete("no/thing")


def test_names_that_differ_in_case_only_do_not_meet(place: Place) -> None:
    place.send(b"one", "Readme")
    with pytest.raises(NameHeld, match="case only"):
        place.send(b"two", "README", overwrite=True)


# --- the folder itself ----------------------------------------------------------------------------------------------


def test_two_servers_of_one_name_have_two_folders(tmp_path: Path) -> None:
    first = Workdir.locked(tmp_path, "node-1", LIMITS)
    second = Workdir.locked(tmp_path, "node-1", LIMITS)
    assert (first.path.name, second.path.name) == ("node-1", "node-1~2")

    first.close()
    third = Workdir.locked(tmp_path, "node-1", LIMITS)
    assert third.path.name == "node-1"
    second.close()
    third.close()
    third.close()
    assert os.listdir(tmp_path) == []


_OTHER = """
import os, sys
from discoro.transport.limits import Limits
from discoro.transport.workdir import Workdir
print(Workdir.locked(sys.argv[1], "node-1", Limits()).path.name)
"""


def other_process(base: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _OTHER, str(base)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_lock_holds_between_processes_and_ends_with_its_process(tmp_path: Path) -> None:
    mine = Workdir.locked(tmp_path, "node-1", LIMITS)
    assert other_process(tmp_path) == "node-1~2"
    assert other_process(tmp_path) == "node-1~2"
    mine.close()
    assert other_process(tmp_path) == "node-1"


_KILLED = """
import hashlib, os, signal, sys
from pathlib import Path
from discoro.transport.folder import FileFacts
from discoro.transport.limits import Limits
from discoro.transport.store import Store
from discoro.transport.workdir import Workdir
workdir = Workdir.locked(sys.argv[1], "node-1", Limits(free_space=0))
store = Store(Path(sys.argv[1]).parent / "cache", Limits(free_space=0))
sha = hashlib.sha256(b"data").digest()
writer = store.writer(sha, 4)
writer.write(memoryview(b"data"))
writer.finish()
def put(owner, name):
    file = FileFacts(name=name, size=4, sha256=sha)
    workdir.admit(owner, [file])
    workdir.place(owner, file, store)
put("comp", "d/shipped")
put("kept", "left")
workdir.release("kept", keep=True)
sent = workdir.receive(FileFacts(name="sent", size=4, sha256=sha))
sent.write(memoryview(b"data"))
sent.finish()
workdir.receive(FileFacts(name="half", size=4, sha256=sha)).write(memoryview(b"da"))
late = workdir.receive(FileFacts(name="late", size=4, sha256=b""))
late.write(memoryview(b"data" + sha))
late.finish()
workdir.receive(FileFacts(name="half too", size=4, sha256=b"")).write(memoryview(b"data"))
(workdir.path / "output").write_bytes(b"of the user")
if os.fork() == 0:
    os._exit(0)
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_server_had_for_its_computations_is_removed_by_the_next_one(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "dest")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "ready\n", done.stderr
    assert any(path.name.startswith(".part-") for path in (tmp_path / "dest").rglob("*"))

    workdir = Workdir.locked(tmp_path / "dest", "node-1", LIMITS)

    assert sorted(tree(workdir.path)) == ["late", "left", "output", "sent"]
    assert workdir.holders("sent") == workdir.holders("late") == {FILES}
    assert workdir.holders("half") == workdir.holders("half too") == set()
    workdir.admit("again", [facts(b"other", "left")])
    workdir.close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """User code forks (multiprocessing): when the server ends, its folder must be free although the child lives."""
    workdir = Workdir.locked(tmp_path, "node-1", LIMITS)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    workdir._let_go()

    assert other_process(tmp_path) == "node-1"
    os.close(write)
    os.waitpid(child, 0)


def test_a_server_name_that_is_no_folder_name_is_refused(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", "nul"):
        with pytest.raises(FileError):
            Workdir.locked(tmp_path, name, LIMITS)
    (tmp_path / "evil").symlink_to("/tmp")
    with pytest.raises(OSError):
        Workdir.locked(tmp_path, "evil", LIMITS)


def test_a_shared_folder_is_used_as_it_is_and_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    first, second = (Workdir.shared(tmp_path / "link", LIMITS) for _ in range(2))
    writer = first.receive(facts(b"x", "d/x"))
    writer.write(memoryview(b"x"))
    writer.finish()
    with pytest.raises(AlreadyThere):
        second.receive(facts(b"x", "d/x"))
    second.delete("d/x")
    first.close()
    second.close()
    assert os.listdir(tmp_path / "real") == []


def test_closing_leaves_what_is_not_of_a_computation(place: Place) -> None:
    place.put("comp", b"shipped", "c/x")
    place.send(b"sent", "s/x")
    (place.path / "output").write_bytes(b"of the user")

    place.workdir.close()

    assert sorted(tree(place.path)) == ["output", "s", "s/x"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_a_full_disk_is_an_error_and_leaves_no_part(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        workdir = Workdir.shared(small, LIMITS)
        data = random.Random(0).randbytes(50_000)
        first = workdir.receive(facts(data, "a"))
        with pytest.raises(QuotaExceeded, match="disk"):
            workdir.receive(facts(data, "b"))
        (small / "filler").write_bytes(bytes(40_000))
        with pytest.raises(OSError, match="No space left"):
            first.write(memoryview(data))
        first.abort()
        assert os.listdir(small) == ["filler"]
        workdir.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_an_error(place: Place) -> None:
    place.path.chmod(0o500)
    with pytest.raises(PermissionError):
        place.send(b"x", "x")
    place.path.chmod(0o700)
    place.send(b"x", "x")


def test_many_threads_place_and_release_without_a_trace(place: Place) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(25):
                owner = f"c{number}-{turn}"
                place.put(owner, b"shared", "shared/data")
                place.put(owner, b"%d" % number, f"own/{number}")
                assert (place.path / "shared/data").read_bytes() == b"shared"
                place.workdir.release(owner)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert os.listdir(place.path) == []

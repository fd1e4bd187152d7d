"""store: contents come back as they were, or are missing; never wrong, never half, never beyond the quota."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from discoro.transport.errors import QuotaExceeded
from discoro.transport.folder import FileDamaged, FileFacts, PartFile
from discoro.transport.limits import Limits
from discoro.transport.store import Missing, Store

LIMITS = Limits(free_space=0)


def facts(data: bytes, name: str = "x") -> FileFacts:
    return FileFacts(name=name, size=len(data), sha256=hashlib.sha256(data).digest())


def put(store: Store, data: bytes) -> FileFacts:
    file = facts(data)
    writer = store.writer(file.sha256, file.size)
    writer.write(memoryview(data))
    writer.finish()
    return file


def get(store: Store, file: FileFacts, folder: Path) -> bytes:
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        store.copy_into(PartFile(top, ("out",), file, replace=True), file.sha256)
    finally:
        os.close(top)
    return (folder / "out").read_bytes()


def contents(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.rglob("*") if entry.is_file())


def test_what_was_put_comes_back_as_a_file_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", LIMITS)
    file = put(store, b"hello" * 1000)

    assert store.has(file.sha256, file.size)
    assert get(store, file, tmp_path) == b"hello" * 1000
    (tmp_path / "out").write_bytes(b"changed")
    assert get(store, file, tmp_path) == b"hello" * 1000
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out").stat().st_nlink == 1
    store.close()


def test_only_what_is_missing_is_asked_for_and_once(tmp_path: Path) -> None:
    store = Store(tmp_path, LIMITS)
    here, there = put(store, b"here"), facts(b"there")

    assert store.missing([here, there, there]) == [there]
    assert not store.has(here.sha256, here.size + 1)
    store.close()


def test_wrong_bytes_get_no_name(tmp_path: Path) -> None:
    store, file = Store(tmp_path, LIMITS), facts(b"right")
    for data in (b"wrong", b"righ", b"", b"right!"):
        writer = store.writer(file.sha256, file.size)
        with pytest.raises(FileDamaged):
            writer.write(memoryview(data))
            writer.finish()
        writer.abort()
        writer.abort()
    assert contents(tmp_path) == []
    store.close()


def test_a_content_that_rotted_is_missing_and_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", LIMITS)
    file = put(store, b"right")
    (path,) = (tmp_path / "cache").rglob(file.sha256.hex())
    path.chmod(0o600)
    path.write_bytes(b"wrong")

    with pytest.raises(Missing, match="damaged"):
        get(store, file, tmp_path)
    assert not store.has(file.sha256, file.size)
    assert contents(tmp_path) == []
    with pytest.raises(Missing, match="not in the cache"):
        get(store, file, tmp_path)
    put(store, b"right")
    assert get(store, file, tmp_path) == b"right"
    store.close()


def test_a_content_is_hashed_when_it_is_first_used_and_when_its_file_has_changed(
    tmp_path: Path,
) -> None:
    writing, using = Store(tmp_path / "cache", LIMITS), Store(tmp_path / "cache", LIMITS)
    file = put(writing, b"right")
    (path,) = (tmp_path / "cache").rglob(file.sha256.hex())
    assert get(using, file, tmp_path) == b"right"
    assert using.has(file.sha256, file.size)
    assert using.is_checked(file.sha256, path.stat())
    assert writing.is_checked(file.sha256, path.stat())

    path.chmod(0o600)
    path.write_bytes(b"wrong")
    assert not using.is_checked(file.sha256, path.stat())
    with pytest.raises(Missing, match="damaged"):
        get(using, file, tmp_path)
    writing.close()
    using.close()


def test_a_checked_content_is_copied_whole_and_a_shorter_one_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", LIMITS)
    data = os.urandom(3_000_001)
    file = put(store, data)
    assert get(store, file, tmp_path) == data
    assert get(store, file, tmp_path) == data
    (path,) = (tmp_path / "cache").rglob(file.sha256.hex())
    path.chmod(0o600)
    os.truncate(path, 1000)
    store.note_checked(file.sha256, path.stat())
    with pytest.raises(Missing, match="damaged"):
        get(store, file, tmp_path)
    store.close()


@pytest.mark.parametrize("kernel", ["none", "refuses", "stops", "breaks off"])
def test_a_checked_content_is_copied_whole_whatever_the_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    """It may not know how between these file systems, or give up on the way."""
    copy = getattr(os, "copy_file_range", None)
    if copy is None:
        pytest.skip("this system has none")

    def copy_file_range(source: int, target: int, count: int, offset: int) -> int:
        if kernel == "refuses" or (kernel == "breaks off" and offset):
            raise OSError(18, "Invalid cross-device link")
        if kernel == "stops" and offset:
            return 0
        copied: int = copy(source, target, 1_000_000, offset)
        return copied

    if kernel == "none":
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    store = Store(tmp_path / "cache", LIMITS)
    data = os.urandom(3_000_001)
    file = put(store, data)
    assert get(store, file, tmp_path) == data
    store.close()


def test_a_content_can_be_read_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", LIMITS)
    file = put(store, b"right")
    assert store.read(file.sha256) == b"right"
    (path,) = (tmp_path / "cache").rglob(file.sha256.hex())
    path.chmod(0o600)
    path.write_bytes(b"wrong")

    for problem in ("damaged", "not in the cache"):
        with pytest.raises(Missing, match=problem):
            store.read(file.sha256)
    store.close()


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", LIMITS)
    file = put(store, b"right")
    (path,) = (tmp_path / "cache").rglob(file.sha256.hex())
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"right")
    path.symlink_to(tmp_path / "elsewhere")

    assert not store.has(file.sha256, file.size)
    with pytest.raises(Missing):
        get(store, file, tmp_path)
    store.close()


def test_quotas_hold_before_the_first_byte(tmp_path: Path) -> None:
    store = Store(tmp_path, Limits(max_file_size=10, free_space=0))
    store.writer(facts(b"x" * 10).sha256, 10).abort()
    with pytest.raises(QuotaExceeded, match="11, allowed are 10"):
        store.writer(facts(b"x" * 11).sha256, 11)
    full = Store(tmp_path, Limits(free_space=1 << 60))
    with pytest.raises(QuotaExceeded, match="disk"):
        full.writer(facts(b"x").sha256, 1)
    assert contents(tmp_path) == []
    store.close()
    full.close()


def test_what_was_used_longest_ago_goes_first_and_what_is_fresh_stays(tmp_path: Path) -> None:
    now = [1e6]
    store = Store(tmp_path, Limits(free_space=0, cache_bytes=100), clock=lambda: now[0])
    files = []
    for letter in b"abcde":
        files.append(put(store, bytes([letter]) * 25))
        assert store.has(files[-1].sha256, 25)
        now[0] += 1
    assert len(contents(tmp_path)) == 5, "fresh ones stay, whatever the limit"

    now[0] += 10_000
    assert store.has(files[0].sha256, 25)
    put(store, b"f" * 25)

    assert [store.has(file.sha256, 25) for file in files] == [True, False, False, True, True]
    store.close()


def test_an_unfinished_file_of_a_process_long_dead_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path, LIMITS)
    put(store, b"x")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name, age in ((".part-old", 2), (".part-new", 0)):
        (folder / name).touch()
        os.utime(folder / name, (os.stat(folder).st_mtime - age * 86400,) * 2)

    again = Store(tmp_path, LIMITS)
    put(again, b"y")

    assert not (folder / ".part-old").exists() and (folder / ".part-new").exists()
    store.close()
    again.close()


def test_add_file_takes_a_copy_of_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    store = Store(tmp_path / "cache", LIMITS)
    first, second = store.add_file(tmp_path / "mine"), store.add_file(tmp_path / "mine")

    assert first == second and first.name == "mine" and first.sha256 == facts(b"mine").sha256
    assert get(store, first, tmp_path) == b"mine"
    store.close()


def test_threads_that_put_use_and_remove_the_same_contents_see_whole_ones_or_none(
    tmp_path: Path,
) -> None:
    data = [bytes([n]) * 50_000 for n in range(3)]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        store = Store(tmp_path / "cache", LIMITS)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            for turn in range(60):
                body = data[(turn + number) % 3]
                file = facts(body)
                if turn % 3 == 0:
                    put(store, body)
                elif turn % 7 == 0:
                    store.discard(file.sha256)
                elif store.has(file.sha256, file.size):
                    try:
                        assert get(store, file, folder) == body
                    except Missing as exc:
                        assert "not in the cache" in str(exc)
        except BaseException as exc:
            failures.append(exc)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert not [name for name in contents(tmp_path) if name.startswith(".part")]


_CHILD = """
import hashlib, resource, signal, sys
from discoro.transport.limits import Limits
from discoro.transport.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = Store(sys.argv[1], Limits(free_space=0))
data = bytes(300_000)
writer = store.writer(hashlib.sha256(data).digest(), len(data))
try:
    for _ in range(3):
        writer.write(memoryview(data)[:100_000])
except OSError as exc:
    writer.abort()
    print(exc.errno)
"""


def test_a_file_too_large_for_the_process_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.stdout.strip() == "27", done.stderr
    assert contents(tmp_path) == []


def test_a_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        Store(tmp_path / "cache", LIMITS)

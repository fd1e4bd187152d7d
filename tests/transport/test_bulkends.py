"""bulkends: a file of the user with its hash behind it, read in order, and again after cuts."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discoro.transport.bulkends import HashedFile
from discoro.transport.errors import FileRefused

DATA = random.Random(5).randbytes(1000)
HASH = hashlib.sha256(DATA).digest()


def opened(path: Path) -> HashedFile:
    found = path.stat()
    return HashedFile(path, found.st_size, found.st_mtime_ns)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files") / "data"
    made.write_bytes(DATA)
    return made


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 1032)), max_size=40))
def test_the_hash_stands_behind_the_bytes_however_often_the_receiver_goes_back(
    path: Path, script: list[tuple[int, int]]
) -> None:
    """Each step reads so many bytes, and then goes back to an offset: a cut takes away what was under way."""
    file, whole = opened(path), DATA + HASH
    assert file.size == len(whole)
    offset = 0
    for length, back in [*script, *[(100, 1032)] * 11]:
        length = min(length, file.size - offset)
        assert file.read_at(offset, length) == whole[offset : offset + length]
        offset = min(back, offset + length)
    assert offset == file.size
    file.close()


def test_bytes_that_were_passed_over_have_no_hash(path: Path) -> None:
    """A receiver that cheats may ask for any offset first."""
    file = opened(path)
    assert file.read_at(500, 500) == DATA[500:]
    with pytest.raises(FileRefused, match="was not read from its begin"):
        file.read_at(1000, 32)
    file.close()


@pytest.mark.parametrize("how", ["longer", "shorter", "written", "replaced", "fifo", "gone"])
def test_a_file_that_changes_while_it_is_sent_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    os.utime(path, ns=(0, 0))
    file = opened(path)
    if how in ("longer", "shorter", "written"):
        assert file.read_at(0, 300) == DATA[:300]
    if how == "longer":
        path.write_bytes(DATA + b"x")
        os.utime(path, ns=(0, 0))
    elif how == "shorter":
        os.truncate(path, 600)
        os.utime(path, ns=(0, 0))
    elif how == "written":
        path.write_bytes(DATA[:300] + bytes(700))
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(bytes(1000))
    elif how == "fifo":
        os.mkfifo(path)
    with pytest.raises(FileRefused, match=r"while it was sent|cannot be read") as caught:
        file.read_at(300, 700)
        file.read_at(0, 1000)
        file.read_at(1000, 32)

    assert caught.value.name == str(path)
    file.close()


def test_a_file_that_is_replaced_by_another_while_it_is_open_is_sent_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    file = opened(path)
    assert file.read_at(0, 300) == DATA[:300]
    (tmp_path / "new").write_bytes(b"new")
    os.rename(tmp_path / "new", path)

    assert file.read_at(300, 732) == DATA[300:] + HASH
    file.close()

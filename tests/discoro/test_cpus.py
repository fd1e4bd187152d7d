from __future__ import annotations

import os
from pathlib import Path

import pytest

from discoro.node.cpus import TooManyServers, Usable, cgroup_quota, how_many, usable_cpus

EIGHT = Usable(8, 16, ("affinity 8", "cgroup 8"))


@pytest.mark.parametrize(("asked", "count"), [(0, 8), (1, 1), (8, 8), (-1, 7), (-7, 1)])
def test_the_number_given_counts_from_the_usable_ones(asked: int, count: int) -> None:
    assert how_many(asked, EIGHT) == count


@pytest.mark.parametrize("asked", [9, 12])
def test_more_than_usable_is_refused_with_number_and_reason_unless_forced(asked: int) -> None:
    with pytest.raises(TooManyServers) as caught:
        how_many(asked, EIGHT)
    text = str(caught.value)
    assert "8 CPUs usable here (16 installed; affinity 8, cgroup 8)" in text
    assert f"-c {asked} --force" in text
    assert caught.value.usable is EIGHT and caught.value.asked == asked
    assert how_many(asked, EIGHT, force=True) == asked


@pytest.mark.parametrize("asked", [-8, -9])
def test_a_number_that_leaves_none_is_refused_even_when_forced(asked: int) -> None:
    with pytest.raises(TooManyServers, match="leaves none"):
        how_many(asked, EIGHT, force=True)


def tree(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> str:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 {inside} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def test_v2_takes_the_smallest_quota_on_the_way_up(tmp_path: Path) -> None:
    base = "sys/fs/cgroup"
    files = {
        f"{base}/user.slice/me/cpu.max": "max 100000\n",
        f"{base}/user.slice/cpu.max": "150000 100000\n",
        f"{base}/cpu.max": "400000 100000\n",
    }
    assert cgroup_quota(tree(tmp_path, "0::/user.slice/me\n", V2, files)) == 1.5


def test_v1_reads_quota_and_period(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    files = {f"{base}/cpu.cfs_quota_us": "50000\n", f"{base}/cpu.cfs_period_us": "100000\n"}
    root = tree(tmp_path, "4:cpu,cpuacct:/docker/abc\n0::/x\n", V1.format(inside="/"), files)
    assert cgroup_quota(root) == 0.5


def test_inside_a_container_the_group_is_the_mount(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{base}/cpu.cfs_quota_us": "200000\n", f"{base}/cpu.cfs_period_us": "100000\n"}
    mountinfo = V1.format(inside="/docker/abc")
    assert cgroup_quota(tree(tmp_path, "4:cpu,cpuacct:/docker/abc\n", mountinfo, files)) == 2.0


@pytest.mark.parametrize("text", ["", "max 100000", "0 100000", "garbage", "1 2 3", "-1 100000"])
def test_no_quota_is_no_limit(tmp_path: Path, text: str) -> None:
    root = tree(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": text})
    assert cgroup_quota(root) is None


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(str(tmp_path)) is None


def test_the_smallest_limit_counts_and_every_one_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "10000 100000"})
    found = usable_cpus({"SLURM_CPUS_ON_NODE": "64"}, root)
    assert found.count == 1  # a tenth of a CPU is still one server
    assert found.limits[-2:] == ("cgroup 0.1", "Slurm 64")
    assert found.why().endswith("cgroup 0.1, Slurm 64)")
    assert usable_cpus({"SLURM_CPUS_ON_NODE": "1"}, str(tmp_path / "none")).count == 1


def test_part_of_a_cpu_is_worth_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = tree(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "250000 100000"})
    assert usable_cpus({}, root) == Usable(3, 8, ("affinity 8", "cgroup 2.5"))


@pytest.mark.parametrize("text", ["", "x", "-1", "0"])
def test_a_strange_value_of_slurm_is_ignored(tmp_path: Path, text: str) -> None:
    assert "Slurm" not in usable_cpus({"SLURM_CPUS_ON_NODE": text}, str(tmp_path)).why()


def test_affinity_is_respected() -> None:
    assert usable_cpus({}).count <= len(os.sched_getaffinity(0))

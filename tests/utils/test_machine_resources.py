"""Limits of containers, in both versions of the kernel's interface, nested or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnet_ft.utils import machine_resources

HUGE = 1 << 50


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that stand for the kernel's; the process is in ``/outer/inner`` of every controller."""
    monkeypatch.setattr(machine_resources, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine_resources, "PROCESS", tmp_path / "proc")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:memory:/outer/inner\n2:cpu,cpuacct:/outer\n0::/outer/inner\n")
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: {HUGE} kB\nMemAvailable: {HUGE} kB\n")
    return tmp_path / "cgroup"


def write(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_no_container(group: Path) -> None:
    write(group, memory__max="max", memory__current=5, cpu__max="max 100000")
    assert machine_resources.memory_left() == HUGE * 1024
    assert machine_resources.memory_total() > 10**6
    assert machine_resources.container_cores() is None


def test_the_tightest_of_nested_groups_counts(group: Path) -> None:
    write(group / "outer", memory__max=10**6, memory__current=4 * 10**5, cpu__max="150000 100000")
    write(group / "outer" / "inner", memory__max="max", memory__current=10**5, cpu__max="max 100000")
    assert (machine_resources.memory_total(), machine_resources.memory_left()) == (10**6, 6 * 10**5)
    assert machine_resources.container_cores() == 1.5


def test_the_older_interface(group: Path) -> None:
    write(group / "memory", memory__limit_in_bytes=1 << 62, memory__usage_in_bytes=10**6)
    write(group / "memory" / "outer" / "inner", memory__limit_in_bytes=10**6, memory__usage_in_bytes=2 * 10**6)
    write(group / "cpu" / "outer", cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)
    assert (machine_resources.memory_total(), machine_resources.memory_left()) == (10**6, 0)
    assert machine_resources.container_cores() == 2


STAT = "anon 300000\nfile 500000\nactive_file 100000\ninactive_file 300000\nshmem 100000"
OLDER_STAT = "cache 1\nactive_file 1\ninactive_file 1\ntotal_active_file 100000\ntotal_inactive_file 300000"


@pytest.mark.parametrize(
    ("folder", "names", "stat"),
    [
        ("outer", ("memory__max", "memory__current"), STAT),
        ("memory/outer", ("memory__limit_in_bytes", "memory__usage_in_bytes"), OLDER_STAT),
    ],
    ids=["version 2", "version 1"],
)
def test_files_that_were_read_leave_room(group: Path, folder: str, names: tuple[str, str], stat: str) -> None:
    values = dict(zip(names, (10**6, 9 * 10**5), strict=True))
    write(group / folder, **values, memory__stat=stat)
    assert machine_resources.memory_left() == 5 * 10**5, "a container that has read its images would seem to be full"


def test_a_container_sees_its_own_group_as_the_root(group: Path) -> None:
    write(group, memory__max=10**6, memory__current=10**5)
    assert machine_resources.memory_left() == 9 * 10**5


def test_a_system_that_does_not_tell(group: Path) -> None:
    (machine_resources.PROCESS / "meminfo").unlink()
    with pytest.raises(OSError, match="meminfo"):
        machine_resources.memory_left()

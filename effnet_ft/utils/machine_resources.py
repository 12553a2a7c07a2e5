"""The processor, and the cores and memory that this process may use, container limits included. Free of torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc")


def processor_name() -> str:
    """Return the processor's name, e.g. ``AMD EPYC``."""
    with suppress(OSError):
        for line in (PROCESS / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may run on; a container may grant it less of their time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_total() -> int:
    """Return the bytes of memory that programs may use in all.

    Raises:
        OSError: where the system does not tell.
        ValueError: likewise.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _memory_limits())])


def memory_left() -> int:
    """Return the bytes of memory that programs could still use.

    Raises:
        OSError: where the system does not tell.
    """
    left = (max(0, limit - taken) for limit, taken in _memory_limits())
    return min([_available(), *left])


def container_cores() -> float | None:
    """Return the container's limit on processor time, in cores; None where there is none."""
    quotas = []
    for group in _groups("cpu"):
        with suppress(OSError, ValueError):  # "max" stands for none
            quota, period = (group / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def default_workers() -> int:
    """Return how many processes read images, a device, where the recipe says ``auto``."""
    # The training process keeps a core busy by itself; beyond eight readers a device, disks gain nothing.
    return max(1, min(8, usable_cores() - 1))


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of every control group around this process; cached files do not count as used."""
    for group in _groups("memory"):
        for limit, taken in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):
                used = int((group / taken).read_text()) - _droppable(group)
                yield int((group / limit).read_text()), max(0, used)


def _droppable(group: Path) -> int:
    """Return how many bytes of a control group's use are cached files, which the kernel drops when memory is needed."""
    with suppress(OSError, ValueError):
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # The older interface counts a group apart from those inside it, and all of them under "total".
        whole = "total_" if "total_inactive_file" in counts else ""
        return sum(int(counts[f"{whole}{name}"]) for name in ("active_file", "inactive_file") if whole + name in counts)
    return 0


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups around this process, for both versions of the interface.

    Inside a container, ``/proc/self/cgroup`` may show the path outside it; then only the container's root exists.
    """
    try:
        lines = (PROCESS / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = CONTROL_GROUPS / controller if names else CONTROL_GROUPS
        own = root / path.lstrip("/")
        yield from (group for group in (own, *own.parents) if group.is_relative_to(root) and group.is_dir())


def _available() -> int:
    """Return the kernel's estimate of the bytes available without swapping."""
    for line in (PROCESS / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{PROCESS / 'meminfo'} has no MemAvailable")

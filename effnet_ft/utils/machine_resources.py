"""Processor, cores and memory available to this process, with container limits. Free of torch."""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS, PROCESS = Path("/sys/fs/cgroup"), Path("/proc")


def processor_name() -> str:
    """Return the processor's name, e.g. ``AMD EPYC``."""
    with suppress(OSError):
        for line in (PROCESS / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores this process may run on; a container may limit their time further."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_total() -> int:
    """Return the total memory in bytes; OSError or ValueError if the system does not say."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _memory_limits())])


def memory_left() -> int:
    """Return the available memory in bytes; OSError if the system does not say."""
    for line in (PROCESS / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            return min([available, *(max(0, limit - used) for limit, used in _memory_limits())])
    raise OSError(f"{PROCESS / 'meminfo'} has no MemAvailable")


def container_cores() -> float | None:
    """Return the container's limit on processor time, in cores; None if there is none."""
    quotas = []
    for group in _groups("cpu"):
        with suppress(OSError, ValueError):  # "max" means no limit
            quota, period = (group / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def default_workers() -> int:
    """Return the number of data loading processes per device for ``auto``."""
    return max(1, min(8, usable_cores() - 1))  # the training process takes a core; a disk serves no more than eight


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of every control group of this process; the page cache does not count as used."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for group in _groups("memory"):
        cached = 0
        with suppress(OSError, ValueError):
            counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            prefix = "total_" if "total_inactive_file" in counts else ""  # version 1's sum over nested groups
            cached = sum(int(counts.get(prefix + name, 0)) for name in ("active_file", "inactive_file"))
        for limit, usage in names:
            with suppress(OSError, ValueError):
                used = int((group / usage).read_text()) - cached
                yield int((group / limit).read_text()), max(0, used)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and their parents, for both versions of the interface."""
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
        # In a container, the path may be the host's; then only the container's root exists.
        yield from (group for group in (own, *own.parents) if group.is_relative_to(root) and group.is_dir())

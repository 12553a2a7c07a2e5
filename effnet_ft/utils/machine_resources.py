"""Memory and cores that this process may use: the machine's, or what a container leaves of them. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc")


def memory_total() -> int:
    """Return the bytes that programs may take in all.

    Raises:
        OSError: where the system does not tell.
        ValueError: likewise.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _memory_limits())])


def memory_left() -> int:
    """Return the bytes that programs could take now.

    Raises:
        OSError: where the system does not tell.
    """
    left = (max(0, limit - taken) for limit, taken in _memory_limits())
    return min([_available(), *left])


def container_cores() -> float | None:
    """Return how many cores' time the limits of a container are worth; None where there is no limit."""
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


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use of every control group around this process, bytes; files that may be dropped are no use."""
    for group in _groups("memory"):
        for limit, taken in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):
                used = int((group / taken).read_text()) - _droppable(group)
                yield int((group / limit).read_text()), max(0, used)


def _droppable(group: Path) -> int:
    """Return the bytes of a control group's use that are copies of files: who has read many images has many of them."""
    with suppress(OSError, ValueError):
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # The older interface counts a group apart from those inside it, and all of them under "total".
        whole = "total_" if "total_inactive_file" in counts else ""
        return sum(int(counts[f"{whole}{name}"]) for name in ("active_file", "inactive_file") if whole + name in counts)
    return 0


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups around this process, of both versions of the interface.

    Inside a container the path that the system tells may be the one outside; then only the root, its own, is there.
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
    """Return what the kernel says that programs could take without swapping, bytes."""
    for line in (PROCESS / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{PROCESS / 'meminfo'} has no MemAvailable")

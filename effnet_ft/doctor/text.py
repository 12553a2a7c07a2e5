"""The report for the terminal."""

from __future__ import annotations

from effnet_ft.doctor.advice import GB, Finding
from effnet_ft.doctor.facts import Facts
from effnet_ft.utils.tables import columns


def report_text(facts: Facts, findings: list[Finding]) -> str:
    """Return what there is, and what will not work."""
    found = facts.libraries
    gpus = {f"GPU {number}": ", ".join(filter(None, gpu.values())) for number, gpu in enumerate(found.gpus)}
    parts = {
        "versions": {name: version or "not installed" for name, version in facts.versions.items()},
        "devices": {
            "CPU": f"{facts.processor}, {facts.cores} cores",
            **(gpus or {"GPU": f"none that torch can use {found.gpu_fault}".strip()}),
        },
        "memory and disk": _room(facts),
        "torch.compile": {name: place or "not found" for name, place in facts.compilers.items()},
        "could not be found out": {**facts.unknown, **found.failed},
    }
    blocks = [f"{title}\n{_table(rows)}" for title, rows in parts.items() if rows]
    listed = "\n".join(f"  - {finding.text}" for finding in findings)
    blocks.append(f"what will not work\n{listed}" if findings else "everything works")
    return "\n\n".join(blocks)


def _room(facts: Facts) -> dict[str, str]:
    rows = {}
    if facts.memory:
        rows["memory"] = f"{facts.memory_left / GB:.1f} of {facts.memory / GB:.1f} GB free"
    for name, place in facts.folders.items():
        rows[f"{name} folder"] = f"{place.path}: {place.free / GB:.1f} GB free"
    if facts.shared is not None:
        rows["/dev/shm"] = f"{facts.shared / GB:.2f} GB free"
    return rows


def _table(rows: dict[str, str]) -> str:
    return "\n".join(f"  {line}" for line in columns(list(rows.items())).splitlines())

"""The report as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from effnet_ft.doctor.facts import Facts, Gpu
from effnet_ft.doctor.finding import Finding
from effnet_ft.doctor.hardware import GB
from effnet_ft.utils.tables import columns


def report_text(facts: Facts, findings: list[Finding]) -> str:
    """Return the report for the terminal."""
    parts = {
        "versions": [[name, version or "not installed"] for name, version in facts.versions.items()],
        "devices": _devices(facts),
        "memory and disk": _room(facts),
        "several processes": [[name, fault or "works"] for name, fault in facts.libraries.backends.items()],
        "torch.compile": [[name, place or "not found"] for name, place in facts.compilers.items()],
        "optional packages": [[name, version or "not installed"] for name, version in facts.optional.items()],
        "environment variables": [[name, value] for name, value in facts.environment.items()],
        "could not be found out": [[name, fault] for name, fault in facts.unknown.items()],
    }
    blocks = [f"{title}\n{_indented(columns(rows))}" for title, rows in parts.items() if rows]
    if findings:
        listed = "\n".join(f"  - {finding.text}" for finding in findings)
        blocks.append(f"what will not work\n{listed}")
    else:
        blocks.append("everything works")
    return "\n\n".join(blocks)


def report_json(facts: Facts, findings: list[Finding]) -> dict[str, Any]:
    """Return the report as plain values."""
    return {"facts": asdict(facts), "findings": [asdict(finding) for finding in findings]}


def _devices(facts: Facts) -> list[list[str]]:
    found = facts.libraries
    quota = "" if facts.quota is None else f", of which a container's limit leaves {facts.quota:.1f}"
    bf16 = {True: ", bf16", False: "; bf16 without instructions for it, slow", None: ""}[facts.cpu_bf16]
    rows = [["CPU", f"{facts.system}; {facts.cores} cores{quota}", f"float32{bf16}"]]
    rows += [[f"GPU {number}", _gpu(gpu), _precisions(gpu)] for number, gpu in enumerate(found.gpus)]
    rows += [["driver", line, ""] for line in facts.driver]
    if found.mps:
        rows.append(["MPS", "an Apple GPU", "float32, fp16"])
    if not found.gpus and not found.mps:
        rows.append(["GPU", f"none that torch can use{f' ({found.gpu_fault})' if found.gpu_fault else ''}", ""])
    return rows


def _gpu(gpu: Gpu) -> str:
    if not gpu.memory:
        return gpu.fault or gpu.name
    return f"{gpu.name}, {gpu.free / GB:.1f} of {gpu.memory / GB:.1f} GB free, compute capability {gpu.capability}"


def _precisions(gpu: Gpu) -> str:
    return ", ".join(["float32", "fp16", *(["bf16"] if gpu.bf16 else []), *(["tf32"] if gpu.tf32 else [])])


def _room(facts: Facts) -> list[list[str]]:
    rows = []
    if facts.memory:
        rows.append(["memory", f"{facts.memory_left / GB:.1f} of {facts.memory / GB:.1f} GB free, limits counted"])
    for name, place in facts.folders.items():
        state = "" if place.writable else ", cannot be written to"
        rows.append([f"{name} folder", f"{place.path}: {place.free / GB:.1f} GB free{state}"])
    if facts.shared is not None:
        rows.append(["shared memory", f"{facts.shared / GB:.2f} GB free"])
    if facts.open_files is not None:
        rows.append(["open files", f"{facts.open_files} a process"])
    return rows


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())

"""What will not work because of devices, memory, disks or limits."""

from __future__ import annotations

from collections.abc import Iterator

from effnet_ft.doctor.facts import Facts, Gpu
from effnet_ft.doctor.finding import Finding

GB = 1e9
LEAST_MEMORY = 4 * GB
"""The peak of a training of Lite0 on the CPU is 1.5 GB (docs/benchmarks.md); the system and the readers want theirs."""

LEAST_DISK = 1 * GB
LEAST_FILES = 1024
"""Open files: every batch on its way from a reader holds some, every library too; systems give at least so many."""

BATCHES_AHEAD = 2
"""Batches that a reader prepares, torch's default."""


def judge_gpus(facts: Facts) -> Iterator[Finding]:
    """GPUs that are there and cannot be used."""
    found = facts.libraries
    if facts.driver and not found.gpus and not found.died and "torch" not in found.faults:
        yield Finding(f"{facts.driver[0]} is there, but torch does not see it: {_why_unseen(facts)}")
    for number, gpu in enumerate(found.gpus):
        if gpu.fault:
            yield Finding(
                f"GPU {number} ({gpu.name}) fails at a small product ({gpu.fault}): trainer.accelerator=auto takes it "
                f"nevertheless; {_cure(gpu)}, or set trainer.accelerator=cpu"
            )
        elif not gpu.bf16:
            yield Finding(
                f"GPU {number} ({gpu.name}) has no bfloat16: trainer.precision=bf16-mixed gains nothing there; "
                "16-mixed is faster than the float32 that auto takes"
            )
        if gpu.memory and gpu.free < gpu.memory / 2 and not gpu.fault:
            yield Finding(
                f"GPU {number} ({gpu.name}) has {gpu.free / GB:.1f} of {gpu.memory / GB:.1f} GB free: other programs "
                "hold the rest (nvidia-smi lists them); a batch that fits elsewhere may not fit"
            )


def _why_unseen(facts: Facts) -> str:
    if facts.environment.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides it; unset it"
    if not facts.libraries.cuda:
        return "this torch is built for the CPU alone; install one for CUDA (pytorch.org/get-started)"
    fault = facts.libraries.gpu_fault
    return f"{fault or 'it does not say why'}; torch is built for CUDA {facts.libraries.cuda}, update the driver for it"


def _cure(gpu: Gpu) -> str:
    if "no kernel image" in gpu.fault:
        return f"install a torch that is built for compute capability {gpu.capability}"
    if "out of memory" in gpu.fault:
        return "end the programs that hold its memory (nvidia-smi lists them)"
    return "look at nvidia-smi, restart the machine"


def judge_memory(facts: Facts) -> Iterator[Finding]:
    """Memory, a container's limit counted."""
    if facts.memory and facts.memory < LEAST_MEMORY:
        yield Finding(
            f"programs may take {facts.memory / GB:.1f} GB of memory: a training may be killed for more; "
            "data.batch_size=8, data.workers=0 and data.decoded=disk take less, or raise the limit"
        )
    elif facts.memory_left and facts.memory_left < LEAST_MEMORY / 2:
        yield Finding(
            f"{facts.memory_left / GB:.1f} GB of memory are free: a training may be killed for more; end other programs"
        )


def judge_cores(facts: Facts) -> Iterator[Finding]:
    """Cores that are seen but may not be used."""
    if facts.quota is not None and facts.quota < 0.75 * facts.cores:
        least = max(1, int(facts.quota))
        yield Finding(
            f"the container may use the time of {facts.quota:.1f} cores and sees {facts.cores}: programs start too "
            f"many threads and are slow; set OMP_NUM_THREADS={least} and data.workers={max(1, least - 1)}"
        )


def judge_folders(facts: Facts) -> Iterator[Finding]:
    """Folders that runs and stores are written to."""
    cures = {
        "cache": ("nothing can be kept between runs", "name another by EFFNET_FT_CACHE"),
        "current": ("runs cannot be written to runs/", "name another by run_dir=FOLDER"),
    }
    for name, (loss, cure) in cures.items():
        place = facts.folders.get(name)
        if place is None:
            continue
        if not place.writable:
            yield Finding(f"the {name} folder {place.path} cannot be written to: {loss}; {cure}")
        elif place.free < LEAST_DISK:
            yield Finding(
                f"the disk of the {name} folder {place.path} has {place.free / GB:.2f} GB left: {loss} beyond that; "
                f"make room, or {cure}"
            )


def judge_shared_memory(facts: Facts) -> Iterator[Finding]:
    """Shared memory, through which readers hand over their batches."""
    needed = facts.batch_bytes * (BATCHES_AHEAD * facts.workers + BATCHES_AHEAD)
    if facts.shared is not None and facts.shared < needed:
        yield Finding(
            f"/dev/shm has {facts.shared / 1e6:.0f} MB left, and {facts.workers} readers with the default batches need "
            f"{needed / 1e6:.0f} MB: they will be killed by a bus error; start the container with --shm-size=2g, "
            "or set data.workers=0"
        )


def judge_open_files(facts: Facts) -> Iterator[Finding]:
    """File descriptors."""
    if facts.open_files is not None and facts.open_files < LEAST_FILES:
        yield Finding(
            f"a process may have {facts.open_files} files open: readers of images may fail with 'Too many open files'; "
            "run 'ulimit -n 4096' first, or set data.workers=0"
        )


JUDGES = (judge_gpus, judge_memory, judge_cores, judge_folders, judge_shared_memory, judge_open_files)
"""Each gives its findings on the facts."""

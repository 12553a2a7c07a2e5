"""What the machine does to a training, as messages: a full disk, a killed process, memory that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from effnet_ft.errors import MachineError, UserError, disk_fault
from effnet_ft.training.recovery.watchdog import lost_process_error

_MEMORY = "memory is used up: set a smaller data.batch_size, data.workers or data.image_size"

_GPU_MEMORY = (
    "the GPU's memory is used up: set a smaller data.batch_size with a larger optim.accumulate, data.batch_size=auto, "
    "or trainer.checkpointing=on"
)

_TEXTS = (
    (
        r"(?<!resource: )shared memory|Bus error|</?torch_\w+",  # a GPU's kernels have a shared memory of their own
        "the memory that processes share, /dev/shm, is full: set data.workers=0, or give it more room (of a container "
        "by --shm-size or --ipc=host)",
    ),
    (
        r"DataLoader worker .*(?:exited unexpectedly|killed by signal)",
        "a process that reads images was killed, as the system does where memory is short: set a smaller data.workers, "
        "or free memory",
    ),
    (r"PytorchStreamWriter|file write failed|Errno 28|No space left on device", "the disk is full: make room"),
    (r"CUDA (?:driver )?error: out of memory|CU(?:DNN|BLAS)_STATUS_ALLOC_FAILED", _GPU_MEMORY),
    (r"DefaultCPUAllocator|[Cc]annot allocate memory|not enough memory", _MEMORY),
    (
        r"(?i)timed out (?:waiting|after) \d+|wait timeout after|collective operation timeout",
        "another process of this training did not answer in time: see what holds it up, or raise "
        "trainer.timeout_minutes",
    ),
    (
        r"Too many open files|received 0 items of ancdata",
        "too many files are open at once: raise the limit (ulimit -n), or set a smaller data.workers",
    ),
)
"""Libraries' messages, where there is no error number to go by, and ours for them."""


@contextmanager
def translate_machine_errors() -> Iterator[None]:
    """Turn the machine's faults within the block into errors that say what happened and what to do.

    Raises:
        MachineError: where disk, memory or processes are at fault.
        DataError: where a reading process met a wrong file, without that process's traceback.
    """
    try:
        yield
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        translated = worker_error(error) if isinstance(error, UserError) else explain_machine_error(error)
        if translated is None:
            raise
        translated.shared = getattr(error, "shared", False)
        raise translated from error


def explain_machine_error(error: BaseException) -> MachineError | None:
    """Return what happened in the user's words; None where the machine is not at fault."""
    if isinstance(error, torch.OutOfMemoryError):
        return MachineError(_GPU_MEMORY)
    if isinstance(error, MemoryError):
        return MachineError(_MEMORY)
    if isinstance(error, OSError) and (fault := disk_fault(error)):
        return MachineError(fault)
    words = str(error)
    if lost := lost_process_error(error):
        return lost
    return next((MachineError(text) for pattern, text in _TEXTS if re.search(pattern, words)), None)


def worker_error(error: UserError) -> UserError | None:
    """Return an error as it was raised in a process that reads images; None where it comes from no such process.

    PyTorch hands it on as the whole traceback of that process.
    """
    words, kind = str(error), type(error)
    if not words.startswith(f"Caught {kind.__name__} in "):
        return None
    return kind(words.rstrip().rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2])

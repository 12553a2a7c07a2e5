"""Translates the machine's faults (disk, memory, killed processes) into messages that say what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from effnet_ft.errors import MachineError, UserError, disk_fault
from effnet_ft.training.recovery.watchdog import lost_process_error

_MEMORY = "out of memory: lower data.batch_size, data.workers or data.image_size"
_GPU_MEMORY = (
    "out of GPU memory: lower data.batch_size and raise optim.accumulate, or set data.batch_size=auto or "
    "trainer.checkpointing=on"
)

_TEXTS = {
    # "resource: shared memory" is a GPU kernel's own
    r"(?<!resource: )shared memory|Bus error|</?torch_\w+": "shared memory (/dev/shm) is full: set data.workers=0, or "
    "enlarge it (in a container with --shm-size or --ipc=host)",
    r"DataLoader worker .*(?:exited unexpectedly|killed by signal)": "a data loading process was killed, probably "
    "because memory ran out: lower data.workers, or free memory",
    r"PytorchStreamWriter|file write failed|Errno 28|No space left on device": "the disk is full: make room",
    r"CUDA (?:driver )?error: out of memory|CU(?:DNN|BLAS)_STATUS_ALLOC_FAILED": _GPU_MEMORY,
    r"DefaultCPUAllocator|[Cc]annot allocate memory|not enough memory": _MEMORY,
    r"(?i)timed out (?:waiting|after) \d+|wait timeout after|collective operation timeout": "another process of this "
    "training did not answer in time: find out what delays it, or raise trainer.timeout_minutes",
    r"Too many open files|received 0 items of ancdata": "too many open files: raise the limit (ulimit -n), or lower "
    "data.workers",
}
"""Our messages by patterns in the libraries' own, for errors without an error number."""


@contextmanager
def translate_machine_errors() -> Iterator[None]:
    """Re-raise the machine's faults as :class:`MachineError`, and data loading errors without their traceback."""
    try:
        yield
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        translated = explain_machine_error(error)
        if translated is None:
            raise
        translated.shared = getattr(error, "shared", False)
        raise translated from error


def explain_machine_error(error: BaseException) -> UserError | None:
    """Return ``error`` in the user's words; None if neither the machine nor a data loading process is at fault."""
    text = str(error)
    if isinstance(error, UserError):  # PyTorch adds the traceback of the data loading process
        kind = type(error)
        if not text.startswith(f"Caught {kind.__name__} in "):
            return None
        return kind(text.rstrip().rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2])
    if isinstance(error, torch.OutOfMemoryError):
        return MachineError(_GPU_MEMORY)
    if isinstance(error, MemoryError):
        return MachineError(_MEMORY)
    if isinstance(error, OSError) and (fault := disk_fault(error)):
        return MachineError(fault)
    if lost := lost_process_error(error):
        return lost
    return next((MachineError(message) for pattern, message in _TEXTS.items() if re.search(pattern, text)), None)

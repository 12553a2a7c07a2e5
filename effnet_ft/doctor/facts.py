"""What the report knows of a machine, as plain values that go to JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees.

    Attributes:
        name: as its maker calls it.
        memory: bytes in all.
        free: bytes that no program holds.
        capability: its compute capability, e.g. ``9.0``; empty where it has none.
        bf16: computes in bfloat16 by itself.
        tf32: computes float32 products faster, with a shorter mantissa.
        fault: why a small product could not be computed on it; empty where it could.
    """

    name: str
    memory: int = 0
    free: int = 0
    capability: str = ""
    bf16: bool = False
    tf32: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Libraries:
    """What a process found that loaded the libraries.

    Attributes:
        faults: why a library cannot be imported, by its module.
        died: at what, and how, the process ended before it was done; empty where it was not.
        cuda: the version of CUDA that torch is built for; empty for none.
        gpus: those that torch sees, in its order.
        gpu_fault: what torch says of GPUs that it cannot use.
        mps: an Apple GPU can be used.
        backends: of torch.distributed: empty where it works, else why it does not.
    """

    faults: dict[str, str] = field(default_factory=dict)
    died: str = ""
    cuda: str = ""
    gpus: list[Gpu] = field(default_factory=list)
    gpu_fault: str = ""
    mps: bool = False
    backends: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Folder:
    """A folder that is written to.

    Attributes:
        path: of the folder.
        free: bytes on its disk.
        writable: files can be made in it, or it can be made itself.
    """

    path: str
    free: int
    writable: bool


@dataclass(frozen=True)
class Facts:
    """All that the report knows; what could not be found out has its default and an entry in ``unknown``.

    Attributes:
        versions: of Python, of this project and of its libraries, by name; empty for what is not installed.
        unmet: what this project requires and is not there, e.g. ``torch>=2.11 (2.5 is installed)``.
        optional: versions of the packages that some keys and commands need; empty for what is not installed.
        system: operating system and processor.
        libraries: what came of loading them.
        driver: each GPU that the driver knows, with its driver's version, e.g. ``NVIDIA L4, driver 570.1``.
        cpu_bf16: the processor has instructions for bfloat16; None where unknown.
        cores: that this process may run on.
        quota: cores that a container's limit is worth; None for no limit.
        memory: bytes that programs may take in all, a container's limit counted; 0 where unknown.
        memory_left: bytes of them that are free.
        folders: those written to, by what they are for.
        shared: bytes of shared memory that are free; None where the system has no such limit.
        batch_bytes: of a batch of the default recipe.
        workers: processes that read images, where the recipe says ``auto``.
        open_files: that a process may have; None for no limit.
        compilers: where each of what compiling needs was found; empty where it was not.
        environment: the variables that change how a training runs, where they are set.
        unknown: why a fact could not be found out, by its name.
    """

    versions: dict[str, str] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)
    optional: dict[str, str] = field(default_factory=dict)
    system: str = ""
    libraries: Libraries = field(default_factory=Libraries)
    driver: list[str] = field(default_factory=list)
    cpu_bf16: bool | None = None
    cores: int = 1
    quota: float | None = None
    memory: int = 0
    memory_left: int = 0
    folders: dict[str, Folder] = field(default_factory=dict)
    shared: int | None = None
    batch_bytes: int = 0
    workers: int = 0
    open_files: int | None = None
    compilers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

"""What will not work on a machine, and the cure: pure functions of the facts. What is unknown is not judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from effnet_ft.doctor.facts import Facts
from effnet_ft.doctor.libraries import OPTIONAL

GB = 1e9

OLDEST_PYTHON = (3, 11, 4)

LEAST_MEMORY = 4 * GB
"""Training Lite0 on the CPU takes 1.5 GB at its peak (docs/benchmarks.md); the system and the readers need more."""

LEAST_DISK = 1 * GB

LEAST_SHARED = 0.1 * GB
"""The batches that seven readers hold ready by default take 77 MB; a container has 64 MB unless told otherwise."""

PACKAGES = {"PIL.Image": "pillow", "cv2": "opencv-python-headless", "pytorch_lightning": "pytorch-lightning"}
"""Names to install by, where they differ from the module's."""


@dataclass(frozen=True)
class Finding:
    """What will not work, and the cure.

    Attributes:
        text: a sentence.
        broken: no training can work; otherwise only what the text names.
    """

    text: str
    broken: bool = False


def advise(facts: Facts) -> list[Finding]:
    """Return what will not work; what breaks every training comes first."""
    findings = [finding for judge in JUDGES for finding in judge(facts)]
    return sorted(findings, key=lambda finding: not finding.broken)


def _python(facts: Facts) -> Iterator[Finding]:
    version = facts.versions.get("python", "")
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if numbers and numbers < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Finding(f"Python is {version}, too old: install {oldest} or newer", broken=True)


def _requirements(facts: Facts) -> Iterator[Finding]:
    for requirement in facts.unmet:
        name = requirement.partition(" (")[0]
        yield Finding(f"{requirement}: every training needs it; pip install '{name}'", broken=True)
    if "PackageNotFoundError" in facts.unknown.get("unmet", ""):
        yield Finding("effnet_ft is not installed: the versions of its libraries cannot be checked")


def _imports(facts: Facts) -> Iterator[Finding]:
    for name, fault in facts.libraries.faults.items():
        package = PACKAGES.get(name, name)
        if "No module named" in fault and any(line.startswith(package) for line in facts.unmet):
            continue
        cure = _import_cure(package, fault, facts)
        yield Finding(f"{name} cannot be imported ({fault}), so no training works: {cure}", broken=True)
    if died := facts.libraries.died:
        early = died.startswith(("starting", "importing"))
        cure = (
            "no training works; install this project anew, in a fresh virtual environment"
            if early
            else "training may end the same way; set trainer.accelerator=cpu and trainer.devices=1"
        )
        yield Finding(f"{died}: {cure}", broken=early)


def _import_cure(package: str, fault: str, facts: Facts) -> str:
    if package == "torchvision" and ("torchvision::" in fault or "torch." in fault or "undefined symbol" in fault):
        found = f"torch {facts.versions.get('torch')} and torchvision {facts.versions.get('torchvision')}"
        return f"{found} do not fit each other: pip install --upgrade --force-reinstall torch torchvision"
    if package.startswith("opencv") and any(library in fault for library in ("libGL", "libgthread", "libSM")):
        return "pip uninstall opencv-python, then pip install --force-reinstall opencv-python-headless"
    if "numpy" in fault and package != "numpy" and any(sign in fault for sign in ("ABI", "dtype size", "multiarray")):
        return f"it was built for another numpy: pip install --upgrade --force-reinstall {package} numpy"
    if "No module named" in fault:
        return f"pip install --force-reinstall {package}, and make sure that no file of yours has that module's name"
    return f"pip install --force-reinstall {package}"


def _gpus(facts: Facts) -> Iterator[Finding]:
    found = facts.libraries
    if found.driver and not found.gpus and not found.died:
        yield Finding(f"{found.driver}: there, but torch does not see it: {_why_unseen(facts)}")
    for number, gpu in enumerate(found.gpus):
        if gpu["fault"]:
            yield Finding(
                f"GPU {number} ({gpu['name']}) fails at a small matrix product ({gpu['fault']}), and "
                f"trainer.accelerator=auto would use it: {_gpu_cure(**gpu)}, or set trainer.accelerator=cpu"
            )


def _why_unseen(facts: Facts) -> str:
    found = facts.libraries
    if found.hidden:
        return "CUDA_VISIBLE_DEVICES hides it; unset it"
    if not found.cuda:
        return "this torch is built for the CPU only; install one for CUDA (pytorch.org/get-started)"
    return f"{found.gpu_fault or 'no reason given'}; torch is built for CUDA {found.cuda}, update the driver for it"


def _gpu_cure(fault: str, capability: str, **_: str) -> str:
    if "no kernel image" in fault:
        return f"install a torch that is built for compute capability {capability}"
    if "out of memory" in fault:
        return "end the programs that use its memory (nvidia-smi lists them)"
    return "look at nvidia-smi, restart the machine"


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory and facts.memory < LEAST_MEMORY:
        yield Finding(
            f"programs may use only {facts.memory / GB:.1f} GB of memory, and training may be killed for using more: "
            "set data.batch_size=8, data.workers=0 and data.decoded=disk, or raise the limit"
        )
    elif facts.memory_left and facts.memory_left < LEAST_MEMORY / 2:
        yield Finding(
            f"only {facts.memory_left / GB:.1f} GB of memory is free, and training may be killed for using more: end "
            "other programs"
        )
    if facts.shared is not None and facts.shared < LEAST_SHARED:
        yield Finding(
            f"/dev/shm has {facts.shared / 1e6:.0f} MB free, too little for the processes that read images: they will "
            "be killed by a bus error; start the container with --shm-size=2g, or set data.workers=0"
        )


def _cores(facts: Facts) -> Iterator[Finding]:
    if facts.quota is not None and facts.quota < 0.75 * facts.cores:
        granted = max(1, int(facts.quota))
        yield Finding(
            f"the container shows {facts.cores} cores but may use the time of {facts.quota:.1f}, so programs start too "
            f"many threads: set OMP_NUM_THREADS={granted} and data.workers={max(1, granted - 1)}"
        )


def _folders(facts: Facts) -> Iterator[Finding]:
    cures = {
        "cache": ("little or nothing can be kept between runs", "name another by EFFNET_FT_CACHE"),
        "current": ("runs cannot be written to runs/", "name another by run_dir=FOLDER"),
    }
    for name, place in facts.folders.items():
        loss, cure = cures[name]
        if not place.writable:
            yield Finding(f"the {name} folder {place.path} cannot be written to: {loss}; {cure}")
        elif place.free < LEAST_DISK:
            yield Finding(
                f"the disk of the {name} folder {place.path} has {place.free / GB:.2f} GB left: {loss}; {cure}"
            )


def _compilers(facts: Facts) -> Iterator[Finding]:
    cures = {
        "CXX": ("there is no C++ compiler", "install g++"),
        "CC": ("there is no C compiler", "install gcc"),
        "Python.h": ("Python's header files are missing", "install python3-dev"),
    }
    for name, place in facts.compilers.items():
        fault, cure = cures[name]
        if not place and (name != "CC" or facts.libraries.gpus):
            yield Finding(f"{fault}: trainer.compile=on will fail; {cure}, or leave it at auto")


def _gloo(facts: Facts) -> Iterator[Finding]:
    if fault := facts.libraries.gloo:
        yield Finding(
            f"gloo does not work ({fault}), so trainer.devices above 1 will fail on the CPU: make this machine's name "
            "resolve (hostname, /etc/hosts), or set GLOO_SOCKET_IFNAME to a network interface such as lo"
        )


def _optional(facts: Facts) -> Iterator[Finding]:
    for name, version in facts.optional.items():
        if not version:
            yield Finding(f"{name} is not installed, which is for {OPTIONAL[name]}: pip install {name}")


JUDGES = (_python, _requirements, _imports, _gpus, _memory, _cores, _folders, _compilers, _gloo, _optional)
"""Each yields its findings."""

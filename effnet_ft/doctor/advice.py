"""What will not work on a machine, and the cure: pure functions of the facts. What is unknown is not judged."""

from collections.abc import Iterator
from dataclasses import dataclass

from effnet_ft.doctor.facts import OPTIONAL, Facts
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import counted

GB = 1e9

LEAST_MEMORY = 4 * GB
"""Training Lite0 on the CPU takes 1.5 GB at its peak (docs/benchmarks.md); the system and the readers need more."""

LEAST_SHARED = 0.1 * GB
"""The batches that seven readers hold ready by default take 77 MB; a container has 64 MB unless told otherwise."""

PACKAGES = {"PIL.Image": "pillow", "cv2": "opencv-python-headless", "pytorch_lightning": "pytorch-lightning"}
"""Names to install by, where they differ from the module's."""


@dataclass(frozen=True)
class Finding:
    """What will not work, and the cure."""

    text: str
    broken: bool = False  # no training can work; otherwise only what the text names


def advise(facts: Facts) -> list[Finding]:
    """Return what will not work; what breaks every training comes first."""
    limits = [*_gpus(facts), *_memory_and_cores(facts), *_folders(facts), *_features(facts)]
    findings = [Finding(text, broken=True) for text in _imports(facts)] + [Finding(text) for text in limits]
    if died := facts.libraries.died:
        if early := died.startswith(("starting", "importing")):
            cure = "no training works; reinstall this project in a fresh virtual environment"
        else:
            cure = "training may end the same way; set trainer.accelerator=cpu and trainer.devices=1"
        findings.insert(0, Finding(f"{died}: {cure}", early))
    return sorted(findings, key=lambda finding: not finding.broken)


def report_text(facts: Facts, findings: list[Finding]) -> str:
    """Return what there is, and what will not work, for the terminal."""
    found, room = facts.libraries, {}
    gpus = {f"GPU {number}": ", ".join(filter(None, gpu.values())) for number, gpu in enumerate(found.gpus)}
    if facts.memory:
        room["memory"] = f"{facts.memory_left / GB:.1f} of {facts.memory / GB:.1f} GB free"
    room |= {f"{name} folder": f"{place.path}: {place.free / GB:.1f} GB free" for name, place in facts.folders.items()}
    if facts.shared is not None:
        room["/dev/shm"] = f"{facts.shared / GB:.2f} GB free"
    parts = {
        "versions": {name: version or "not installed" for name, version in facts.versions.items()},
        "devices": {
            "CPU": f"{facts.processor}, {counted(facts.cores, 'core')}",
            **(gpus or {"GPU": f"none that torch can use {found.gpu_fault}".strip()}),
        },
        "memory and disk": room,
        "torch.compile": {name: place or "not found" for name, place in facts.compilers.items()},
        "unknown": {**facts.unknown, **found.failed},
    }
    blocks = [f"{title}\n{columns([*rows.items()])}".replace("\n", "\n  ") for title, rows in parts.items() if rows]
    listed = [f"  - {finding.text}" for finding in findings]
    return "\n\n".join([*blocks, "\n".join(["what will not work", *listed]) if listed else "everything works"])


def _imports(facts: Facts) -> Iterator[str]:
    """Yield what breaks every training."""
    for requirement in facts.unmet:
        yield f"{requirement}: every training needs it; pip install '{requirement.partition(' (')[0]}'"
    for name, fault in facts.libraries.faults.items():
        package = PACKAGES.get(name, name)
        if "No module named" not in fault or not any(line.startswith(package) for line in facts.unmet):
            cure = _import_cure(package, fault, facts.versions)
            yield f"{name} cannot be imported ({fault}), so no training works: {cure}"


def _import_cure(package: str, fault: str, versions: dict[str, str]) -> str:
    if package == "torchvision" and ("torchvision::" in fault or "torch." in fault or "undefined symbol" in fault):
        found = f"torch {versions.get('torch')} and torchvision {versions.get('torchvision')}"
        return f"{found} do not fit each other: pip install --upgrade --force-reinstall torch torchvision"
    if package.startswith("opencv") and any(library in fault for library in ("libGL", "libgthread", "libSM")):
        return "pip uninstall opencv-python, then pip install --force-reinstall opencv-python-headless"
    if "numpy" in fault and package != "numpy" and any(sign in fault for sign in ("ABI", "dtype size", "multiarray")):
        return f"it was built for another numpy: pip install --upgrade --force-reinstall {package} numpy"
    shadowed = ", and make sure that no file of yours has that module's name" if "No module named" in fault else ""
    return f"pip install --force-reinstall {package}{shadowed}"


def _gpus(facts: Facts) -> Iterator[str]:
    found = facts.libraries
    if found.driver and not found.gpus and not found.died:
        if found.hidden:
            why = "CUDA_VISIBLE_DEVICES hides it; unset it"
        elif not found.cuda:
            why = "this torch is built for the CPU only; install one for CUDA (pytorch.org/get-started)"
        else:
            why = f"{found.gpu_fault or 'no reason given'}; torch is for CUDA {found.cuda}, update the driver for it"
        yield f"{found.driver}: there, but torch does not see it: {why}"
    for number, gpu in enumerate(found.gpus):
        fault, cure = gpu["fault"], "look at nvidia-smi, restart the machine"
        if "no kernel image" in fault:
            cure = f"install a torch that is built for compute capability {gpu['capability']}"
        elif "out of memory" in fault:
            cure = "end the programs that use its memory (nvidia-smi lists them)"
        if fault:
            yield (
                f"GPU {number} ({gpu['name']}) fails at a small matrix product ({fault}), and "
                f"trainer.accelerator=auto would use it: {cure}, or set trainer.accelerator=cpu"
            )


def _memory_and_cores(facts: Facts) -> Iterator[str]:
    if facts.memory and facts.memory < LEAST_MEMORY:
        yield (
            f"programs may use only {facts.memory / GB:.1f} GB of memory, and training may be killed for using more: "
            "set data.batch_size=8, data.workers=0 and data.decoded=disk, or raise the limit"
        )
    elif facts.memory_left and facts.memory_left < LEAST_MEMORY / 2:
        free = f"only {facts.memory_left / GB:.1f} GB of memory is free"
        yield f"{free}, and training may be killed for using more: end other programs"
    if facts.shared is not None and facts.shared < LEAST_SHARED:
        yield (
            f"/dev/shm has {facts.shared / 1e6:.0f} MB free, too little for the processes that read images: they will "
            "be killed by a bus error; start the container with --shm-size=2g, or set data.workers=0"
        )
    if facts.quota is not None and facts.quota < 0.75 * facts.cores:
        granted = max(1, int(facts.quota))
        yield (
            f"the container shows {counted(facts.cores, 'core')} but may use the time of {facts.quota:.1f}, so "
            f"programs start too many threads: set OMP_NUM_THREADS={granted} and data.workers={max(1, granted - 1)}"
        )


def _folders(facts: Facts) -> Iterator[str]:
    cures = {
        "cache": "little or nothing can be kept between runs; set EFFNET_FT_CACHE to another folder",
        "current": "runs cannot be written to runs/; set run_dir=FOLDER",
    }
    for name, place in facts.folders.items():
        if not place.writable:
            yield f"the {name} folder {place.path} cannot be written to: {cures[name]}"
        elif place.free < 1 * GB:
            yield f"the disk of the {name} folder {place.path} has {place.free / GB:.2f} GB left: {cures[name]}"


def _features(facts: Facts) -> Iterator[str]:
    """Yield what optional software lacks."""
    if "PackageNotFoundError" in facts.unknown.get("unmet", ""):
        yield "effnet_ft is not installed: the versions of its libraries cannot be checked"
    cures = {
        "CXX": ("there is no C++ compiler", "install g++"),
        "CC": ("there is no C compiler", "install gcc"),
        "Python.h": ("Python's header files are missing", "install python3-dev"),
    }
    for name, place in facts.compilers.items():
        if not place and (name != "CC" or facts.libraries.gpus):
            fault, cure = cures[name]
            yield f"{fault}: trainer.compile=on will fail; {cure}, or leave it at auto"
    if fault := facts.libraries.gloo:
        yield (
            f"gloo does not work ({fault}), so trainer.devices above 1 will fail on the CPU: make this machine's name "
            "resolve (hostname, /etc/hosts), or set GLOO_SOCKET_IFNAME to a network interface such as lo"
        )
    for name, version in facts.optional.items():
        if not version:
            yield f"{name} is not installed, which is for {OPTIONAL[name]}: pip install {name}"

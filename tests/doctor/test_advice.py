"""From invented facts to sentences: each fault is told with its cure, and nothing is told of a sound machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from effnet_ft.doctor.advice import advise
from effnet_ft.doctor.facts import Facts, Folder, Libraries

SOUND = Facts(
    versions={"python": "3.12.1", "torch": "2.15.0", "torchvision": "0.29.2"},
    optional={"wandb": "1.0"},
    libraries=Libraries(cuda="12.8"),
    cores=8,
    memory=32 * 10**9,
    memory_left=20 * 10**9,
    folders={"cache": Folder("/cache", 10**11, True), "current": Folder("/work", 10**11, True)},
    shared=10**10,
    compilers={"CXX": "/usr/bin/g++", "CC": "/usr/bin/gcc", "Python.h": "/usr/include/Python.h"},
)
L4 = {"name": "NVIDIA L4", "memory": "23.0 of 24.0 GB free", "capability": "8.9", "fault": ""}


def with_libraries(**changes: Any) -> dict[str, Any]:
    return {"libraries": replace(SOUND.libraries, **changes)}


def fault(name: str, text: str) -> dict[str, Any]:
    return with_libraries(faults={name: text})


# What differs from a sound machine; whether all training is broken; what the sentence must say.
FAULTS: dict[str, tuple[dict[str, Any], bool, list[str]]] = {
    "a package is missing": ({"unmet": ["torch>=2.11 (not installed)"]}, True, ["pip install 'torch>=2.11'"]),
    "torch and torchvision do not fit": (
        fault("torchvision", "RuntimeError: operator torchvision::nms does not exist"),
        True,
        ["torch 2.15.0 and torchvision 0.29.2 do not fit each other", "--force-reinstall torch torchvision"],
    ),
    "a screen's libraries": (
        fault("cv2", "ImportError: libGL.so.1: cannot open shared object file"),
        True,
        ["opencv-python-headless"],
    ),
    "another numpy": (
        fault("scipy", "ValueError: numpy.dtype size changed, may indicate binary incompatibility"),
        True,
        ["force-reinstall scipy numpy"],
    ),
    "a library is damaged": (fault("PIL.Image", "ImportError: no"), True, ["PIL.Image", "--force-reinstall pillow"]),
    "a crash while loading": (
        with_libraries(died="importing torch ended Python by SIGILL"),
        True,
        ["importing torch", "SIGILL", "fresh virtual environment"],
    ),
    "a crash on a GPU": (
        with_libraries(died="using GPU 0 ended Python by SIGSEGV"),
        False,
        ["trainer.accelerator=cpu"],
    ),
    "no compiler": ({"compilers": {**SOUND.compilers, "CXX": ""}}, False, ["trainer.compile=on will fail", "g++"]),
    "no C compiler for a GPU": (
        {"compilers": {**SOUND.compilers, "CC": ""}, **with_libraries(gpus=[L4])},
        False,
        ["no C compiler", "gcc"],
    ),
    "no headers": ({"compilers": {**SOUND.compilers, "Python.h": ""}}, False, ["header files", "python3-dev"]),
    "no wandb": ({"optional": {"wandb": ""}}, False, ["trainer.loggers=[wandb]", "pip install wandb"]),
    "no gloo": (with_libraries(gloo="no address"), False, ["no address", "GLOO_SOCKET_IFNAME"]),
    "the project is not installed": (
        {"unknown": {"unmet": "PackageNotFoundError: effnet_ft"}},
        False,
        ["effnet_ft is not installed"],
    ),
    "hidden GPU": (
        with_libraries(driver="NVIDIA L4, driver 570", hidden=True),
        False,
        ["NVIDIA L4", "CUDA_VISIBLE_DEVICES hides it"],
    ),
    "torch for the CPU": (
        with_libraries(driver="NVIDIA L4, driver 570", cuda=""),
        False,
        ["built for the CPU only"],
    ),
    "old driver": (
        with_libraries(driver="NVIDIA L4, driver 450", gpu_fault="the driver is too old"),
        False,
        ["the driver is too old", "CUDA 12.8, update the driver"],
    ),
    "GPU that torch has no code for": (
        with_libraries(gpus=[L4 | {"capability": "5.2", "fault": "RuntimeError: no kernel image is available"}]),
        False,
        ["compute capability 5.2", "trainer.accelerator=cpu"],
    ),
    "GPU full": (
        with_libraries(gpus=[L4 | {"fault": "OutOfMemoryError: CUDA out of memory"}]),
        False,
        ["end the programs"],
    ),
    "little memory": ({"memory": 2 * 10**9, "memory_left": 2 * 10**9}, False, ["2.0 GB", "data.workers=0"]),
    "memory taken": ({"memory_left": 10**9}, False, ["only 1.0 GB of memory is free"]),
    "a container's share of cores": ({"quota": 2.0}, False, ["OMP_NUM_THREADS=2", "data.workers=1"]),
    "no place for the cache": (
        {"folders": {"cache": Folder("/cache", 10**11, False)}},
        False,
        ["/cache cannot be written to", "EFFNET_FT_CACHE"],
    ),
    "full disk": ({"folders": {"current": Folder("/work", 10**7, True)}}, False, ["0.01 GB left", "run_dir"]),
    "little shared memory": ({"shared": 64 * 10**6}, False, ["/dev/shm has 64 MB", "--shm-size"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_cure(name: str) -> None:
    changes, broken, parts = FAULTS[name]
    (finding,) = advise(replace(SOUND, **changes))
    assert finding.broken == broken
    for part in parts:
        assert part in finding.text


def test_nothing_is_told_of_a_sound_machine() -> None:
    assert advise(SOUND) == []
    assert advise(replace(SOUND, **with_libraries(gpus=[L4], driver="NVIDIA L4, driver 570"))) == []


def test_nothing_is_told_of_what_is_not_known() -> None:
    assert advise(Facts()) == []


def test_what_breaks_everything_comes_first() -> None:
    facts = replace(SOUND, shared=10, unmet=["torch>=2.11 (not installed)"], optional={"wandb": ""})
    assert [finding.broken for finding in advise(facts)] == [True, False, False]


def test_a_missing_package_is_told_once() -> None:
    facts = replace(SOUND, unmet=["torch>=2.11 (not installed)"], **fault("torch", "No module named 'torch'"))
    assert len(advise(facts)) == 1

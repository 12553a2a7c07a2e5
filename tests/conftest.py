"""Tiny data and runs that tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.demo_flowers import draw_flowers
from effnet_ft.planning import estimate
from effnet_ft.planning.speed import Speed
from effnet_ft.utils.array_cache import FOLDER_VARIABLE

REAL_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


# Tests run side by side, one a core: threads of their own would only wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep computed arrays, those of subprocesses too, out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_estimates() -> Iterator[None]:
    """Measure no speeds for the plans of trainings; ``planning/test_estimate.py`` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "measured_speed", lambda *_: Speed(1e-3, 1e-3, 1e-3, 1e6))
        yield


@pytest.fixture
def no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """End trainings with their last phase: nothing is measured, no report is written."""
    monkeypatch.setattr("effnet_ft.training.fit.evaluate_and_report", lambda *_: {})


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that stands beside the project where it is developed."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real images at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: three drawn species of twelve 64 px images each. Read only."""
    root = tmp_path_factory.mktemp("data") / "flowers"
    return draw_flowers(root, per_class=12, size=64, species=("daisy", "lavender", "tulip"))


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make class folders of noise images, e.g. ``image_folder(a=3, b=3)`` or ``image_folder(**{"train/a": 2})``."""

    def make(**counts: int) -> Path:
        root = tmp_path / "images"
        random = np.random.default_rng(0)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{number}.jpg")
        return root

    return make


@pytest.fixture(scope="session")
def trained_run(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over two phases, made by the command line. Read only."""
    run = tmp_path_factory.mktemp("runs") / "flowers"
    phases = "phases=[{train: head, epochs: 2, lr: 1e-2}, {train: stage7, epochs: 1, lr: 1e-3, batch_size: 4}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", phases, *TINY]) == 0
    return run

"""The images that the runs of version 0.1 were trained on, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"coral": (220, 110, 90), "moss": (110, 150, 80), "slate": (90, 110, 160)}
COUNTS = {"train": 10, "val": 3, "test": 4}
SIDE = 40


def make_images(folder: Path) -> None:
    """Write ``FOLDER/PART/CLASS/NN.png``."""
    # Whole numbers of a generator whose stream NumPy promises to keep: no rounding that a machine could do otherwise.
    random = np.random.RandomState(0)
    for part, count in COUNTS.items():
        for name, colour in CLASSES.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                noise = random.randint(-40, 41, (SIDE // 4, SIDE // 4, 3)).repeat(4, 0).repeat(4, 1)
                pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number:02d}.png")

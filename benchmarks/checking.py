"""How long ``effnet-ft check --quick`` takes on many images: read once, compared with all others.

    python benchmarks/checking.py [--images 20000]

The images are blends of two crops of drawn flowers, 256 px, JPEG, written to a temporary folder; the cache is empty,
and then what the first run left. Wall time of whole processes, imports included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from effnet_ft.data.demo_flowers import SPECIES, draw_flower

DRAWN, SIDE, CLASSES = 160, 384, 20


def write_images(root: Path, count: int) -> None:
    drawn = [
        draw_flower(SPECIES[index % len(SPECIES)], np.random.default_rng([9, index]), SIDE) for index in range(DRAWN)
    ]
    random = np.random.default_rng(1)

    def crop() -> np.ndarray:
        side = int(random.integers(200, SIDE))
        top, left = random.integers(0, SIDE + 1 - side, 2)
        image = drawn[random.integers(DRAWN)][top : top + side, left : left + side]
        return cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)[:, :: random.choice([-1, 1])]

    for index in range(count):
        share = random.uniform(0.25, 0.75)
        folder = root / f"c{index % CLASSES:02}"
        folder.mkdir(parents=True, exist_ok=True)
        image = (share * crop() + (1 - share) * crop()).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index:05}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "images")
        write_images(root, options.images)
        command = [sys.executable, "-m", "effnet_ft", "check", str(root), "--quick", "--out", str(Path(folder, "page"))]
        environment = {**os.environ, "EFFNET_FT_CACHE": str(Path(folder, "cache"))}
        for name in ("first", "again"):
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            print(f"{name}: {seconds:.1f} s, {options.images / seconds:,.0f} images/s; {done.stdout.splitlines()[-1]}")


if __name__ == "__main__":
    main()

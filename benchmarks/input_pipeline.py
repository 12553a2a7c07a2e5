"""Images a second of one core, from JPEG files of 500 x 375 px to augmented uint8 batches of 224 px.

    python benchmarks/input_pipeline.py [FOLDER]        # of photographs, which are brought to that size first

timm as its loader does it for its prefetcher: Pillow, ``create_transform`` (random resized crop, mirror image),
``fast_collate``. Ours: the training batches of the DataModule, from files and from decoded images kept on disk. No
reading processes, one core; each side in a process of its own, in turn; medians of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from common import Table, in_process, machine, peak_mib
from PIL import Image, ImageOps

BATCH = 32


def of_timm(files: list[Path], folder: Path) -> Iterator[int]:
    import timm.data
    from timm.data.loader import fast_collate

    transform = timm.data.create_transform(224, is_training=True, auto_augment=None, use_prefetcher=True)
    while True:
        for start in range(0, len(files), BATCH):
            items = []
            for path in files[start : start + BATCH]:
                with Image.open(path) as image:
                    items.append((transform(image.convert("RGB")), 0))
            images, _ = fast_collate(items)
            assert images.dtype == torch.uint8
            yield len(images)


def of_ours(files: list[Path], folder: Path, decoded: bool) -> Iterator[int]:
    from effnet_ft.data.datamodule import ImageDataModule
    from effnet_ft.data.images.decoded_store import decoded_for_training
    from effnet_ft.data.sources.source import Sample
    from effnet_ft.data.splits.split import Split
    from effnet_ft.preprocessing import Preprocessing
    from effnet_ft.utils.array_cache import ArrayCache

    samples = [Sample(str(path), "a") for path in files]
    kept = decoded_for_training(Path("/"), samples, 224, ArrayCache(folder), 10**10) if decoded else None
    split = Split(Path("/"), ("a",), samples, samples[:1], [])
    data = ImageDataModule(split, Preprocessing(224, 256), batch_size=BATCH, decoded=(kept, None))
    loader = data.train_dataloader()
    while True:
        for images, _ in loader:
            yield len(images)


SIDES = {
    "timm": of_timm,
    "effnet_ft, files": lambda files, folder: of_ours(files, folder, False),
    "effnet_ft, decoded": lambda files, folder: of_ours(files, folder, True),
}


def photographs(folder: Path, place: Path) -> None:
    """Write the JPEG files of ``folder`` to ``place`` at 500 x 375 px, quality 90."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise SystemExit(f"{folder} holds no JPEG files")
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            ImageOps.fit(image.convert("RGB"), (500, 375)).save(place / f"{number}.jpg", quality=90)


def measure(batches: Iterator[int], seconds: float) -> dict[str, float]:
    for _ in range(4):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += next(batches)
    return {"speed": count / (time.perf_counter() - start), "memory": peak_mib()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/data/imagenet200/val"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.set_num_threads(1)
        files = sorted(options.folder.glob("*.jpg"))
        print(json.dumps(measure(SIDES[options.side](files, options.folder / "cache"), 4.0)))
        return
    title = "Input pipeline on one core: JPEG files of 500 x 375 px to uint8 batches of 224 px"
    table = Table(title, machine(), ["", "images/s", "ratio", "peak MiB"])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        photographs(options.folder, Path(folder))
        for _ in range(options.rounds):
            for name, rounds in found.items():
                rounds.append(in_process(folder, "--side", name))
    base = median(one["speed"] for one in found["timm"])
    for name, rounds in found.items():
        speed, memory = (median(one[key] for one in rounds) for key in ("speed", "memory"))
        table.row(name, f"{speed:.0f}", f"{speed / base:.2f}", f"{memory:.0f}")
    table.finish("input_pipeline")


if __name__ == "__main__":
    main()

"""Pixels that a set packs in files of its own, as PNG files: written once, without loss, then listed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effnet_ft.data.sources.published.table import PublishedSet
from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.errors import DataError

log = logging.getLogger(__name__)


def write_image_files(published: PublishedSet, parts: Mapping[str, Any], folder: Path) -> None:
    """Write pixels as PNG files in a folder for each class, numbered in the set's own order from 1.

    Args:
        published: the set.
        parts: torchvision's object of each part.
        folder: what is written, whole or not at all.

    Raises:
        DataError: where the disk does not take it.
    """
    from PIL import Image
    from tqdm import tqdm

    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    log.info("%s: unpacking its images into %s", published.title, folder)
    try:
        for part, dataset in parts.items():
            for name in dataset.classes:
                (temporary / part / name).mkdir(parents=True)
            pairs = enumerate(zip(*published.listed(dataset), strict=True), 1)
            bar = {"desc": f"unpacking {part}", "total": len(dataset), "unit": "", "leave": False, "disable": None}
            for number, (pixels, label) in tqdm(pairs, delay=2, **bar):
                Image.fromarray(pixels).save(temporary / part / dataset.classes[label] / f"{number:05}.png")
        lines = "".join(f"{name}\n" for name in parts["train"].classes)
        (temporary / "classes.txt").write_text(lines, encoding="utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"cannot unpack the images of {published.title} into {folder}: {error}") from error


def list_image_files(published: PublishedSet, folder: Path) -> Source:
    """List what :func:`write_image_files` wrote, the images of a class in their order in the set.

    Raises:
        DataError: where some of it is gone.
    """
    splits: dict[str, list[Sample]] = {}
    try:
        classes = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
        for part in published.splits:
            splits[part] = [
                Sample(f"{folder.name}/{part}/{name}/{file}", name)
                for name in classes
                for file in sorted(os.listdir(folder / part / name))
            ]
    except OSError as error:
        raise DataError(
            f"cannot list the images of {published.title}: {error}; "
            f"remove the folder {folder}, so that it is written again"
        ) from error
    return Source(folder.parent, classes, splits)

"""Converts the pickled images of a published set to PNG files, and lists them."""

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
from effnet_ft.utils.progress import progress_bar

log = logging.getLogger(__name__)


def write_image_files(published: PublishedSet, datasets: Mapping[str, Any], folder: Path) -> None:
    """Write the images of torchvision's data sets, by split, into class folders, numbered from 1; atomically.

    Raises:
        DataError: if they cannot be written.
    """
    from PIL import Image

    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    log.info("%s: unpacking its images into %s", published.title, folder)
    try:
        for split, dataset in datasets.items():
            for name in dataset.classes:
                (temporary / split / name).mkdir(parents=True)
            pairs = enumerate(zip(*published.images_and_labels(dataset), strict=True), 1)
            for number, (pixels, label) in progress_bar(f"unpacking {split}", pairs, total=len(dataset)):
                Image.fromarray(pixels).save(temporary / split / dataset.classes[label] / f"{number:05}.png")
        lines = "".join(f"{name}\n" for name in datasets["train"].classes)
        (temporary / "classes.txt").write_text(lines, encoding="utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"cannot unpack the images of {published.title} into {folder}: {error}") from error


def list_image_files(published: PublishedSet, folder: Path) -> Source:
    """List what :func:`write_image_files` wrote.

    Raises:
        DataError: if some of it is missing.
    """
    splits: dict[str, list[Sample]] = {}
    try:
        classes = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
        for split in published.splits:
            splits[split] = [
                Sample(f"{folder.name}/{split}/{name}/{file}", name)
                for name in classes
                for file in sorted(os.listdir(folder / split / name))
            ]
    except OSError as error:
        raise DataError(
            f"cannot list the images of {published.title}: {error}; "
            f"remove the folder {folder}, so that it is written again"
        ) from error
    return Source(folder.parent, classes, splits)

"""Published data sets, downloaded, checked and read with torchvision, with their official classes and splits.

CIFAR's pickles are converted once to PNG files. Birdsnap has no reader, as it is a list of image URLs: sort the images
that are still there into class folders under ``train/`` and ``test/`` and use ``source: folder``.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effnet_ft.data.sources.published.files import ensure_files, folder_lock
from effnet_ft.data.sources.published.table import PUBLISHED, PublishedSet
from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.errors import DataError
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


def read_published(name: str, root: str | Path, *, download: bool = True) -> Source:
    """Return a published set, its classes in the official order; download, check and unpack its files first if needed.

    Raises:
        DataError: if files are missing and cannot be downloaded, with what to put where; if one is damaged.
    """
    published, root = PUBLISHED[name], Path(root).expanduser()
    png_folder = root / f"{name}-png"
    if published.pickled and png_folder.is_dir():
        return _list_png_files(published, png_folder)
    if root.exists() and not root.is_dir():
        raise DataError(f"data.root is '{root}', which is a file: name the folder that {published.title} is put into")
    from torchvision import datasets

    reader = getattr(datasets, published.reader)
    base, files = root / published.base, list(published.files(reader))
    ensure_files(published, base, files, download)
    try:
        splits = {split: reader(str(root), **arguments) for split, arguments in published.splits.items()}
    except Exception as error:  # json, scipy, pickle and torchvision's own, depending on the set
        folders = " and ".join(f"{file.folder}/" for file in files if file.folder)
        raise DataError(
            f"cannot read the lists of {published.title} in {base}: {error or type(error).__name__}; "
            f"remove {folders} there, so that they are unpacked again"
        ) from error
    if published.pickled:
        with folder_lock(base):
            if not png_folder.is_dir():  # another process may have written it meanwhile
                _write_png_files(published, splits, png_folder)
        return _list_png_files(published, png_folder)
    classes = tuple(splits["train"].classes)
    samples = {
        split: [
            Sample(Path(path).relative_to(root).as_posix(), classes[label]) for path, label in published.images(data)
        ]
        for split, data in splits.items()
    }
    source = Source(root, classes, samples)
    _require_images(published, source)
    return source


def _require_images(published: PublishedSet, source: Source) -> None:
    paths = [sample.path for sample in source.part("all")]
    # Folders are listed: a stat of each of a hundred thousand files is slow on a network disk.
    folders = {path.rpartition("/")[0] for path in paths}
    present = {
        f"{name}/{file}" for name in folders if (source.root / name).is_dir() for file in os.listdir(source.root / name)
    }
    if missing := [path for path in paths if path not in present]:
        folder = source.root / os.path.commonpath(folders)
        raise DataError(
            f"not in {folder}: {len(missing)} of the {len(paths)} images of {published.title}; "
            f"remove what is there and download the set again\n{listing(missing, 3)}"
        )


def _write_png_files(published: PublishedSet, datasets: Mapping[str, Any], folder: Path) -> None:
    """Write the images of torchvision's data sets, by split, into class folders, numbered from 1; atomically."""
    from PIL import Image

    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    log.info("%s: unpacking its images into %s", published.title, folder)
    try:
        for split, dataset in datasets.items():
            for name in dataset.classes:
                (temporary / split / name).mkdir(parents=True)
            images = enumerate(published.images(dataset), 1)
            for number, (pixels, label) in progress_bar(f"unpacking {split}", images, total=len(dataset)):
                Image.fromarray(pixels).save(temporary / split / dataset.classes[label] / f"{number:05}.png")
        lines = "".join(f"{name}\n" for name in datasets["train"].classes)
        (temporary / "classes.txt").write_text(lines, encoding="utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"cannot unpack the images of {published.title} into {folder}: {error}") from error


def _list_png_files(published: PublishedSet, folder: Path) -> Source:
    try:
        classes = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
        splits = {
            split: [
                Sample(f"{folder.name}/{split}/{name}/{file}", name)
                for name in classes
                for file in sorted(os.listdir(folder / split / name))
            ]
            for split in published.splits
        }
    except OSError as error:
        raise DataError(
            f"cannot list the images of {published.title}: {error}; "
            f"remove the folder {folder}, so that it is written again"
        ) from error
    return Source(folder.parent, classes, splits)

"""Published data sets, downloaded, checked and read with torchvision, with their official classes and splits.

CIFAR's pickles are converted once to PNG files. Birdsnap has no reader, as it is a list of image URLs: sort the images
that are still there into class folders under ``train/`` and ``test/`` and use ``source: folder``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from effnet_ft.data.sources.published.files import check_hashes, ensure_files, folder_lock
from effnet_ft.data.sources.published.image_files import list_image_files, write_image_files
from effnet_ft.data.sources.published.table import PUBLISHED, PublishedSet
from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing


def read_published(name: str, root: str | Path, *, download: bool = True) -> Source:
    """Return a published set, its classes in the official order; download, check and unpack its files first if needed.

    Raises:
        DataError: if files are missing and cannot be downloaded, with what to put where; if one is damaged.
    """
    published, root = PUBLISHED[name], Path(root).expanduser()
    png_folder = root / f"{name}-png"
    if published.pickled and png_folder.is_dir():
        return list_image_files(published, png_folder)
    if root.exists() and not root.is_dir():
        raise DataError(f"data.root is '{root}', which is a file: name the folder that {published.title} is put into")
    from torchvision import datasets

    reader = getattr(datasets, published.reader)
    base, files = root / published.base, published.files(reader)
    if not all(file.is_ready(base) for file in files):
        ensure_files(published, base, files, download)
    check_hashes(base, files)
    datasets_by_split = _read(published, reader, root)
    if published.pickled:
        with folder_lock(base, name):
            if not png_folder.is_dir():  # another process may have written it meanwhile
                write_image_files(published, datasets_by_split, png_folder)
        return list_image_files(published, png_folder)
    splits, classes = {}, tuple(datasets_by_split["train"].classes)
    for split, dataset in datasets_by_split.items():
        images, labels = published.images_and_labels(dataset)
        paths = [Path(image).relative_to(root).as_posix() for image in images]
        splits[split] = [Sample(path, classes[label]) for path, label in zip(paths, labels, strict=True)]
    source = Source(root, classes, splits)
    _require_images(published, source)
    return source


def _read(published: PublishedSet, reader: Any, root: Path) -> dict[str, Any]:
    """Return torchvision's data set of every split."""
    try:
        return {split: reader(str(root), **arguments) for split, arguments in published.splits.items()}
    except Exception as error:  # json, scipy, pickle and torchvision's own, depending on the set
        folders = " and ".join(f"{file.folder}/" for file in published.files(reader) if file.folder)
        raise DataError(
            f"cannot read the lists of {published.title} in {root / published.base}: "
            f"{error or type(error).__name__}; remove {folders} there, so that they are unpacked again"
        ) from error


def _require_images(published: PublishedSet, source: Source) -> None:
    paths = [sample.path for sample in source.part("all")]
    # Folders are listed: a stat of each of a hundred thousand files is slow on a network disk.
    folders = {path.rpartition("/")[0]: set[str]() for path in paths}
    for name, present in folders.items():
        if (folder := source.root / name).is_dir():
            present.update(os.listdir(folder))
    if missing := [path for path in paths if path.rpartition("/")[2] not in folders[path.rpartition("/")[0]]]:
        folder = source.root / os.path.commonpath(folders)
        raise DataError(
            f"{len(missing)} of the {len(paths)} images of {published.title} are not in {folder}: "
            f"remove what is there and download the set again\n{listing(missing, 3)}"
        )

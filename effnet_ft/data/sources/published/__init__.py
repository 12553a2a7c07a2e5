"""Published data sets: their files are downloaded, checked and listed with torchvision's own readers.

Every set becomes a :class:`~effnet_ft.data.sources.source.Source` with its official classes, their official order and
its official splits. CIFAR's pickles are unpacked once, without loss, into PNG files, so that it is files like the rest.

Birdsnap has no reader, for its images are addresses all over the net: sort what could be had into class folders below
``train/`` and ``test/`` and take ``source: folder``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from effnet_ft.data.sources.published.files import check, ensure_files, exclusive
from effnet_ft.data.sources.published.image_files import list_image_files, write_image_files
from effnet_ft.data.sources.published.table import PUBLISHED, PublishedSet
from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing


def read_published(name: str, root: str | Path, *, download: bool = True) -> Source:
    """Return a published set, after its files were downloaded, checked and unpacked where they are not yet.

    Args:
        name: in :data:`effnet_ft.data.sources.published.table.PUBLISHED`.
        root: the folder that the set lies in or is put into.
        download: get what is not there.

    Returns:
        The images by ``train``, ``test`` and, where the set has it, ``val``; the classes in the official order.

    Raises:
        DataError: where files are missing and cannot be had, with what to put where; where one is damaged.
    """
    published, root = PUBLISHED[name], Path(root).expanduser()
    pictures = root / f"{name}-png"
    if published.packed and pictures.is_dir():
        return list_image_files(published, pictures)
    if root.exists() and not root.is_dir():
        raise DataError(f"data.root is '{root}', which is a file: name the folder that {published.title} is put into")
    from torchvision import datasets

    kind = getattr(datasets, published.kind)
    base, pieces = root / published.base, published.pieces(kind)
    if not all(piece.lies_in(base) for piece in pieces):
        ensure_files(published, base, pieces, download)
    check(published, base, pieces)
    parts = _parse(published, kind, root)
    if published.packed:
        with exclusive(base, name):
            if not pictures.is_dir():  # another process may have written them meanwhile
                write_image_files(published, parts, pictures)
        return list_image_files(published, pictures)
    splits, classes = {}, tuple(parts["train"].classes)
    for part, dataset in parts.items():
        files, numbers = published.listed(dataset)
        paths = [Path(file).relative_to(root).as_posix() for file in files]
        splits[part] = [Sample(path, classes[number]) for path, number in zip(paths, numbers, strict=True)]
    source = Source(root, classes, splits)
    _require_images(published, source)
    return source


def _parse(published: PublishedSet, kind: Any, root: Path) -> dict[str, Any]:
    """Return torchvision's object of every part."""
    try:
        return {part: kind(str(root), **choice) for part, choice in published.splits.items()}
    except Exception as error:  # json, scipy, pickle and torchvision's own: each set has lists of another kind
        folders = " and ".join(f"{piece.folder}/" for piece in published.pieces(kind) if piece.folder)
        raise DataError(
            f"cannot read the lists of {published.title} in {root / published.base}: "
            f"{error or type(error).__name__}; remove {folders} there, so that they are unpacked again"
        ) from error


def _require_images(published: PublishedSet, source: Source) -> None:
    paths = [sample.path for sample in source.part("all")]
    # Folders are listed, for to ask for a hundred thousand files one by one takes long on a network's disk.
    folders = {path.rpartition("/")[0] for path in paths}
    places = {folder: source.root / folder for folder in folders}
    present = {folder: set(os.listdir(place)) if place.is_dir() else set() for folder, place in places.items()}
    if gone := [path for path in paths if path.rpartition("/")[2] not in present[path.rpartition("/")[0]]]:
        folder = source.root / os.path.commonpath(folders)
        raise DataError(
            f"{len(gone)} of the {len(paths)} images of {published.title} are not in {folder}: "
            f"remove what is there and get the set again\n{listing(gone, 3)}"
        )

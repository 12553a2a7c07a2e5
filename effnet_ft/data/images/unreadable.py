"""Refuses or drops images that cannot be read, before they are split."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from effnet_ft.data.images.decoding import VERSION, check_size, decode_error, silence_pillow, to_rgb
from effnet_ft.data.sources.source import Source, label_names
from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache, array_key, file_stats
from effnet_ft.utils.machine_resources import usable_cores
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.text import counted, listing


def find_unreadable(root: Path, paths: Sequence[str], threads: int | None = None) -> dict[str, str]:
    """Decode files of ``root`` at the smallest scale their format allows; return why some cannot be read, by path."""

    def fault(path: str) -> str:
        try:
            with Image.open(root / path) as image:
                check_size(image)
                image.draft("L", (1, 1))  # JPEGs are decoded at an eighth: all bytes are read, few pixels computed
                to_rgb(image)
        except Exception as error:
            return decode_error(error)
        return ""

    with silence_pillow(), ThreadPoolExecutor(threads or usable_cores()) as pool:
        faults = progress_bar("checking images", pool.map(fault, paths), total=len(paths))
        return {path: reason for path, reason in zip(paths, faults, strict=True) if reason}


def drop_unreadable(source: Source, on_bad: str, cache: ArrayCache | None = None) -> tuple[Source, dict[str, str]]:
    """Return ``source`` without unreadable files, and why they cannot be read, by path.

    ``cache`` remembers that all could be read, until a file changes in size or time.

    Raises:
        DataError: if ``on_bad`` is ``error``, listing the files; if it is ``skip``, for a class without images left.
    """
    paths = [sample.path for sample in source.part("all")]
    key = array_key(readable=file_stats([source.root / path for path in paths]), decoder=VERSION) if cache else ""
    if cache and cache.stored_text(key):
        return source, {}
    reasons = find_unreadable(source.root, paths)
    if not reasons:
        if cache:
            cache.store_text(key, "all")
        return source, reasons
    lines = [f"{path}: {reason}" for path, reason in reasons.items()]
    if on_bad == "error":
        raise DataError(
            f"{counted(len(lines), 'file')} of {source.root} cannot be read: repair or remove such files, "
            f"or skip them with data.bad_images=skip\n{listing(lines)}"
        )
    readable = {}
    for split, samples in source.splits.items():
        readable[split] = [sample for sample in samples if sample.path not in reasons]
        before, after = (label_names(listed, source.multilabel) for listed in (samples, readable[split]))
        if emptied := sorted(before - after):
            raise DataError(f"no image of these classes in {split} can be read\n{listing(emptied)}")
    return replace(source, splits=readable), reasons

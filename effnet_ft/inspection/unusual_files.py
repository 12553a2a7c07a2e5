"""Readable files that may not be what their owner expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

TINY = 32
"""Short side, in pixels, below which there is little to recognise."""

NARROW = 4
"""Aspect ratio above which the central crop shows little of the image."""

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "DIB": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Suffixes of each format; other formats are not checked."""

MEANINGS = {
    "blank": "a single colour: a placeholder?",
    "tiny": f"the short side is under {TINY} px",
    "narrow": f"the long side is over {NARROW} times the short one; the central crop shows little of it",
    "wrong ending": "the suffix does not match the format; the file is read by its content",
    "animated": "several frames or pages; only the first is used",
    "transparent": "placed on white",
    "CMYK": "meant for print; converted to RGB without a colour profile",
    "over 8 bits": "scaled to 8 bits",
    "turned by EXIF": "rotated upright when read; other programs may not do so",
}
"""Kinds of unusual files and what they mean for training, the most important first."""


def find_unusual_files(paths: Sequence[str], records: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """Return path and detail of the unusual files of each kind that occurs, in the order of :data:`MEANINGS`.

    Args:
        paths: the files.
        records: :data:`effnet_ft.inspection.file_scan.FILE_RECORD` ``[N]``; unreadable files are skipped.
    """
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in MEANINGS}
    for path, record in zip(paths, records, strict=True):
        if not record["reason"]:
            for kind, detail in _kinds_of(path, record).items():
                found[kind].append((path, detail))
    return {kind: files for kind, files in found.items() if files}


def _kinds_of(path: str, record: np.void) -> dict[str, str]:
    """Return the kinds that apply to a file, each with a detail."""
    suffix = PurePosixPath(path).suffix.lower()
    form, mode = record["format"].decode(), record["mode"].decode()
    short, long = sorted((int(record["width"]), int(record["height"])))
    size = f"{record['width']} x {record['height']} px"
    kinds = {
        "blank": (record["picture"].std(axis=(0, 1)).max() < 1, size),
        "tiny": (short < TINY, size),
        "narrow": (long > NARROW * short, size),
        "wrong ending": (suffix not in _SUFFIXES.get(form, (suffix,)), f"holds {form}"),
        "animated": (record["frames"] > 1, f"{record['frames']} frames"),
        "transparent": (record["transparent"], mode),
        "CMYK": (mode == "CMYK", form),
        "over 8 bits": (record["deep"], mode),
        "turned by EXIF": (record["turned"], size),
    }
    return {kind: detail for kind, (applies, detail) in kinds.items() if applies}

"""Readable files that may not be what their owner expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

TINY = 32  # short side, in pixels, below which there is little to recognise
NARROW = 4  # aspect ratio above which the central crop shows little of the image

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

_FAMILIES = {"MPO": "JPEG", "DIB": "BMP"}  # Pillow's formats that share a suffix with another


def find_unusual_files(paths: Sequence[str], records: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """Return path and detail of the unusual files of each kind that occurs, in the order of :data:`MEANINGS`.

    ``records`` are the files' :data:`effnet_ft.inspection.file_scan.FILE_RECORD`; unreadable files are skipped.
    """
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in MEANINGS}
    for path, record in zip(paths, records, strict=True):
        if record["reason"]:
            continue
        form, mode = record["format"].decode(), record["mode"].decode()
        named = Image.registered_extensions().get(PurePosixPath(path).suffix.lower(), "another format")
        short, long = sorted((int(record["width"]), int(record["height"])))
        size = f"{record['width']} x {record['height']} px"
        kinds = {
            "blank": (record["picture"].std(axis=(0, 1)).max() < 1, size),
            "tiny": (short < TINY, size),
            "narrow": (long > NARROW * short, size),
            "wrong ending": (_FAMILIES.get(named, named) != _FAMILIES.get(form, form), f"holds {form}"),
            "animated": (record["frames"] > 1, f"{record['frames']} frames"),
            "transparent": (record["transparent"], mode),
            "CMYK": (mode == "CMYK", form),
            "over 8 bits": (record["deep"], mode),
            "turned by EXIF": (record["turned"], size),
        }
        for kind, (applies, detail) in kinds.items():
            if applies:
                found[kind].append((path, detail))
    return {kind: files for kind, files in found.items() if files}

"""Files that can be read, and yet may not be what their owner takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

TINY = 32
"""Short sides below this leave little to recognise, pixels."""

NARROW = 4
"""Long sides of so many short ones: the central crop shows little of such an image."""

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
"""How files of each format are called; of others nothing is said."""

MEANINGS = {
    "blank": "one colour all over: a placeholder?",
    "tiny": f"the short side is under {TINY} px",
    "narrow": f"the long side is over {NARROW} times the short one: the central crop shows little of it",
    "wrong ending": "the content is of another format than the name says; it is read by its content",
    "animated": "several frames or pages; the first is taken",
    "transparent": "laid on white",
    "CMYK": "meant for print; turned into RGB without a colour profile",
    "over 8 bits": "scaled to 8 bits",
    "turned by EXIF": "turned upright when it is read; other programs may not",
}
"""What each kind of oddity means for the one who trains, those that matter most first."""


def find_unusual_files(paths: Sequence[str], looks: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """Return the odd files of each kind that occurs, in the order of :data:`MEANINGS`, each with a detail.

    Args:
        paths: of the files.
        looks: what is known of them, :data:`effnet_ft.inspection.file_scan.FILE_RECORD` ``[N]``; those that
            cannot be read are passed over.
    """
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in MEANINGS}
    for path, look in zip(paths, looks, strict=True):
        if not look["reason"]:
            for kind, detail in _of_one(path, look).items():
                found[kind].append((path, detail))
    return {kind: files for kind, files in found.items() if files}


def _of_one(path: str, look: np.void) -> dict[str, str]:
    suffix = PurePosixPath(path).suffix.lower()
    kind, mode = look["format"].decode(), look["mode"].decode()
    short, long = sorted((int(look["width"]), int(look["height"])))
    size = f"{look['width']} x {look['height']} px"
    kinds = {
        "blank": (look["picture"].std(axis=(0, 1)).max() < 1, size),
        "tiny": (short < TINY, size),
        "narrow": (long > NARROW * short, size),
        "wrong ending": (suffix not in _SUFFIXES.get(kind, (suffix,)), f"holds {kind}"),
        "animated": (look["frames"] > 1, f"{look['frames']} frames"),
        "transparent": (look["transparent"], mode),
        "CMYK": (mode == "CMYK", kind),
        "over 8 bits": (look["deep"], mode),
        "turned by EXIF": (look["turned"], size),
    }
    return {name: detail for name, (holds, detail) in kinds.items() if holds}

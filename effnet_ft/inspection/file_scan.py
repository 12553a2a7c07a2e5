"""Scans every file once: its digest, header, whether it decodes, a thumbnail, and anything unusual."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import ORIENTATION, decode_error, silence_pillow, to_rgb
from effnet_ft.utils.array_cache import ArrayCache, array_key, file_stats
from effnet_ft.utils.machine_resources import usable_cores
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.text import counted

VERSION = 1  # of the record; a new number invalidates cached scans
SIDE = 32  # of the thumbnails, pixels

FILE_RECORD = np.dtype(
    [
        ("digest", "S64"),  # SHA-256 of the content
        ("reason", "S200"),  # why it cannot be read, or empty; all that follows is for readable files only
        ("format", "S8"),  # Pillow's name
        ("mode", "S8"),  # Pillow's name
        ("width", "i4"),  # as stored, pixels
        ("height", "i4"),
        ("frames", "i4"),
        ("turned", "?"),  # rotated or mirrored by EXIF
        ("transparent", "?"),
        ("deep", "?"),  # more than 8 bits per channel
        ("picture", "u1", (SIDE, SIDE, 3)),  # RGB thumbnail, squeezed to a square
    ]
)
"""The scan of a file."""

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


def scan_files(paths: Sequence[Path], cache: ArrayCache) -> np.ndarray:
    """Return the :data:`FILE_RECORD` of each file, ``[N]``.

    ``cache`` stores the scan until a file changes in size or modification time.
    """
    key = array_key(version=VERSION, looks=file_stats(paths))
    if (cached := cache.open(key)) is not None:
        return cached
    records = np.zeros(len(paths), FILE_RECORD)
    with silence_pillow(), ThreadPoolExecutor(usable_cores()) as pool:
        for number, record in enumerate(progress_bar("scanning files", pool.map(_scan, paths), total=len(paths))):
            records[number] = record
    with (
        suppress(OSError),
        cache.create(key, records.shape, FILE_RECORD, f"scan of {counted(len(paths), 'file')}") as array,
    ):
        array[:] = records
    return records


def _scan(path: Path) -> np.ndarray:
    import cv2

    record = np.zeros((), FILE_RECORD)
    try:
        content = path.read_bytes()
        record["digest"] = hashlib.sha256(content).hexdigest()
        with Image.open(BytesIO(content)) as image:
            form, mode = image.format or "", image.mode
            record["format"], record["mode"] = form.encode(), mode.encode()
            record["width"], record["height"] = image.size
            record["transparent"] = "A" in image.getbands() or "transparency" in image.info
            # Pillow opens a 16-bit RGB PNG as 8-bit; byte 24 of a PNG is its bit depth.
            record["deep"] = mode in ("I", "F") or mode.startswith("I;16") or (form == "PNG" and content[24] == 16)
            with suppress(Exception):  # broken later frames or EXIF do not matter
                # A phone's MPO holds further pictures, such as a depth map, but is not animated.
                record["frames"] = 1 if form == "MPO" else getattr(image, "n_frames", 1)
                record["turned"] = image.getexif().get(ORIENTATION, 1) != 1
            image.draft(None, (2 * SIDE, 2 * SIDE))  # a JPEG is decoded at reduced size, which still reads every byte
            record["picture"] = cv2.resize(to_rgb(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    except Exception as error:  # Pillow's plugins raise many kinds, struct.error and SyntaxError among them
        record["reason"] = decode_error(error).encode("utf-8", "replace")[:200]
    return record


def find_unusual_files(paths: Sequence[str], records: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """Return path and detail of the unusual files of each kind that occurs, in the order of :data:`MEANINGS`.

    ``records`` are the files' :data:`FILE_RECORD`; unreadable files are skipped.
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

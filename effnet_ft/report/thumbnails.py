"""Images as a page carries them: small, and inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import read_downscaled
from effnet_ft.errors import DataError

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

THUMBNAIL_SIDE = 144
"""Longest side of a picture in the page, pixels."""


class Thumbnails:
    """The images of a run as data URIs.

    Args:
        root: the folder that their paths are relative to; None shows none of them.
        predictor: the run's model; None where it cannot be had.
    """

    def __init__(self, root: Path | None = None, predictor: Predictor | None = None) -> None:
        self.root = root
        self.predictor = predictor
        self._kept: dict[str, str] = {}

    def thumbnail(self, path: str) -> str:
        """Return an image's data URI, an empty text where there is none to show."""
        if path not in self._kept:
            self._kept[path] = self._read(path)
        return self._kept[path]

    def explained(self, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return what the network sees of images and where it looks for the likeliest class, as data URIs by path.

        Images that cannot be read are left out.
        """
        files = {path: file for path in paths if self.thumbnail(path) and (file := self.file(path))}
        if not files or self.predictor is None:
            return {}
        shown = self.predictor.explain(list(files.values()))
        return {path: (as_uri(each.view), as_uri(each.overlay())) for path, each in zip(files, shown, strict=True)}

    def file(self, path: str) -> Path | None:
        """Return where an image of the run lies; None where that is not known, or it is gone."""
        # A page that is passed on must hold no image from outside the data set.
        if self.root is None or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return None
        try:
            file = self.root / path
            return file if file.is_file() else None
        except ValueError:  # a null character
            return None

    def _read(self, path: str) -> str:
        file = self.file(path)
        try:
            return "" if file is None else as_uri(read_downscaled(file, THUMBNAIL_SIDE))
        except DataError:
            return ""


def as_uri(pixels: np.ndarray) -> str:
    """Return uint8 ``[height, width, 3]`` as the data URI of a JPEG whose sides are ``THUMBNAIL_SIDE`` at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Small pictures of images, inside the page as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import read_image
from effnet_ft.errors import DataError

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

THUMBNAIL_SIDE = 144  # longest side of a picture in the page, pixels


class Thumbnails:
    """The images of a run as data URIs.

    Args:
        root: the folder that their paths are relative to; None where it is not known.
        predictor: the run's model; None where it cannot be loaded.
    """

    def __init__(self, root: Path | None = None, predictor: Predictor | None = None) -> None:
        self.root = root
        self.predictor = predictor
        self._cache: dict[str, str] = {}

    def thumbnail(self, path: str) -> str:
        """Return an image's data URI; empty where it cannot be read."""
        if path not in self._cache:
            self._cache[path] = ""
            if file := self.file(path):
                with suppress(DataError):
                    self._cache[path] = as_uri(read_image(file, THUMBNAIL_SIDE))
        return self._cache[path]

    def readable(self, paths: Sequence[str]) -> dict[str, Path]:
        """Return by path the files of those images that can be read."""
        return {path: file for path in paths if self.thumbnail(path) and (file := self.file(path))}

    def gradcam(self, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return by path what the network sees of each readable image, and its Grad-CAM, as data URIs."""
        files = self.readable(paths)
        if not files or self.predictor is None:
            return {}
        shown = self.predictor.explain(list(files.values()))
        return {path: (as_uri(each.view), as_uri(each.overlay())) for path, each in zip(files, shown, strict=True)}

    def file(self, path: str) -> Path | None:
        """Return the file of an image; None where it is missing or lies outside ``root``."""
        # A page that is passed on must hold no image from outside the data set.
        if self.root is None or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            return None
        try:
            file = self.root / path
            return file if file.is_file() else None
        except ValueError:  # a null character
            return None


def as_uri(pixels: np.ndarray) -> str:
    """Return uint8 ``[height, width, 3]`` as the data URI of a JPEG whose sides are ``THUMBNAIL_SIDE`` at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

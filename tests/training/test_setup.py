"""What is told of the images before a training: what it leaves out, and classes that may not be those meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effnet_ft.recipe import load_recipe
from effnet_ft.training.setup import split_images


def told_of(root: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Divide the images of ``root``, and return the warnings."""
    with caplog.at_level("WARNING"):
        split_images(load_recipe("folder", [f"data.root={root}"]))
    return [record.getMessage() for record in caplog.records]


def test_photographs_of_a_telephone_are_told_apart_from_other_files(
    image_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = image_folder(a=3, b=3)
    for name in ("IMG_1.HEIC", "notes.txt"):
        (root / "a" / name).touch()
    assert told_of(root, caplog) == [
        "skipping 1 photograph of an unsupported format: save as JPEG\n  a/IMG_1.HEIC",
        "ignoring 1 file or folder that cannot be images of a class\n  a/notes.txt",
    ]


def test_classes_that_lie_one_folder_further_in_are_told(
    image_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    (told,) = told_of(image_folder(**{"2023/daisy": 2, "2023/rose": 2, "2024/daisy": 2, "2024/rose": 2}), caplog)
    assert told == (
        "class folders have no images of their own: the classes are the outer folders\n  2023\n  2024\n"
        "not the inner ones\n  daisy\n  rose"
    )

"""Numbers in sentences."""

from __future__ import annotations

import pytest

from effnet_ft.utils.text import counted, magnitude


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (2000, ("image",), "2,000 images"),
        (1, ("class",), "1 class"),
        (2, ("class",), "2 classes"),
        (1, ("file or folder", "files and folders"), "1 file or folder"),
        (3, ("file or folder", "files and folders"), "3 files and folders"),
    ],
)
def test_counted(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (5, "5"),
        (999, "999"),
        (3843, "3.84 thousand"),
        (999_499, "999 thousand"),
        (999_500, "1 million"),
        (3_393_019, "3.39 million"),
    ],
)
def test_large_numbers_have_a_unit(count: int, text: str) -> None:
    assert magnitude(count) == text


def test_plurals() -> None:
    words = {"image": "images", "class": "classes", "batch": "batches", "epoch": "epochs", "process": "processes"}
    assert {word: counted(2, word) for word in words} == {word: f"2 {many}" for word, many in words.items()}

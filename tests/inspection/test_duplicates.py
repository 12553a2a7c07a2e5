"""Copies of drawn flowers are found however they were changed; other flowers of the species are no copies."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from effnet_ft.inspection import duplicates
from effnet_ft.inspection.duplicates import find_duplicates, signatures
from effnet_ft.inspection.file_scan import FILE_RECORD, SIDE


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda image: image.resize((40, 40), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((150, 150), Image.Resampling.BICUBIC),
    "recompressed": recompressed,
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
}


def records_of(images: list[Image.Image]) -> np.ndarray:
    """Return records with thumbnails, and digests that all differ."""
    records = np.zeros(len(images), FILE_RECORD)
    records["digest"] = [str(number) for number in range(len(images))]
    records["picture"] = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    return records


@pytest.fixture(scope="module")
def drawn(flowers: Path) -> list[Image.Image]:
    return [Image.open(path) for path in sorted(flowers.rglob("*.jpg"))]


@pytest.mark.parametrize("how", CHANGES)
def test_copies_are_found_and_nothing_else(how: str, drawn: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 7)  # pairs within a block, and in different ones
    count = len(drawn)
    numbers = find_duplicates(records_of([*drawn, *map(CHANGES[how], drawn)]), None)
    assert (numbers[:count] == numbers[count:]).all()
    assert len(set(numbers.tolist())) == count


def test_mirror_signatures_are_those_of_mirror_images(drawn: list[Image.Image]) -> None:
    pictures = records_of(drawn)["picture"]
    mirrored = signatures(pictures)[1]
    np.testing.assert_allclose(mirrored, signatures(pictures[:, :, ::-1])[0], atol=1e-5)


def test_files_of_one_content_are_copies_even_where_blank_images_are_not() -> None:
    records = records_of([Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "green", "blue")])
    records["digest"][2] = records["digest"][1]
    numbers = find_duplicates(records, None)
    assert numbers[1] == numbers[2]
    assert len(set(numbers.tolist())) == 3


def test_features_find_cropped_copies_and_refute_others(drawn: list[Image.Image]) -> None:
    cropped = drawn[0].crop((2, 2, 62, 62)).resize((90, 90))
    records = records_of([*drawn, cropped, ImageOps.mirror(drawn[1])])
    features = np.eye(len(records), dtype=np.float16)
    features[-2] = features[0]
    numbers = find_duplicates(records, features)
    assert numbers[0] == numbers[-2], "cropped, of like features"
    assert numbers[1] != numbers[-1], "alike, of unlike features"
    assert len(set(numbers.tolist())) == len(records) - 1

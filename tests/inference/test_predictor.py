"""What a program may hand to the predictor, and what it is told of everything else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_models import CLASSES, drawn
from PIL import Image

from effnet_ft.errors import DataError
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.variants import VARIANTS

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "lite0", replace(VARIANTS["lite0"], depth=0.1))
        return Predictor(drawn("lite0"), "cpu")


def content(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form)
    return file.getvalue()


class Stack:
    """A data set in a file: not an array, but it knows how to become one."""

    ndim = 4

    def __init__(self, count: int) -> None:
        self.count = count

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise AssertionError("all images are asked for at once")

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter([PIXELS] * self.count)


def test_one_image_or_any_row_of_them(predictor: Predictor) -> None:
    (expected,) = predictor.predict(PIXELS)
    assert {name for name, _ in expected} == set(CLASSES)
    assert len({round(probability, 3) for _, probability in expected}) == len(CLASSES), "any image would do"
    upload = Image.open(io.BytesIO(content("PNG")))
    for images in (upload, [upload], (image for image in (PIXELS,)), {1: PIXELS}.values()):
        assert predictor.predict(images) == [expected]
    for row in predictor.predict(Stack(2)):  # processors have other kernels for two images than for one
        assert [name for name, _ in row] == [name for name, _ in expected]
        assert [probability for _, probability in row] == pytest.approx([value for _, value in expected], abs=1e-5)
    assert predictor.predict([]) == predictor.explain([]) == []
    explained = predictor.explain([PIXELS, PIXELS], (name for name in CLASSES[:2]))
    assert [explanation.name for explanation in explained] == list(CLASSES[:2])


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (content("PNG"), "bytes"),
        (io.BytesIO(content("PNG")), "BytesIO"),
        (torch.from_numpy(PIXELS), "Tensor"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_named_by_its_kind(predictor: Predictor, images: object, kind: str) -> None:
    for asked in (images, [images]):
        with pytest.raises(DataError, match=f"cannot read a {kind} as an image: .*BytesIO"):
            predictor.predict(asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_upload_that_is_cut_short_is_the_users_fault(predictor: Predictor, form: str) -> None:
    whole = content(form)

    def cut() -> Image.Image:  # its header can be read, its pixels cannot
        return Image.open(io.BytesIO(whole[: len(whole) // 2]))

    with pytest.raises(DataError, match="cannot read a Pillow image: "):
        predictor.predict([PIXELS, cut()])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda some: some.predict(PIXELS[:0]), r"got uint8 \(0, 70, 3\)"),
        (lambda some: some.predict(PIXELS / 255), r"must be uint8 .* got float64 \(90, 70, 3\)"),
        (lambda some: some.predict(PIXELS.transpose(2, 0, 1)), r"must be uint8 \[H, W, 3\] .* \(3, 90, 70\)"),
        (lambda some: some.predict(PIXELS, views="three"), "views is 'three', expected one of one, mirror, five"),
        (lambda some: some.predict(PIXELS, top_k=0), "top_k is 0"),
    ],
    ids=["empty", "float", "channels first", "views", "top_k"],
)
def test_a_programs_mistakes(predictor: Predictor, call: Callable[[Predictor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(predictor)

"""The evaluation view against torchvision's and OpenMMLab's, on images of every shape, and its way to the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny import TINY
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.evaluation.targets import evaluate_recipe
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.creation import create_model
from effnet_ft.models.weights.table import WEIGHTS
from effnet_ft.planning.weights import choose_weights
from effnet_ft.preprocessing import _FILTERS, CROPS, Preprocessing
from effnet_ft.recipe import load_recipe

RECORDS = pytest.mark.parametrize("known", [record.preprocessing for record in WEIGHTS.values()], ids=WEIGHTS)


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, uint8 ``[height, width, 3]``.

    None is near black or white, where it matters whether Pillow resizes across or down first: it clips in between.
    """
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(60, 196, (8, 8, 3), np.uint8)).resize((width, height))
    return (np.asarray(coarse, int) + random.integers(-15, 16, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("interpolation", _FILTERS)
@pytest.mark.parametrize("size", [(97, 131), (131, 97), (333, 500), (64, 65), (31, 17), (40, 200), (83, 83), (203, 71)])
@pytest.mark.parametrize("record", [(64, 73), (65, 72), (64, 64), (60, 93)])
def test_equals_torchvision(record: tuple[int, int], size: tuple[int, int], interpolation: str) -> None:
    side, resize = record
    image = photograph(*size)
    filters = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    reference = Compose([Resize(resize, filters[interpolation], antialias=True), CenterCrop(side)])
    expected = np.asarray(reference(Image.fromarray(image)), int)
    ours = Preprocessing(size=side, resize=resize, interpolation=interpolation)(image)
    assert ours.dtype == np.uint8 and ours.shape == (side, side, 3)
    assert np.abs(ours - expected).max() <= 1


def openmmlab(image: np.ndarray, size: int) -> np.ndarray:
    """Do as mmpretrain's EfficientNetCenterCrop with crop_padding=32, whose box has its last pixel inside."""
    height, width = image.shape[:2]
    side = size / (size + 32) * min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    bottom, right = int(top + side - 1), int(left + side - 1)
    return cv2.resize(image[top : bottom + 1, left : right + 1], (size, size), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (333, 500), (500, 375), (65, 64), (40, 200), (83, 83), (2, 3)])
@pytest.mark.parametrize("side", [32, 65, 224])
def test_equals_openmmlab(side: int, size: tuple[int, int]) -> None:
    image = photograph(*size)
    ours = Preprocessing(side, side + 32, crop="openmmlab")(image)
    assert ours.dtype == np.uint8 and ours.shape == (side, side, 3)
    assert np.array_equal(ours, openmmlab(image, side))


def test_openmmlabs_crop_alone() -> None:
    image = photograph(96, 131)  # two thirds of 96 are 64: nothing is resized
    for interpolation in _FILTERS:
        view = Preprocessing(64, 96, interpolation, "openmmlab")
        assert np.array_equal(view(image), image[16:80, 34:98])  # 33.5 is rounded to even
        assert np.array_equal(view(image.transpose(1, 0, 2)), image[16:80, 34:98].transpose(1, 0, 2))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5000, 20), (20, 5000), (2, 3)])
def test_tiny_and_elongated_images(size: tuple[int, int], crop: str) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    image[size[0] // 2, size[1] // 2] = 199
    view = Preprocessing(size=224, resize=256, crop=crop)(image)
    assert view.shape == (224, 224, 3)
    assert abs(view.astype(int) - 200).max() <= 1


@RECORDS
@pytest.mark.parametrize("size", [32, 65, 224, 601])
def test_another_size_keeps_the_cropped_share(known: Preprocessing, size: int) -> None:
    other = known.at_size(size)
    assert other.size == size
    assert other.resize == pytest.approx(size * known.resize / known.size, abs=0.5)
    assert (other.interpolation, other.mean, other.std) == (known.interpolation, known.mean, known.std)
    assert known.at_size(known.size) == known
    assert other.crop == known.crop


@RECORDS
def test_sizes_on_the_way_leave_no_trace(known: Preprocessing) -> None:
    by_way = Preprocessing.from_dict(known.at_size(96).to_dict()).at_size(65).at_size(known.size)
    assert by_way == known


@RECORDS
@pytest.mark.parametrize("crop", CROPS)
def test_another_crop_changes_nothing_else(known: Preprocessing, crop: str) -> None:
    other = known.at_size(known.size, crop)
    assert other.crop == crop
    assert {**other.to_dict(), "crop": known.crop} == known.to_dict()


@RECORDS
def test_dict_round_trip(known: Preprocessing) -> None:
    plain = known.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert Preprocessing.from_dict(plain) == known


def test_dict_of_a_checkpoint_from_before_there_were_crops() -> None:
    plain = {"size": 64, "resize": 80, "interpolation": "bilinear", "mean": [1, 2, 3], "std": [4, 5, 6]}
    assert Preprocessing.from_dict(plain) == Preprocessing(64, 80, "bilinear", "timm", (1, 2, 3), (4, 5, 6))


# The recipe's data.crop


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("crop", [None, "auto", *CROPS])
def test_the_recipes_crop_is_that_of_the_weights_or_as_set(name: str, crop: str | None) -> None:
    variant, weights = name.split("/")
    settings = [f"model.variant={variant}", f"model.weights={weights}", *([f"data.crop={crop}"] if crop else [])]
    recipe = load_recipe("imagenet_eval", settings)
    own = WEIGHTS[name].preprocessing.crop
    assert choose_weights(recipe.model, recipe.data).crop == (crop if crop in CROPS else own)


@pytest.mark.parametrize("crop", ["auto", *CROPS])
def test_evaluation_crops_as_the_recipe_says(image_folder: Callable[..., Path], crop: str) -> None:
    classes = imagenet_classes()
    root = image_folder(**{classes[0]: 2, classes[1]: 2})
    evaluation = evaluate_recipe("imagenet_eval", [f"data.root={root}", "data.image_size=64", f"data.crop={crop}"])
    paths = [root / sample.path for sample in evaluation.samples]
    answers = {}
    for other in CROPS:
        model = create_model("lite0")
        model.preprocessing = model.preprocessing.at_size(64, other)
        answers[other] = Predictor(model).probabilities(paths)
    same = {name: np.allclose(expected, evaluation.probabilities, atol=1e-5) for name, expected in answers.items()}
    assert same == {name: name == ("timm" if crop == "auto" else crop) for name in CROPS}


@pytest.mark.parametrize("crop", CROPS)
def test_a_trained_model_keeps_the_recipes_crop(image_folder: Callable[..., Path], tmp_path: Path, crop: str) -> None:
    settings = [f"data.root={image_folder(a=4, b=4)}", f"run_dir={tmp_path / 'run'}", *TINY, f"data.crop={crop}"]
    assert main(["train", "folder", *settings, "phases=[{train: head, epochs: 1, lr: 1e-3}]"]) == 0
    assert effnet_ft.load(tmp_path / "run").preprocessing.crop == crop

"""Grad-CAM: the closed form of a linear head, heat where the evidence is, and files that nothing is written over."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.errors import DataError
from effnet_ft.inference.gradcam import Explanation, gradcam
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier


def images(count: int = 3, side: int = 96) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def classifier(head: str = "linear", **settings: object) -> Classifier:
    """Return a network with random weights whose last maps are alive."""
    torch.manual_seed(0)
    model = Classifier("lite0", classes="abcd", head=head, **settings)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        nn.init.normal_(norm.bias, std=0.2)
    with torch.no_grad():
        model.train()(images().float())
    return model.eval()


def heat_maps(model: Classifier, batch: Tensor, classes: Sequence[int] | None = None) -> np.ndarray:
    """Return Grad-CAM of images ``[N, 3, H, W]``, ``[N, H, W]``."""
    with torch.no_grad():
        maps = model.maps(batch)
    return gradcam(model, maps, batch.shape[2:], classes)[0]


def whole_gradient(model: Classifier, batch: Tensor, classes: Sequence[int]) -> np.ndarray:
    """Return the paper's formula, gradients of every place of the map included, at the map's own size."""
    with torch.no_grad():
        maps = model.maps(batch)
    maps.requires_grad_()
    logits = model.head(maps.mean((2, 3)))
    (gradient,) = torch.autograd.grad(logits[range(len(batch)), list(classes)].sum(), maps)
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach().numpy()


def test_of_a_linear_head_it_is_the_class_activation_map() -> None:
    model, batch = classifier(), images()
    classes = [3, 1, 3]
    with torch.no_grad():
        maps = model.maps(batch)
        expected = torch.einsum("nchw,nc->nhw", maps, model.head[1].weight[classes]).relu()
        expected = F.interpolate(expected[:, None], size=(96, 96), mode="bilinear")[:, 0]
    expected /= expected.amax((1, 2), keepdim=True)
    found = heat_maps(model, batch, classes)
    assert found.dtype == np.float32 and found.shape == (3, 96, 96)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std((1, 2)).min() > 0.05


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_of_other_heads_it_is_the_papers_formula(head: str) -> None:
    model, batch = classifier(head), images(2)
    expected = whole_gradient(model, batch, [0, 2])
    expected /= expected.max((1, 2), keepdims=True)
    found = heat_maps(model, batch, [0, 2])
    stretched = F.interpolate(torch.from_numpy(expected)[:, None], size=(96, 96), mode="bilinear")[:, 0].numpy()
    np.testing.assert_allclose(found, stretched / stretched.max((1, 2), keepdims=True), atol=1e-4)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_without_classes_it_is_that_of_the_likeliest(task: str) -> None:
    model, batch = classifier(task=task), images()
    with torch.no_grad():
        likeliest = model(batch).argmax(1).tolist()
    np.testing.assert_array_equal(heat_maps(model, batch), heat_maps(model, batch, likeliest))
    others = [(number + 1) % 4 for number in likeliest]
    assert not np.allclose(heat_maps(model, batch), heat_maps(model, batch, others), atol=0.1)


def test_a_frozen_model_is_explained_and_left_as_it_was() -> None:
    model = classifier()
    expected = heat_maps(model, images())
    model.requires_grad_(False)
    with torch.inference_mode():
        np.testing.assert_array_equal(heat_maps(model, images()), expected)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_where_nothing_speaks_for_a_class_there_is_no_heat() -> None:
    model = classifier()
    with torch.no_grad():
        model.head[1].weight[2] = -1  # ReLU6 leaves no value of the maps below 0
    assert not heat_maps(model, images(), [2] * 3).any()


class Redness(nn.Module):
    """Stages whose map of one channel is how red a place is, in cells of 8 by 8 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d((x[:, :1] - x[:, 1:].amax(1, keepdim=True)).relu(), 8)


def test_heat_lies_where_the_evidence_is() -> None:
    model = Classifier("lite0", classes=["red", "other"]).eval()
    model.stages, model.head = nn.Sequential(Redness()), nn.Sequential(nn.Linear(1, 2, bias=False))
    nn.init.constant_(model.head[0].weight[0], 1.0)
    nn.init.constant_(model.head[0].weight[1], -1.0)
    scene = torch.full((1, 3, 96, 96), 90, dtype=torch.uint8)
    scene[0, 0, 16:40, 56:88] = 250
    (heat,) = heat_maps(model, scene, [0])
    inside = np.zeros((96, 96), bool)
    inside[16:40, 56:88] = True
    assert heat[inside].mean() > 0.8 and heat[~inside].mean() < 0.05
    down, across = np.unravel_index(heat.argmax(), heat.shape)
    assert inside[down, across]


def test_the_overlay_colours_the_heat_and_leaves_the_rest() -> None:
    image, heat = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), np.float32)
    image[-4:] = (250, 10, 10)
    heat[:20] = 0.7
    laid = Explanation("red", 1.0, image, heat).overlay()
    assert laid.dtype == np.uint8 and laid.shape == (40, 60, 3)
    assert (laid[-12:-4] == 100).all()
    red, green, blue = laid[0, 0].astype(int)
    assert red > 170 > green > blue  # orange: channels in another order would be blue
    red, green, blue = laid[-1, 0].astype(int)
    assert red > green == blue


def test_the_predictor_explains_what_it_predicts(trained_run: Path, flowers: Path) -> None:
    predictor = effnet_ft.load(trained_run)
    paths = sorted((flowers / "tulip").iterdir())[:3]
    answers = predictor.predict(paths, top_k=1)
    found = predictor.explain(paths)
    for path, [(name, probability)], explanation in zip(paths, answers, found, strict=True):
        assert (explanation.name, explanation.probability) == (name, pytest.approx(probability, abs=1e-5))
        np.testing.assert_array_equal(explanation.view, predictor.preprocessing(np.asarray(Image.open(path))))
        assert explanation.heat.shape == explanation.view.shape[:2] and explanation.heat.max() == 1
    views = torch.from_numpy(np.stack([explanation.view for explanation in found])).permute(0, 3, 1, 2)
    again = heat_maps(fold_batchnorm(predictor.model), views)
    np.testing.assert_allclose([explanation.heat for explanation in found], again, atol=1e-4)
    daisies = predictor.explain(paths, "daisy")
    mixed = predictor.explain(paths, ["lavender", "daisy", "tulip"])
    assert [explanation.name for explanation in mixed] == ["lavender", "daisy", "tulip"]
    np.testing.assert_array_equal(mixed[1].heat, daisies[1].heat)
    np.testing.assert_array_equal(mixed[2].heat, found[2].heat)
    assert not np.allclose(mixed[2].heat, daisies[2].heat, atol=0.1)
    with pytest.raises(DataError, match="no class 'dasy'; did you mean 'daisy'"):
        predictor.explain(paths, "dasy")
    with pytest.raises(ValueError, match="2 classes for 3 images"):
        predictor.explain(paths, ["daisy", "tulip"])


def test_the_command_writes_over_nothing(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "new" / "out", tmp_path / "other"
    other.mkdir()
    Image.open(next((flowers / "tulip").glob("000*"))).save(other / "same.png")
    Image.open(next((flowers / "daisy").glob("000*"))).save(tmp_path / "same.png")
    (tmp_path / "broken.jpg").write_text("no image")
    before = (tmp_path / "same.png").read_bytes()
    command = ["explain", str(trained_run), str(tmp_path / "same.png"), str(other), str(tmp_path / "broken.jpg")]
    assert main([*command, "--class", "tulip", "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err
    rows = list(csv.DictReader(captured.out.splitlines()))
    assert [row["path"] for row in rows] == [str(tmp_path / "same.png"), str(other / "same.png")]
    assert [row["overlay"] for row in rows] == [str(out / "same.png"), str(out / "same-2.png")]
    assert {row["class"] for row in rows} == {"tulip"}
    (explanation,) = Predictor(effnet_ft.load(trained_run).model).explain(other / "same.png", "tulip")
    written = np.asarray(Image.open(out / "same-2.png")).astype(int)
    assert np.abs(written - explanation.overlay()).max() <= 1  # batches of other sizes differ by rounding
    assert main(["explain", str(trained_run), str(tmp_path / "same.png"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "same.png").read_bytes() == before and (tmp_path / "same-2.png").is_file()


def test_mistakes_of_the_command(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next((flowers / "tulip").iterdir()))
    assert main(["explain", str(trained_run), image, "--class", "tulp", "--out", str(tmp_path / "out")]) == 2
    assert "did you mean 'tulip'" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    assert main(["explain", str(trained_run), image, "--out", str(tmp_path / "file")]) == 2
    assert "cannot write overlays" in capsys.readouterr().err

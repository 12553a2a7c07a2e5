"""Intervals around the metrics themselves, as wide as theory says, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from effnet_ft.results import bootstrap
from effnet_ft.results.bootstrap import class_intervals, label_intervals, resampled
from effnet_ft.results.metrics import classification_metrics, multilabel_metrics


def classes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of seven classes, overconfident, and labels; the last class never occurs."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 7)).astype(np.float32) * 2
    logits[:, 6] = -50
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    return torch.from_numpy(2 * logits).softmax(1).numpy(), labels


def labelled(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return probabilities of four labels, rounded so that many are equal, and labels; the last label never holds."""
    random = np.random.default_rng(seed)
    p = random.random((count, 4)).round(1).astype(np.float32)
    y = (random.random((count, 4)) < p).astype(np.float32)
    y[:, 3] = 0
    return p, y, [0.5, 0.4, 0.6, 1.1]


def drawn_once(monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> np.ndarray:
    """Let every resample be one and the same; return the images in it."""
    chosen = np.random.default_rng(seed).integers(0, count, count)
    weights = np.bincount(chosen, minlength=count)[None].astype(float)
    monkeypatch.setattr(bootstrap, "resampled", lambda *_: iter([weights]))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_values_are_the_metrics_of_its_images(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = classes(60)
    chosen = drawn_once(monkeypatch, 60, seed)
    expected = classification_metrics(p[chosen], y[chosen], "x")
    for name, (low, high) in class_intervals(p, y).items():
        assert low == high == pytest.approx(expected[f"x/{name}"], abs=1e-6), name


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_values_are_the_metrics_of_its_labels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p, y, thresholds = labelled(40)
    chosen = drawn_once(monkeypatch, 40, seed)
    expected = multilabel_metrics(p[chosen], y[chosen], thresholds, "abcd", "x")
    for name, (low, high) in label_intervals(p, y, thresholds).items():
        assert low == high == pytest.approx(expected[f"x/{name}"], abs=1e-6), name
    assert expected["x/map"] < 1 and binary_average_precision(torch.ones(2), torch.tensor([0, 1])) == 0.5


def test_the_interval_of_accuracy_is_as_wide_as_the_binomials() -> None:
    p, y = classes(2000)
    low, high = class_intervals(p, y)["acc1"]
    accuracy = classification_metrics(p, y, "x")["x/acc1"]
    width = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 2000)
    assert low < accuracy < high and high - low == pytest.approx(width, rel=0.1)


def test_resamples_are_a_thousand_of_every_image_count_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 70 * 300)
    weights = np.concatenate(list(resampled(70)))
    assert weights.shape == (1000, 70) and (weights.sum(1) == 70).all()
    assert len(np.unique(weights, axis=0)) == 1000
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    np.testing.assert_array_equal(weights, np.concatenate(list(resampled(70))))
    assert class_intervals(*classes(50)) == class_intervals(*classes(50))


def test_one_image_and_one_class_have_intervals_too() -> None:
    p, y = classes(1)
    right = float(p.argmax(1)[0] == y[0])
    assert class_intervals(p, y)["acc1"] == (right, right)
    assert label_intervals(np.array([[0.5]]), np.array([[0.0]]), [0.5])["map"] == (0.0, 0.0)

"""Intervals around the metrics themselves, as wide as theory says, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from effnet_ft.evaluation import intervals
from effnet_ft.evaluation.intervals import (
    bootstrap_classes,
    bootstrap_counts,
    bootstrap_labels,
    class_intervals,
    label_intervals,
)
from effnet_ft.evaluation.metrics import classification_metrics, multilabel_metrics
from effnet_ft.evaluation.proportions import wilson_interval


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
    monkeypatch.setattr(intervals, "bootstrap_counts", lambda *_: iter([weights]))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_values_are_the_metrics_of_its_images(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = classes(60)
    chosen = drawn_once(monkeypatch, 60, seed)
    expected = classification_metrics(p[chosen], y[chosen], "x")
    for name, values in bootstrap_classes(p, y).items():
        assert values == pytest.approx([expected[f"x/{name}"]], abs=1e-6), name


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_values_are_the_metrics_of_its_labels(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p, y, thresholds = labelled(40)
    chosen = drawn_once(monkeypatch, 40, seed)
    expected = multilabel_metrics(p[chosen], y[chosen], thresholds, "abcd", "x")
    for name, values in bootstrap_labels(p, y, thresholds).items():
        assert values == pytest.approx([expected[f"x/{name}"]], abs=1e-6), name
    assert expected["x/map"] < 1 and binary_average_precision(torch.ones(2), torch.tensor([0, 1])) == 0.5


def test_the_interval_of_accuracy_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    p, y = classes(400)
    right = int((p.argmax(1) == y).sum())
    assert 0 < right < 400 and class_intervals(p, y)["acc1"] == wilson_interval(right, 400)


def test_the_interval_of_a_drawn_metric_is_where_95_of_100_draws_lie() -> None:
    p, y = classes(400)
    low, high = class_intervals(p, y)["macro_f1"]
    drawn = bootstrap_classes(p, y)["macro_f1"]
    assert [(drawn < low).mean(), (drawn > high).mean()] == pytest.approx([0.025, 0.025], abs=0.002)


@pytest.mark.parametrize("right", [0, 20])
def test_no_metric_is_certain_of_twenty_images(right: int) -> None:
    y = np.arange(20) % 2
    guessed = np.where(np.arange(20) < right, y, 1 - y)
    sure = 1 - np.random.default_rng(0).random(20) / 3
    p = np.stack([np.where(guessed == place, sure, 1 - sure) for place in (0, 1)], 1)
    found = class_intervals(p, y)
    assert set(found) == {"acc1", "ece"}, "every draw has the same macro F1"
    assert found["acc1"] == pytest.approx((0.8389, 1.0) if right else (0.0, 0.1611), abs=5e-5)


def test_labels_that_are_all_ranked_rightly_have_no_interval() -> None:
    y = np.eye(2)[np.arange(20) % 2]
    assert set(label_intervals(0.1 + 0.8 * y, y, [0.5, 0.5])) == set()


def test_resamples_are_a_thousand_of_every_image_count_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_MAX_WEIGHTS", 70 * 300)
    weights = np.concatenate(list(bootstrap_counts(70)))
    assert weights.shape == (1000, 70) and (weights.sum(1) == 70).all()
    assert len(np.unique(weights, axis=0)) == 1000
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    np.testing.assert_array_equal(weights, np.concatenate(list(bootstrap_counts(70))))
    assert class_intervals(*classes(50)) == class_intervals(*classes(50))


def test_one_image_has_an_interval_of_accuracy() -> None:
    p, y = classes(1)
    low, high = class_intervals(p, y)["acc1"]
    assert high - low == pytest.approx(0.7935, abs=5e-5) and label_intervals(p[:, :1], y[:, None] * 0, [0.5]) == {}

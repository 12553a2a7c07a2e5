"""Intervals around the metrics themselves, as wide as theory says, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from effnet_ft.evaluation import intervals
from effnet_ft.evaluation.intervals import (
    bootstrap_counts,
    class_f1,
    class_intervals,
    label_f1,
    label_intervals,
    label_precision,
    wilson_interval,
)
from effnet_ft.evaluation.metrics import classification_metrics, multilabel_metrics


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


def resampled(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images drawn with replacement, and how often each was."""
    chosen = np.random.default_rng(seed).integers(0, count, count)
    return chosen, np.bincount(chosen, minlength=count)[None].astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_value_is_the_metric_of_its_images(seed: int) -> None:
    p, y = classes(60)
    chosen, weights = resampled(60, seed)
    expected = classification_metrics(p[chosen], y[chosen], "x")
    assert class_f1(p.argmax(1), y, 7)(weights) == pytest.approx([expected["x/macro_f1"]], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_resamples_values_are_the_metrics_of_its_labels(seed: int) -> None:
    p, y, thresholds = labelled(40)
    chosen, weights = resampled(40, seed)
    expected = multilabel_metrics(p[chosen], y[chosen], thresholds, "abcd", "x")
    assert label_precision(p, y > 0.5)(weights) == pytest.approx([expected["x/map"]], abs=1e-6)
    assert label_f1(p >= np.array(thresholds), y > 0.5)(weights) == pytest.approx([expected["x/macro_f1"]], abs=1e-6)
    assert expected["x/map"] < 1 and binary_average_precision(torch.ones(2), torch.tensor([0, 1])) == 0.5


def test_the_interval_of_accuracy_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    p, y = classes(400)
    right = int((p.argmax(1) == y).sum())
    assert 0 < right < 400 and class_intervals(p, y)["acc1"] == wilson_interval(right, 400)


@pytest.mark.parametrize(
    ("images", "accuracy", "imbalance"),
    [([30] * 2, 0.7, 1), ([20] * 5, 0.9, 3), ([20] * 17, 0.9, 1), ([40] * 17, 0.97, 3), ([20] * 17, 0.7, 1)],
    ids=str,
)
def test_the_interval_of_macro_f1_covers_the_truth(images: list[int], accuracy: float, imbalance: float) -> None:
    count, covered = len(images), []
    for seed in range(150):
        random = np.random.default_rng(seed)
        right = np.clip(random.beta(6 * accuracy, 6 * (1 - accuracy), count), 0.02, 0.999)
        joint = (1 - right)[:, None] * random.dirichlet(np.full(count, 0.5), count)
        joint[np.diag_indices(count)] += right
        joint *= (np.geomspace(1, 1 / imbalance, count) / np.geomspace(1, 1 / imbalance, count).sum())[:, None]
        truth = (2 * joint.diagonal() / (joint.sum(0) + joint.sum(1))).mean()
        labels, predicted = np.divmod(random.choice(joint.size, sum(images), p=joint.ravel()), count)
        found = class_intervals(np.eye(count)[predicted], labels)
        if "macro_f1" in found:
            covered.append(found["macro_f1"][0] <= truth <= found["macro_f1"][1])
    assert len(covered) >= 20 and np.mean(covered) >= 0.9


@pytest.mark.parametrize(("count", "labels", "prevalence", "separation"), [(150, 3, 0.3, 2), (150, 6, 0.15, 2)])
def test_the_intervals_of_labels_cover_the_truth(count: int, labels: int, prevalence: float, separation: float) -> None:
    def draw(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        y = random.random((count, labels)) < prevalence
        return 1 / (1 + np.exp(-random.normal(size=y.shape) - separation * y)), y

    thresholds = [0.75] * labels
    truth = multilabel_metrics(*draw(1000, 40_000), thresholds, "abcdef"[:labels], "x")
    covered: dict[str, list[bool]] = {"map": [], "macro_f1": []}
    for seed in range(100):
        for name, (low, high) in label_intervals(*draw(seed, count), thresholds).items():
            covered[name].append(low <= truth[f"x/{name}"] <= high)
    for name, values in covered.items():
        assert len(values) >= 50 and np.mean(values) >= 0.9, name


@pytest.mark.parametrize("right", [0, 11, 20])
def test_few_images_or_mistakes_have_an_interval_of_accuracy_alone(right: int) -> None:
    y = np.arange(20) % 2
    guessed = np.where(np.arange(20) < right, y, 1 - y)
    found = class_intervals(np.eye(2)[guessed], y)
    assert set(found) == {"acc1"}
    if right != 11:
        assert found["acc1"] == pytest.approx((0.8389, 1.0) if right else (0.0, 0.1611), abs=5e-5)


def test_labels_that_are_all_ranked_correctly_have_no_interval() -> None:
    y = np.eye(2)[np.arange(40) % 2]
    assert label_intervals(0.1 + 0.8 * y, y, [0.5, 0.5]) == {}


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

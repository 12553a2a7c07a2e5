"""The metrics against counting, image by image, where classes are missing and numbers are odd."""

from __future__ import annotations

import numpy as np
import pytest

from effnet_ft.evaluation.metrics import ECE_BINS, classification_metrics, multilabel_metrics

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """37 images of 9 classes: the last is never right, the one before never guessed, the first neither."""
    labels = RANDOM.integers(1, 8, 37)
    logits = RANDOM.normal(size=(37, 9)) + 1.5 * np.eye(9)[labels]
    logits[:, [0, 7]] -= 20
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def f1(held: np.ndarray, guessed: np.ndarray) -> float | None:
    true, wrong, missed = (held & guessed).sum(), (~held & guessed).sum(), (held & ~guessed).sum()
    return None if true + wrong + missed == 0 else 2 * true / (2 * true + wrong + missed)


def error_in_bins(sure: np.ndarray, right: np.ndarray) -> float:
    bins = np.minimum((sure * ECE_BINS).astype(int), ECE_BINS - 1)
    return sum(abs(right[bins == n].sum() - sure[bins == n].sum()) for n in range(ECE_BINS)) / len(sure)


def average_precision(p: np.ndarray, held: np.ndarray) -> float:
    return float(np.mean([held[p >= p[image]].mean() for image in np.flatnonzero(held)]))


def test_metrics_of_classes(answers: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = answers
    found = classification_metrics(p.astype(np.float32), labels, "test")
    ranks = (p > p[np.arange(37), labels][:, None]).sum(1)
    scores = [f1(labels == name, p.argmax(1) == name) for name in range(9)]
    assert None in scores and 0 in scores
    expected = {
        "test/acc1": np.mean(ranks < 1),
        "test/acc5": np.mean(ranks < 5),
        "test/macro_f1": np.mean([score for score in scores if score is not None]),
        "test/ece": error_in_bins(p.max(1), ranks < 1),
    }
    assert 0 < expected["test/acc1"] < expected["test/acc5"] < 1
    assert found == pytest.approx(expected, abs=1e-6)


def test_metrics_of_labels() -> None:
    p = RANDOM.random((23, 4)).astype(np.float32)
    labels = (RANDOM.random((23, 4)) < p).astype(np.float32)
    labels[:, 2] = 0
    thresholds = (0.5, 0.3, 0.99999, 0.8)
    found = multilabel_metrics(p, labels, thresholds, "abcd", "val")
    held = labels > 0
    scores = {f"val/f1/{name}": f1(held[:, n], p[:, n] >= thresholds[n]) for n, name in enumerate("abcd")}
    assert scores.pop("val/f1/c") is None
    expected = {
        "val/map": np.mean([average_precision(p[:, n], held[:, n]) for n in (0, 1, 3)]),
        "val/macro_f1": np.mean(list(scores.values())),
        "val/ece": error_in_bins(p.ravel(), held.ravel()),
        **scores,
    }
    assert found == pytest.approx(expected, abs=1e-6)

"""Label issues, on features whose right labels are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from effnet_ft.inspection.label_issues import (
    FOLDS,
    MIN_CLASS_IMAGES,
    assign_folds,
    find_label_issues,
    find_multilabel_issues,
    out_of_fold_probabilities,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Features of four classes of thirty images, ``[120, 16]``, and class indices."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    return np.eye(4, 16)[labels] * 8 + random.normal(size=(120, 16)), labels


def predict(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    groups = np.arange(len(labels)) if groups is None else groups
    return out_of_fold_probabilities(features, np.eye(labels.max() + 1)[labels], groups, CPU)


def test_wrong_labels_come_first(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    features, right = clouds
    labels = right.copy()
    wrong = [3, 40, 70, 100]
    labels[wrong] = (right[wrong] + 1) % 4
    found = find_label_issues(predict(features, labels), labels)
    assert {issue.index for issue in found[:4]} == set(wrong)
    assert all(issue.likelier == right[issue.index] for issue in found[:4])
    assert sum(issue.strong for issue in found[:4]) >= 3
    assert all(issue.label == labels[issue.index] and issue.given < issue.other for issue in found)
    assert len(found) < 10


def test_right_labels_are_not_suspect(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = clouds
    assert not [issue for issue in find_label_issues(predict(features, labels), labels) if issue.strong]


def test_a_wrong_label_is_not_excused_by_a_copy_with_the_same_one(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = (np.repeat(array, 4, axis=0) for array in clouds)
    labels[:4] = 1  # an image and its three copies
    groups = np.arange(len(labels)) // 4
    assert {issue.index for issue in find_label_issues(predict(features, labels, groups), labels)[:4]} == set(range(4))
    assert len(set(assign_folds(np.eye(4)[labels], groups, 0)[:4].tolist())) == 1


def test_folds_have_each_class_in_like_number(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    labels = clouds[1]
    folds = assign_folds(np.eye(4)[labels], np.arange(len(labels)), 0)
    table = np.array([[np.sum(folds[labels == label] == fold) for fold in range(FOLDS)] for label in range(4)])
    assert table.min() == table.max() == 30 // FOLDS


def test_small_classes_are_not_checked(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = clouds
    few = np.concatenate([features, features[: MIN_CLASS_IMAGES - 1]])
    named = np.concatenate([labels, np.full(MIN_CLASS_IMAGES - 1, 4)])
    found = find_label_issues(predict(few, named), named)
    assert all(issue.label != 4 for issue in found)
    enough = np.concatenate([features, features[:MIN_CLASS_IMAGES]])
    named = np.concatenate([labels, np.full(MIN_CLASS_IMAGES, 4)])
    assert {issue.index for issue in find_label_issues(predict(enough, named), named)} & set(
        range(120, 120 + MIN_CLASS_IMAGES)
    )


def test_each_of_several_labels_is_checked_on_its_own(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    features, classes = clouds
    right = np.stack([classes < 2, classes % 2 == 0, classes == 3], axis=1).astype(np.float32)
    targets = right.copy()
    targets[5, 0], targets[65, 1], targets[20, 2] = 0, 0, 1
    found = find_multilabel_issues(out_of_fold_probabilities(features, targets, np.arange(120), CPU), targets)
    assert {(issue.index, issue.label) for issue in found[:3]} == {(5, 0), (65, 1), (20, 2)}
    assert all(issue.strong for issue in found[:3])


def test_a_label_looks_wrong_only_for_the_class_that_is_shown() -> None:
    """The likeliest class misses its own threshold, while another class, which is not shown, reaches its low one."""
    sure = [[0.97, 0.02, 0.01]] * 8 + [[0.02, 0.97, 0.01]] * 8 + [[0.45, 0.45, 0.1]] * 8
    probabilities = np.array([*sure, [0.6, 0.2, 0.2]])
    labels = [*np.repeat([0, 1, 2], 8).tolist(), 1]
    issue = next(issue for issue in find_label_issues(probabilities, np.array(labels)) if issue.index == 24)
    assert (issue.likelier, issue.strong) == (0, False)

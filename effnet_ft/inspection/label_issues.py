"""Labels that a network doubts: confident learning (Northcutt et al. 2021, arXiv:1911.00068) on frozen features.

A linear classifier on the pooled features of a pretrained network gives each image probabilities without having seen
it, nor a copy of it: the images are divided into folds, and each fold is judged by what was learned from the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from effnet_ft.utils.progress import progress_bar

FOLDS = 5
FEWEST = 5
"""Images of a class below which its labels are not judged."""

DECAYS = (1e-4, 1e-3, 1e-2)
"""What the weights' squares count: the value of the least out-of-sample loss is taken."""

_TRIED = 4000
"""Images, drawn at random, that the decays are tried on where there are more."""

_SCALE = 10.0
"""Length that features are brought to."""

_STEPS = 60


@dataclass(frozen=True)
class LabelIssue:
    """A label that is less likely than another.

    Attributes:
        index: of the image.
        label: index of the label that is doubted.
        likelier: index of the class that is likelier; of several labels an image, the same as ``label``.
        given: probability of the label as it is given.
        other: probability of the likelier one; of several labels, that ``label`` is given wrongly.
        strong: as sure as of images whose labels are right: confident learning counts it as wrong.
    """

    index: int
    label: int
    likelier: int
    given: float
    other: float
    strong: bool


def out_of_fold_probabilities(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, device: torch.device, seed: int = 0
) -> np.ndarray:
    """Return probabilities of images from classifiers that saw neither them nor others of their group, ``[N, K]``.

    Args:
        features: ``[N, F]``.
        targets: 0 and 1, ``[N, K]``; rows that all sum to 1 are of one class an image.
        groups: images of one number are copies of each other, ``[N]``.
        device: where it is computed.
        seed: of the division into folds.
    """
    x = torch.from_numpy(features.astype(np.float32))
    x = F.pad(_SCALE * F.normalize(x), (0, 1), value=1.0).to(device)
    y = torch.from_numpy(targets.astype(np.float32)).to(device)
    folds = torch.from_numpy(assign_folds(targets, groups, seed)).to(device)
    some = torch.from_numpy(np.random.default_rng(seed).permutation(len(targets))[:_TRIED]).to(device)
    whole = len(some) == len(targets)
    with progress_bar("judging labels", total=FOLDS * (len(DECAYS) + (not whole))) as bar:
        tried = [_crossed(x[some], y[some], folds[some], decay, bar) for decay in DECAYS]
        losses = [float(F.binary_cross_entropy(found, y[some])) for found in tried]
        best = int(np.argmin(losses))
        if not whole:
            return _crossed(x, y, folds, DECAYS[best], bar).cpu().numpy()
    probabilities = torch.empty_like(y)
    probabilities[some] = tried[best]
    return probabilities.cpu().numpy()


def assign_folds(targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each image, ``[N]``: groups stay together, classes are spread evenly.

    Args and errors are those of :func:`out_of_fold_probabilities`.
    """
    random = np.random.default_rng(seed)
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = random.permutation(len(first))
    order = order[np.argsort(targets[first[order]].argmax(1), kind="stable")]  # class by class, dealt like cards
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % FOLDS
    return folds[member]


def find_label_issues(probabilities: np.ndarray, labels: np.ndarray) -> list[LabelIssue]:
    """Return the labels that are less likely than another class, the most doubtful first.

    Args:
        probabilities: out of sample, ``[N, K]``.
        labels: class indices, ``[N]``.
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    judged = np.bincount(labels, minlength=classes) >= FEWEST
    sums = np.bincount(labels, probabilities[rows, labels], classes)
    # A class's threshold is how sure the classifier is of the images that bear its label, on average.
    thresholds = sums / np.maximum(np.bincount(labels, minlength=classes), 1)
    sure = np.where((probabilities >= thresholds) & judged, probabilities, -1.0)
    others = np.where(np.arange(classes) == labels[:, None], -1.0, probabilities)
    likelier = others.argmax(1)
    given, other = probabilities[rows, labels], others[rows, likelier]
    strong = (sure.max(1) >= 0) & (sure.argmax(1) != labels)
    doubted = np.flatnonzero((other > given) & judged[labels])
    order = doubted[np.argsort((given - other)[doubted], kind="stable")]
    return [
        LabelIssue(int(i), int(labels[i]), int(likelier[i]), float(given[i]), float(other[i]), bool(strong[i]))
        for i in order
    ]


def find_multilabel_issues(probabilities: np.ndarray, targets: np.ndarray) -> list[LabelIssue]:
    """Return the labels, given or missing, that are likelier the other way, the most doubtful first.

    Args:
        probabilities: out of sample, of each label, ``[N, K]``.
        targets: 0 and 1, ``[N, K]``.
    """
    found = []
    for label, (column, holds) in enumerate(zip(probabilities.T, targets.T.astype(np.int64), strict=True)):
        for doubt in find_label_issues(np.stack([1 - column, column], axis=1), holds):
            found.append(LabelIssue(doubt.index, label, label, doubt.given, doubt.other, doubt.strong))
    return sorted(found, key=lambda doubt: doubt.given - doubt.other)


def _crossed(x: Tensor, y: Tensor, folds: Tensor, decay: float, bar: tqdm) -> Tensor:
    """Return the probabilities of each fold, ``[N, K]``, by a classifier of the others."""
    probabilities = torch.zeros_like(y)
    single = bool((y.sum(1) == 1).all())
    for fold in range(FOLDS):
        held = folds == fold
        logits = x[held] @ _fitted(x[~held], y[~held], single, decay)
        probabilities[held] = logits.softmax(1) if single else logits.sigmoid()
        bar.update()
    return probabilities


def _fitted(x: Tensor, y: Tensor, single: bool, decay: float) -> Tensor:
    """Return the weights ``[F, K]`` of a linear classifier with L2 decay."""
    weight = torch.zeros(x.shape[1], y.shape[1], device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = x @ weight
        if single:
            loss = F.cross_entropy(logits, y)
        else:
            loss = F.binary_cross_entropy_with_logits(logits, y, reduction="sum") / len(x)
        loss = loss + decay * weight[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach()

"""Finds label issues by confident learning (Northcutt et al. 2021, arXiv:1911.00068) on frozen features.

Linear classifiers on the pooled features of a pretrained network are cross-validated, with duplicates in one fold, so
that each image gets probabilities from a classifier that saw neither it nor a duplicate of it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from effnet_ft.utils.progress import progress_bar

FOLDS = 5
MIN_CLASS_IMAGES = 5  # labels of smaller classes are not checked
DECAYS = (1e-4, 1e-3, 1e-2)  # weight decays; the one with the lowest out-of-sample loss is used
SEARCH_IMAGES = 4000  # the most images on which the weight decay is chosen


@dataclass(frozen=True)
class LabelIssue:
    """A label that is less likely than another."""

    index: int  # of the image
    label: int  # index of the suspect class
    likelier: int  # in multi-label data ``label`` if it may be missing, -1 if it may be wrong
    given: float  # probability of the label as given
    other: float  # probability of the likelier class
    strong: bool  # it also reaches the likelier class's threshold: confident learning counts the label as wrong


def out_of_fold_probabilities(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, device: torch.device, seed: int = 0
) -> np.ndarray:
    """Return probabilities from classifiers that saw neither the image nor others of its group, ``[N, K]``.

    Args:
        features: ``[N, F]``.
        targets: 0 and 1, ``[N, K]``; if every row sums to 1, each image has one class.
        groups: equal numbers are duplicates, ``[N]``.
        device: to compute on.
        seed: of the folds.
    """
    x = torch.from_numpy(features.astype(np.float32))
    x = F.pad(10 * F.normalize(x), (0, 1), value=1.0).to(device)
    y = torch.from_numpy(targets.astype(np.float32)).to(device)
    folds = torch.from_numpy(assign_folds(targets, groups, seed)).to(device)
    subset = torch.from_numpy(np.random.default_rng(seed).permutation(len(targets))[:SEARCH_IMAGES]).to(device)
    complete = len(subset) == len(targets)
    with progress_bar("checking labels", total=FOLDS * (len(DECAYS) + (not complete))) as bar:
        tried = [_cross_validate(x[subset], y[subset], folds[subset], decay, bar) for decay in DECAYS]
        best = int(np.argmin([float(F.binary_cross_entropy(found, y[subset])) for found in tried]))
        if not complete:
            return _cross_validate(x, y, folds, DECAYS[best], bar).cpu().numpy()
    return tried[best][subset.argsort()].cpu().numpy()


def assign_folds(targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return stratified folds, ``[N]``, with each group in one; arguments as of :func:`out_of_fold_probabilities`."""
    random = np.random.default_rng(seed)
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = random.permutation(len(first))
    order = order[np.argsort(targets[first[order]].argmax(1), kind="stable")]  # class by class, dealt round-robin
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % FOLDS
    return folds[member]


def find_label_issues(probabilities: np.ndarray, labels: np.ndarray) -> list[LabelIssue]:
    """Return the labels that are less likely than another class, the most suspect first.

    ``probabilities`` are out of sample, ``[N, K]``; ``labels`` are class indices, ``[N]``.
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    checked = counts >= MIN_CLASS_IMAGES
    # A class's threshold is the mean probability of its label on the images that carry it.
    thresholds = np.bincount(labels, probabilities[rows, labels], classes) / np.maximum(counts, 1)
    others = np.where(np.arange(classes) == labels[:, None], -1.0, probabilities)
    likelier = others.argmax(1)
    given, other = probabilities[rows, labels], others[rows, likelier]
    strong = checked[likelier] & (other >= thresholds[likelier])
    suspect = np.flatnonzero((other > given) & checked[labels])
    order = suspect[np.argsort((given - other)[suspect], kind="stable")]
    columns = (order, labels[order], likelier[order], given[order], other[order], strong[order])
    return list(map(LabelIssue, *(column.tolist() for column in columns)))


def find_multilabel_issues(probabilities: np.ndarray, targets: np.ndarray) -> list[LabelIssue]:
    """Return the labels that are probably wrong or missing, the most suspect first.

    ``probabilities`` are out of sample, for each label on its own, ``[N, K]``; ``targets`` are 0 and 1, ``[N, K]``.
    """
    issues = [
        replace(issue, label=label, likelier=-1 if issue.label else label)
        for label, (column, given) in enumerate(zip(probabilities.T, targets.T.astype(np.int64), strict=True))
        for issue in find_label_issues(np.stack([1 - column, column], axis=1), given)
    ]
    return sorted(issues, key=lambda issue: issue.given - issue.other)


def _cross_validate(x: Tensor, y: Tensor, folds: Tensor, decay: float, bar: tqdm) -> Tensor:
    """Return the probabilities of each fold from a classifier trained on the others, ``[N, K]``."""
    probabilities = torch.zeros_like(y)
    single = bool((y.sum(1) == 1).all())
    for fold in range(FOLDS):
        test = folds == fold
        logits = x[test] @ _fit_linear(x[~test], y[~test], single, decay)
        probabilities[test] = logits.softmax(1) if single else logits.sigmoid()
        bar.update()
    return probabilities


def _fit_linear(x: Tensor, y: Tensor, single: bool, decay: float) -> Tensor:
    """Return the weights ``[F, K]`` of a linear classifier with L2 decay."""
    weight = torch.zeros(x.shape[1], y.shape[1], device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = x @ weight
        per_class = F.cross_entropy if single else F.binary_cross_entropy_with_logits
        loss = per_class(logits, y, reduction="sum") / len(x) + decay * weight[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach()

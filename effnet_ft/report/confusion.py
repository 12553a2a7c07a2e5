"""The confusion matrix, whose cells show their images, and the pairs of classes that are confused most."""

from typing import Any

import numpy as np

from effnet_ft.report.contents import RunContents

PAIRS_SHOWN = 8
PAIR_PICTURES = 3
CELL_NAMES = 24  # most images that a cell lists
NAMES_IN_PAGE = 6000  # most images that all cells list
PICTURES_IN_PAGE = 300  # most pictures; each takes 5 kB

ORDERS = {"name": "by name", "errors": "most errors first", "similarity": "confused classes together"}


def confusion_matrix(run: RunContents) -> dict[str, Any] | None:
    """Return the matrix; None for multi-label runs."""
    if run.multilabel:
        return None
    return {"split_name": run.split_name, "orders": ORDERS, "data": matrix_data(run)}


def matrix_data(run: RunContents) -> dict[str, Any]:
    """Return what page.js draws.

    ``classes`` are their names; ``orders`` the class indices by the names in ``ORDERS``; a cell of ``cells`` is its
    true class, its predicted one, how many images it has, and some of them: path, probability and picture, the most
    confident errors and the least confident correct predictions first.
    """
    images: dict[tuple[int, int], list[list[Any]]] = {}
    named, pictured = _selected(run)
    for index in named:
        row = run.predictions[index]
        picture = run.thumbnails.thumbnail(row.path) if index in pictured else ""
        listed = images.setdefault((int(run.true[index]), int(run.predicted[index])), [])
        listed.append([row.path, round(row.probability, 4), picture])
    pairs, counts = np.unique(np.stack([run.true, run.predicted], axis=1), axis=0, return_counts=True)
    cells = [[*pair, n, images.get(tuple(pair), [])] for pair, n in zip(pairs.tolist(), counts.tolist(), strict=True)]
    return {"classes": list(run.classes), "orders": orders(run), "cells": cells}


def _selected(run: RunContents) -> tuple[list[int], set[int]]:
    """Return the predictions that the page lists and, of these, the ones with a picture: the first of each cell."""
    wrong = run.true != run.predicted
    cell = run.true * len(run.classes) + run.predicted
    by_cell = np.lexsort((np.where(wrong, -run.probability, run.probability), cell))
    _, first, count = np.unique(cell[by_cell], return_index=True, return_counts=True)
    rank, size = np.empty((2, len(cell)), dtype=np.int64)
    rank[by_cell] = np.arange(len(cell)) - np.repeat(first, count)
    size[by_cell] = np.repeat(count, count)
    # All cells of errors have their first image before any has its second; correct predictions come after them.
    order = [int(index) for index in np.lexsort((-size, rank, ~wrong)) if rank[index] < CELL_NAMES]
    named = order[:NAMES_IN_PAGE]
    return sorted(named, key=lambda index: int(rank[index])), set(named[:PICTURES_IN_PAGE])


def orders(run: RunContents) -> dict[str, list[int]]:
    """Return the class indices in each of ``ORDERS``."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    indices = range(len(run.classes))
    correct, true, predicted = run.class_counts.T
    errors = true + predicted - 2 * correct
    counts = np.zeros((len(indices), len(indices)))
    np.add.at(counts, (run.true, run.predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of each true class, a row
    similarity = shares + shares.T
    np.fill_diagonal(similarity, similarity.max(initial=0))
    distance = squareform(similarity.max(initial=0) - similarity, checks=False)
    return {
        "name": sorted(indices, key=lambda index: run.classes[index].casefold()),
        "errors": sorted(indices, key=lambda index: -int(errors[index])),
        "similarity": leaves_list(linkage(distance, "average")).tolist() if len(indices) > 1 else list(indices),
    }


def confused_pairs(run: RunContents) -> dict[str, Any] | None:
    """Return the pairs of classes with the most errors between them; None for multi-label runs."""
    if run.multilabel:
        return None
    wrong = np.flatnonzero(run.true != run.predicted)
    between = np.sort(np.stack([run.true, run.predicted], axis=1)[wrong], axis=1)
    pairs, counts = np.unique(between, axis=0, return_counts=True)
    shown = pairs[np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]].tolist()
    sides = [(_side(run, one, other), _side(run, other, one)) for one, other in shown]
    return {"split_name": run.split_name, "count": len(pairs), "pairs": sides}


def _side(run: RunContents, true: int, other: int) -> dict[str, Any]:
    """Return one class of a pair: how often it is predicted as the other, with pictures of errors and correct ones."""
    of_class = run.true == true
    errors, correct = (np.flatnonzero(of_class & (run.predicted == predicted)) for predicted in (other, true))
    pictures = [
        (run.thumbnails.thumbnail(run.predictions[int(index)].path), style)
        for indices, style in ((errors, "wrong"), (correct, ""))
        for index in indices[np.argsort(-run.probability[indices], kind="stable")][:PAIR_PICTURES]
    ]
    counts = {"errors": len(errors), "total": int(of_class.sum())}
    names = {"name": run.classes[true], "other": run.classes[other], "cell": f"{true},{other}"}
    return {**names, **counts, "pictures": pictures}

"""The confusion matrix of a report, whose cells show their images, and the classes that are confused most."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import numpy as np

from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import counted, picture

PAIRS_SHOWN = 8
PAIR_PICTURES = 3
CELL_NAMES = 24  # images that a cell names at most,
NAMES_IN_PAGE = 6000  # and all of them together,
PICTURES_IN_PAGE = 300  # of which so many are shown: 5 kB each

ORDERS = {"name": "by name", "errors": "most mistaken first", "similarity": "confused ones together"}


def confusion_matrix(run: RunContents) -> str:
    """The matrix of true and predicted classes, which page.js draws; nothing where images have several labels."""
    if run.multilabel:
        return ""
    options = "".join(f'<option value="{name}">{words}</option>' for name, words in ORDERS.items())
    return (
        f"<p>Rows: the true classes of the {run.split_word} images; columns: the predicted ones. The shade is the "
        "share of the row: blue where right, orange where wrong. A click on a number shows the images.</p>"
        '<div class="confusion">'
        f'<p class="controls"><label>Classes <select>{options}</select></label></p>'
        '<canvas role="img" aria-label="all classes; a click chooses those of the table" hidden></canvas>'
        '<div class="scroll"><table class="matrix"></table></div>'
        '<div class="cell" aria-live="polite" hidden></div>'
        "<noscript><p>The matrix is drawn by a script, which this viewer does not run.</p></noscript>"
        f'<script type="application/json">{as_json(matrix_data(run))}</script></div>'
    )


def matrix_data(run: RunContents) -> dict[str, Any]:
    """Return what page.js draws.

    ``classes`` are their names; ``orders`` the class indices by the names in ``ORDERS``; a cell of ``cells`` is its
    true class, its predicted one, how many images it has, and some of them: path, probability and picture, the surest
    mistakes and the least certain right answers first.
    """
    cells: dict[tuple[int, int], list[list[Any]]] = {}
    chosen, pictured = _chosen(run)
    for number in chosen:
        row = run.predictions[number]
        image = run.pictures.thumbnail(row.path) if number in pictured else ""
        listed = cells.setdefault((int(run.true[number]), int(run.guessed[number])), [])
        listed.append([row.path, round(row.probability, 4), image])
    places, counts = np.unique(np.stack([run.true, run.guessed], axis=1), axis=0, return_counts=True)
    return {
        "classes": list(run.classes),
        "orders": orders(run),
        "cells": [
            [t, g, count, cells.get((t, g), [])] for (t, g), count in zip(places.tolist(), counts.tolist(), strict=True)
        ],
    }


def _chosen(run: RunContents) -> tuple[list[int], set[int]]:
    """Return the predictions that the page names and, among them, those that it shows: each cell's first ones."""
    wrong = run.true != run.guessed
    cell = run.true * len(run.classes) + run.guessed
    by_cell = np.lexsort((np.where(wrong, -run.probability, run.probability), cell))
    _, first, count = np.unique(cell[by_cell], return_index=True, return_counts=True)
    turn = np.empty(len(cell), dtype=np.int64)
    turn[by_cell] = np.arange(len(cell)) - np.repeat(first, count)
    size = np.empty(len(cell), dtype=np.int64)
    size[by_cell] = np.repeat(count, count)
    # All cells of mistakes have their first image before any has its second; right answers come after them.
    order = [int(number) for number in np.lexsort((-size, turn, ~wrong)) if turn[number] < CELL_NAMES]
    named = order[:NAMES_IN_PAGE]
    return sorted(named, key=lambda number: int(turn[number])), set(named[:PICTURES_IN_PAGE])


def orders(run: RunContents) -> dict[str, list[int]]:
    """Return the class indices in each of ``ORDERS``."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = range(len(run.classes))
    right, real, guessed = run.tallies.T
    mistaken = real + guessed - 2 * right
    by_errors = sorted(known, key=lambda place: -int(mistaken[place]))
    joined = confusion_shares(run)
    joined = joined + joined.T
    np.fill_diagonal(joined, joined.max(initial=0))
    tree = linkage(squareform(joined.max(initial=0) - joined, checks=False), "average") if len(known) > 1 else None
    return {
        "name": sorted(known, key=lambda place: run.classes[place].casefold()),
        "errors": by_errors,
        "similarity": list(known) if tree is None else leaves_list(tree).tolist(),
    }


def confusion_shares(run: RunContents) -> np.ndarray:
    """Return which share of each true class, a row, is taken for each class, a column: float ``[K, K]``."""
    counts = np.zeros((len(run.classes),) * 2)
    np.add.at(counts, (run.true, run.guessed), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def confused_pairs(run: RunContents) -> str:
    """The pairs of classes with the most mistakes between them, their images side by side."""
    if run.multilabel:
        return ""
    wrong = np.flatnonzero(run.true != run.guessed)
    between = np.sort(np.stack([run.true, run.guessed], axis=1)[wrong], axis=1)
    pairs, counts = np.unique(between, axis=0, return_counts=True)
    if not len(pairs):
        return f"<p>No {run.split_word} image is mistaken.</p>"
    html = ""
    for index in np.argsort(-counts, kind="stable")[:PAIRS_SHOWN]:
        one, other = pairs[index].tolist()
        html += f'<div class="pair">{_side(run, one, other)}{_side(run, other, one)}</div>'
    intro = f"{counted(len(pairs), 'pair')} of classes {'are' if len(pairs) > 1 else 'is'} confused; "
    intro += "of each class first the images that are taken for the other one, then some that are told rightly."
    return f"<p>{intro}</p>{html}"


def _side(run: RunContents, true: int, other: int) -> str:
    """One class of a pair: its images that are taken for the other class, and some that are right."""
    of_class = run.true == true
    taken, right = (np.flatnonzero(of_class & (run.guessed == guess)) for guess in (other, true))
    name, total = escape(run.classes[true]), int(of_class.sum())
    says = f"{len(taken)} of {total} taken for {escape(run.classes[other])}"
    if len(taken):
        says = f'<button type="button" data-cell="{true},{other}">{says}</button>'
    pictures = "".join(
        picture(run.pictures.thumbnail(run.predictions[int(number)].path), kind)
        for numbers, kind in ((taken, "wrong"), (right, ""))
        for number in numbers[np.argsort(-run.probability[numbers], kind="stable")][:PAIR_PICTURES]
    )
    return f'<div><h3>{name}</h3><p>{says}</p><div class="strip">{pictures}</div></div>'


def as_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no text in it ends the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")

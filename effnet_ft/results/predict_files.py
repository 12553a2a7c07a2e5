"""``effnet-ft predict``: images found by path, folder or pattern, answers as CSV."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from effnet_ft.data.images import SUFFIXES, unreadable
from effnet_ft.errors import DataError, listing
from effnet_ft.results.predict import joined, load
from effnet_ft.tabular import write_csv


def predict_files(model: str, paths: Sequence[str], top_k: int, out: str | None = None) -> dict[str, str]:
    """Write the likeliest classes of every image found, a row an image, best first.

    Of a model of labels, the labels that hold stand in one cell, joined by ``|``, and so do their probabilities.

    Args:
        model: a run folder or a checkpoint.
        paths: files, folders (searched to any depth) and glob patterns.
        top_k: classes to name for each image.
        out: the CSV file; None prints.

    Returns:
        The reasons of files that could not be read, by path; they are told on standard error and have no row.

    Raises:
        DataError: where a path finds no image.
        WeightsError: where the model cannot be read.
    """
    found = find_images(paths)
    predictor = load(model)
    bad = unreadable(Path(), found)
    images = [path for path in found if path not in bad]
    rows = predictor.predict(images, top_k=top_k)
    count = 1 if predictor.model.multilabel else min(top_k, len(predictor.classes))
    header = ["path", "prediction", "probability"]
    header += [f"{name}_{rank}" for rank in range(2, count + 1) for name in ("prediction", "probability")]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a name that is not UTF-8 is printed as it lies on disk
    with (
        open(out, "w", newline="", encoding="utf-8", errors="surrogateescape")
        if out
        else nullcontext(sys.stdout) as file
    ):
        answers = (
            joined(best) if predictor.model.multilabel else [cell for name, p in best for cell in (name, f"{p:.6f}")]
            for best in rows
        )
        write_csv(file, [header, *([path, *answer] for path, answer in zip(images, answers, strict=True))])
    if out:
        print(f"{len(images)} images: {out}")
    if bad:
        lines = [f"{path}: {reason}" for path, reason in bad.items()]
        print(f"effnet-ft: {len(bad)} files cannot be read and have no row\n{listing(lines)}", file=sys.stderr)
    return bad


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the image files that ``paths`` stand for, each once, in the order of ``paths``.

    Raises:
        DataError: where a path or pattern finds nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            files = sorted(str(file) for file in Path(path).rglob("*") if _is_image(file))
        elif os.path.exists(path):
            files = [path]
        else:
            files = sorted(file for file in glob.glob(path, recursive=True) if _is_image(Path(file)))
        if not files:
            raise DataError(
                f"no image at '{path}': expected a file, a folder with images or a pattern such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()

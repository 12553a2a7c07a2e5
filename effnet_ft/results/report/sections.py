"""The sections of a report, in their order. A new one is a function and a line in ``SECTIONS``."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from html import escape
from pathlib import Path, PurePosixPath

import numpy as np
from omegaconf import OmegaConf
from PIL import Image, ImageOps

from effnet_ft.data.manifest import image_folder
from effnet_ft.results.report.charts import chart
from effnet_ft.results.report.contents import SPLITS, TIMES, Contents
from effnet_ft.results.report.formats import DASH, duration, show, table, with_bar

MATRIX_MAX_CLASSES = 40
PAIRS_SHOWN = 20
MISTAKES_SHOWN = 24
THUMBNAIL_SIDE = 160


def results(run: Contents) -> str:
    """The headline numbers."""
    total, split, accuracy = len(run.predictions), SPLITS[run.split], run.metric("acc1")
    if run.multilabel:
        score = show(run.metric("map"), ".1%")
        return _cards(
            (f"{split.capitalize()} mean average precision", score, "mean over the labels that occur"),
            ("Macro F1", show(run.metric("macro_f1"), ".1%"), "thresholds of the validation images"),
            *_amounts(run),
        )
    values = (*wilson(accuracy, total), accuracy, run.metric("acc5"))
    low, high, shown, top5 = (show(value, ".1%") for value in values)
    return _cards(
        (f"{split.capitalize()} accuracy", shown, f"95% interval: {low} to {high}", f"top five: {top5}"),
        ("Macro F1", show(run.metric("macro_f1"), ".1%"), "mean over the classes"),
        ("Calibration error", show(run.metric("ece"), ".1%"), "ECE; lower is better"),
        *_amounts(run),
    )


def _amounts(run: Contents) -> tuple[tuple[str, ...], ...]:
    return (
        ("Images", f"{len(run.predictions):,}", f"{SPLITS[run.split]}, of {run.images:,} in all"),
        ("Training time", duration(run.metric("train_seconds")), f"{show(run.metric('images_per_second'))} images/s"),
    )


def _cards(*cards: tuple[str, ...]) -> str:
    html = ""
    for name, *lines in cards:
        parts = "".join(f"<dd>{line}</dd>" for line in lines if not line.endswith(f": {DASH}"))
        html += f'<div class="card"><dt>{name}</dt>{parts}</div>'
    return f'<dl class="cards">{html}</dl>'


def learning_curves(run: Contents) -> str:
    """Loss and accuracy over the epochs."""
    if not run.phases:
        return "<p>No epoch was recorded.</p>"
    title, key = ("Mean average precision", "map") if run.multilabel else ("Accuracy", "acc1")
    return f'<div class="charts">{chart(run, "Loss", "loss", ".3g")}{chart(run, title, key, ".0%")}</div>'


def confusion_matrix(run: Contents) -> str:
    """The matrix of true and predicted classes or, where it would be too large, the most confused pairs."""
    names, real = [escape(name) for name in run.classes], run.confusion.sum(axis=1)
    if len(names) > MATRIX_MAX_CLASSES:
        items = [
            f"<li><b>{names[t]}</b> taken for <b>{names[g]}</b>: {count} of {real[t]}"
            for t, g, count in confused_pairs(run.confusion)
        ]
        return f'<p>The most confused pairs of classes.</p><ol class="pairs">{"".join(items)}</ol>'
    top = "".join(f'<th scope="col" title="{name}"><span>{name}</span></th>' for name in names)
    body = ""
    for t, name in enumerate(names):
        body += f'<tr><th scope="row" title="{name}">{name}</th>'
        for g, count in enumerate(run.confusion[t]):
            share = count / real[t] if count else 0
            kind = ("ok deep" if share > 0.77 else "ok") if t == g else "err"
            shade = f' class="{kind}" style="--a:{0.08 + 0.92 * share:.2f}" title="{name} → {names[g]}: {count}"'
            body += f"<td{shade}>{count}</td>" if count else "<td></td>"
    intro = f"<p>Rows: the true classes of the {SPLITS[run.split]} images; columns: the predicted ones. "
    intro += "The shade is the share of the row: blue where right, orange where wrong.</p>"
    return f'{intro}<div class="scroll"><table class="matrix"><thead><tr><td></td>{top}</thead>{body}</table></div>'


def classes(run: Contents) -> str:
    """Precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, count in zip(run.classes, class_scores(run.tallies), run.tallies[:, 1], strict=True):
        shown = [show(score, ".1%") for score in scores]
        shown = [*shown[:2], with_bar(shown[2], scores[2]), f"{count:,}"]
        rows.append((name, list(zip((*scores, count), shown, strict=True))))
    return table(("Label" if run.multilabel else "Class", "Precision", "Recall", "F1", "Images"), rows)


def mistakes(run: Contents) -> str:
    """The mistakes with the highest probability; of several labels, with the most wrong."""
    wrong = [row for row in run.predictions if row["label"] != row["prediction"]]
    html = ""
    first = "wrong" if run.multilabel else "probability"
    for row in sorted(wrong, key=lambda row: -row[first])[:MISTAKES_SHOWN]:
        image = _thumbnail(run, row["path"])
        html += f'<figure><img src="{image}" alt="">' if image else '<figure><div class="none">no image</div>'
        html += f"<figcaption><b>{escape(row['label'] or DASH)}</b><br>taken for {escape(row['prediction'] or DASH)}"
        html += "" if run.multilabel else f", {show(row['probability'], '.1%')}"
        html += f"<small>{escape(row['path'])}</small></figcaption></figure>"
    order = "those with the most wrong labels" if run.multilabel else "the surest"
    intro = f"{len(wrong):,} of {len(run.predictions):,} {SPLITS[run.split]} images are mistaken; {order} come first."
    return f'<p>{intro}</p><div class="mistakes">{html}</div>'


def _thumbnail(run: Contents, path: str) -> str:
    """The image as a data URI, or nothing where there is none to show."""
    root = OmegaConf.select(run.recipe, "data.root")
    root = None if root is None else Path(str(root)).expanduser()
    if root is not None and OmegaConf.select(run.recipe, "data.source") == "manifest":
        root = image_folder(root, OmegaConf.select(run.recipe, "data.images"))
    # A page that is passed on must hold no image from outside the data set.
    if not run.thumbnails or root is None or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return ""
    try:
        file = Path(str(root), path)
        with Image.open(file if file.exists() else Path(str(root), path.removeprefix("'"))) as image:
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def class_balance(run: Contents) -> str:
    """The images of each class in each split."""
    most = max(run.split_counts.values(), default=1)
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    counts = [(name, [run.split_counts[name, split] for split in splits]) for name in run.classes]
    rows = [(name, [(n, with_bar(f"{n:,}", n / most)) for n in numbers]) for name, numbers in counts]
    return table(("Class", *(SPLITS[split].capitalize() for split in splits)), rows)


def recipe(run: Contents) -> str:
    """The resolved recipe."""
    return f"<pre>{escape(run.recipe_text)}</pre>"


def times(run: Contents) -> str:
    """Time, speed and waiting for data, of each phase and of the run."""
    rows = []
    for label, epochs in run.phases:
        spent = np.array([[row[key] for key in TIMES] for row in epochs])
        seconds = float(spent[:, 0].sum())
        speed, wait = (spent[:, 0] @ spent[:, 1:] / seconds).tolist() if seconds else (math.nan, math.nan)
        rows.append((label, [len(epochs), seconds, speed, wait]))
    overall = [run.metric(key) for key in ("train_seconds", *TIMES[1:])]
    rows.append(("whole run", [sum(row[0] for _, row in rows), *overall]))
    shows: tuple[Callable[[float], str], ...] = (show, duration, show, lambda value: show(value, ".1%"))
    lines = [(label, [(v, show(v)) for v, show in zip(row, shows, strict=True)]) for label, row in rows]
    return table(("Phase", "Epochs", "Time", "Images/s", "Data wait"), lines)


SECTIONS: tuple[tuple[str, Callable[[Contents], str]], ...] = (
    ("Results", results),
    ("Learning curves", learning_curves),
    ("Confusion", confusion_matrix),
    ("Classes", classes),
    ("Most confident mistakes", mistakes),
    ("Class balance", class_balance),
    ("Recipe", recipe),
    ("Times", times),
)


def wilson(share: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share of `total` (95% with the default `z`); NaN where there is no share."""
    if not total or math.isnan(share):
        return math.nan, math.nan
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - half) / (1 + z * z / total)), min(1.0, (middle + half) / (1 + z * z / total))


def sections_of(run: Contents) -> dict[str, str]:
    """The HTML of a run's sections, by their titles; without a confusion matrix where images have several labels."""
    return {title: section(run) for title, section in SECTIONS if not (run.multilabel and section is confusion_matrix)}


def class_scores(tallies: np.ndarray) -> np.ndarray:
    """Precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    right, real, guessed = tallies.T
    with np.errstate(invalid="ignore"):
        return np.stack([right / guessed, right / real, 2 * right / (guessed + real)], axis=1)


def confused_pairs(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true class, predicted class, images), the most frequent first."""
    pairs = [(int(t), int(g), int(confusion[t, g])) for t, g in np.argwhere(confusion) if t != g]
    return sorted(pairs, key=lambda pair: -pair[2])[:PAIRS_SHOWN]

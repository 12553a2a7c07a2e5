"""One self-contained HTML page about a training run, made only from the files in its run folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image, ImageOps
from yaml import YAMLError

from effnet_ft.errors import DataError

SPLITS = {"train": "training", "val": "validation", "test": "test"}
TIMES = ("seconds", "images_per_second", "data_wait_fraction")
NUMBERS = ("epoch", "train/loss", "train/acc1", "val/loss", "val/acc1", *TIMES)
MATRIX_MAX_CLASSES = 40
PAIRS_SHOWN = 20
MISTAKES_SHOWN = 24
THUMBNAIL_SIDE = 160
DASH = "\N{EN DASH}"
LEFT, RIGHT, BOTTOM = 44, 412, 232  # The plotting area of a chart, in a drawing of 420 by 266 units.


@dataclass(frozen=True)
class Run:
    """What the page shows; `phases` has the rows of metrics.csv under each phase's label, as "2 stage4"."""

    name: str
    recipe_text: str
    recipe: Any
    metrics: dict[str, Any]
    classes: list[str]
    phases: list[tuple[str, list[dict[str, float]]]]
    predictions: list[dict[str, Any]]
    confusion: np.ndarray
    split_counts: Counter[tuple[str, str]]
    thumbnails: bool

    @property
    def split(self) -> str:
        """The split that was predicted: test where there is one, else val."""
        return "test" if any(key.startswith("test/") for key in self.metrics) else "val"

    def metric(self, name: str) -> float:
        """A metric of the predicted split or, failing that, of the run; NaN where it is absent."""
        value = self.metrics.get(f"{self.split}/{name}", self.metrics.get(name))
        return math.nan if value is None else float(value)


def write_report(run: Path, thumbnails: bool = True) -> Path:
    """Write RUN/report.html from the files in the run folder and return its path.

    The page loads nothing from elsewhere. Without `thumbnails`, or where an image cannot be read, a mistake shows its
    file name alone. An older report stays whole until the new one takes its place.

    Raises:
        DataError: a file of the run folder is missing or cannot be understood.
    """
    page = render(read_run(Path(run), thumbnails))
    target = Path(run) / "report.html"
    temporary = target.with_name(f".report.{os.getpid()}.tmp")
    try:
        # A folder's name need not be valid text, so what UTF-8 cannot hold is replaced.
        temporary.write_text(page, encoding="utf-8", errors="replace")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def read_run(run: Path, thumbnails: bool = True) -> Run:
    """Read the files of a run folder.

    Raises:
        DataError: a file is missing or cannot be understood; the message names it.
    """
    recipe_text = _parsed(run / "recipe.yaml", str)
    recipe = _parsed(run / "recipe.yaml", lambda text: OmegaConf.load(io.StringIO(text)))
    metrics = _parsed(run / "metrics.json", lambda text: dict(json.loads(text)))
    # Only a line feed ends a class name: splitlines would also cut at rarer separators inside one.
    classes = _parsed(run / "classes.txt", lambda text: [line for line in text.split("\n") if line])
    # A CSV cell that a spreadsheet would take for a formula is guarded by an apostrophe; classes.txt has none.
    guarded = {f"'{name}": place for place, name in enumerate(classes) if name[0] in "=+-@"}
    places = guarded | {name: place for place, name in enumerate(classes)}

    def epoch(row: dict[str, str]) -> tuple[str, dict[str, float]]:
        return f"{row['phase']} {row['train']}", {key: float(row[key] or "nan") for key in NUMBERS}

    def prediction(row: dict[str, str]) -> dict[str, Any]:
        names = {key: classes[places[row[key]]] for key in ("label", "prediction")}
        return {"path": row["path"], "probability": float(row["probability"]), **names}

    epochs = _rows(run / "metrics.csv", epoch)
    phases = [(label, [row for _, row in rows]) for label, rows in groupby(epochs, lambda pair: pair[0])]
    predictions = _rows(run / "predictions.csv", prediction)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for row in predictions:
        confusion[places[row["label"]], places[row["prediction"]]] += 1
    counts = Counter(_rows(run / "split.csv", lambda row: (classes[places[row["label"]]], row["split"])))
    title = run.resolve().name
    return Run(title, recipe_text, recipe, metrics, classes, phases, predictions, confusion, counts, thumbnails)


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder of a finished training, or train again.") from error
    except (OSError, TypeError, ValueError, YAMLError) as error:
        raise DataError(f"{path} cannot be understood ({error}): restore it or train again.") from error


def _rows(path: Path, convert: Callable[[dict[str, str]], Any]) -> list[Any]:
    rows = csv.DictReader(io.StringIO(_parsed(path, str), newline=""))
    try:
        return [convert(row) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        what = f"no such column or class: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}, line {rows.line_num}: {what}; restore the file or train again.") from error


def wilson(share: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share of `total` (95% with the default `z`); NaN where there is no share."""
    if not total or math.isnan(share):
        return math.nan, math.nan
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - half) / (1 + z * z / total)), min(1.0, (middle + half) / (1 + z * z / total))


def class_scores(confusion: np.ndarray) -> np.ndarray:
    """Precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    right, real, guessed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.stack([right / guessed, right / real, 2 * right / (guessed + real)], axis=1)


def confused_pairs(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true class, predicted class, images), the most frequent first."""
    pairs = [(int(t), int(g), int(confusion[t, g])) for t, g in np.argwhere(confusion) if t != g]
    return sorted(pairs, key=lambda pair: -pair[2])[:PAIRS_SHOWN]


def _show(value: float, kind: str = ",.0f") -> str:
    return format(value, kind) if math.isfinite(value) else DASH


def duration(seconds: float) -> str:
    """Seconds as a person would say them; a dash where they are not known."""
    if not seconds >= 60:
        return _show(seconds, ".1f") + (" s" if math.isfinite(seconds) else "")
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[float, str]]]]) -> str:
    """A sortable table: a row is its name and, for each further column, (number to sort by, HTML to show)."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = ""
    for name, cells in rows:
        shown = "".join(f'<td data-value="{value:.6g}">{html}</td>' for value, html in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>'
    kind = "scroll tall" if len(rows) > MATRIX_MAX_CLASSES else "scroll"
    return f'<div class="{kind}"><table class="data sortable"><thead><tr>{top}</thead><tbody>{body}</table></div>'


def _with_bar(shown: str, share: float) -> str:
    width = 100 * share if math.isfinite(share) else 0
    return f'{shown}<span class="bar" aria-hidden="true"><i style="width:{width:.0f}%"></i></span>'


def results(run: Run) -> str:
    """The headline numbers."""
    total, split, accuracy = len(run.predictions), SPLITS[run.split], run.metric("acc1")
    values = (*wilson(accuracy, total), accuracy, run.metric("acc5"))
    low, high, shown, top5 = (_show(value, ".1%") for value in values)
    cards = (
        (f"{split.capitalize()} accuracy", shown, f"95% interval: {low} to {high}", f"top five: {top5}"),
        ("Macro F1", _show(run.metric("macro_f1"), ".1%"), "mean over the classes"),
        ("Calibration error", _show(run.metric("ece"), ".1%"), "ECE; lower is better"),
        ("Images", f"{total:,}", f"{split}, of {run.split_counts.total():,} in all"),
        ("Training time", duration(run.metric("train_seconds")), f"{_show(run.metric('images_per_second'))} images/s"),
    )
    html = ""
    for name, *lines in cards:
        parts = "".join(f"<dd>{line}</dd>" for line in lines if not line.endswith(f": {DASH}"))
        html += f'<div class="card"><dt>{name}</dt>{parts}</div>'
    return f'<dl class="cards">{html}</dl>'


def learning_curves(run: Run) -> str:
    """Loss and accuracy over the epochs."""
    if not run.phases:
        return "<p>No epoch was recorded.</p>"
    return f'<div class="charts">{chart(run, "Loss", "loss", ".3g")}{chart(run, "Accuracy", "acc1", ".0%")}</div>'


def chart(run: Run, title: str, key: str, kind: str) -> str:
    """One figure with the training and the validation curve of a column of metrics.csv."""
    rows = [row for _, epochs in run.phases for row in epochs]
    first, last = rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5
    seen = [row[f"{split}/{key}"] for row in rows for split in ("train", "val")]
    seen = [value for value in seen if math.isfinite(value)] or [1.0]
    low, high = (math.floor(min(seen) * 4.999) / 5, 1.0) if key == "acc1" else (0.0, max(seen) * 1.05 or 1.0)

    def across(epoch: float) -> float:
        return LEFT + (epoch - first) / (last - first) * (RIGHT - LEFT)

    html = ""
    ends: list[float] = []
    for label, epochs in run.phases:
        x = across(epochs[0]["epoch"] - 0.5)
        # A label that would run into the one before it goes to the next line.
        line = next((place for place, end in enumerate(ends) if end < x), len(ends))
        ends[line : line + 1] = [x + 7 * len(label) + 6]
        html += f'<path class="phase" d="M{x:.1f} {line * 15}V{BOTTOM}"/>'
        html += f'<text x="{x + 4:.1f}" y="{line * 15 + 11}">{escape(label)}</text>'
    top = len(ends) * 15 + 8

    def down(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - top)

    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = max(power * factor for factor in (1, 2, 2.5, 5) if power * factor <= (high - low) / 4 * 1.001)
    for tick in np.arange(low, high + step / 100, step):
        html += f'<path class="grid" d="M{LEFT} {down(tick):.1f}H{RIGHT}"/>'
        html += f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:{kind}}</text>'
    for row in rows[:: math.ceil(len(rows) / 10)]:
        html += f'<text x="{across(row["epoch"]):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{row["epoch"]:.0f}</text>'
    html += f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 32}" text-anchor="middle">epoch</text>'
    legend = f"<b>{title}</b>"
    for split in ("train", "val"):
        points = [(row["epoch"], row[f"{split}/{key}"]) for row in rows if math.isfinite(row[f"{split}/{key}"])]
        spots = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in points)
        html += f'<polyline class="{split}" points="{spots}"/>'
        for epoch, value in points:
            tip = f"<title>epoch {epoch:.0f}, {SPLITS[split]}: {value:.4g}</title>"
            html += f'<circle class="{split}" cx="{across(epoch):.1f}" cy="{down(value):.1f}" r="2.5">{tip}</circle>'
        final = _show(points[-1][1], ".1%" if key == "acc1" else kind) if points else DASH
        legend += f'<span class="key {split}">{SPLITS[split]} {final}</span>'
    drawing = f'<svg viewBox="0 0 420 266" role="img" aria-label="{title} over the epochs">{html}</svg>'
    return f"<figure><figcaption>{legend}</figcaption>{drawing}</figure>"


def confusion_matrix(run: Run) -> str:
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


def classes(run: Run) -> str:
    """Precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, count in zip(run.classes, class_scores(run.confusion), run.confusion.sum(axis=1), strict=True):
        shown = [_show(score, ".1%") for score in scores]
        shown = [*shown[:2], _with_bar(shown[2], scores[2]), f"{count:,}"]
        rows.append((name, list(zip((*scores, count), shown, strict=True))))
    return table(("Class", "Precision", "Recall", "F1", "Images"), rows)


def mistakes(run: Run) -> str:
    """The mistakes with the highest probability."""
    wrong = [row for row in run.predictions if row["label"] != row["prediction"]]
    html = ""
    for row in sorted(wrong, key=lambda row: -row["probability"])[:MISTAKES_SHOWN]:
        image = _thumbnail(run, row["path"])
        html += f'<figure><img src="{image}" alt="">' if image else '<figure><div class="none">no image</div>'
        html += f"<figcaption><b>{escape(row['label'])}</b><br>taken for {escape(row['prediction'])}, "
        html += f"{_show(row['probability'], '.1%')}<small>{escape(row['path'])}</small></figcaption></figure>"
    intro = (
        f"{len(wrong):,} of {len(run.predictions):,} {SPLITS[run.split]} images are mistaken; the surest come first."
    )
    return f'<p>{intro}</p><div class="mistakes">{html}</div>'


def _thumbnail(run: Run, path: str) -> str:
    """The image as a data URI, or nothing where there is none to show."""
    root = OmegaConf.select(run.recipe, "data.root")
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


def class_balance(run: Run) -> str:
    """The images of each class in each split."""
    most = max(run.split_counts.values(), default=1)
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    counts = [(name, [run.split_counts[name, split] for split in splits]) for name in run.classes]
    rows = [(name, [(n, _with_bar(f"{n:,}", n / most)) for n in numbers]) for name, numbers in counts]
    return table(("Class", *(SPLITS[split].capitalize() for split in splits)), rows)


def recipe(run: Run) -> str:
    """The resolved recipe."""
    return f"<pre>{escape(run.recipe_text)}</pre>"


def times(run: Run) -> str:
    """Time, speed and waiting for data, of each phase and of the run."""
    rows = []
    for label, epochs in run.phases:
        spent = np.array([[row[key] for key in TIMES] for row in epochs])
        seconds = float(spent[:, 0].sum())
        speed, wait = (spent[:, 0] @ spent[:, 1:] / seconds).tolist() if seconds else (math.nan, math.nan)
        rows.append((label, [len(epochs), seconds, speed, wait]))
    overall = [run.metric(key) for key in ("train_seconds", *TIMES[1:])]
    rows.append(("whole run", [sum(row[0] for _, row in rows), *overall]))
    shows: tuple[Callable[[float], str], ...] = (_show, duration, _show, lambda value: _show(value, ".1%"))
    lines = [(label, [(v, show(v)) for v, show in zip(row, shows, strict=True)]) for label, row in rows]
    return table(("Phase", "Epochs", "Time", "Images/s", "Data wait"), lines)


SECTIONS: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("Results", results),
    ("Learning curves", learning_curves),
    ("Confusion", confusion_matrix),
    ("Classes", classes),
    ("Most confident mistakes", mistakes),
    ("Class balance", class_balance),
    ("Recipe", recipe),
    ("Times", times),
)


def render(run: Run) -> str:
    """The whole page: the sections in their order, in the frame of report.html.template."""
    nav = sections = ""
    for title, section in SECTIONS:
        anchor = title.lower().replace(" ", "-")
        nav += f'<a href="#{anchor}">{title}</a>\n'
        sections += f'<section id="{anchor}"><h2>{title}</h2>\n{section(run)}\n</section>\n'
    epochs = sum(len(rows) for _, rows in run.phases)
    variant = OmegaConf.select(run.recipe, "model.variant") or "unknown variant"
    subtitle = f"{variant} · {len(run.classes)} classes · {len(run.phases)} phases, {epochs} epochs"
    frame = Template(Path(__file__).with_name("report.html.template").read_text(encoding="utf-8"))
    return frame.substitute(title=escape(run.name), subtitle=escape(subtitle), nav=nav, sections=sections)

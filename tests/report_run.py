"""A run folder written by hand, with hostile names, whose report's numbers are known."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from effnet_ft.report.rendering import Section, environment
from effnet_ft.runs.environment import record_start

HOSTILE = '<script>alert("x")</script>'
CLASSES = ["cat", HOSTILE, "=sum", "a&b 'c'"]
# Label, prediction, probability and the file's name; the third file is never drawn.
PREDICTIONS = [
    ("cat", "cat", 0.9, "one.png"),
    ("cat", "cat", 0.8, "two.png"),
    ("cat", HOSTILE, 0.99, "gone.png"),
    (HOSTILE, "cat", 0.7, '<img src=x onerror="x">.png'),
    (HOSTILE, HOSTILE, 0.6, "five.png"),
    ("'=sum", "'=sum", 0.5, "six.png"),
    ("'=sum", "cat", 0.55, "seven.png"),
]
EPOCH_COLUMNS = (
    *("epoch", "phase", "train", "lr", "train/loss", "train/acc1", "val/loss", "val/acc1"),
    *("seconds", "images_per_second", "data_wait_fraction"),
)
EPOCHS = [
    (1, 1, "head", 0.01, 2.0, 0.3, 1.8, 0.4, 10, 50, 0.1),
    (2, 2, "stage4", 0.001, 1.0, 0.6, "", "nan", 20, 80, 0.1),
    (3, 2, "stage4", 0.001, 0.5, 0.8, 0.7, 0.7, 20, 120, 0.3),
]


def write_csv(path: Path, *rows: tuple[object, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_predictions(run: Path, predictions: list[tuple[str, str, float, str]]) -> None:
    """Write predictions as (label, prediction, probability, file)."""
    rows = [(name, label, guess, probability) for label, guess, probability, name in predictions]
    write_csv(run / "predictions.csv", ("path", "label", "prediction", "probability"), *rows)


def write_run(folder: Path) -> Path:
    """Write images and a run below ``folder`` and return the run."""
    root, run = folder / "images", folder / "run <i>1"
    root.mkdir(parents=True)
    run.mkdir()
    for place, (_, _, _, name) in enumerate(PREDICTIONS):
        if name != "gone.png":
            Image.new("RGB", (300, 200), (30 * place, 90, 120)).save(root / name)
    recipe = {"seed": 1, "model": {"variant": "b0"}, "data": {"root": str(root)}, "note": "</pre><script>"}
    (run / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    (run / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    metrics = {"test/acc1": 4 / 7, "test/acc5": 1.0, "test/macro_f1": 0.5, "test/ece": 0.0421, "val/acc1": 0.7}
    metrics |= {"train_seconds": 192.4, "images_per_second": 90.0, "data_wait_fraction": 0.2}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    write_csv(run / "metrics.csv", EPOCH_COLUMNS, *EPOCHS)
    write_predictions(run, PREDICTIONS)
    held = [(name, label, "test") for label, _, _, name in PREDICTIONS]
    splits = [("t.png", "cat", "train")] * 5 + [("v.png", "'=sum", "val"), *held]
    write_csv(run / "split.csv", ("path", "label", "split"), *splits)
    record_start(run / "environment.json")
    return run


def section_html(section: Section, template: str = "run.html") -> str:
    """Return a section as its page has it."""
    macro = getattr(environment().get_template(template).module, section.macro)
    return str(macro(**(section.arguments or {})))


def sections_html(sections: list[Section], template: str = "run.html") -> dict[str, str]:
    """Return the sections of a page by their titles, as the page has them."""
    return {each.title: section_html(each, template) for each in sections if each.arguments is not None}


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

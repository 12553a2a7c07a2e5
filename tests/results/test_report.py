"""The report page: made from a run folder's files alone, self-contained, escaped and right in its numbers."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnet_ft.errors import DataError
from effnet_ft.results import report
from effnet_ft.results.report import contents, formats, sections

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
CONFUSION = [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
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


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root, run = tmp_path / "images", tmp_path / "run <i>1"
    root.mkdir()
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
    rows = [(name, label, guess, probability) for label, guess, probability, name in PREDICTIONS]
    write_csv(run / "predictions.csv", ("path", "label", "prediction", "probability"), *rows)
    splits = [("t.png", "cat", "train")] * 5 + [("v.png", "'=sum", "val")] + [(row[0], row[1], "test") for row in rows]
    write_csv(run / "split.csv", ("path", "label", "split"), *splits)
    return run


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


def test_page_is_self_contained(run: Path) -> None:
    path = report.write_report(run)
    assert path == run / "report.html"
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    page = Page(path)
    for _, attributes in page.tags:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    assert "viewport" in {attributes.get("name") for _, attributes in page.tags}
    assert sorted(child.name for child in run.iterdir() if "report" in child.name) == ["report.html"]


def test_every_section_has_its_anchor(run: Path) -> None:
    page = Page(report.write_report(run))
    anchors = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert anchors == [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]
    assert len(anchors) == len(sections.SECTIONS)


def test_names_are_escaped(run: Path) -> None:
    path = report.write_report(run)
    page = Page(path)
    assert [tag for tag, _ in page.tags].count("script") == 1  # The page's own, for sorting.
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "i" not in [tag for tag, attributes in page.tags if not attributes]
    assert HOSTILE in page.text and '<img src=x onerror="x">.png' in page.text and "</pre><script>" in page.text
    assert "run &lt;i&gt;1" in path.read_text(encoding="utf-8")
    assert any(attributes.get("title") == "a&b 'c'" for tag, attributes in page.tags if tag == "th")


def test_confusion_counts(run: Path) -> None:
    data = contents.read_run(run)
    assert data.confusion.tolist() == CONFUSION
    matrix = re.search(r'<table class="matrix">.*?</table>', report.render(data), re.S)
    assert matrix
    assert re.findall(r"<td[^>]*>(\d*)</td>", matrix[0])[1:] == [str(n or "") for row in CONFUSION for n in row]


def test_scores_of_classes(run: Path) -> None:
    # cat: 2 right of 4 guessed and 3 real; hostile: 1 of 2 and 2; =sum: 1 of 1 and 2; the last has no image at all.
    expected = [[2 / 4, 2 / 3, 4 / 7], [1 / 2, 1 / 2, 2 / 4], [1.0, 1 / 2, 2 / 3], [np.nan] * 3]
    data = contents.read_run(run)
    assert data.tallies.tolist() == [[2, 3, 4], [1, 2, 2], [1, 2, 1], [0, 0, 0]]
    np.testing.assert_allclose(sections.class_scores(data.tallies), expected)
    html = sections.classes(contents.read_run(run))
    assert "50.0%</td>" in html and "66.7%</td>" in html and "57.1%<span" in html
    assert "nan%" not in html


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611.
    assert sections.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert sections.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert all(np.isnan(sections.wilson(0.5, 0)))


def test_headline_numbers(run: Path) -> None:
    html = sections.results(contents.read_run(run))
    assert "<dt>Test accuracy</dt><dd>57.1%</dd><dd>95% interval: 25.0% to 84.2%</dd><dd>top five: 100.0%</dd>" in html
    assert "4.2%" in html and "3 min 12 s" in html and "test, of 13 in all" in html


def test_mistakes_most_confident_first(run: Path) -> None:
    html = sections.mistakes(contents.read_run(run))
    order = [html.index(f"{share}%<small>") for share in ("99.0", "70.0", "55.0")]
    assert order == sorted(order)
    # The missing file is shown by its name, the two others as images.
    assert html.count("data:image/jpeg;base64,") == 2 and html.count("no image") == 1 and "gone.png" in html


def test_without_thumbnails(run: Path) -> None:
    page = Page(report.write_report(run, thumbnails=False))
    assert "img" not in [tag for tag, _ in page.tags]
    assert "seven.png" in page.text


def test_broken_and_outside_images_show_their_name(run: Path) -> None:
    (run.parent / "images" / "seven.png").write_bytes(b"no image at all")
    Image.new("RGB", (8, 8)).save(run.parent / "secret.png")
    data = contents.read_run(run)
    assert sections._thumbnail(data, "one.png")
    for path in ("seven.png", "../secret.png", str(run.parent / "secret.png"), "nul\0.png"):
        assert sections._thumbnail(data, path) == ""


def test_curves_mark_the_phases_and_bridge_gaps(run: Path) -> None:
    html = sections.learning_curves(contents.read_run(run))
    assert html.count(">1 head<") == html.count(">2 stage4<") == 2
    assert html.count('class="phase"') == 4
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', html)] == [3, 2, 3, 2]
    assert "nan" not in html and "validation 70.0%" in html


@pytest.mark.parametrize("epochs", [[], EPOCHS[:1]])
def test_few_epochs(run: Path, epochs: list[tuple[object, ...]]) -> None:
    write_csv(run / "metrics.csv", EPOCH_COLUMNS, *epochs)
    assert "nan" not in sections.learning_curves(contents.read_run(run))
    report.write_report(run)


def test_times_of_phases_and_run(run: Path) -> None:
    html = sections.times(contents.read_run(run))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", html) == [
        *("1", "10.0 s", "50", "10.0%"),
        *("2", "40.0 s", "100", "20.0%"),
        *("3", "3 min 12 s", "90", "20.0%"),
    ]


def test_class_balance(run: Path) -> None:
    html = sections.class_balance(contents.read_run(run))
    assert re.findall(r'data-value="(\d+)"', html) == [*"503", *"002", *"012", *"000"]


def test_run_without_test_split_says_validation(run: Path) -> None:
    metrics = {"val/acc1": 4 / 7, "val/macro_f1": 0.5, "val/ece": 0.04, "train_seconds": 3.0}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    text = report.write_report(run).read_text(encoding="utf-8")
    assert "Validation accuracy" in text and "Test accuracy" not in text
    assert "of the validation images" in text and "7 validation images are mistaken" in text
    assert "top five" not in text


def test_many_classes_list_the_most_confused_pairs(run: Path) -> None:
    (run / "classes.txt").write_text("\n".join(CLASSES + [f"class {n}" for n in range(40)]), encoding="utf-8")
    data = contents.read_run(run)
    html = sections.confusion_matrix(data)
    assert "matrix" not in html and html.count("<li>") == 3
    assert "<b>=sum</b> taken for <b>cat</b>: 1 of 2" in html
    counts = np.arange(900).reshape(30, 30)
    pairs = sections.confused_pairs(counts)
    assert len(pairs) == 20 and pairs[0] == (29, 28, 898) and all(true != guess for true, guess, _ in pairs)


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "metrics.json", "metrics.csv", "predictions.csv", "classes.txt", "split.csv"]
)
def test_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(DataError, match=re.escape(name) + " is missing: .*train again"):
        report.write_report(run)
    assert not list(run.glob("*report*"))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("recipe.yaml", "a: [", "recipe.yaml cannot be understood"),
        ("metrics.json", "{", "metrics.json cannot be understood"),
        ("metrics.csv", "epoch,phase\n1,1\n", "metrics.csv, line 2: no such column or class: 'train'"),
        ("predictions.csv", "path,label,prediction,probability\na,cat,dog,1\n", "predictions.csv, line 2: .*'dog'"),
        ("predictions.csv", "path,label,prediction,probability\na,cat,cat,x\n", "predictions.csv, line 2: .*'x'"),
    ],
)
def test_damaged_file_is_named(run: Path, name: str, text: str, says: str) -> None:
    (run / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        report.write_report(run)


def test_failed_write_keeps_the_older_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "report.html").write_text("older", encoding="utf-8")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(run)
    assert [path.name for path in run.glob("*report*")] == ["report.html"]
    assert (run / "report.html").read_text(encoding="utf-8") == "older"


@pytest.mark.parametrize(("seconds", "words"), [(4.25, "4.2 s"), (192.4, "3 min 12 s"), (7260, "2 h 1 min")])
def test_duration(seconds: float, words: str) -> None:
    assert formats.duration(seconds) == words


def test_import_needs_no_torch() -> None:
    code = "import sys, effnet_ft.results.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

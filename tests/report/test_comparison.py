"""Runs compared: metrics, recipes, predictions of the same images, and what is said where the images differ."""

from __future__ import annotations

import json
import shutil
from html import unescape
from pathlib import Path

import pytest
from plans import plan_of
from report_run import EPOCH_COLUMNS, EPOCHS, HOSTILE, PREDICTIONS, sections_html, write_csv, write_predictions

from effnet_ft.cli import main
from effnet_ft.errors import DataError
from effnet_ft.report.comparison import Comparison, compare, comparison_sections, mcnemar, short_names


@pytest.fixture
def other(run: Path) -> Path:
    """A run of another recipe on the same images: one answer is worse than of `run`, two are better."""
    folder = run.parent / "other"
    shutil.copytree(run, folder)
    recipe = json.loads((run / "recipe.yaml").read_text())
    recipe["model"]["variant"] = "b1"
    recipe |= {"phases": [{"train": "all", "<b>": 1}], "run_dir": "elsewhere"}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    answers = {"one.png": HOSTILE, "gone.png": "cat", "seven.png": "'=sum"}
    write_predictions(folder, [(label, answers.get(name, guess), 0.6, name) for label, guess, _, name in PREDICTIONS])
    return folder


def compare_sections(comparison: Comparison) -> dict[str, str]:
    return sections_html(comparison_sections(comparison), "comparison.html")


def test_predictions_of_two_runs(run: Path, other: Path) -> None:
    comparison = compare([run, other])
    (pair,) = comparison.pairs
    assert (pair.only_first, pair.only_second) == (1, 2)
    assert pair.p_value == pytest.approx(1.0)
    # All three are right in one of the runs; the most confident one comes first.
    assert [rows[0].path for rows in comparison.disagreements] == ["gone.png", "one.png", "seven.png"]
    assert comparison.differences == [
        ("model.variant", ["b0", "b1"]),
        ("phases.0.train", ["", "all"]),
        ("phases.0.<b>", ["", "1"]),
    ]


def test_what_a_plan_decided_is_what_is_compared(run: Path, other: Path) -> None:
    for folder, variant in ((run, "lite0"), (other, "lite1")):
        recipe = json.loads((folder / "recipe.yaml").read_text())
        recipe["data"] = {**recipe.get("data", {}), "image_size": "auto"}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        plan_of(f"model.variant={variant}").save(folder / "plan.yaml")
    assert ("data.image_size", ["224", "240"]) in compare([run, other]).differences


def test_mcnemar() -> None:
    # Two-sided exact binomial of 1 among 10: 2 * (1 + 10) / 2**10.
    assert mcnemar(1, 9) == pytest.approx(22 / 1024) and mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(0, 0) == 1.0


def test_different_images_are_not_compared(run: Path, other: Path) -> None:
    write_predictions(other, PREDICTIONS[:-1])
    comparison = compare([run, other])
    assert "different images: run <i>1 on 7, other on 6, 6 of them shared" in comparison.mismatch
    sections = compare_sections(comparison)
    assert "Where they differ" not in sections and "McNemar" not in sections["Results"]
    assert "run &lt;i&gt;1 on 7" in sections["Results"]


def test_different_labels_are_reported(run: Path, other: Path) -> None:
    write_predictions(other, [("a&b 'c'", *PREDICTIONS[0][1:]), *PREDICTIONS[1:]])
    assert "the labels differ: 1 of 7" in compare([run, other]).mismatch


def test_page_shows_who_is_right(run: Path, other: Path) -> None:
    sections = compare_sections(compare([run, other]))
    html = sections["Where they differ"]
    assert "predict 3 of 7 images differently." in html and html.count("<figure>") == 3
    assert html.count("<figcaption>label: <b>") == 3
    assert html.count('<li class="wrong">') == html.count('<li class="right">') == 3
    assert unescape(html).count(HOSTILE) and "<script" not in html
    assert sections["Curves"].count("<svg") == 2 and sections["Curves"].count('class="key run1"') == 2
    assert "phases.0.&lt;b&gt;" in sections["Recipes"]


def test_many_disagreements_are_cut(run: Path, other: Path) -> None:
    for folder, guess in ((run, "cat"), (other, HOSTILE)):
        write_predictions(folder, [("cat", guess, 0.5, f"{n}.png") for n in range(53)])
    html = compare_sections(compare([run, other]))["Where they differ"]
    assert html.count("<figure>") == 48 and "differently; 48 are shown." in html


@pytest.mark.parametrize("which", [[0], [0, 0]])
def test_one_run_has_nothing_to_be_compared_with(run: Path, which: list[int]) -> None:
    with pytest.raises(DataError, match="two or more"):
        compare([run for _ in which])


def test_labels_and_classes_are_not_compared(run: Path, other: Path) -> None:
    (other / "metrics.json").write_text(json.dumps({"val/map": 0.5}))
    for name, single, several in (("split.csv", "label", "labels"), ("metrics.csv", "acc1", "map")):
        (other / name).write_text((other / name).read_text().replace(single, several))
    with pytest.raises(DataError, match="cannot be compared"):
        compare([run, other])


@pytest.mark.parametrize(
    ("paths", "names"),
    [(["/a/one", "/a/two"], ["one", "two"]), (["/a/x", "/b/x"], ["a/x", "b/x"]), (["/a/b", "/b"], ["a/b", "/b"])],
)
def test_short_names_tell_runs_apart(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names


def test_command(run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    write_csv(other / "metrics.csv", EPOCH_COLUMNS, *EPOCHS[:1])
    assert main(["compare", str(run), str(other), "--out", str(page)]) == 0
    out = capsys.readouterr().out
    assert "predicted differently: 3 of 7 images" in out and "57.1%" in out and "model.variant" in out
    assert f"page: {page}" in out and "Where they differ" in page.read_text()
    assert main(["compare", str(run), str(tmp_path / "none"), "--out", str(page)]) == 2
    assert "none" in capsys.readouterr().err

"""The report page: made from a run folder's files alone, self-contained, escaped and right in its numbers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from plans import plan_of
from report_run import HOSTILE, Page

from effnet_ft import report
from effnet_ft.cli import main
from effnet_ft.errors import DataError
from effnet_ft.report.contents import read_run
from effnet_ft.report.formats import duration
from effnet_ft.report.run_page import sections_of
from effnet_ft.utils.text import counted


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
    assert len(anchors) == len([section for section in sections_of(read_run(run)) if section.arguments is not None])


def test_decisions_stand_beside_their_reasons(run: Path) -> None:
    assert "Decisions" not in Page(report.write_report(run)).text, "runs of version 0.1 have no plan"
    plan = plan_of("phases=[{train: head, epochs: 2, lr: auto}, {train: all, epochs: 2, lr: 1e-3, lr_scaling: sqrt}]")
    found = replace(plan.phases[0], optim=replace(plan.phases[0].optim, lr=0.0125))
    plan.with_phase(found, "learning rate <0.0125>", {"phases.0.lr": "the best of 56"}).save(run / "plan.yaml")
    text = Page(report.write_report(run)).text
    for part in (
        "Decisions",
        "lite (the best published top-1)",
        "0.0125 (the best of 56)",
        "0.001, sqrt in 32 / 256 images a step",
        "learning rate <0.0125>",
    ):
        assert part in text, part


def test_names_are_escaped(run: Path) -> None:
    path = report.write_report(run)
    page = Page(path)
    assert [tag for tag, _ in page.tags].count("script") == 2  # The page's own and the matrix's numbers.
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "i" not in [tag for tag, attributes in page.tags if not attributes]
    assert HOSTILE in page.text and '<img src=x onerror="x">.png' in page.text and "</pre><script>" in page.text
    assert "run &lt;i&gt;1" in path.read_text(encoding="utf-8")


def test_a_foreign_recipe_cannot_put_the_environment_on_the_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "password")
    (run / "recipe.yaml").write_text("model: {variant: '${oc.env:SECRET}'}")
    with pytest.raises(DataError, match=r"recipe\.yaml cannot be understood .*model\.variant"):
        report.write_report(run)


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
    assert duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 images"), (1, "1 image"), (1200, "1,200 images")])
def test_counted(count: int, words: str) -> None:
    assert counted(count, "image") == words


def test_import_needs_no_torch() -> None:
    code = "import sys, effnet_ft.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_command_finds_images_that_have_moved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    before = (run / "report.html").read_bytes()
    moved = (run.parent / "images").rename(run.parent / "moved")
    assert main(["report", str(run)]) == 2
    assert "give data.root=FOLDER; " in capsys.readouterr().err and (run / "report.html").read_bytes() == before
    assert main(["report", str(run), "seed=3"]) == 2
    assert main(["report", str(run), f"data.root={moved}"]) == 0
    assert (run / "report.html").read_bytes() == before
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0, "a page without images is better than none"
    assert "without images: " in capsys.readouterr().err and (run / "report.html").is_file()


def test_command_without_a_checkpoint_leaves_out_what_needs_it(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("checkpoints", "environment.json", "report.html"))
    assert main(["report", str(run)]) == 0
    assert "without Grad-CAM and training views" in capsys.readouterr().err
    text = (run / "report.html").read_text()
    assert "Without Grad-CAM: " in text and "Left out: " in text and "were not recorded" in text

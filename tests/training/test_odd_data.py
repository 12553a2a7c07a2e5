"""Small and odd data sets lose nothing: every image is trained on, from the store and from the files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.sources.manifest import read_manifest
from effnet_ft.data.splits.split import read_split
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.utils.tables import unescape_formula

PHASES = "phases=[{train: head, epochs: 2, lr: 1e-3}, {train: stage7, epochs: 2, lr: 1e-3}]"
SIDES = {"small": (12, 9), "plain": (70, 80)}


def draw(root: Path, split: str, counts: dict[str, int], side: tuple[int, int]) -> None:
    random = np.random.default_rng(len(split))
    for name, count in counts.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).save(folder / f"{number}.png")


CASES = {
    "one image left over": ({"a": 9, "b": 8}, "plain"),
    "fewer images than a batch": ({"a": 3, "b": 2}, "plain"),
    "one image a class": ({"a": 1, "b": 1, "c": 1}, "plain"),
    "images smaller than the crop": ({"a": 5, "b": 5}, "small"),
}


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("store", ["keep", "off"])
@pytest.mark.parametrize("case", CASES)
def test_every_image_is_trained_on(case: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, kind = CASES[case]
    draw(tmp_path / "images", "train", counts, SIDES[kind])
    draw(tmp_path / "images", "val", dict.fromkeys(counts, 1), SIDES[kind])
    seen: list[float] = []
    speed = Throughput.speed
    monkeypatch.setattr(Throughput, "speed", lambda self, of: seen.append(of["images"]) or speed(self, of))
    run = Run(tmp_path / "run")
    command = ["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={run.folder}", PHASES, f"store={store}"]
    assert main([*command, *TINY]) == 0
    images = sum(counts.values())
    assert seen == [images] * 4, "an epoch left an image out, or showed one twice"


def test_classes_that_are_never_right_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, count in {"train": 2, "val": 1, "test": 2}.items():
        draw(tmp_path / "images", part, dict.fromkeys("abcdefgh", count), SIDES["plain"])
    command = ["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={tmp_path / 'run'}"]
    assert main([*command, "phases=[{train: head, epochs: 1, lr: 1e-9}]", *TINY]) == 0
    with Run(tmp_path / "run").predictions.open() as file:
        rows = list(csv.DictReader(file))
    missed = sorted(set("abcdefgh") - {row["label"] for row in rows if row["label"] == row["prediction"]})
    assert len(missed) > 5
    line = f"no correct prediction on the test images of {len(missed)} classes: {', '.join(missed[:5])}"
    assert f"\n{line} and {len(missed) - 5} more\n" in capsys.readouterr().out


def test_hostile_names_are_trained_on_and_read_back(tmp_path: Path) -> None:
    classes = ("=HYPERLINK(1)", "'@b", '<b>"c"<b>, d')
    draw(tmp_path / "images", "train", dict.fromkeys(classes, 2), SIDES["plain"])
    draw(tmp_path / "images", "val", dict.fromkeys(classes, 1), SIDES["plain"])
    for folder in (tmp_path / "images" / "val").iterdir():
        (folder / "0.png").rename(folder / "+two\r\nlines.png")
    run = Run(tmp_path / "run")
    command = ["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={run.folder}", PHASES]
    assert main([*command, *TINY]) == 0
    names = set(classes)
    split = read_split(run.split, tmp_path / "images", classes)
    assert {sample.label for sample in split.val} == names
    assert all(split.image(sample).is_file() for sample in split.part("all"))
    with run.predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {unescape_formula(row["label"]) for row in rows} == names
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert '<b>"c"' not in (page := run.report.read_text()) and "&lt;b&gt;" in page
    assert read_manifest(run.split, str(tmp_path / "images")).classes == tuple(sorted(names))
    assert main(["evaluate", str(run.folder)]) == 0


def test_a_class_of_two_lines_is_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "images", "train", {"a": 2, "b\nc": 2}, SIDES["plain"])
    draw(tmp_path / "images", "val", {"a": 1, "b\nc": 1}, SIDES["plain"])
    command = ["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={tmp_path / 'run'}", PHASES, *TINY]
    assert main(command) == 2
    assert "rename the classes\n  b\\nc\n" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_evaluation")
def test_an_image_of_a_hundred_million_pixels(tmp_path: Path) -> None:
    draw(tmp_path / "images", "train", {"a": 3, "b": 3}, SIDES["plain"])
    draw(tmp_path / "images", "val", {"a": 1, "b": 1}, SIDES["plain"])
    Image.new("L", (10_000, 10_000), 200).save(tmp_path / "images" / "train" / "a" / "huge.png", compress_level=1)
    phases = "phases=[{train: head, epochs: 2, lr: 1e-3}, {train: all, epochs: 2, lr: 1e-4}]"
    run = tmp_path / "run"
    assert main(["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={run}", phases, *TINY]) == 0


@pytest.mark.usefixtures("no_evaluation")
def test_copies_of_training_images_in_other_parts_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        draw(tmp_path / "images", split, {"a": 3, "b": 3}, SIDES["plain"])
    copied = (tmp_path / "images" / "train" / "a" / "0.png").read_bytes()
    (tmp_path / "images" / "test" / "a" / "1.png").write_bytes(copied)
    command = ["train", "folder", f"data.root={tmp_path / 'images'}", f"run_dir={tmp_path / 'run'}", PHASES, *TINY]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "1 test image byte-identical to training images" in printed and "test/a/1.png" in printed

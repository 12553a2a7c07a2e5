"""The commands of the pages, one after the other, as a newcomer gives them, on real photographs."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import HOME, MISTAKES, commands

pytestmark = pytest.mark.slow

NOT_RUN = {
    r"^make ": "each is run as it is while the project is worked on",
    r" > ": "writes the page; tests compare it",
    r"devices=4|nproc-per-node=8|^srun ": "more processors than a laptop's",
    r"=b[0-9]|--download|cifar100|flowers102": "downloads",
    r"effnet-ft sweep": "hours; tests/sweep/test_sweep.py runs its like",
}
"""Commands that are only read (``test_docs.py``), by pattern, and why."""

PAGES = (
    "README.md",
    "docs/checking.md",
    "docs/distributed.md",
    "docs/recipes.md",
    "docs/reliability.md",
)


@pytest.fixture
def place(real_data: Path, tmp_path: Path) -> Path:
    """A project's folder with what the pages take to be there: photographs, a list of them, and new ones."""
    flowers, place = real_data / "flowers17", tmp_path / "project"
    (place / "new").mkdir(parents=True)
    (tmp_path / "shared").symlink_to(real_data.parent)
    for image in sorted((flowers / "test" / "iris").iterdir()):
        shutil.copy(image, place / "new")
    rows = [("path", "label", "split")]
    for part in ("train", "test"):
        for name in ("daisy", "iris", "tulip"):
            folder = place / "photos" / part / name
            folder.mkdir(parents=True)
            for image in sorted((flowers / part / name).iterdir()):
                shutil.copy(image, folder)
                rows.append((f"photos/{part}/{name}/{image.name}", name, part))
    with (place / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return place


def run(text: str, place: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(text)
    program = [sys.executable, *(["-m", "effnet_ft"] if words[0] == "effnet-ft" else [HOME / "train.py"])]
    rest = words[1:] if words[0] == "effnet-ft" else words[2:]
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run([*program, *rest], cwd=place, env=environment, capture_output=True, text=True)
    print(f"$ {text}\n{done.stdout}{done.stderr}")
    return done


def answers(file: Path) -> list[list[str]]:
    """Each row's image and its first answer, with the header."""
    with file.open(newline="") as lines:
        return [row[:2] for row in csv.reader(lines)]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, place: Path) -> None:
    for text in commands(HOME / page):
        if any(re.search(pattern, shlex.join(shlex.split(text)).replace("'>'", ">")) for pattern in NOT_RUN):
            continue
        if "runs/another" in text:
            shutil.copytree(place / "runs/flowers17-lite0", place / "runs/another")
        done = run(text, place)
        # Photographs that are in training and test are what the check finds serious.
        allowed = {2} if text in MISTAKES else {0, 2} if text.startswith("effnet-ft check") else {0}
        assert done.returncode in allowed, text
        assert "Traceback" not in done.stderr, text


def test_the_tutorial_goes_from_photographs_to_an_exported_model(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(real_data / "flowers17")
    for text in commands(HOME / "docs" / "tutorial.md"):
        assert run(text, tmp_path).returncode == (2 if text.startswith("effnet-ft check") else 0), text
    assert json.loads((tmp_path / "runs/photos/metrics.json").read_text())["test/acc1"] > 0.9
    for file in ("runs/photos/report.html", "compare.html", "photos.onnx", "photos-int8.onnx"):
        assert (tmp_path / file).stat().st_size > 0
    # An exported model answers as the run does.
    of_run, of_file = (answers(tmp_path / file) for file in ("predictions.csv", "again.csv"))
    assert of_run == of_file
    assert len(of_run) == 273

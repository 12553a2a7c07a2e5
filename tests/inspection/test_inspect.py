"""Faults that were planted are found, by the command that a user runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from PIL import Image
from planting import Planted, plant
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.demo_flowers import draw_flowers
from effnet_ft.data.images.decoding import ORIENTATION
from effnet_ft.inspection.check_report import PAGE

Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn species, 16 images of each in train/ and four in test/. Read only."""
    root = tmp_path_factory.mktemp("data") / "garden"
    for seed, (part, count) in enumerate({"train": 16, "test": 4}.items()):
        draw_flowers(root / part, per_class=count, size=96, seed=seed, species=("daisy", "lavender", "tulip"))
    return root


@pytest.fixture(scope="module")
def planted(garden: Path, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(garden, tmp_path_factory.mktemp("planted") / "garden", count=4)


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command for its exit code and its findings."""

    def run(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["check", str(root), *TINY, "--json", "--out", str(tmp_path / "page"), *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def together(found: dict[str, Any], kind: str) -> list[set[str]]:
    return [{image["path"] for image in copies["images"]} for copies in found["copies"] if copies[kind]]


@pytest.mark.parametrize("quick", [[], ["--quick"]], ids=["", "quick"])
def test_what_was_planted_is_found(planted: Planted, check: Check, quick: list[str]) -> None:
    code, found = check(planted.root, *quick)
    assert code == 2
    assert found["serious"]
    assert set(found["unreadable"]) == set(planted.broken)
    across = together(found, "across")
    assert all({path, copy} in across for path, copy in planted.copies.items())
    assert len(across) == len(planted.copies)
    if quick:
        assert found["suspicions"] is None
    else:
        named = {issue["image"]["path"]: issue["likelier"] for issue in found["suspicions"][:6]}
        assert planted.wrong.items() <= named.items()


def test_clean_images_are_nothing_serious(garden: Path, check: Check, tmp_path: Path) -> None:
    code, found = check(garden)
    assert code == 0
    assert not found["serious"]
    assert not found["copies"]
    assert not [issue for issue in found["suspicions"] if issue["strong"]]
    assert not found["refused"]
    assert found["parts"] == {"train": 48, "test": 12}
    assert found["counts"]["daisy"] == {"train": 16, "test": 4}
    assert (tmp_path / "page" / PAGE).is_file()


def test_a_second_check_reads_no_image(garden: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    first = check(garden)[1]
    for reader in ("effnet_ft.inspection.file_scan._scan", "effnet_ft.activations.store.read_image"):
        monkeypatch.setattr(reader, lambda path: pytest.fail(f"read {path} again"))
    again = check(garden)[1]
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_one_image_under_two_labels_is_serious(garden: Path, check: Check, tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    content = (garden / "train" / "daisy" / "000.jpg").read_bytes()
    rows = ["path,label"]
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes((garden / "train" / "daisy" / f"{number:03}.jpg").read_bytes())
        rows.append(f"{number}.jpg,{'ab'[number % 2]}")
    (tmp_path / "7.jpg").write_bytes(content)
    manifest.write_text("\n".join(rows))
    code, found = check(manifest, "data.source=manifest", "--quick")
    assert code == 2
    assert together(found, "contradictory") == [{"0.jpg", "7.jpg"}]
    assert found["copies"][0]["exact"]


def test_duplicates_that_the_split_would_separate_are_found(garden: Path, check: Check, tmp_path: Path) -> None:
    root = tmp_path / "all"
    for name in ("daisy", "tulip"):
        (root / name).mkdir(parents=True)
        for number in range(8):  # of each image a copy
            content = (garden / "train" / name / f"{number:03}.jpg").read_bytes()
            for copy in ("x", "y"):
                (root / name / f"{number}{copy}.jpg").write_bytes(content)
    code, found = check(root, "--quick")
    assert code == 0, "a leak that the user did not make"
    assert len(found["copies"]) == 16
    torn = together(found, "torn")
    assert 0 < len(torn) < 16
    assert all((len({image["fate"] for image in copies["images"]}) > 1) is copies["torn"] for copies in found["copies"])


def test_each_of_several_labels_is_checked(garden: Path, check: Check, tmp_path: Path) -> None:
    rows = ["path,labels"]
    for path in sorted((garden / "train").rglob("*.jpg")):
        rows.append(f"{path.relative_to(garden).as_posix()},{path.parent.name}|plant")
    rows[2] = rows[2].replace("daisy|", "")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    _, found = check(tmp_path / "list.csv", "data.source=manifest", f"data.images={garden}")
    first = found["suspicions"][0]
    assert (first["image"]["path"], first["label"], first["likelier"]) == ("train/daisy/001.jpg", "daisy", "daisy")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (
            {"a": 3, "b": 0, "c": 1},
            {"small": {"a": 3, "b": 0, "c": 1}, "untrained": [], "refused": "no image in 1 class"},
        ),
        (
            {"train/a": 6, "train/b": 5, "test/a": 1, "test/c": 6},
            {"small": {}, "untrained": ["c"], "refused": "without a folder in train/"},
        ),
        ({"a": 1}, {"small": {"a": 1}, "untrained": [], "refused": "one class only"}),
        ({"a": 5, "b": 2}, {"small": {"b": 2}, "untrained": [], "refused": "fewer than 3 images"}),
        ({"test/a": 5, "test/b": 6}, {"parts": {"test": 11}, "untrained": [], "refused": "no train/"}),
    ],
    ids=["empty class", "class without training", "one image", "two images", "test alone"],
)
def test_why_training_would_refuse_the_images_is_reported(
    folders: dict[str, int], expected: dict[str, Any], image_folder: Callable[..., Path], check: Check
) -> None:
    code, found = check(image_folder(**folders))
    assert code == 0
    reason = expected.pop("refused")
    assert {key: found[key] for key in expected} == expected
    assert reason in found["refused"]


def test_the_table_does_not_call_harmless_what_training_refuses(
    image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(a=5, b=5, hollow=0)
    (root / "a" / "IMG_1.HEIC").touch()
    assert main(["check", str(root), "--quick", "--out", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr().out
    assert "nothing serious, but training would refuse these images;" in printed
    assert re.search(r"why training would stop\n  no image in 1 class folder .*\n +hollow\n", printed)
    assert re.search(r"unsupported photographs +1  .*JPEG", printed)
    assert "ignored files" not in printed
    assert "Why training would stop" in (tmp_path / "page" / PAGE).read_text()


def test_images_none_of_which_can_be_read_are_listed(check: Check, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.jpg").write_text("no image")
    code, found = check(tmp_path / "data")
    assert code == 2
    assert set(found["unreadable"]) == {"a/0.jpg", "b/0.jpg"}
    assert found["suspicions"] == [] and found["copies"] == []


def test_the_page_opens_without_errors_and_fits_a_phone(planted: Planted, check: Check, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as opened:
        _, found = check(planted.root, "--quick")
        opened.open(tmp_path / "page" / PAGE, width=390)
        assert not opened.console
        assert opened.run("document.documentElement.scrollWidth") <= 390
        figures = "document.querySelectorAll('#duplicates-across-splits figure').length"
        assert opened.run(figures) == 2 * len(planted.copies)
        decoded = "image => { image.loading = 'eager'; return image.decode() }"
        count = f"Promise.all([...document.images].map({decoded})).then(all => all.length)"
        assert opened.run(count) == 2 * (len(planted.copies) + len(found["copies"]) - len(together(found, "across")))


def test_the_table_names_each_kind(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (broken, *_) = planted.broken
    assert main(["check", str(planted.root), *TINY]) == 2
    printed = capsys.readouterr().out
    assert re.search(r"^! +unreadable files +4 ", printed, re.MULTILINE)
    assert re.search(r"^! +duplicates across splits +4 ", printed, re.MULTILINE)
    assert f"  {broken}: " in printed
    for path, copy in planted.copies.items():
        assert f"{copy} = {path}" in printed
    assert f"checks/garden/{PAGE}" in printed
    assert re.search(r"label: \w+ \(\d+%\); more likely: \w+ \(\d+%\)", printed)
    page = (tmp_path / "checks" / "garden" / PAGE).read_text()
    sections = re.findall(r'<section id="([^"]*)"', page)
    assert sections[:2] == ["findings", "label-issues"]


def test_files_that_are_only_unusual_are_folded_away(garden: Path, tmp_path: Path) -> None:
    for path in garden.glob("train/*/00[0-3].jpg"):
        (tmp_path / "data" / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            exif = image.getexif()
            exif[ORIENTATION] = 3  # upside down
            image.save(tmp_path / "data" / path.parent.name / path.name, exif=exif)
    assert main(["check", str(tmp_path / "data"), "--quick", "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / PAGE).read_text()
    folded = re.findall(r"<details>(.*?)</details>", page, re.DOTALL)
    assert len(folded) == 1 and "turned by EXIF: 12</b>" in folded[0]
    assert folded[0].count("<img") == page.count("<img") == 12


def test_the_page_shows_all_and_loads_nothing(garden: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, name in enumerate(("<b>&amp;", "tulip")):
        (root / name).mkdir(parents=True)
        for index in range(6):
            source = garden / "train" / ("daisy", "tulip")[number] / f"{index:03}.jpg"
            (root / name / f"{index}.jpg").write_bytes(source.read_bytes())
    (root / "tulip" / "again.jpg").write_bytes((root / "<b>&amp;" / "0.jpg").read_bytes())
    (root / "tulip" / "<i>.jpg").write_text("no image")
    assert main(["check", str(root), "--quick", "--out", str(tmp_path / "page")]) == 2
    page = (tmp_path / "page" / PAGE).read_text()
    assert "&lt;b&gt;&amp;amp;" in page and "&lt;i&gt;.jpg" in page
    assert "<b>&amp;/" not in page and "<i>.jpg" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert page.count("data:image/jpeg") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{root}/missing"], "does not exist"),
        (["{root}", "model.weights=none"], "--quick"),
        (["{root}", "data.rot=x"], "unknown key 'data.rot'"),
        (["{root}", "--quick", "--out", "{root}/daisy/000.jpg"], "--out"),
    ],
)
def test_mistakes_are_reported(
    arguments: list[str], message: str, garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *(text.format(root=garden / "train") for text in arguments)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_faults_of_photographs_are_found(seed: int, real_data: Path, tmp_path: Path, check: Check) -> None:
    planted = plant(real_data / "flowers17", tmp_path / "flowers17", seed=seed)
    code, found = check(planted.root, "data.image_size=224")
    assert code == 2
    assert set(found["unreadable"]) == set(planted.broken)
    across = together(found, "across")
    assert all(any({path, copy} <= group for group in across) for path, copy in planted.copies.items())
    first = {issue["image"]["path"] for issue in found["suspicions"][:30]}
    assert len(first & set(planted.wrong)) >= 8


@pytest.mark.slow
def test_on_clean_photographs_it_can_be_read(real_data: Path, check: Check) -> None:
    _, found = check(real_data / "flowers17", "data.image_size=224")
    assert not found["unreadable"] and not found["odd"] and not together(found, "contradictory")
    assert len([issue for issue in found["suspicions"] if issue["strong"]]) <= 10
    assert len(found["suspicions"]) <= 60
    assert len(found["copies"]) <= 80  # of photographs that are there twice indeed

"""The command line as a user meets it: quick tables, one message a mistake, exit codes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tiny import TINY

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.table import WEIGHTS
from effnet_ft.recipe import recipe_folder
from effnet_ft.utils.tables import unescape_formula

ROOT = Path(__file__).parent.parent
PHASE = "phases=[{train: head, epochs: 1, lr: 1e-3}]"

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fails:
    """Run a command that must end with exit code 2 and one message; a training must not leave a run folder."""

    def run(*arguments: str) -> str:
        folder = tmp_path / "run"
        extra = [f"run_dir={folder}", PHASE, *TINY] if arguments[0] == "train" else []
        assert main([*arguments, *extra]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("effnet-ft: ")
        assert not folder.exists()
        return captured.err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        *(["train", "--help"], ["models"], ["recipes"], ["recipes", "--markdown"], ["train", "foldr"]),
        ["sweep", "folder", "data.root=x", "--grid", "optim.decay=0,1"],
    ],
    ids=" ".join,
)
def test_help_tables_and_recipe_errors_need_no_torch(arguments: list[str]) -> None:
    script = f"""
import sys
from effnet_ft.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
assert not {{"torch", "albumentations", "pytorch_lightning"}} & set(sys.modules), "a heavy import"
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_train_script_is_the_train_command() -> None:
    done = subprocess.run([sys.executable, ROOT / "train.py", "foldr"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "effnet-ft: recipe error: no recipe 'foldr': neither a file nor one of "
        f"{', '.join(sorted(path.stem for path in recipe_folder().glob('*.yaml')))}; did you mean 'folder'?"
    ]


def test_models_lists_every_variant_and_every_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert {line.split()[0] for line in lines} == set(VARIANTS)
    for record in WEIGHTS.values():
        assert any({record.variant, record.family} <= set(line.replace(",", "").split()) for line in lines)
    assert main(["models", "--weights"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == list(WEIGHTS)
    for row, record in zip(rows, WEIGHTS.values(), strict=True):
        assert {f"{record.top1:.2f}", record.digits, record.padding} <= set(row)


def test_recipes_lists_every_file_those_for_own_images_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    first, second, *others = (line.split()[0] for line in capsys.readouterr().out.splitlines())
    assert [first, second] == ["folder", "folder_quick"]
    assert others == sorted(others)
    assert {first, second, *others} == {path.stem for path in recipe_folder().glob("*.yaml")}


def test_mistakes_in_the_data_folder(fails: Fails, image_folder: Callable[..., Path]) -> None:
    assert "does not exist" in fails("train", "folder", "data.root=/nowhere")
    root = image_folder(cat=4, dog=4)
    (root / "bird").mkdir()
    assert "bird" in fails("train", "folder", f"data.root={root}")
    (root / "bird").rmdir()
    for number in range(4):
        (root / "dog" / f"{number}.jpg").unlink()
    (root / "dog").rmdir()
    assert "one class only, 'cat'" in fails("train", "folder", f"data.root={root}")


def test_class_in_test_but_not_in_train(fails: Fails, image_folder: Callable[..., Path]) -> None:
    root = image_folder(**{"train/a": 3, "train/b": 3, "test/a": 1, "test/zebra": 1})
    assert "zebra" in fails("train", "folder", f"data.root={root}")


def test_too_few_images_to_split(fails: Fails, image_folder: Callable[..., Path]) -> None:
    assert "b: 2" in fails("train", "folder", f"data.root={image_folder(a=5, b=2)}")


def test_unreadable_image_is_refused_or_skipped(
    fails: Fails, image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(a=6, b=6)
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "a" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    text = fails("train", "folder", f"data.root={root}")
    assert "a/0.jpg" in text and "data.bad_images=skip" in text
    run = tmp_path / "skipped"
    arguments = [f"data.root={root}", "data.bad_images=skip", f"run_dir={run}", PHASE, *TINY]
    assert main(["train", "folder", *arguments]) == 0
    assert "a/0.jpg" in capsys.readouterr().out
    assert "a/0.jpg" not in (run / "split.csv").read_text()
    assert "a/0.jpg" in (run / "log.txt").read_text()


def test_keys_are_not_called_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.endswith("the following arguments are required: RECIPE\n")


def test_a_report_of_no_run_is_one_message(fails: Fails, tmp_path: Path) -> None:
    assert fails("report", str(tmp_path)) == f"effnet-ft: '{tmp_path}' is not a run folder: it has no recipe.yaml\n"


def test_a_used_run_folder_is_left_alone(
    image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    root = image_folder(a=4, b=4)
    assert main(["train", "folder", f"data.root={root}", f"run_dir={tmp_path / 'mine'}", PHASE, *TINY]) == 2
    assert "already has files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("setting", ["trainer.accelerator=abacus", "trainer.strategy=magic", "trainer.precision=3"])
def test_trainer_settings_that_do_not_fit(
    setting: str, image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(a=4, b=4)
    arguments = [f"data.root={root}", f"run_dir={tmp_path / 'run'}", PHASE, *TINY, setting]
    assert main(["train", "folder", *arguments]) == 2
    assert setting.partition("=")[2] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made(
    image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    root = image_folder(a=4, b=4)
    arguments = [f"data.root={root}", PHASE, *TINY, f"run_dir={tmp_path / 'file' / 'run'}"]
    assert main(["train", "folder", *arguments]) == 2
    assert "run_dir" in capsys.readouterr().err


def test_weights_that_cannot_be_had_name_the_ways_on(fails: Fails, image_folder: Callable[..., Path]) -> None:
    root = image_folder(a=4, b=4)
    assert "there are no weights for lite4" in fails("train", "folder", f"data.root={root}", "model.variant=lite4")


def test_evaluate_prints_and_writes_the_runs_own_numbers(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "metrics.json", tmp_path / "answers.csv"
    assert main(["evaluate", str(trained_run), "--json", str(out), "--out", str(table)]) == 0
    of_run = json.loads((trained_run / "metrics.json").read_text())
    measured = json.loads(out.read_text())
    assert measured == {key: value for key, value in of_run.items() if key.startswith("test/")}
    assert f"{measured['test/acc1']:.4f}" in capsys.readouterr().out
    assert table.read_text() == (trained_run / "predictions.csv").read_text()


def test_evaluate_on_another_folder_matches_classes_by_name(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    for name in ("tulip", "lavender"):  # two of the run's three classes, in an order of their own
        (other / name).mkdir(parents=True)
        for path in sorted((flowers / name).iterdir())[:5]:
            (other / name / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "answers.csv"
    assert main(["evaluate", str(trained_run), f"data.root={other}", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "10 images, all" in printed.out
    assert "has 10 of the run's 36 images, by content: all of its 10 are measured" in printed.err
    assert re.search(r"trained or selected on \d of these 10 images", printed.err)
    everything = tmp_path / "everything.csv"
    assert main(["evaluate", str(trained_run), "--split", "all", "--out", str(everything)]) == 0
    with everything.open() as file:
        expected = {row["path"]: row["prediction"] for row in csv.DictReader(file)}
    with out.open() as file:
        for row in csv.DictReader(file):
            assert row["prediction"] == expected[row["path"]]


def test_evaluate_knows_its_images_by_content(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed, same_names = tmp_path / "renamed", tmp_path / "names"
    for path in flowers.glob("*/*.jpg"):
        for folder, name, content in ((renamed, f"x{path.name}", b""), (same_names, path.name, b"other")):
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / path.parent.name / name).write_bytes(path.read_bytes() + content)
    assert main(["evaluate", str(trained_run), f"data.root={renamed}"]) == 0
    printed = capsys.readouterr()
    assert "6 images, test split" in printed.out and "has the run's own images, by content" in printed.err
    assert "too good" not in printed.err
    assert main(["evaluate", str(trained_run), f"data.root={same_names}"]) == 0
    printed = capsys.readouterr()
    assert "36 images, all" in printed.out and "has 0 of the run's 36 images, by content" in printed.err


def test_photographs_that_cannot_be_read_are_told(
    fails: Fails, trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = tmp_path / "1.HEIC"
    photograph.touch()
    for path in (tmp_path, tmp_path / "*"):
        message = fails("predict", str(trained_run), str(path))
        assert f"HEIC and raw photographs are not read: save them as JPEG\n  {photograph}" in message
    assert main(["predict", str(trained_run), str(photograph)]) == 2
    assert f"{photograph}: not an image, or of a kind that is not supported: save it as" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_folders_are_listed_as_for_training(
    command: str, trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next(flowers.glob("*/*.jpg"))
    for name in ("photos/1.jpg", "photos/@eaDir/2.jpg", "photos/.cache/3.jpg", "photos/.4.jpg", "elsewhere/5.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / name)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "6.heic").touch()
    out = ["--out", str(tmp_path / "out")] if command == "explain" else []
    assert main([command, str(trained_run), str(tmp_path / "photos"), *out]) == 0
    printed = capsys.readouterr()
    paths = [line.split(",")[0] for line in printed.out.splitlines()[1:]]
    assert paths == [str(tmp_path / "photos" / name) for name in ("1.jpg", "linked/5.jpg")]
    assert "photos/6.heic" in printed.err and "2 system or repeated folders ignored" in printed.err


def test_evaluate_refuses_classes_that_the_model_does_not_know(
    fails: Fails, trained_run: Path, image_folder: Callable[..., Path]
) -> None:
    assert "zebra" in fails("evaluate", str(trained_run), f"data.root={image_folder(tulip=1, zebra=1)}")


def test_evaluate_where_the_images_have_gone(fails: Fails, trained_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "split.csv", "checkpoints"):
        (moved / name).symlink_to(trained_run / name)
    text = (trained_run / "recipe.yaml").read_text().replace("flowers", "gone")
    (moved / "recipe.yaml").unlink()
    (moved / "recipe.yaml").write_text(text)
    assert "data.root=..." in fails("evaluate", str(moved))


def test_evaluate_takes_a_finished_run_as_it_is(fails: Fails, trained_run: Path) -> None:
    assert "model.head=mlp" in fails("evaluate", str(trained_run), "model.head=mlp")


def test_evaluate_an_unfinished_run(fails: Fails, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text((trained_run / "recipe.yaml").read_text())
    assert "split.csv is missing" in fails("evaluate", str(tmp_path))


def test_predict_files_folders_and_patterns(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    images = sorted((flowers / "tulip").iterdir())
    pattern = str(flowers / "daisy" / "00*.jpg")
    command = ["predict", str(trained_run), str(images[0]), str(flowers / "tulip"), pattern, "--top-k", "2"]
    assert main([*command, "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    daisies = sorted((flowers / "daisy").glob("00*.jpg"))
    assert [row["path"] for row in rows] == [str(path) for path in [*images, *daisies]]
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in rows)
    (best, second) = effnet_ft.load(trained_run).predict(images[0], top_k=2)[0]
    assert (rows[0]["prediction"], rows[0]["prediction_2"]) == (best[0], second[0])
    assert float(rows[0]["probability"]) == pytest.approx(best[1], abs=1e-5)
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out == out.read_text()


def test_predict_tells_of_unreadable_files_and_answers_for_the_rest(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (50, 50), "red").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    assert main(["predict", str(trained_run), str(tmp_path), "--out", str(tmp_path / "out.csv")]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert "good.png" in (tmp_path / "out.csv").read_text()


def test_predict_names_an_image_bomb_and_answers_for_the_rest(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (50, 50), "red").save(tmp_path / "good.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 50 kB that decode to 1.2 GB
    assert main(["predict", str(trained_run), str(tmp_path), "--out", str(tmp_path / "out.csv")]) == 2
    assert "bomb.png: " in (told := capsys.readouterr().err) and "pixels" in told
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]] == [
        str(tmp_path / "good.png")
    ]


def test_file_names_stay_in_their_cells_whatever_they_hold(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = ["=cmd|' !A0.png", "+1,2.png", '"@x".png', "two\nlines.png", "old\rmac.png", "latin1-\udce9.png", "-1.png"]
    monkeypatch.chdir(tmp_path)
    for name in names:
        Image.new("RGB", (50, 50), "red").save(name)
    assert main(["predict", str(trained_run), ".", "--out", "out.csv"]) == 0
    with open("out.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert {unescape_formula(row["path"]) for row in rows} == set(names)
    assert not [row["path"] for row in rows if row["path"].startswith(("=", "+", "-", "@"))]
    capfdbinary.readouterr()
    assert main(["predict", str(trained_run), "."]) == 0
    assert capfdbinary.readouterr().out == Path("out.csv").read_bytes()


def test_a_file_name_cannot_command_the_terminal(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "\x1b]0;owned\x07.png").write_text("no image")
    assert main(["predict", str(trained_run), str(tmp_path), "--out", str(tmp_path / "out.csv")]) == 2
    assert "\x1b" not in (told := capsys.readouterr().err) and r"\x1b]0;owned\x07.png: not an image" in told


def test_predict_mistakes(fails: Fails, trained_run: Path, tmp_path: Path) -> None:
    assert "no image at" in fails("predict", str(trained_run), str(tmp_path / "*.jpg"))
    (tmp_path / "other.ckpt").write_text("text")
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(image)
    assert "is text, not weights; it begins 'text'" in fails("predict", str(tmp_path / "other.ckpt"), str(image))
    assert "give a run folder, a checkpoint or an exported model" in fails(
        "predict", str(tmp_path / "nothing"), str(image)
    )


def test_resume_mistakes(tmp_path: Path, trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "folder", f"resume={tmp_path}"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert main(["train", "folder", f"resume={trained_run}", "seed=1"]) == 2
    assert "seed: 0 in the run, 1 now" in capsys.readouterr().err


def test_resume_and_evaluate_where_the_images_were_moved(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(trained_run, run)
    shutil.copytree(flowers, images)
    (run / "report.html").unlink()  # as if it had been stopped before its end
    text = (run / "recipe.yaml").read_text().replace(str(flowers), str(tmp_path / "gone"))
    (run / "recipe.yaml").write_text(text)
    assert main(["train", "folder", f"resume={run}"]) == 2
    assert "data.root=..." in capsys.readouterr().err
    assert main(["train", "folder", f"resume={run}", f"data.root={images}"]) == 0
    assert main(["evaluate", str(run), "--split", "test", f"data.root={images}"]) == 0
    assert "6 images, test split" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["evaluate", "--json"], ["evaluate", "--out"], ["predict", "x.jpg", "--out"]])
def test_outputs_that_cannot_be_written_are_told_first(command: list[str], fails: Fails, trained_run: Path) -> None:
    name, *rest = command
    assert "nowhere/file" in fails(name, str(trained_run), *rest, "nowhere/file")


def test_a_misspelt_run_is_called_one(fails: Fails) -> None:
    assert "not a run folder" in fails("evaluate", "runs/flowrs")
    assert "a model file" in fails("evaluate", "flowrs.onnx")


def test_a_file_is_measured_as_it_is_and_on_named_images(fails: Fails, trained_run: Path, flowers: Path) -> None:
    file = str(trained_run / "checkpoints" / "best.ckpt")
    assert "give labelled ones, data.root=..." in fails("evaluate", file)
    assert "model.head=mlp" in fails("evaluate", file, f"data.root={flowers}", "model.head=mlp")


def test_files_may_stand_on_both_sides_of_an_option(
    trained_run: Path, flowers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (str(flowers / "tulip" / f"00{number}.jpg") for number in (0, 1))
    assert main(["predict", str(trained_run), first, "--top-k", "1", second]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SystemExit):
        main(["predict", str(trained_run), first, "--topk", "1"])

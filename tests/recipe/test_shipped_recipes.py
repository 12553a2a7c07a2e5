"""The recipes that come with the project: each one loads, trains or evaluates; their page tells every key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.recipe import SECTIONS, Recipe, load_recipe, per_phase_keys, recipe_folder
from effnet_ft.recipe.documentation import SCHEMA_LINE, header, recipe_files, recipes_page, recipes_schema

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem: load_recipe(path, ["data.root=x"]) for path in recipe_files()}
TRAINING = [name for name, recipe in RECIPES.items() if recipe.phases]
EVALUATING = [name for name, recipe in RECIPES.items() if not recipe.phases]


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("name", TRAINING)
def test_every_recipe_trains_two_steps_a_phase(name: str, flowers: Path, tmp_path: Path) -> None:
    size = {"image_size": 32, "batch_size": 12}  # of 24 training images
    settings = ["data.source=folder", f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", "model.weights=none"]
    settings += ["model.variant=lite0"]  # the smallest; searches are short in test_finder.py
    settings += ["store.views=1", *(f"data.{key}={value}" for key, value in size.items())]
    for index, phase in enumerate(RECIPES[name].phases):
        settings += [f"phases.{index}.{key}={size[key]}" for key in size if key in phase.overrides]
        settings += [
            f"phases.{index}.epochs=1",
            f"phases.{index}.steps=null",
            *([f"phases.{index}.lr=1e-3"] if phase.lr == "auto" else []),
        ]
    assert main(["train", name, *TINY, *settings]) == 0
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(table) == 1 + len(RECIPES[name].phases)


@pytest.mark.parametrize("name", EVALUATING)
def test_every_recipe_without_phases_evaluates(
    name: str, image_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(n01440764=2, n01443537=2)
    settings = [f"data.root={root}", "model.variant=lite0", "model.weights=lite", "data.image_size=64"]
    assert main(["evaluate", name, *settings]) == 0
    assert "/acc1  " in capsys.readouterr().out


@pytest.mark.parametrize("path", recipe_files(), ids=lambda path: path.stem)
def test_a_recipe_begins_with_its_command(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = header(path)[0]
    command = first.rpartition(": ")[2].split()
    assert command[:2] in (["python", "train.py"], *(["effnet-ft", word] for word in ("evaluate", "sweep", "demo")))
    assert path.stem in command
    assert main(["recipes"]) == 0
    assert any(line.split(maxsplit=1) == [path.stem, first] for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["sweep", "--grid", "seed=0,1"]], ids=lambda c: c[0])
@pytest.mark.parametrize("name", RECIPES)
def test_a_misspelt_recipe_is_told_with_the_right_one(
    name: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], f"{name[:-2]}{name[-1]}x", *command[1:]]) == 2
    assert f"did you mean '{name}'?" in capsys.readouterr().err


def test_the_page_of_recipes() -> None:
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == recipes_page(), (
        "write it anew: effnet-ft recipes --markdown > docs/recipes.md"
    )


def test_the_schema_of_recipes() -> None:
    assert (ROOT / "recipes" / "schema.json").read_text(encoding="utf-8") == recipes_schema(), (
        "write it anew: effnet-ft recipes --schema > recipes/schema.json"
    )


@pytest.mark.parametrize("path", recipe_files(), ids=lambda path: path.stem)
def test_editors_find_the_schema_of_a_recipe(path: Path) -> None:
    assert path.read_text(encoding="utf-8").splitlines()[0] == SCHEMA_LINE
    assert (path.parent / SCHEMA_LINE.partition("=")[2]).is_file()


def test_the_page_has_a_row_for_every_key_and_tells_those_of_phases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--markdown"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    marked = {row[0].strip("| `"): "✓" in row[-1] for row in rows if len(row) == 5}
    keys = {f"{name}.{key}" for name, kind in SECTIONS.items() for key in kind.model_fields}
    single = set(Recipe.model_fields) - {*SECTIONS, "phases"}
    assert set(marked) == {*keys, *single}
    phased = {f"{section}.{key}" for key, section in per_phase_keys().items()}
    assert {key for key, mark in marked.items() if mark} == phased


def test_all_recipes_are_on_the_page() -> None:
    page = recipes_page()
    assert all(f"- `{path.stem}`: " in page for path in recipe_folder().glob("*.yaml"))

"""Recipes: what is read, what is refused, and what each refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effnet_ft import recipe as recipes
from effnet_ft.errors import RecipeError
from effnet_ft.recipe import Recipe, load_recipe, recipe_folder
from effnet_ft.recipe.schema import OptimSettings, flat_items

PHASE = "phases=[{train: head, epochs: 1, lr: 1e-3}]"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


def fault_of(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_by_name_and_by_path(path: Path) -> None:
    assert load_recipe(path.stem, ["data.root=x"]).to_dict() == load_recipe(path, ["data.root=x"]).to_dict()


def test_saved_recipe_loads_to_the_same(tmp_path: Path) -> None:
    given = ["data.root=a: ${b}", "optim.ema=0.99", "phases.1.augment=strong", "trainer.loggers=[tensorboard]"]
    first = load_recipe("folder", given)
    first.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").to_dict() == first.to_dict()
    assert first.data.root == "a: ${b}"
    assert first.phases[1].overrides == {"augment": "strong"}


def test_numbers_as_people_write_them(write: Any) -> None:
    recipe = load_recipe(write("phases: [{train: head, epochs: 2, lr: 3e-4}]\noptim: {ema: off, weight_decay: 1e-5}"))
    assert recipe.phases[0].lr == 3e-4
    assert recipe.optim.ema == "off"
    assert recipe.optim.weight_decay == 1e-5
    assert load_recipe(write("seed: 0"), ["seed=7"]).seed == 7
    assert load_recipe(write(""), ["data.root=2024"]).data.root == "2024"


@pytest.mark.parametrize("text", ["2024_11_30", "007", "1e3", "12:30", "0x1F", "off", "2024-11-30", "it's"])
def test_names_stay_as_they_were_typed(write: Any, text: str, tmp_path: Path) -> None:
    file = write(f"run_dir: {text}\ndata:\n  root: &name {text}  # a folder\n  images: *name")
    typed, nested = [f"data.root={text}"], [f"data={{root: {text}}}"]
    for recipe in (load_recipe(file), *(load_recipe("folder", [f"run_dir={text}", *some]) for some in (typed, nested))):
        assert recipe.run_dir == recipe.data.root == text
        recipe.save(tmp_path / "again.yaml")
        assert load_recipe(tmp_path / "again.yaml").run_dir == text


@pytest.mark.parametrize("number", ["010", "1:30", "0_1", "+08"])
def test_numbers_of_other_bases_are_refused(write: Any, number: str) -> None:
    for key in ("data.batch_size", "trainer.devices"):
        section, name = key.split(".")
        assert f"{key} is '{number}', expected a whole number" in fault_of(write(f"{section}: {{{name}: {number}}}"))
        assert f"{key} is '{number}', expected a whole number" in fault_of("folder", [f"{key}={number}"])


def test_plain_values_are_a_recipe_too() -> None:
    phases = [{"train": "head", "epochs": 1.0, "lr": "1e-3", "augment": "strong"}]
    given = {"data": {"root": 7}, "store": "off", "trainer": {"compile": False}, "phases": phases}
    recipe = load_recipe(given, ["phases.0.epochs=2"])
    assert (recipe.data.root, recipe.store.mode, recipe.trainer.compile) == ("7", "off", "off")
    assert recipe.to_dict()["phases"][0] == {"train": "head", "epochs": 2, "lr": 1e-3, "augment": "strong"}
    assert given["phases"][0]["epochs"] == 1.0
    assert "data.root is True, expected a text" in fault_of({"data": {"root": True}})


@pytest.mark.parametrize(
    ("text", "overrides", "mode", "views"),
    [
        ("", [], "keep", 4),
        ("", ["store=off"], "off", 4),
        ("", ["store=keep"], "keep", 4),
        ("store: off", [], "off", 4),
        ("store: keep", [], "keep", 4),
        ("store: {mode: off, views: 2}", [], "off", 2),
        ("store: {views: 7}", ["store.mode=off"], "off", 7),
        ("store: {mode: off}", ["store.mode=keep", "store.views=1"], "keep", 1),
        ("store: off", ["store=keep"], "keep", 4),
        ("store: off", ["store.mode=keep"], "keep", 4),
        ("store: off", ["store.views=2"], "off", 2),
    ],
)
def test_the_store_is_a_word_or_a_section(write: Any, text: str, overrides: list[str], mode: str, views: int) -> None:
    store = load_recipe(write(text), overrides).store
    assert (store.mode, store.views) == (mode, views)


@pytest.mark.parametrize("given", [["store=off"], ["store.views=2", "store.max_gb=0.5", "store.dtype=float32"]])
def test_a_saved_store_loads_to_the_same(given: list[str], tmp_path: Path) -> None:
    first = load_recipe("folder", ["data.root=x", *given])
    first.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").store == first.store != Recipe().store


def test_a_recipe_is_left_as_it_was_written() -> None:
    recipe = load_recipe("folder", ["data.root=x", "data.crop=auto", "phases.0.image_size=auto"])
    assert (recipe.model.weights, recipe.model.dropout, recipe.data.image_size) == ("auto", "auto", "auto")
    assert (recipe.data.crop, recipe.data.workers, recipe.run_dir) == ("auto", "auto", "auto")
    assert recipe.phases[0].overrides == {"image_size": "auto"}


@pytest.mark.parametrize("key", sorted(recipes.per_phase_keys()))
def test_a_phase_may_override_every_key_marked_for_it(key: str) -> None:
    section = recipes.per_phase_keys()[key]
    default = getattr(getattr(Recipe(), section), key)
    own = {"patience": 3, "checkpointing": "on", "class_weights": "balanced", "image_size": 64}
    own |= {"sync_batchnorm": "on", "lr_scaling": "sqrt"}
    value = own.get(key, default if default not in ("auto", "off") else 0.5)
    recipe = load_recipe("folder", ["data.root=x", f"phases.0.{key}={value}"])
    assert recipe.phases[0].overrides == {key: value}


# An override, and what the message must name: the key, the value, the cure.
FAULTS = {
    "data.rot=x": ["unknown key 'data.rot'", "did you mean 'root'"],
    "root=x": ["unknown key 'root'; did you mean 'data.root'?"],
    "data_root=x": ["did you mean 'data.root'?"],
    "batchsize=8": ["did you mean 'data.batch_size'?"],
    "epochs=3": ["did you mean 'phases.0.epochs'?"],
    "model.variant=B0": ["did you mean 'b0'?"],
    "dat.root=x": ["unknown key 'dat'", "did you mean 'data'"],
    "model.variant=b9": ["model.variant", "'b9'", "one of b0, b1"],
    "model.weights=advprob": ["model.weights", "'advprob'", "torchvision"],
    "model.weights=torchvision": ["torchvision", "lite0 has: lite"],
    "data.batch_size=many": ["data.batch_size", "'many'", "whole number"],
    "data.batch_size=0": ["data.batch_size is 0", "at least 1"],
    "data.batch_size=2.5": ["data.batch_size is 2.5", "whole number"],
    "data.image_size=16": ["data.image_size is 16", "at least 32", "or auto"],
    "data.augment=hard": ["data.augment is 'hard'", "none, basic, strong"],
    "model.dropout=1": ["model.dropout is 1", "below 1"],
    "optim.weight_decay=.nan": ["optim.weight_decay", "nan", "a number"],
    "optim.ema=on": ["optim.ema is True", "or off"],
    "optim=adamw": ["optim is 'adamw'", "mapping"],
    "trainer.loggers=[tensorbord]": ["trainer.loggers", "tensorboard"],
    "phases.0.train=stage9": ["phases[0].train is 'stage9'", "did you mean 'stage"],
    "phases.0.lr=0": ["phases[0].lr is 0", "above 0"],
    "phases.0.optimizer=sgd": ["unknown key 'phases[0].optimizer'", "known"],
    "phases.0.label_smooting=0": ["phases[0].label_smooting", "did you mean 'label_smoothing'"],
    "phases.².lr=1": ["phases.²", "no entry ²"],
    "seed=" + "9" * 400: ["seed is 999", "at most 4294967295"],
    "seed=0x" + "f" * 5000: ["seed is a int too large to print"],
    "data.batch_size=0." + "0" * 300 + "1": ["data.batch_size is 1e-301", "whole number"],
    "data.root=" + "x" * 300: ["data.root", "too long for a path"],
    "data.root=a\0b": ["data.root", "without NUL"],
    "data.root=~no-such-user/photos": ["data.root", "an unknown user"],
    "data.root=photos\udce9": ["data.root", "not UTF-8"],
    "model.variant=" + "b" * 10_000: ["model.variant is 'bbb", " ... ", "one of b0"],
    "phases=" + "[" * 500: ["phases is '[[["],
    "phases.7.lr=1": ["phases.7.lr", "no entry 7", "has 2"],
    "data.crop=center": ["data.crop is 'center'", "auto, timm, openmmlab"],
    "data.source=cifar": ["data.source is 'cifar'", "did you mean 'cifar10"],
    "data.fit=val": ["data.fit is 'val'", "train, trainval"],
    "model.family=advprob": ["model.family is 'advprob'", "did you mean 'advprop'"],
    "store.views=0": ["store.views is 0", "at least 1"],
    "store.views=two": ["store.views", "'two'", "whole number"],
    "store.mode=maybe": ["store.mode is 'maybe'", "keep, off"],
    "store=maybe": ["store is 'maybe'", "mapping"],
    "store.max_gb=0": ["store.max_gb is 0", "above 0"],
    "store.dtype=float8": ["store.dtype is 'float8'", "float16, float32"],
    "store.view=2": ["unknown key 'store.view'", "did you mean 'views'"],
    "phases.0.views=2": ["phases[0].views", "unknown key"],
    "trainer.precision=bf16-true": ["trainer.precision is 'bf16-true'", "bf16-mixed, 16-mixed, 32-true"],
    "trainer.checkpointing=maybe": ["trainer.checkpointing is 'maybe'", "on, off"],
    "phases=[]": ["phases is not set"],
    "phases=[{train: head}]": ["phases[0].epochs is not set, nor steps", "phases[0].lr is not set"],
    "phases=[{train: head, lr: 1, epochs: 2, steps: 9}]": [
        "phases[0] has both epochs and steps",
        "phases.0.steps=null",
    ],
    "phases=[{train: head, lr: 1, steps: 0}]": [
        "recipe error in folder: phases[0].steps is 0, expected a whole number at least 1"
    ],
    "phases=[{train: '???', epochs: 1, lr: 1}]": ["phases[0].train is not set"],
    "seed=4294967296": ["seed is 4294967296", "at most 4294967295"],
    "data.val_fraction=0.9": ["add up to 1 or more"],
    "phases=[head]": ["phases[0] is 'head'", "mapping"],
    "phases=head": ["phases is 'head'", "list"],
    "data.root=": ["data.root is not set"],
    "data.root.x=1": ["data.root.x", "single value"],
    "epochs": ["'epochs' is not an override", "key=value"],
}


@pytest.mark.parametrize("override", FAULTS)
def test_a_fault_is_named_with_its_cure(override: str) -> None:
    text = fault_of("folder", ["data.root=x", override], require=["data.root", "phases", "model.weights"])
    for part in FAULTS[override]:
        assert part in text


def test_all_faults_come_at_once() -> None:
    text = fault_of("folder", ["data.rot=x", "model.variant=b9", "seed=-1"], require=["data.root"])
    assert "4 recipe errors in folder" in text
    for part in ("data.rot", "b9", "seed is -1", "data.root is not set"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
        ("seed: ${nothing}", "not valid YAML"),
        ("\x00", "YAML"),
        ("phases: " + "[" * 50 + "]" * 50, "more than 20 levels deep"),
        ("a: " + "9" * 10**6, "larger than 1 MB"),
        ("12:30", "got a single value"),
        ("a0: xx\n" + "".join(f"a{n + 1}: ${{a{n}}}${{a{n}}}\n" for n in range(40)), "aliases (*name) and references"),
    ],
)
def test_files_that_are_no_recipes(write: Any, text: str, part: str) -> None:
    assert part in fault_of(write(text))


def test_unknown_recipe_suggests_the_nearest() -> None:
    assert "did you mean 'folder'" in fault_of("foldr")


def test_what_stands_in_the_place_of_a_recipe_is_told_its_own(tmp_path: Path) -> None:
    (folder := tmp_path / "my photos").mkdir()
    (file := tmp_path / "photos.csv").write_text("path,label\n1.jpg,daisy\n")
    assert f"is a folder, not a recipe: to train on it, write folder 'data.root={folder}'" in fault_of(folder)
    assert f"a list of images, not a recipe: to train on it, write folder data.source=manifest data.root={file}" in (
        fault_of(file)
    )
    assert "the recipe first, then its keys: folder data.root=x" in fault_of("data.root=x")


def test_recipe_values_are_never_run(write: Any, tmp_path: Path) -> None:
    fault_of(write(f"seed: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']"))
    assert not (tmp_path / "made").exists()


CALLS = ("${oc.env:SECRET}", "a/${oc.env:SECRET,none}", "${${name}:SECRET}", r"\\${oc.env:SECRET}", "${oc.create:x}")


@pytest.mark.parametrize("value", CALLS)
def test_a_recipe_cannot_ask_for_more_than_its_own_keys(
    value: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "password")
    fault = fault_of(write(f"phases: [{{train: head, epochs: 1, lr: 1, augment: '{value}'}}]"))
    assert "phases.0.augment is" in fault and "never evaluated" in fault and "password" not in fault


def test_a_recipe_may_name_another_of_its_keys(write: Any) -> None:
    assert load_recipe(write("data: {root: photos}\nrun_dir: runs/${data.root}")).run_dir == "runs/photos"


@pytest.mark.parametrize("root", ["${oc.env:SECRET}", r"\${oc.env:SECRET}", r"a\\${b}", "${", "\\", r"c:\data\${x}"])
def test_marks_on_the_command_line_are_plain_letters_and_stay_so_in_the_run(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "password")
    recipe = load_recipe("folder", [f"data.root={root}"])
    recipe.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").data.root == recipe.data.root == root
    assert "password" not in (tmp_path / "recipe.yaml").read_text()


def test_aliases_of_aliases_do_not_fill_the_memory(write: Any) -> None:
    levels = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 20)]
    assert "aliases" in fault_of(write("\n".join(["l0: &l0 [x]", *levels])))


def test_every_key_has_a_meaning() -> None:
    for section in [Recipe, *recipes.SECTIONS.values()]:
        for name, field in section.model_fields.items():
            assert field.description or name in (*recipes.SECTIONS, "phases")


def test_defaults_pass_their_own_limits() -> None:
    assert Recipe.model_validate(Recipe().to_dict()) == Recipe()
    assert OptimSettings().ema == "off"


def test_a_recipe_loads_without_its_weights_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.touch()
    given = ["data.root=x", f"model.weights={file}", "model.family=lite"]
    load_recipe("folder", given).save(tmp_path / "recipe.yaml")
    file.unlink()
    assert load_recipe(tmp_path / "recipe.yaml").model.weights == str(file)
    assert "neither a file" in fault_of(tmp_path / "recipe.yaml", require=["model.weights"])


def test_what_needs_validation_images_is_refused_without() -> None:
    phases = "phases=[{train: head, epochs: 1, lr: auto}, {train: all, epochs: 1, lr: auto, patience: 2}]"
    with pytest.raises(RecipeError) as error:
        load_recipe("folder", [phases, "data.fit=trainval", "data.source=cifar"])
    faults = "\n".join(error.value.faults)
    assert len(error.value.faults) == 3
    assert "data.source is 'cifar', expected one of" in faults and "did you mean 'cifar10" in faults
    assert "trainer.patience=off" in faults and "search the head's lr" in faults


def test_nested_values_by_dotted_keys() -> None:
    nested = {"a": {"b": [1, {"c": None}]}, "d": {}}
    assert dict(flat_items(nested)) == {"a.b.0": 1, "a.b.1.c": None}

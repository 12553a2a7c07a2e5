"""A plan is written, read and revised; what it was is never changed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import yaml
from plans import GPU, plan_of

from effnet_ft.planning.facts import Machine
from effnet_ft.recipe import recipe_folder
from effnet_ft.recipe.plan import Estimate, decided_values, read_plan

PHASES = (
    "phases=[{train: head, epochs: 2, lr: auto, ema: 0.9, clip_norm: 1, patience: 2, augment: strong}, "
    "{train: all, epochs: 3, lr: 1e-3, mixup: 0.2, cutout: 0.5, accumulate: 2, schedule: step}]"
)


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_a_plan_is_read_back_as_it_was_written(path: Path, tmp_path: Path) -> None:
    given = ["trainer.loggers=[tensorboard,wandb]", "trainer.devices='0,1'", "data.root=a: ${b}é"]
    plan = plan_of(*given, name=path, machine=GPU, run_dir=f"runs/{path.stem}")
    plan.save(tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == plan


def test_the_file_is_plain_yaml(tmp_path: Path) -> None:
    plan = plan_of(PHASES)
    plan.save(tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert values == plan.to_dict() and "!!" not in text
    assert values["phases"][1]["optim"]["lr"] == 1e-3 and values["data"]["root"] == "photos"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "dict"),
        ("- 1", "dict"),
        ("seed: [", "is not YAML"),
        ("seed: 0", "run_dir: Field required"),
        ("seed: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
    ids=["empty", "list", "no YAML", "cut short", "a call"],
)
def test_what_is_no_plan_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match=told):
        read_plan(tmp_path / "plan.yaml")


def test_a_value_of_another_kind_is_refused(tmp_path: Path) -> None:
    values = plan_of().to_dict()
    values["phases"][0]["source"]["kind"] = "guessed"
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"^phases.0.source.kind: "):
        read_plan(tmp_path / "plan.yaml")


def test_a_revision_counts_on_and_says_why() -> None:
    plan = plan_of(PHASES)
    phase = replace(plan.phases[0], optim=replace(plan.phases[0].optim, lr=0.5))
    revised = plan.with_phase(phase, "learning rate 0.5", {"phases.0.lr": "the best of 56"})
    assert (revised.revision, revised.changes) == (2, ("learning rate 0.5",))
    assert revised.reasons == {**plan.reasons, "phases.0.lr": "the best of 56"}
    assert [phase.optim.lr for phase in revised.phases] == [0.5, 1e-3]
    again = revised.revised("seed 3", seed=3)
    assert (again.revision, again.changes, again.seed) == (3, ("learning rate 0.5", "seed 3"), 3)
    assert (plan.revision, plan.phases[0].optim.lr, plan.seed) == (1, None, 0)


def test_a_plan_is_frozen() -> None:
    plan = plan_of()
    for place, name in ((plan, "seed"), (plan.phases[0], "cut"), (plan.phases[0].optim, "lr"), (plan.data, "root")):
        with pytest.raises(FrozenInstanceError):
            setattr(place, name, 1)


def test_values_are_told_by_their_dotted_keys() -> None:
    plan = replace(plan_of(PHASES), estimate=Estimate(1, 2, 3))
    values = plan.flat()
    assert values["phases.1.optim.lr"] == 1e-3 and values["phases.0.source.kind"] == "stored"
    assert values["model.variant"] == "lite0" and values["phases.0.source.cuts.0"] == 9
    assert not [key for key in values if key.startswith(("estimate", "reasons", "changes", "images"))]
    assert not [value for value in values.values() if isinstance(value, dict | list)]


def test_what_was_decided_is_told_by_the_recipes_keys() -> None:
    values = decided_values(plan_of(PHASES, "data.batch_size=auto", machine=Machine(gpus=2)))
    assert values["model.weights"] == "lite" and values["trainer.devices"] == 2
    assert (values["phases.0.batch_size"], values["phases.1.accumulate"], values["phases.1.lr"]) == (32, 2, 1e-3)
    assert values["phases.0.image_size"] == 224 and values["phases.0.lr"] is None

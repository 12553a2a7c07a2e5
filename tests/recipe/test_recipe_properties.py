"""Whatever a recipe holds, there is a plan or one message: hundreds of spoilt recipes, never a traceback.

``make slow`` tries ten times as many, others each time.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mutating import ANYTHING, SNIPPETS, misspell, mutated, override, spoilt_text, valid
from plans import CPU, IMAGES

from effnet_ft.cli import main
from effnet_ft.errors import RecipeError, UserError
from effnet_ft.planning.planner import make_plan
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import SECTIONS, Recipe, load_recipe, recipe_folder
from effnet_ft.recipe.faults import value_fault
from effnet_ft.recipe.settings import is_text, properties

NEEDED = ("data.root", "phases", "model.weights")
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(recipe_folder().glob("*.yaml"))]
PLAIN = {"data": {"root": "x"}, "phases": [{"train": "head", "epochs": 1, "lr": 0.1}]}


MORE: dict[str, Callable[[], None]] = {}


def tried(count: int, *strategies: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Let a property be tried on ``count`` examples, the same each time; and ten times as many, others, in ``MORE``."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    common = settings(deadline=None, database=None, suppress_health_check=checks)

    def mark(check: Any) -> Any:
        MORE[check.__name__] = settings(common, max_examples=10 * count)(given(*strategies)(check))
        return settings(common, max_examples=count, derandomize=True)(given(*strategies)(check))

    return mark


def outcome(content: bytes | str | dict[str, Any], overrides: Sequence[str] = (), *, need: bool = True) -> Recipe | str:
    """Return the recipe in a file of ``content``, whose phases are planned; or the message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        if isinstance(content, dict):
            content = yaml.safe_dump(content, allow_unicode=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        try:
            recipe = load_recipe(path, overrides, NEEDED if need else ())
        except UserError as error:
            faults = error.faults if isinstance(error, RecipeError) else [str(error)]
        else:
            faults = []
        if faults:
            assert all(fault.strip() and len(fault) < 2000 for fault in faults)
            return "\n".join(faults)
        try:
            plan = make_plan(recipe, IMAGES, choose_weights(recipe.model, recipe.data), CPU)
        except UserError as error:
            return str(error)
        assert len(plan.phases) == len(recipe.phases)
        return recipe


@tried(200, mutated())
def test_a_mutated_recipe_gives_a_plan_or_a_message(recipe: dict[str, Any]) -> None:
    outcome(recipe)


@tried(200, spoilt_text(TEXTS))
def test_a_spoilt_file_gives_a_plan_or_a_message(text: str) -> None:
    outcome(text, ["data.root=x"])


@tried(150, st.binary(max_size=200))
def test_any_bytes_give_a_message(content: bytes) -> None:
    assert isinstance(outcome(content), str)


@tried(150, st.lists(override(), min_size=1, max_size=3))
def test_any_overrides_give_a_plan_or_a_message(overrides: list[str]) -> None:
    outcome(PLAIN, overrides)


@tried(60, valid())
def test_a_right_recipe_gives_a_plan_and_loads_again_as_it_was_saved(recipe: dict[str, Any]) -> None:
    loaded = outcome(recipe, need=False)
    assert isinstance(loaded, Recipe), loaded
    assert len(loaded.phases) == len(recipe["phases"])
    with tempfile.TemporaryDirectory() as folder:
        loaded.save(Path(folder) / "again.yaml")
        assert load_recipe(Path(folder) / "again.yaml").to_dict() == loaded.to_dict()


@tried(60, st.data())
def test_a_misspelt_key_is_named(data: st.DataObject) -> None:
    recipe = data.draw(valid())
    section = data.draw(st.sampled_from(sorted(SECTIONS)))
    known = set(SECTIONS[section].model_fields)
    key = misspell(data.draw, data.draw(st.sampled_from(sorted(known))))
    assume(key not in known)
    recipe[section] = {**recipe.get(section, {}), key: 1}
    assert f"unknown key '{section}.{key}'" in str(outcome(recipe, need=False))


@tried(150, st.data())
def test_a_value_that_does_not_fit_is_named(data: st.DataObject) -> None:
    section = data.draw(st.sampled_from(sorted(SECTIONS)))
    name = data.draw(st.sampled_from(sorted(SECTIONS[section].model_fields)))
    value = data.draw(ANYTHING)  # but for what a file holds as another value: references, and texts for dates and false
    assume(not isinstance(value, bool) or not is_text(properties(SECTIONS[section])[name]))
    assume(
        not any(text in repr(value) for text in ("${", "ud800", "datetime")) and value_fault(f"{section}.{name}", value)
    )
    recipe = copy.deepcopy(PLAIN)
    recipe[section] = {**recipe.get(section, {}), name: value}
    assert f"{section}.{name}" in str(outcome(recipe, need=False))


@tried(30, spoilt_text(TEXTS), st.lists(override(), max_size=2))
def test_the_command_line_ends_with_one_message(text: str, overrides: list[str]) -> None:
    overrides = [text for text in overrides if not text.startswith(("-", "resume="))]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        told: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: told.append(" ".join(words)))
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        assert main(["train", str(path), "data.rot=x", *overrides]) == 2  # a fault, lest a right recipe trains
        assert len(told) == 1 and told[0].startswith("effnet-ft: ")


@pytest.mark.parametrize("snippet", SNIPPETS)
@pytest.mark.parametrize("form", ["{}", "seed: {}", "data: {{root: {}}}", "phases: [{}]", "{}: 1"])
def test_odd_yaml_gives_a_plan_or_a_message(form: str, snippet: str) -> None:
    outcome(form.format(snippet))


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_ten_times_as_many(name: str) -> None:
    MORE[name]()

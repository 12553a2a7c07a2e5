"""What the pages say: every command is one that the program takes, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pages import HOME, MISTAKES, PAGES, commands

from effnet_ft.cli import build_parser
from effnet_ft.errors import RecipeError
from effnet_ft.recipe import load_recipe

PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.")
"""A word such as RUN or RECIPE, for the reader to fill in."""

EVERY = [pytest.param(page, text, id=f"{page.stem}: {text}") for page in PAGES for text in commands(page)]


@pytest.mark.parametrize(("page", "text"), EVERY)
def test_every_command_of_the_pages_is_one_that_there_is(page: Path, text: str) -> None:
    words = shlex.split(text)
    while "=" in words[0]:
        words.pop(0)  # a variable that is set for the command
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (HOME / "Makefile").read_text(), re.M)
    elif words[0] in ("torchrun", "srun"):
        assert "train.py" in words
        accepted(["train", *words[words.index("train.py") + 1 :]])
    elif words[:2] == ["python", "train.py"]:
        accepted(["train", *words[2:]])
    elif words[0] == "python":
        assert (HOME / words[1]).is_file()
    elif words[0] == "effnet-ft":
        accepted(words[1:])
    else:
        assert words[0] in ("pip", "mkdir", "git"), "a command that nothing here knows"


def accepted(words: list[str]) -> None:
    """Let the program read the command, and the recipe and keys that it names; without doing it."""
    options, rest = build_parser().parse_known_args(words)
    assert not [word for word in rest if word.startswith("-")]
    overrides = [*getattr(options, "overrides", ()), *rest]
    recipe = getattr(options, "recipe", None)
    known = recipe and (HOME / "recipes" / f"{recipe}.yaml").is_file()
    if " ".join(["python train.py", *words[1:]]) in MISTAKES:
        with pytest.raises(RecipeError) as told:
            load_recipe(recipe, overrides, ["data.root", "phases", "model.weights"])
        assert any(f"effnet-ft: {told.value}\n" in page.read_text(encoding="utf-8") for page in PAGES)
    elif known and not PLACEHOLDER.search(" ".join(overrides)):
        load_recipe(recipe, [text for text in overrides if not text.startswith("resume=")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    """Modules and tests in back-quotes: ``data/views.py`` is looked for in the package and from the project's root."""
    for name in re.findall(r"`([\w/]+\.py)(?: [^`]*)?`", page.read_text(encoding="utf-8")):
        found = [*HOME.glob(name), *(HOME / "effnet_ft").rglob(name)]
        assert found, name

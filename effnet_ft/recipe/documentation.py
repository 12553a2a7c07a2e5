"""The recipes and all their keys as text: for the terminal, and for ``docs/recipes.md``. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from effnet_ft.recipe.checking import expected
from effnet_ft.recipe.loading import recipe_folder
from effnet_ft.recipe.schema import SECTIONS, Phase, Recipe, per_phase_keys
from effnet_ft.utils.tables import columns, markdown

_PAGE = """# Recipes

Written by `effnet-ft recipes --markdown`; a test keeps it so.

A recipe is a YAML file that says what differs from the defaults below. `python train.py NAME` takes the file of that
name in `recipes/`, `python train.py path/to/mine.yaml` any other; the commands of `effnet-ft` do the same. A run writes
the recipe that it was trained by, defaults filled in, to `recipe.yaml` in its folder.

## The recipes that come with the project

{recipes}

## On the command line

`key=value` after the recipe's name sets a key; where one is set twice, the later value counts. Keys are dotted, and a
number counts the phases from 0. What stands right of the `=` is read as YAML, so lists and mappings can be given, in
quotes:

```console
$ python train.py folder data.root=photos model.variant=b2 phases.1.epochs=10
$ python train.py folder data.root=photos 'phases=[{{train: head, epochs: 5, lr: auto}}, {{train: all, epochs: 3, lr: 1e-4}}]'
$ effnet-ft sweep folder data.root=photos --grid phases.1.lr=1e-4,1e-3 --grid optim.weight_decay=0,1e-4
```

Every fault of a recipe is told before anything is trained, all of them at once: an unknown key with the nearest one, a
value with what was expected of it.

## Phases

`phases` is a list, and a training goes through it in order. A phase trains the end of the network and freezes the rest:
`head` is the classifier alone, `stage6` the stages 6 to 8 and the head, `all` everything. The weights are handed on to
the next phase, whose optimiser and schedule begin anew. Of all phases' epochs the best on the validation images is kept.

{phases}

A phase may also set the keys below for itself, without their section's name, as in
`- {{train: all, epochs: 1, lr: 1e-4, augment: strong}}`.

{per_phase}

## Keys

A check mark says that a phase may set the key for itself.

{sections}
"""  # noqa: E501 - a command is one line


def recipes_text() -> str:
    """Return one line a recipe, for the terminal: its name and the first line of its header."""
    return columns([[path.stem, *header(path)[:1]] for path in recipe_files()])


def recipes_page() -> str:
    """Return ``docs/recipes.md``."""
    per_phase = {section: [key for key, of in per_phase_keys().items() if of == section] for section in SECTIONS}
    parts = [("At the top", "", Recipe), *((f"`{name}`", f"{name}.", kind) for name, kind in SECTIONS.items())]
    sections = []
    for title, prefix, kind in parts:
        meaning = "" if kind is Recipe else f"{_first_line(kind)}\n\n"
        sections.append(f"### {title}\n\n{meaning}{_keys_table(kind, prefix)}")
    return _PAGE.format(
        recipes="\n".join(f"- `{path.stem}`: {_header_text(path)}" for path in recipe_files()),
        phases=_phase_table(),
        per_phase="\n".join(
            f"- of `{section}`: {', '.join(f'`{key}`' for key in keys)}" for section, keys in per_phase.items() if keys
        ),
        sections="\n\n".join(sections),
    )


def recipe_files() -> list[Path]:
    """Return the files of the recipes that come with the project: those for one's own images first, then by name."""
    return sorted(recipe_folder().glob("*.yaml"), key=lambda path: (not path.stem.startswith("folder"), path.stem))


def header(path: Path) -> list[str]:
    """Return the comment lines that a recipe begins with, without their marks."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return lines


def _header_text(path: Path) -> str:
    """Return a recipe's header as Markdown; its first line ends in a command, the others follow as a paragraph."""
    first, *others = header(path)
    meaning, colon, command = first.rpartition(": ")
    lines = [f"{meaning}{colon}`{command}`", *([""] if others else []), *others]
    return "\n".join(f"  {line}" if line else "" for line in lines).lstrip()


def _options(kind: type) -> Iterable[tuple[Field[Any], Any]]:
    """Yield the keys that ``kind`` declares, with their types; sections and the list of phases are no keys."""
    hints = get_type_hints(kind)
    return [(item, hints[item.name]) for item in fields(kind) if "help" in item.metadata]


def _keys_table(kind: type, prefix: str) -> str:
    rows = [
        [
            f"`{prefix}{item.name}`",
            _cell(expected(item, hint)),
            _default(item),
            _cell(item.metadata["help"]),
            "✓" if item.metadata["per_phase"] else "",
        ]
        for item, hint in _options(kind)
    ]
    return markdown(["key", "value", "default", "meaning", "phase"], rows)


def _phase_table() -> str:
    rows = [
        [f"`{item.name}`", _cell(expected(item, hint)), _cell(item.metadata["help"])] for item, hint in _options(Phase)
    ]
    return markdown(["key", "value", "meaning"], rows)


def _default(item: Field[Any]) -> str:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    return "not set" if default is None else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").partition("\n")[0]

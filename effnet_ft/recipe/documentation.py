"""The recipes and all their keys as text: for the terminal, and for ``docs/recipes.md``. Free of torch."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

from effnet_ft.recipe.faults import expected
from effnet_ft.recipe.loading import recipe_folder
from effnet_ft.recipe.schema import SECTIONS, Phase, Recipe, per_phase_keys
from effnet_ft.recipe.settings import Settings, json_schema, properties
from effnet_ft.utils.tables import columns, markdown

SCHEMA_LINE = "# yaml-language-server: $schema=schema.json"
"""The first line of a recipe: editors with YAML's language server complete and check its keys."""

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
    sections = [f"### At the top\n\n{_keys_table(Recipe, '')}"]
    sections += [
        f"### `{name}`\n\n{kind.__doc__}\n\n{_keys_table(kind, f'{name}.')}" for name, kind in SECTIONS.items()
    ]
    return _PAGE.format(
        recipes="\n".join(f"- `{path.stem}`: {_header_text(path)}" for path in recipe_files()),
        phases=_phase_table(),
        per_phase="\n".join(
            f"- of `{section}`: {', '.join(f'`{key}`' for key in keys)}" for section, keys in per_phase.items() if keys
        ),
        sections="\n\n".join(sections),
    )


def recipes_schema() -> str:
    """Return ``recipes/schema.json``: the JSON schema of a recipe, for editors."""
    schema = json_schema(Recipe)
    schema["properties"]["store"] = {"anyOf": [schema["properties"]["store"], {"enum": ["keep", "off"]}]}
    return json.dumps(schema, indent=2) + "\n"


def recipe_files() -> list[Path]:
    """Return the files of the recipes that come with the project: those for one's own images first, then by name."""
    return sorted(recipe_folder().glob("*.yaml"), key=lambda path: (not path.stem.startswith("folder"), path.stem))


def header(path: Path) -> list[str]:
    """Return the comment lines that a recipe begins with, without their marks and the editor's line."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return [line.lstrip("# ") for line in lines if not line.startswith(SCHEMA_LINE.partition("=")[0])]


def _header_text(path: Path) -> str:
    """Return a recipe's header as Markdown; its first line ends in a command, the others follow as a paragraph."""
    first, *others = header(path)
    meaning, colon, command = first.rpartition(": ")
    lines = [f"{meaning}{colon}`{command}`", *([""] if others else []), *others]
    return "\n".join(f"  {line}" if line else "" for line in lines).lstrip()


def _keys(kind: type[Settings]) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of the keys of ``kind``: no sections, and of a phase what it must have."""
    skipped = per_phase_keys() if kind is Phase else ()
    return {name: one for name, one in properties(kind).items() if "description" in one and name not in skipped}


def _keys_table(kind: type[Settings], prefix: str) -> str:
    rows = [
        [
            f"`{prefix}{name}`",
            _cell(expected(schema)),
            _default(kind.model_fields[name].default),
            _cell(schema["description"]),
            "✓" if kind is not Recipe and name in per_phase_keys() else "",
        ]
        for name, schema in _keys(kind).items()
    ]
    return markdown(["key", "value", "default", "meaning", "phase"], rows)


def _phase_table() -> str:
    rows = [[f"`{name}`", _cell(expected(one)), _cell(one["description"])] for name, one in _keys(Phase).items()]
    return markdown(["key", "value", "meaning"], rows)


def _default(value: Any) -> str:
    return "not set" if value is None else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")

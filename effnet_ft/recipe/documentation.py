"""Recipes and their keys for the terminal, for ``docs/recipes.md`` and for editors. Free of torch."""

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

from effnet_ft.recipe.faults import expected
from effnet_ft.recipe.loading import recipe_folder
from effnet_ft.recipe.schema import SECTIONS, Phase, Recipe, per_phase_keys
from effnet_ft.recipe.settings import Settings, properties
from effnet_ft.utils.tables import columns, markdown

SCHEMA_LINE = "# yaml-language-server: $schema=schema.json"
"""First line of a recipe, from which editors complete and check its keys."""

_PAGE = """# Recipes

Written by `effnet-ft recipes --markdown`; a test keeps it so.

A recipe is a YAML file with the keys that differ from the defaults below. `python train.py NAME` takes the file of that
name in `recipes/`, `python train.py path/to/mine.yaml` any other; the commands of `effnet-ft` do the same. A run saves
its recipe, with defaults filled in, as `recipe.yaml` in its folder.

## Shipped recipes

{recipes}

## On the command line

`key=value` after the recipe's name sets a key; the last value of a key counts. Keys are dotted; phases are numbered from
0. Values are read as YAML, so lists and mappings can be given, in quotes:

```console
$ python train.py folder data.root=photos model.variant=b2 phases.1.epochs=10
$ python train.py folder data.root=photos 'phases=[{{train: head, epochs: 5, lr: auto}}, {{train: all, epochs: 3, lr: 1e-4}}]'
$ effnet-ft sweep folder data.root=photos --grid phases.1.lr=1e-4,1e-3 --grid optim.weight_decay=0,1e-4
```

Texts, such as `data.root` and `run_dir`, stay as typed, in a file too: `2024_11_30`, `007` and `off` may be names.

All faults of a recipe are reported at once before training starts: an unknown key with the nearest one, a value with
what was expected.

## In an editor

`recipes/schema.json` (or `effnet-ft recipes --schema > schema.json`) is the JSON schema of a recipe. Editors with
yaml-language-server, such as VS Code's YAML extension, complete and check a recipe with a first line like that of the
shipped ones: `# yaml-language-server: $schema=schema.json`.

## Phases

A training goes through the list `phases` in order. A phase trains the end of the network and freezes the rest: `head`
trains the classifier alone, `stage6` stages 6 to 8 and the head, `all` everything. The next phase starts from the weights
of the last one, with a new optimiser and schedule. The best epoch of all phases on the validation images is kept.

{phases}

A phase may also override the keys below, without their section's name, as in
`- {{train: all, epochs: 1, lr: 1e-4, augment: strong}}`.

{per_phase}

## Keys

A check mark means that a phase may override the key.

{sections}
"""  # noqa: E501 - a command is one line


def recipes_text() -> str:
    """Return a line per recipe for the terminal: its name and purpose."""
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
        phases=_keys_table(Phase, ""),
        per_phase="\n".join(
            f"- of `{section}`: {', '.join(f'`{key}`' for key in keys)}" for section, keys in per_phase.items() if keys
        ),
        sections="\n\n".join(sections),
    )


def recipes_schema() -> str:
    """Return ``recipes/schema.json``: the JSON schema of a recipe, for editors."""
    schema = _plain(Recipe.model_json_schema())
    schema["properties"]["store"] = {"anyOf": [schema["properties"]["store"], {"enum": ["keep", "off"]}]}
    return json.dumps(schema, indent=2) + "\n"


def _plain(schema: Any) -> Any:
    """Drop what an editor does not use: titles, our own marks and defaults of None."""
    if isinstance(schema, dict):
        marks = ("title", "per_phase", "affects_training", "settable")
        kept = {name: entry for name, entry in schema.items() if name not in marks}
        return {name: _plain(entry) for name, entry in kept.items() if (name, entry) != ("default", None)}
    return [_plain(entry) for entry in schema] if isinstance(schema, list) else schema


def recipe_files() -> list[Path]:
    """Return the shipped recipes: those for a user's own images first, then by name."""
    return sorted(recipe_folder().glob("*.yaml"), key=lambda path: (not path.stem.startswith("folder"), path.stem))


def header(path: Path) -> list[str]:
    """Return the comment at the start of a recipe, in lines, without the one for editors."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return [line.lstrip("# ") for line in lines if not line.startswith(SCHEMA_LINE.partition("=")[0])]


def _header_text(path: Path) -> str:
    """Return a recipe's header as Markdown: a line that ends in a command, then a paragraph."""
    first, *others = header(path)
    meaning, colon, command = first.rpartition(": ")
    lines = [f"{meaning}{colon}`{command}`", *([""] if others else []), *others]
    return "\n".join(f"  {line}" if line else "" for line in lines).lstrip()


def _keys_table(kind: type[Settings], prefix: str) -> str:
    """Return a table of the keys of ``kind`` but for sections and a phase's overrides."""
    skipped, rows = per_phase_keys() if kind is Phase else (), []
    for name, schema in properties(kind).items():
        if "description" in schema and name not in skipped:
            default = kind.model_fields[name].default
            shown, mark = "not set" if default is None else f"`{default}`", "✓" if schema["per_phase"] else ""
            row = [f"`{prefix}{name}`", expected(schema), shown, schema["description"], mark]
            rows.append([cell.replace("|", r"\|") for cell in row])
    if kind is Phase:  # its own keys are required
        return markdown(["key", "value", "meaning"], [[*row[:2], row[3]] for row in rows])
    return markdown(["key", "value", "default", "meaning", "phase"], rows)

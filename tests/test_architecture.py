"""The layers of docs/architecture.md are those that the program imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from pages import HOME

PACKAGE = HOME / "effnet_ft"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield what of the package the statements of ``module`` import."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in MODULES else str(node.module) for name in named]
        else:
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in found if name.partition(".")[0] == PACKAGE.name)


def layers() -> dict[str, int]:
    """Return the row of the page's table in which each module and folder of the package stands."""
    page = (HOME / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    rows = [(name, row) for row, cell in enumerate(cells) for name in re.findall(r"`(\w+)(?:\.py|/)`", cell)]
    assert len(rows) == len(dict(rows)), "a module stands in the table twice"
    return dict(rows)


LAYERS = layers()


def layer(module: str) -> int:
    """Return the row of ``module``; the package itself, which imports its public names when they are asked for, -1."""
    return LAYERS[module.split(".")[1]] if "." in module else -1


def test_every_module_stands_in_a_layer() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert LAYERS.keys() == there - {"__init__", "__main__"}


def test_nothing_imports_what_stands_below_it() -> None:
    ours = {name: tree for name, tree in MODULES.items() if name not in ("effnet_ft", "effnet_ft.__main__")}
    found = {(name, other) for name, tree in ours.items() for other in imports_of(name, ast.walk(tree))}
    assert len(found) > 300, "the imports were not found"
    assert {pair for pair in found if layer(pair[1]) > layer(pair[0])} == set()
    kinds = {tuple(name.split(".")[1] for name in pair) for pair in found if "effnet_ft" not in pair}
    assert kinds & {("data", "models"), ("models", "data")} == set()


def test_the_doctor_imports_nothing_heavy_before_it_must() -> None:
    at_once = {
        other
        for name, tree in MODULES.items()
        if name.startswith("effnet_ft.doctor")
        for other in imports_of(name, iter(tree.body))
    }
    others = {name for name in at_once if not name.startswith("effnet_ft.doctor")}
    assert others and max(map(layer, others)) <= layer("effnet_ft.utils.array_cache")


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: set(imports_of(name, iter(tree.body))) - {name} for name, tree in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle
    assert set(order) >= set(MODULES)

"""Reads YAML as plain data: nothing is evaluated, and a short text cannot fill the memory."""

import io
import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import yaml

from effnet_ft.errors import RecipeError
from effnet_ft.recipe.schema import flat_items
from effnet_ft.utils.text import shorten

_CALL = re.compile(r"(?<!\\)(?:\\\\)*\$\{[^{}]*(?:\$\{|:)")
"""A call of an OmegaConf resolver, or a reference inside another; a backslash makes it plain text."""

_OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9_]+)+)(\.[0-9_]*)?")
"""Numbers that YAML 1.1 reads as octal or sexagesimal, which no one means."""

_MOST_BYTES = 1_000_000
"""A larger file is no recipe."""

_MOST_ALIASES = 32
"""Aliases and references: each may double the ones before it and so fill the memory."""

_MOST_LEVELS = 20
"""Nested mappings and lists; a recipe has four levels."""


def read_yaml(path: Path, text_keys: Container[str]) -> dict[str, Any]:
    """Read the mapping in a YAML file, with references resolved and numbers such as ``2e-3`` as floats.

    OmegaConf's resolvers, such as ``${oc.env:HOME}``, are refused: a secret from the environment would be saved with
    the run.

    Args:
        path: of the file.
        text_keys: dotted keys whose values are read as written, such as ``007`` and ``on``.

    Raises:
        RecipeError: if it cannot be read, is not YAML or is not a mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"larger than {_MOST_BYTES / 1e6:g} MB: not a recipe", str(path))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", str(path)) from error
    try:
        _check_size(text)
        recipe = OmegaConf.load(io.StringIO(_quote(text, text_keys)))
        if faults := resolver_calls(OmegaConf.to_container(recipe)):
            raise RecipeError(faults, str(path))
        loaded = OmegaConf.to_container(recipe, resolve=True)
    except OSError as error:  # raised by OmegaConf for what is neither a mapping nor a list
        raise RecipeError("expected a mapping of keys, got a single value", str(path)) from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RecipeError(f"not valid YAML: {shorten(' '.join(str(error).split()), 500)}", str(path)) from error
    if not isinstance(loaded, dict):
        raise RecipeError(f"expected a mapping of keys, got a {type(loaded).__name__}", str(path))
    return {str(key): value for key, value in loaded.items()}


def parse_value(text: str, text_keys: Iterable[str] = (), key: str = "") -> Any:
    """Parse the YAML value of ``key`` without resolving references; return ``text`` itself if it is not YAML."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        _check_size(text)
        parsed = OmegaConf.to_container(
            OmegaConf.create(_quote(f"value: {text}", {f"value{name.removeprefix(key)}" for name in text_keys}))
        )
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        return text
    return parsed["value"] if isinstance(parsed, dict) and [*parsed] == ["value"] else text


def resolver_calls(values: Any) -> list[str]:
    """Return a fault for each text in nested mappings and lists that calls an OmegaConf resolver."""
    return [
        f"{shorten(key)} is '{shorten(value)}', which is more than a reference to a key: values are never "
        "evaluated; write the value itself, or set the key on the command line, where the shell expands variables"
        for key, value in flat_items(values)
        if isinstance(value, str) and _CALL.search(value)
    ]


def _quote(text: str, text_keys: Container[str] = ()) -> str:
    """Quote the scalars to be read as written: values of ``text_keys``, and numbers such as 010 and 1:30."""
    places: dict[int, str] = {}  # end and text of plain scalars
    seen: set[int] = set()  # aliases lead to the same nodes again
    root = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    waiting = [] if isinstance(root, yaml.ScalarNode) else [("", root)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            stays = key in text_keys and not node.tag.endswith(":null")
            if not node.style and (stays or _OTHER_BASE.fullmatch(node.value)):
                places[node.end_mark.index] = node.value
        elif isinstance(node, yaml.MappingNode) and id(node) not in seen:
            waiting += [(f"{key}.{name.value}".lstrip("."), entry) for name, entry in node.value if name.id == "scalar"]
        elif isinstance(node, yaml.SequenceNode) and id(node) not in seen:
            waiting += [("", entry) for entry in node.value]
        seen.add(id(node))
    for end, value in sorted(places.items(), reverse=True):
        if text.endswith(value, 0, end):  # one of several lines is text anyway
            text = text[: end - len(value)] + "'" + value.replace("'", "''") + "'" + text[end:]
    return text


def _check_size(text: str) -> None:
    """Raise a ValueError for YAML that would take long to load."""
    repeated, level = text.count("${"), 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        repeated += isinstance(event, yaml.AliasEvent)
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if repeated > _MOST_ALIASES:
            raise ValueError(f"more than {_MOST_ALIASES} aliases (*name) and references (${{key}}): write values")
        if level > _MOST_LEVELS:
            raise ValueError(f"mappings and lists more than {_MOST_LEVELS} levels deep")

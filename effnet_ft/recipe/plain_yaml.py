"""YAML to plain values, which are data alone: nothing in a text is evaluated, nor can a short one fill the memory."""

from __future__ import annotations

import io
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from effnet_ft.errors import RecipeError
from effnet_ft.utils.text import shorten

_CALL = re.compile(r"(?<!\\)(?:\\\\)*\$\{[^{}]*(?:\$\{|:)")
"""A reference of OmegaConf with a colon, a function's, or with a reference inside; a backslash makes it plain text."""

_MOST_BYTES = 1_000_000
"""In a recipe: more is another file, given by mistake."""

_MOST_ALIASES = 32
"""In a recipe, references counted too: those of others double them again and again, and would fill the memory."""

_MOST_LEVELS = 20
"""Of mappings and lists inside each other: a recipe has four."""


_OTHER_BASE = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9_]+)+)(\.[0-9_]*)?")


def read_yaml(path: Path, text_keys: Container[str]) -> dict[str, Any]:
    """Return the mapping in the YAML file ``path``: references resolved, numbers such as ``2e-3`` as floats.

    A reference names another key of the recipe, as in ``${data.root}``. OmegaConf's functions, such as
    ``${oc.env:HOME}``, are refused: a recipe is data, and a secret of the environment would be written into the run.

    Args:
        path: of the file.
        text_keys: dotted keys whose values stay as they are written, such as ``007`` and ``on``.

    Raises:
        RecipeError: where it cannot be read, is no YAML or is no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"it is larger than {_MOST_BYTES / 1e6:g} MB, and so no recipe", str(path))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read it: {error}", str(path)) from error
    try:
        _check_size(text)
        recipe = OmegaConf.load(io.StringIO(_quote(text, text_keys)))
        if faults := resolver_calls(OmegaConf.to_container(recipe)):
            raise RecipeError(faults, str(path))
        loaded = OmegaConf.to_container(recipe, resolve=True)
    except OSError as error:  # so OmegaConf calls what is neither a mapping nor a list
        raise RecipeError("expected a mapping of keys, got a single value", str(path)) from error
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RecipeError(f"not valid YAML: {shorten(' '.join(str(error).split()), 500)}", str(path)) from error
    if not isinstance(loaded, dict):
        raise RecipeError(f"expected a mapping of keys, got a {type(loaded).__name__}", str(path))
    return {str(key): value for key, value in loaded.items()}


def parse_value(text: str) -> Any:
    """Return the value that ``text`` stands for in YAML, references left as they are; a text where it is no YAML."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        _check_size(text)
        parsed = OmegaConf.to_container(OmegaConf.create(_quote(f"value: {text}")))
    except (YAMLError, OmegaConfBaseException, ValueError):
        return text
    return parsed["value"] if isinstance(parsed, dict) and [*parsed] == ["value"] else text


def resolver_calls(value: Any, where: str = "") -> list[str]:
    """Return one sentence for each text in ``value``, of mappings and lists, that calls one of OmegaConf's functions.

    Args:
        value: plain values, with references unresolved.
        where: the dotted key of ``value`` itself.
    """
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return [
            fault for key, entry in entries for fault in resolver_calls(entry, f"{where}.{key}" if where else str(key))
        ]
    if isinstance(value, str) and _CALL.search(value):
        return [
            f"{shorten(where)} is '{shorten(value)}', which asks for more than another key: values are never "
            "evaluated; write the value itself, or set the key on the command line, where the shell fills in variables"
        ]
    return []


def _quote(text: str, text_keys: Container[str] = ()) -> str:
    """Return YAML with quotes around what is to stay as it is written.

    These are the values of ``text_keys``, and 010 and 1:30, which YAML 1.1 takes for octal and sexagesimal numbers.
    """
    import yaml

    places: dict[int, str] = {}  # where a plain scalar ends, and what it is
    seen: set[int] = set()  # anchors' nodes, which aliases lead to again
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
        if text.endswith(value, 0, end):  # what goes over several lines is text already
            text = text[: end - len(value)] + "'" + value.replace("'", "''") + "'" + text[end:]
    return text


def _check_size(text: str) -> None:
    """Refuse what would take long to load.

    Raises:
        ValueError: saying what there is too much of.
        YAMLError: where it is no YAML.
    """
    import yaml

    repeated, level = text.count("${"), 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        repeated += isinstance(event, yaml.AliasEvent)
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if repeated > _MOST_ALIASES:
            raise ValueError(
                f"it has more than {_MOST_ALIASES} aliases (*name) and references (${{key}}): write values"
            )
        if level > _MOST_LEVELS:
            raise ValueError(f"its mappings and lists are more than {_MOST_LEVELS} levels deep")

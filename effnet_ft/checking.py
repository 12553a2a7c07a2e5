"""Checks plain values from YAML and the command line against dataclasses whose fields carry their limits."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from effnet_ft.errors import RecipeError, nearest

Settings = TypeVar("Settings")

_CALL = re.compile(r"(?<!\\)(?:\\\\)*\$\{[^{}]*(?:\$\{|:)")
"""A reference of OmegaConf with a colon, a function's, or with a reference inside; a backslash makes it plain text."""

_MOST_ALIASES = 32
"""In a recipe: aliases of aliases double it again and again, and a short text would fill the memory."""


def option(
    default: Any,
    *,
    help: str,
    choices: Iterable[str] = (),
    words: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    per_phase: bool = False,
) -> Any:
    """Declare a recipe key as a dataclass field.

    Args:
        default: the value where nothing is given; ``None`` for a key that has none.
        help: what it means, for messages and documentation.
        choices: the allowed texts.
        words: texts allowed beside a number, such as ``auto``.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        above: all values must be larger.
        below: all values must be smaller.
        per_phase: a phase may set it otherwise.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "choices": tuple(choices), "words": words, "per_phase": per_phase, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file ``path``: references resolved, numbers such as ``2e-3`` as floats.

    A reference names another key of the recipe, as in ``${data.root}``. OmegaConf's functions, such as
    ``${oc.env:HOME}``, are refused: a recipe is data, and a secret of the environment would be written into the run.

    Raises:
        RecipeError: where it cannot be read, is no YAML or is no mapping.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = path.read_text(encoding="utf-8")
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)) > _MOST_ALIASES:
            raise RecipeError(f"more than {_MOST_ALIASES} aliases (*name): write the values themselves", str(path))
        recipe = OmegaConf.load(io.StringIO(text))
        if faults := calls(OmegaConf.to_container(recipe)):
            raise RecipeError(faults, str(path))
        loaded = OmegaConf.to_container(recipe, resolve=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read it: {error}", str(path)) from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RecipeError(f"not valid YAML: {' '.join(str(error).split())}", str(path)) from error
    if not isinstance(loaded, dict):
        raise RecipeError(f"expected a mapping of keys, got a {type(loaded).__name__}", str(path))
    return {str(key): value for key, value in loaded.items()}


def calls(value: Any, where: str = "") -> list[str]:
    """Return one sentence for each text in ``value``, of mappings and lists, that calls one of OmegaConf's functions.

    Args:
        value: plain values, with references unresolved.
        where: the dotted key of ``value`` itself.
    """
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return [fault for key, entry in entries for fault in calls(entry, f"{where}.{key}" if where else str(key))]
    if isinstance(value, str) and _CALL.search(value):
        return [
            f"{where} is '{value}', which asks for more than another key: values are never evaluated; write the value "
            "itself, or set the key on the command line, where the shell fills in variables"
        ]
    return []


def apply_override(raw: dict[str, Any], text: str, schema: type, faults: list[str]) -> None:
    """Apply one ``key=value`` text to ``raw`` in place; a text that does not fit is added to ``faults``."""
    key, equals, value_text = text.partition("=")
    if not equals or not key.strip():
        faults.append(f"'{text}' is no override: write key=value, e.g. data.batch_size=16")
        return
    parts = key.strip().replace("[", ".").replace("]", "").split(".")
    target: Any = raw
    for part, following in pairwise(parts):
        if isinstance(target, list):
            if not part.isdigit() or int(part) >= len(target):
                faults.append(f"{key}: there is no entry {part}; the recipe has {len(target)}, counted from 0")
                return
            target = target[int(part)]
        elif isinstance(target, dict):
            if target.get(part) is None:  # absent, or a section left empty
                target[part] = [] if following.isdigit() else {}
            target = target[part]
        if not isinstance(target, dict | list):
            faults.append(f"unknown key '{key}': '{part}' is a single value")
            return
    if isinstance(target, list):
        if not parts[-1].isdigit() or int(parts[-1]) >= len(target):
            faults.append(f"{key}: there is no entry {parts[-1]}; the recipe has {len(target)}, counted from 0")
            return
        target[int(parts[-1])] = _parse(value_text)
    else:
        # A text stays as it was typed: a folder called 2024 or "a: b" is a name, not a number or a mapping.
        target[parts[-1]] = value_text if _is_text(schema, parts) else _parse(value_text)


def build(
    kind: type[Settings],
    raw: dict[str, Any],
    where: str,
    faults: list[str],
    skip: Sequence[str] = (),
    also: Sequence[str] = (),
) -> Settings:
    """Return ``kind`` filled from ``raw``; every fault is added to ``faults`` and its key left at the default.

    Args:
        kind: a dataclass with :func:`option` fields, or dataclasses as fields.
        raw: plain values by key.
        where: the dotted key of ``raw`` itself, empty for the whole recipe.
        faults: receives one sentence a fault.
        skip: fields that are not read from ``raw``.
        also: names allowed elsewhere, to suggest for an unknown key.
    """
    known = {item.name: item for item in fields(kind) if item.name not in skip}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    result = kind()
    for key, value in raw.items():
        dotted = f"{where}.{key}" if where else str(key)
        if key not in known:
            expected = [*known, *also]
            faults.append(f"unknown key '{dotted}'{nearest(str(key), expected) or '; known: ' + ', '.join(expected)}")
        elif is_dataclass(hints[key]):
            if isinstance(value, dict):
                setattr(result, key, build(hints[key], value, dotted, faults))
            elif value is not None:
                faults.append(f"{dotted} is {value!r}, expected a mapping of keys")
        else:
            checked, fault = check(known[key], hints[key], value)
            if fault:
                faults.append(f"{dotted} is {value!r}, {fault}")
            else:
                setattr(result, key, checked)
    return result


def check(item: Field[Any], hint: Any, value: Any) -> tuple[Any, str]:
    """Return ``value`` in the field's type and an empty text, or the value and what was expected of it."""
    limits = item.metadata
    if isinstance(value, bool):  # YAML 1.1 reads a bare on or off as true or false
        word = "on" if value else "off"
        value = word if word in (*limits["words"], *limits["choices"]) else value
    if value is None or value == "???":
        return (item.default, "") if item.default is None else (value, f"expected {expected(item, hint)}")
    if isinstance(value, str) and value in limits["words"]:
        return value, ""
    if hint == list[str]:
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list) or any(entry not in limits["choices"] for entry in entries):
            return value, f"expected {expected(item, hint)}"
        return list(entries), ""
    if hint == (str | int):
        accepted = isinstance(value, str | int) and not isinstance(value, bool)
        hint = type(value) if accepted else hint
    converted = _convert(value, hint)
    if converted is None:
        return value, f"expected {expected(item, hint)}"
    if limits["choices"] and converted not in limits["choices"]:
        return value, f"expected {expected(item, hint)}{nearest(str(value), list(limits['choices']))}"
    if isinstance(converted, int | float) and not _within(converted, limits):
        return value, f"expected {expected(item, hint)}"
    return converted, ""


def lookup(settings: Any, key: str) -> Any:
    """Return the value at a dotted key of nested dataclasses."""
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def describe(kind: type, key: str) -> str:
    """Return the help text of a dotted key, empty where it has none."""
    *sections, name = key.split(".")
    for section in sections:
        kind = get_type_hints(kind)[section]
    return next((item.metadata.get("help", "") for item in fields(kind) if item.name == name), "")


def _parse(text: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        parsed = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
        return parsed["value"] if isinstance(parsed, dict) else text
    except (YAMLError, OmegaConfBaseException, ValueError):
        return text


def _is_text(schema: type, parts: list[str]) -> bool:
    kind: Any = schema
    for part in parts:
        if not is_dataclass(kind) or part not in {item.name for item in fields(kind)}:
            return False
        kind = get_type_hints(kind)[part]
    return kind is str


def _convert(value: Any, hint: Any) -> Any:
    """Return ``value`` as ``hint``, or None where it is of another type. Whole floats pass as integers."""
    if hint is str:
        # YAML reads a class folder named 2024 as a number and 32 as a precision; both are texts here.
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if hint is int:
        return int(number) if number == int(number) else None
    return number if hint is float else None


def _within(value: float, limits: Any) -> bool:
    return (
        (limits["minimum"] is None or value >= limits["minimum"])
        and (limits["maximum"] is None or value <= limits["maximum"])
        and (limits["above"] is None or value > limits["above"])
        and (limits["below"] is None or value < limits["below"])
    )


def expected(item: Field[Any], hint: Any) -> str:
    """Return in words what a field takes: its choices, or its type, limits and words."""
    limits = item.metadata
    if hint == list[str]:
        return f"a list of {', '.join(limits['choices'])}"
    if limits["choices"]:
        return f"one of {', '.join(limits['choices'])}"
    names = {int: "a whole number", float: "a number", str: "a text"}
    text = names.get(hint, "a text or a whole number")
    signs = {"minimum": "at least", "above": "above", "maximum": "at most", "below": "below"}
    bounds = [f"{sign} {limits[key]}" for key, sign in signs.items() if limits[key] is not None]
    text += " " + " and ".join(bounds) if bounds else ""
    return text + "".join(f", or {word}" for word in limits["words"])

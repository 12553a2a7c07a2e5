"""Checks plain values from YAML and the command line against dataclasses whose fields carry their limits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import Field, field, fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_type_hints

from effnet_ft.recipe.plain_yaml import parse_value
from effnet_ft.utils.text import did_you_mean, quoted, shorten

Settings = TypeVar("Settings")


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
    path: bool = False,
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
        path: the text names a file or a folder.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "choices": tuple(choices), "words": words, "per_phase": per_phase, "path": path, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def apply_override(raw: dict[str, Any], text: str, schema: type, faults: list[str]) -> None:
    """Apply one ``key=value`` text to ``raw`` in place; a text that does not fit is added to ``faults``."""
    key, equals, value_text = text.partition("=")
    if not equals or not key.strip():
        faults.append(f"'{shorten(text)}' is no override: write key=value without spaces, or in quotes: 'key=a value'")
        return
    parts = key.strip().replace("[", ".").replace("]", "").split(".")
    target: Any = raw
    for part, following in pairwise(parts):
        place = _place(target, part, key, faults)
        if place is None:
            return
        if isinstance(target, dict) and target.get(place) is None:  # absent, or a section left empty
            target[place] = [] if _is_count(following) else {}
        target = target[place]
        if not isinstance(target, dict | list):
            faults.append(f"unknown key '{shorten(key)}': '{shorten(part)}' is a single value")
            return
    place = _place(target, parts[-1], key, faults)
    if place is not None:
        # A text stays as it was typed: a folder called 2024 or "a: b" is a name, not a number or a mapping.
        target[place] = value_text if _is_text(schema, parts) else parse_value(value_text)


def _place(target: Any, part: str, key: str, faults: list[str]) -> str | int | None:
    """Return where ``part`` of an override's key leads in a mapping or a list; None, and a fault, for nowhere."""
    if not isinstance(target, list):
        return part
    if _is_count(part) and int(part) < len(target):
        return int(part)
    faults.append(f"{shorten(key)}: there is no entry {shorten(part)}; the recipe has {len(target)}, counted from 0")
    return None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


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
        dotted = f"{where}.{shorten(str(key))}" if where else shorten(str(key))
        if key not in known:
            expected = [*known, *also]
            meant = _nearest_key(str(key), expected, kind)
            faults.append(f"unknown key '{dotted}'{meant or '; known: ' + ', '.join(expected)}")
        elif is_dataclass(hints[key]):
            if isinstance(value, dict):
                setattr(result, key, build(hints[key], value, dotted, faults))
            elif value is not None:
                faults.append(f"{dotted} is {quoted(value)}, expected a mapping of keys")
        else:
            checked, fault = check(known[key], hints[key], value)
            if fault:
                faults.append(f"{dotted} is {quoted(value)}, {fault}")
            else:
                setattr(result, key, checked)
    return result


def _nearest_key(word: str, known: Sequence[str], kind: type) -> str:
    """Return ``"; did you mean 'x'?"`` for one of ``known``, or a dotted key that ``kind`` holds further in."""
    inner = nested_keys(kind)
    if homes := [key for key in inner if key.rpartition(".")[2] == word.lower()]:  # root stands for data.root
        return f"; did you mean {' or '.join(repr(key) for key in homes)}?"
    return did_you_mean(word, [*known, *inner])


def nested_keys(kind: type) -> list[str]:
    """Return the dotted keys of the dataclasses that are fields of ``kind``; of a list of them those of its first."""
    found = []
    for name, hint in get_type_hints(kind).items():
        entries = [entry for entry in get_args(hint) if is_dataclass(entry)]
        if inner := hint if is_dataclass(hint) else next(iter(entries), None):
            found += [f"{name}{'.0' * bool(entries)}.{item.name}" for item in fields(inner) if item.metadata]
    return found


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
        return value, f"expected {expected(item, hint)}{did_you_mean(str(value), limits['choices'])}"
    if isinstance(converted, int | float) and not _within(converted, limits):
        return value, f"expected {expected(item, hint)}"
    if isinstance(converted, str) and not _is_unicode(converted):
        return value, "which holds bytes that are no UTF-8, and a recipe cannot: rename it, or make a link to it"
    if limits["path"] and (fault := path_fault(converted)):
        return value, fault
    return converted, ""


def _is_unicode(text: str) -> bool:
    """Return whether ``text`` can be written down: what the shell gave as other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_fault(path: str) -> str:
    """Return what is wrong with a path that no file can have, an empty text where nothing is."""
    if "\0" in path:
        return "expected a path, which holds no NUL"
    if any(len(os.fsencode(name)) > 255 for name in path.split("/")) or len(os.fsencode(path)) > 4096:
        return "too long for a path"
    if path.startswith("~") and os.path.expanduser(path).startswith("~"):
        return "which names the home of a user who is not there; of a file so called write ./~..."
    return ""


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
    if hint is int and isinstance(value, int):
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
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

"""Applies the command line's ``key=value`` to the values of a recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from effnet_ft.recipe.plain_yaml import parse_value
from effnet_ft.recipe.schema import text_keys
from effnet_ft.utils.text import shorten


def apply_override(raw: dict[str, Any], text: str, faults: list[str]) -> None:
    """Apply one ``key=value`` text to ``raw`` in place; a text that does not fit is added to ``faults``."""
    key, equals, value = text.partition("=")
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
        target[place] = value if ".".join(parts) in text_keys() else parse_value(value)


def spell_out_store(raw: dict[str, Any]) -> None:
    """Let ``store: off`` stand for ``store: {mode: off}``."""
    if raw.get("store") in (False, "off", "keep"):
        raw["store"] = {"mode": raw["store"] or "off"}


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

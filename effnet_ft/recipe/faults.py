"""Validates a recipe and reports every fault: its key, its value, what was expected and the nearest choice."""

from collections.abc import Iterable
from functools import reduce
from operator import getitem
from typing import Any

from pydantic import ValidationError

from effnet_ft.recipe.schema import SECTIONS, Phase, Recipe
from effnet_ft.recipe.settings import Settings, alternatives, properties
from effnet_ft.utils.text import did_you_mean, quoted, shorten

Place = tuple[str | int, ...]
"""Path of a value: ``("data", "root")``, ``("phases", 0, "lr")``."""

PHASES = "a list of {train, epochs, lr}"
_PHASE = {"train": "all", "epochs": 1, "lr": 1.0}
_SIGNS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_TYPES = {"integer": "a whole number", "number": "a number", "string": "a text"}


def check(raw: dict[str, Any], faults: list[str]) -> Recipe:
    """Validate plain values.

    Args:
        raw: sections, phases and keys as read from YAML.
        faults: receives a sentence per fault; faulty values are left at their defaults.
    """
    sound = _copy(raw)
    try:
        return Recipe.model_validate(sound)
    except ValidationError as error:
        found = _by_place(error)
    faults += [_sentence(place, sound, wrong) for place, wrong in found.items()]
    for place in found:
        _reset(sound, place)
    return Recipe.model_validate(sound)


def value_fault(dotted: str, value: Any) -> str:
    """Return what a dotted key expects if ``value`` does not fit; empty if it does."""
    kind, name = _declared(dotted)
    try:
        kind.model_validate({name: value})
    except ValidationError as error:
        wrong = next((wrong for wrong in error.errors(include_url=False) if wrong["loc"][0] == name), None)
        return _wanted(properties(kind)[name], value, wrong) if wrong else ""
    return ""


def number_type(dotted: str) -> str:
    """Return ``integer`` or ``number`` for a dotted key that may be one; empty for others."""
    kind, name = _declared(dotted)
    types = [one.get("type") for one in alternatives(properties(kind).get(name, {}))]
    return next((str(of) for of in types if of in ("integer", "number")), "")


def _declared(dotted: str) -> tuple[type[Settings], str]:
    """Return the section and the name of a dotted key such as ``data.root`` or ``phases.0.lr``."""
    section, _, name = dotted.partition(".")
    if section == "phases" and name:
        return Phase, name.rpartition(".")[2]
    return (SECTIONS.get(section, Settings), name) if name else (Recipe, section)


def expected(schema: dict[str, Any]) -> str:
    """Describe the values of a key with this JSON schema."""
    if "items" in schema:
        return f"a list of {', '.join(words(schema['items']))}"
    ways = [_way(one) for one in alternatives(schema) if not words(one)]
    return ", or ".join([*ways, *words(schema)]) if ways else f"one of {', '.join(words(schema))}"


def words(schema: dict[str, Any]) -> list[str]:
    """Return the words allowed by a key's JSON schema."""
    listed = (one.get("enum", [one["const"]] if "const" in one else []) for one in alternatives(schema))
    return [word for some in listed for word in some]


def _way(schema: dict[str, Any]) -> str:
    bounds = " and ".join(f"{sign} {schema[limit]}" for limit, sign in _SIGNS.items() if limit in schema)
    such = " or ".join(schema.get("examples", ()))
    return f"{_TYPES[schema['type']]}{bounds and f' {bounds}'}{such and f' such as {such}'}"


def _by_place(error: ValidationError) -> dict[Place, Any]:
    """Return pydantic's first error per key; it reports one for each type that a key may have."""
    found: dict[Place, Any] = {}
    for wrong in error.errors(include_url=False):
        place = wrong["loc"]
        found.setdefault(place[: 3 if place[0] == "phases" else 2 if place[0] in SECTIONS else 1], wrong)
    return found


def _sentence(place: Place, raw: dict[str, Any], wrong: Any) -> str:
    kind = Recipe if len(place) == 1 else Phase if place[0] == "phases" else SECTIONS[str(place[0])]
    name, shown = str(place[-1]), shorten(str(place[-1]))
    where = f"{place[0]}[{place[1]}]" if place[0] == "phases" and len(place) > 1 else str(place[0])
    dotted = shown if len(place) == 1 else where if isinstance(place[-1], int) else f"{where}.{shown}"
    if wrong["type"] == "extra_forbidden":
        return f"unknown key '{dotted}'{_nearest_key(name, kind)}"
    if wrong["type"] == "missing":
        return f"{dotted} is not set: {properties(kind)[name]['description']}"
    value = reduce(getitem, place, raw)  # type: ignore[arg-type]
    if place == ("phases",):
        wanted = f"expected {PHASES}"
    elif isinstance(place[-1], int):
        wanted = "expected a mapping such as {train: head, epochs: 5, lr: 2e-3}"
    else:
        wanted = "expected a mapping of keys" if name in SECTIONS else _wanted(properties(kind)[name], value, wrong)
    return f"{dotted} is {quoted(value)}, {wanted}"


def _wanted(schema: dict[str, Any], value: Any, wrong: Any) -> str:
    if wrong["type"] == "text":
        return wrong["msg"]
    only_words = all(words(one) for one in alternatives(schema))
    return f"expected {expected(schema)}{did_you_mean(str(value), words(schema)) if only_words else ''}"


def _nearest_key(word: str, kind: type[Settings]) -> str:
    """Suggest a key of ``kind``, at the top also one of a section; without a similar one, list all keys."""
    known = [*kind.model_fields]
    sections: list[tuple[str, Iterable[str]]] = [(name, section.model_fields) for name, section in SECTIONS.items()]
    dotted = [f"{name}.{key}" for name, keys in (*sections, ("phases.0", (*_PHASE, "steps"))) for key in keys]
    inner = dotted if kind is Recipe else []
    if homes := [key for key in inner if key.rpartition(".")[2] == word.lower()]:  # root for data.root
        return f"; did you mean {' or '.join(repr(key) for key in homes)}?"
    return did_you_mean(word, [*known, *inner]) or f"; known: {', '.join(known)}"


def _copy(value: Any) -> Any:
    """Copy nested mappings and lists; make keys valid text."""
    if isinstance(value, dict):
        return {str(key).encode(errors="backslashreplace").decode(): _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list) else value


def _reset(raw: Any, place: Place) -> None:
    """Remove the value at ``place``; replace it where a phase requires one."""
    *above, last = place
    holder = reduce(getitem, above, raw)
    if place[0] == "phases" and (isinstance(last, int) or last in (*_PHASE, "steps")):
        holder[last] = dict(_PHASE) if isinstance(last, int) else _PHASE.get(last, 1)
    else:
        del holder[last]

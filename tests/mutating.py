"""Recipes as people and programs spoil them: hypothesis strategies, drawn from the schema itself."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import strategies as st

from effnet_ft.recipe import SECTIONS, Phase, Recipe, per_phase_keys
from effnet_ft.recipe.faults import words
from effnet_ft.recipe.settings import Settings, alternatives, path_fault, properties

Draw = Any

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("${}:.*&!?\\'\"[]#%@`|>-~ \t\n\0\x1b\u2028\ufeffaé²٣\ud800", max_size=12),
    st.sampled_from(["auto", "off", "on", "???", "none", "nan", "1e999", "2024-02-30", "0x1F", "1_000", "b0", "~"]),
    st.sampled_from(
        ["${seed}", "${nothing}", "${data.root}", "${oc.env:HOME}", "${a${b}}", "${", "\\${seed}", "${seed"]
    ),
    st.sampled_from(["/" * 5000, "x" * 5000, "a/" * 3000, "~no-such-user/x", "\0", "../" * 50, "http://x", "."]),
)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**53 + 1, 1e308, 5e-324, -0.0, 0.5, 300]),
)
SINGLE = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=4), st.dates())
ANYTHING = st.recursive(
    SINGLE,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.one_of(TEXTS, NUMBERS, st.none()), inner, max_size=3)
    ),
    max_leaves=5,
)


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a key of this JSON schema takes."""
    if "items" in schema:
        return st.lists(st.sampled_from(words(schema["items"])), max_size=3)
    return st.one_of(*(st.sampled_from(words(one)) if words(one) else _free(one) for one in alternatives(schema)))


def _free(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema["type"] == "integer":
        return st.integers(low, high)
    if schema["type"] == "number":
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        return st.floats(
            min_value=low if above is None else above,
            max_value=high if below is None else below,
            exclude_min=above is not None,
            exclude_max=below is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    if "pattern" in schema:
        return st.from_regex(re.compile(schema["pattern"], re.ASCII), fullmatch=True)
    return st.text(min_size=1).filter(lambda text: text != "???" and not path_fault(text))


def _keys(kind: type[Settings]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: values_of(schema) for name, schema in properties(kind).items() if "description" in schema}


_VALUES = {name: _keys(kind) for name, kind in SECTIONS.items()}
_PHASE = {name: values for name, values in _keys(Phase).items() if name not in per_phase_keys()}
_PER_PHASE = {key: _VALUES[section][key] for key, section in per_phase_keys().items()}

# What only some files and combinations allow stays at its default: these recipes are meant to be right.
_LEFT = {"model.weights", "model.family", "data.fit", "data.val_fraction", "data.test_fraction"}
_DOTTED = [f"{section}.{key}" for section, keys in _VALUES.items() for key in keys]
_FREE = [key for key in _DOTTED if key not in _LEFT]


@st.composite
def valid(draw: Draw) -> dict[str, Any]:
    """A recipe that is right."""
    recipe: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=_keys(Recipe)))
    for dotted in draw(st.lists(st.sampled_from(_FREE), max_size=6)):
        section, key = dotted.split(".")
        recipe.setdefault(section, {})[key] = draw(_VALUES[section][key])
    recipe["phases"] = [_phase(draw) for _ in range(draw(st.integers(1, 2)))]
    return recipe


def _phase(draw: Draw) -> dict[str, Any]:
    length = draw(st.sampled_from(["epochs", "steps"]))  # one of the two
    phase = {key: draw(value) for key, value in _PHASE.items() if key in ("train", length, "lr")}
    for key in draw(st.lists(st.sampled_from(sorted(_PER_PHASE)), max_size=3)):
        phase[key] = draw(_PER_PHASE[key])
    return phase


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all entries of nested mappings and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, entry in entries for path in ((*above, key), *places(entry, (*above, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """The entry at ``path``."""
    for key in path:
        value = value[key]
    return value


def misspell(draw: Draw, word: str) -> str:
    """``word`` with a letter left out, doubled or another."""
    place = draw(st.integers(0, len(word) - 1))
    return word[:place] + draw(st.sampled_from(["", word[place] * 2, "x", "é", "."])) + word[place + 1 :]


@st.composite
def mutated(draw: Draw) -> dict[str, Any]:
    """A recipe that was right, with one to three entries spoilt."""
    recipe = draw(valid())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(recipe)))
        holder, key = at(recipe, path[:-1]), path[-1]
        kind = draw(st.sampled_from(["value", "key", "wrap", "move", "drop", "twice"]))
        if kind == "key" and isinstance(holder, dict):
            name = misspell(draw, str(key)) if str(key) else draw(TEXTS)
            holder[draw(st.one_of(st.just(name), SINGLE.filter(_hashable)))] = holder.pop(key)
        elif kind == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"value": holder[key]}, {str(key): holder[key]}]))
        elif kind == "move":
            recipe[draw(TEXTS)] = holder[key]
        elif kind == "drop":
            del holder[key]
        elif kind == "twice":
            recipe["again"] = [holder[key]] * 3  # an anchor and aliases, where it is a mapping or a list
        else:
            holder[key] = draw(ANYTHING)
        if not recipe:
            break
    return recipe


def _hashable(value: Any) -> bool:
    return value == value  # NaN as a key is never found again


TAGS = ("!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!!binary x", "!!set {a}", "!own a", "!!int x")
SNIPPETS = (
    *TAGS,
    *(
        "&a ",
        "*a",
        "<<: *a",
        "<<: {seed: 1}",
        "---\n",
        "...\n",
        "%YAML 9.9\n",
        "\t",
        "\r\n",
        "\r",
        "{",
        "]",
        "- ",
        ": ",
    ),
    *(
        "seed: 1\n",
        "phases:\n",
        "? [a]\n: b\n",
        "\ufeff",
        "\x00",
        "\x07",
        "\u2028",
        "é",
        "|\n",
        "> ",
        "'",
        '"',
        "${",
        "#",
    ),
    *("[" * 500, "{a: " * 200, "9" * 5000, "model: " * 50, "12:30:45", "1e5", ".inf", ".NaN", "0o8", "=", "on"),
)


@st.composite
def spoilt_text(draw: Draw, texts: list[str]) -> str:
    """The text of a recipe with lines and pieces put in, left out or doubled."""
    text = draw(st.sampled_from(texts) | mutated().map(lambda recipe: yaml.safe_dump(recipe, allow_unicode=True)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["put", "cut", "double", "indent"]))
        if kind == "put":
            text = text[:place] + draw(st.sampled_from(SNIPPETS) | st.text(max_size=5)) + text[place:]
        elif kind == "cut":
            text = text[:place] + text[place + draw(st.integers(1, 20)) :]
        else:
            lines = text.splitlines(keepends=True) or [""]
            index = draw(st.integers(0, len(lines) - 1))
            lines[index] = lines[index] * 2 if kind == "double" else draw(st.sampled_from(" \t-")) + lines[index]
            text = "".join(lines)
    return text


@st.composite
def override(draw: Draw) -> str:
    """A text of the command line that may set a key."""
    phase = st.sampled_from(["0", "1", "-1", "9", "²", "00", "", "x"])
    keys = st.one_of(
        st.sampled_from(_DOTTED),
        st.sampled_from(_DOTTED).map(lambda key: misspell(draw, key)),
        st.builds("phases.{}.{}".format, phase, st.sampled_from(sorted(per_phase_keys()))),
        st.builds("phases[{}]{}".format, phase, st.sampled_from([".lr", "", ".lr.x", "[0]"])),
        st.sampled_from(
            ["phases", "model", "store", "seed", "", ".", "..", "phases.0", "seed.0", "model.0.x", "store.0"]
        ),
        TEXTS,
    )
    single = SINGLE.map(lambda value: yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip())
    value = st.one_of(TEXTS, single, st.sampled_from(SNIPPETS), st.just("[{train: head, epochs: 1, lr: 1e-3}]"))
    return draw(keys) + draw(st.sampled_from(["=", "=", "=", "=", "", "==", " = "])) + draw(value)

"""The base of a recipe's sections, and their keys: type, default, limits and meaning, checked by pydantic."""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic_core import PydanticCustomError, core_schema

_NUMBER = re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
"""A decimal number. Leading zeros are refused: they may mean octal."""


class Settings(BaseModel):
    """A section of a recipe. Unknown keys and values of the wrong type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _convert(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {name: None if isinstance(value, str) and value == "???" else value for name, value in given.items()}
        unset = {name for name, field in cls.model_fields.items() if field.is_required() or field.default_factory}
        return {
            name: _converted(value, properties(cls).get(name, {}))
            for name, value in given.items()
            if value is not None or name not in unset
        }


def key(
    default: Any,
    meaning: str,
    *,
    per_phase: bool = False,
    affects_training: bool = True,
    settable: tuple[str, ...] = (),
) -> Any:
    """Declare a key.

    Args:
        default: ``...`` if a value is required.
        meaning: for messages and documentation.
        per_phase: a phase may override it.
        affects_training: it must not change when a run is resumed.
        settable: what it can be set for once a model is trained: ``move`` (a run's images), ``evaluate`` (a run) or
            ``file`` (evaluate a model file).
    """
    marks: Any = {"per_phase": per_phase, "affects_training": affects_training, "settable": [*settable]}
    return Field(default, description=meaning, json_schema_extra=marks)


phase_key = partial(key, per_phase=True)
"""Declare a key that a phase may override."""


def one_of(choices: Iterable[str]) -> Any:
    """Annotate a text as one of ``choices``, the names in a table."""
    return GetPydanticSchema(lambda source, handler: core_schema.literal_schema(list(choices)))


def text_fault(text: str) -> str:
    """Return why this text cannot be saved; empty if it can."""
    try:
        text.encode()
    except UnicodeEncodeError:  # the shell gave other bytes
        return "which is not UTF-8: rename it, or link to it"
    return ""


def path_fault(path: str) -> str:
    """Return why no file can have this path; empty if one can."""
    if fault := text_fault(path):
        return fault
    if "\0" in path:
        return "expected a path without NUL"
    if any(len(os.fsencode(name)) > 255 for name in path.split("/")) or len(os.fsencode(path)) > 4096:
        return "which is too long for a path"
    if path.startswith("~") and os.path.expanduser(path).startswith("~"):
        return "which is the home of an unknown user; for a file of that name write ./~..."
    return ""


def _without(fault: Callable[[str], str]) -> AfterValidator:
    def check(text: str) -> str:
        if found := fault(text):
            raise PydanticCustomError("text", "{fault}", {"fault": found})
        return text

    return AfterValidator(check)


Text = Annotated[str, _without(text_fault)]
PathText = Annotated[str, _without(path_fault)]


@cache
def properties(kind: type[Settings]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of ``kind``, with the marks of :func:`key`."""
    return kind.model_json_schema()["properties"]


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON schemas that a key's value may match, without ``null``."""
    return [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]


def is_text(schema: dict[str, Any]) -> bool:
    """Return whether a key takes any text, which then stays as typed."""
    texts = [one for one in alternatives(schema) if one.get("type") == "string"]
    return any(not {"enum", "const", "pattern"} & {*one} for one in texts)


def _converted(value: Any, schema: dict[str, Any]) -> Any:
    """Convert ``value`` to the type of its key if it stands for one; else return it unchanged."""
    if is_text(schema):
        with suppress(ValueError):  # Python does not print integers of thousands of digits
            return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    elif isinstance(value, bool):  # YAML 1.1 reads bare on and off as true and false
        return "on" if value else "off"
    elif isinstance(value, str) and "enum" in schema.get("items", ()):
        return [value]
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value

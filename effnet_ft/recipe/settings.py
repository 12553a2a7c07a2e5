"""What the sections of a recipe are made of: keys with a type, a default, limits and a meaning, checked by pydantic."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

_NUMBER = re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
"""A decimal number; one with leading zeros may be meant as an octal one."""


class Settings(BaseModel):
    """Keys that belong together. Unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=False)

    @model_validator(mode="before")
    @classmethod
    def _convert(cls, given: Any) -> Any:
        """Return values of YAML in the types of their keys; keys left empty are not given."""
        if not isinstance(given, dict):
            return given
        values = {}
        for name, value in given.items():
            field = cls.model_fields.get(str(name))
            value = None if isinstance(value, str) and value == "???" else value
            if value is None and field and (field.is_required() or field.default_factory):
                continue
            values[str(name)] = value if field is None else _converted(value, properties(cls)[str(name)])
        return values

    def with_values(self, **values: Any) -> Self:
        """Return a copy with other values, checked."""
        return self.model_validate({**{name: getattr(self, name) for name in self.model_fields_set}, **values})


def key(default: Any, meaning: str, *, per_phase: bool = False, affects_training: bool = True) -> Any:
    """Declare a key.

    Args:
        default: the value where nothing is given; ``...`` where one must be.
        meaning: for messages and documentation.
        per_phase: a phase may set it otherwise.
        affects_training: a resumed run must have it as before.
    """
    marks: Any = {"per_phase": per_phase, "affects_training": affects_training}
    return Field(default, description=meaning, json_schema_extra=marks)


def phase_key(default: Any, meaning: str, *, affects_training: bool = True) -> Any:
    """Declare a key that a phase may set for itself."""
    return key(default, meaning, per_phase=True, affects_training=affects_training)


def mark(field: FieldInfo, name: str) -> Any:
    """Return what a key was declared with as ``per_phase`` or ``affects_training``; None of what is no key."""
    return field.json_schema_extra[name] if isinstance(field.json_schema_extra, dict) else None


def one_of(choices: Iterable[str]) -> Any:
    """Return the annotation of a text that is one of ``choices``, the names in a table."""
    return GetPydanticSchema(lambda source, handler: core_schema.literal_schema(list(choices)))


def path_fault(path: str) -> str:
    """Return what is wrong with a path that no file can have, an empty text where nothing is."""
    if fault := _text_fault(path):
        return fault
    if "\0" in path:
        return "expected a path, which holds no NUL"
    if any(len(os.fsencode(name)) > 255 for name in path.split("/")) or len(os.fsencode(path)) > 4096:
        return "too long for a path"
    if path.startswith("~") and os.path.expanduser(path).startswith("~"):
        return "which names the home of a user who is not there; of a file so called write ./~..."
    return ""


def _text_fault(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # the shell gave other bytes
        return "which holds bytes that are no UTF-8, and a recipe cannot: rename it, or make a link to it"
    return ""


def _without(fault: Callable[[str], str]) -> AfterValidator:
    def check(text: str) -> str:
        if found := fault(text):
            raise PydanticCustomError("text", "{fault}", {"fault": found})
        return text

    return AfterValidator(check)


Text = Annotated[str, _without(_text_fault)]
PathText = Annotated[str, _without(path_fault)]


def json_schema(kind: type[Settings]) -> dict[str, Any]:
    """Return the JSON schema of ``kind``."""
    return _plain(kind.model_json_schema())


@cache
def properties(kind: type[Settings]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of ``kind``."""
    return json_schema(kind)["properties"]


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON schemas one of which a key's value has to fit, but for that of no value."""
    return [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]


def is_text(schema: dict[str, Any]) -> bool:
    """Return whether a key takes any text, which is then kept as it was typed."""
    texts = [one for one in alternatives(schema) if one.get("type") == "string"]
    return any(not {"enum", "const", "pattern"} & {*one} for one in texts)


def _plain(schema: Any) -> Any:
    """Return a JSON schema without what says nothing to an editor: marks, titles, defaults of None."""
    if isinstance(schema, dict):
        kept = {name: entry for name, entry in schema.items() if name not in ("title", "per_phase", "affects_training")}
        return {name: _plain(entry) for name, entry in kept.items() if (name, entry) != ("default", None)}
    return [_plain(entry) for entry in schema] if isinstance(schema, list) else schema


def _converted(value: Any, schema: dict[str, Any]) -> Any:
    """Return ``value`` in the type of its key where it stands for one of that type, else as it is."""
    if is_text(schema):
        with suppress(ValueError):  # Python writes no number of thousands of figures
            return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    elif isinstance(value, bool):  # so YAML 1.1 reads a bare on or off
        return "on" if value else "off"
    elif isinstance(value, str) and "enum" in schema.get("items", ()):
        return [value]
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value

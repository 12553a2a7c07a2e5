"""The settings of a sweep: parsed from ``--grid``, then all combinations or random draws."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from effnet_ft.recipe.faults import number_type, value_fault
from effnet_ft.utils.text import counted

Setting = dict[str, str]
"""The swept keys of one run and their values, as typed."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(:log)?")
_MAX_DRAWS = 100


@dataclass(frozen=True)
class ListAxis:
    """A key and a list of values."""

    key: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as typed."""
        return ",".join(self.texts)


@dataclass(frozen=True)
class RangeAxis:
    """A key and a range to draw numbers from, both ends included."""

    key: str
    low: float
    high: float
    log: bool  # log-uniform instead of uniform
    integer: bool

    @property
    def text(self) -> str:
        """The range as typed."""
        return f"{self.low:g}:{self.high:g}{':log' if self.log else ''}"

    def draw(self, random: np.random.Generator) -> str:
        """Draw a value and return it as text, to four digits."""
        if self.integer and not self.log:
            return str(random.integers(int(self.low), int(self.high), endpoint=True))
        if self.log:
            drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = random.uniform(self.low, self.high)
        rounded = round(drawn) if self.integer else float(f"{drawn:.4g}")
        return f"{min(max(rounded, self.low), self.high):.10g}"


def as_overrides(setting: Setting) -> list[str]:
    """Return a setting as ``key=value`` overrides."""
    return [f"{key}={text}" for key, text in setting.items()]


def read_grid(texts: Sequence[str], random: bool, faults: list[str]) -> list[ListAxis | RangeAxis]:
    """Parse ``--grid`` texts, ``key=value,value`` or, if settings are drawn at ``random``, ``key=low:high[:log]``.

    A message is appended to ``faults`` for each key at fault, which is skipped.
    """
    axes: list[ListAxis | RangeAxis] = []
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip().replace("[", ".").replace("]", "")
        if not equals or not key:
            faults.append(f"--grid '{text}' has no values: write key=value,value, e.g. phases.0.lr=1e-3,1e-2")
        elif key == "run_dir":
            faults.append("--grid run_dir: each setting gets its own folder in --out; remove it")
        elif ":" in values and number_type(key):
            axes += _read_range(key, values, random, faults)
        elif not all(listed := _split(values)):
            faults.append(f"--grid {key}={values}: a value is missing; write {key}=value,value")
        elif repeated := [value for value, count in Counter(listed).items() if count > 1]:
            faults.append(f"--grid {key}={values}: {repeated[0]} is given twice")
        else:
            axes.append(ListAxis(key, tuple(listed)))
    for key, count in Counter(axis.key for axis in axes).items():
        if count > 1:
            faults.append(f"--grid {key} is given {count} times: list all its values in one")
    return axes


def every_setting(axes: Sequence[ListAxis | RangeAxis]) -> list[Setting]:
    """Return all combinations of the lists; the last key changes fastest."""
    lists = {axis.key: axis.texts for axis in axes if isinstance(axis, ListAxis)}
    return [dict(zip(lists, texts, strict=True)) for texts in product(*lists.values())]


def draw_settings(axes: Sequence[ListAxis | RangeAxis], count: int, seed: int, faults: list[str]) -> list[Setting]:
    """Return ``count`` different random settings, or fewer and a message in ``faults`` if there are no more.

    The combinations of lists come in random order, each equally often; the values of ranges are drawn.
    """
    random = np.random.default_rng(seed)
    combinations = every_setting(axes)
    order = random.permutation(len(combinations))
    ranges = [axis for axis in axes if isinstance(axis, RangeAxis)]
    if not ranges and count > len(combinations):
        faults.append(f"--random is {count}, but the lists have only {counted(len(combinations), 'setting')}")
        return combinations
    settings: list[Setting] = []
    for number in range(count):
        listed = combinations[order[number % len(order)]]
        for _ in range(_MAX_DRAWS):
            values = {**listed, **{axis.key: axis.draw(random) for axis in ranges}}
            if values not in settings:
                settings.append({axis.key: values[axis.key] for axis in axes})
                break
        else:
            faults.append(f"--random is {count}, but the ranges have only about {counted(len(settings), 'setting')}")
            break
    return settings


def _read_range(key: str, text: str, random: bool, faults: list[str]) -> list[RangeAxis]:
    matched = _RANGE.fullmatch(text.strip())
    if not matched:
        faults.append(f"--grid {key}={text}: write a range as {key}=low:high or {key}=low:high:log")
        return []
    low, high, log = float(matched[1]), float(matched[2]), bool(matched[3])
    outside = [fault for end in (low, high) if (fault := value_fault(key, end))]
    if not random:
        faults.append(f"--grid {key}={text} is a range: add --random N, the number of settings to draw")
    elif not low < high:
        faults.append(f"--grid {key}={text}: {low:g} is not below {high:g}")
    elif log and low <= 0:
        faults.append(f"--grid {key}={text}: a logarithmic range must start above 0")
    elif outside:
        faults.append(f"--grid {key}={text}: {outside[0]}")
    else:
        return [RangeAxis(key, low, high, log, integer=number_type(key) == "integer")]
    return []


def _split(text: str) -> list[str]:
    """Split ``text`` at commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]

"""The settings of a sweep: read from the ``--grid`` texts, then multiplied out or drawn at random. Free of torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from effnet_ft.recipe.faults import number_type, value_fault

Setting = dict[str, str]
"""The swept keys of one run, with their values as they would be typed."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(:log)?")
_TRIES = 100


@dataclass(frozen=True)
class ListAxis:
    """A key and the values it takes."""

    key: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as they are typed."""
        return ",".join(self.texts)


@dataclass(frozen=True)
class RangeAxis:
    """A key and the numbers it is drawn from, both ends included.

    Attributes:
        key: dotted.
        low: smallest value.
        high: largest value.
        log: equal ratios are equally likely, not equal differences.
        whole: whole numbers only.
    """

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def text(self) -> str:
        """The range as it is typed."""
        return f"{self.low:g}:{self.high:g}{':log' if self.log else ''}"

    def draw(self, random: np.random.Generator) -> str:
        """Return a value as it would be typed, to four digits."""
        if self.whole and not self.log:
            return str(random.integers(int(self.low), int(self.high), endpoint=True))
        if self.log:
            drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = random.uniform(self.low, self.high)
        rounded = round(drawn) if self.whole else float(f"{drawn:.4g}")
        return f"{min(max(rounded, self.low), self.high):.10g}"


def as_overrides(setting: Setting) -> list[str]:
    """Return a setting as ``key=value`` overrides."""
    return [f"{key}={text}" for key, text in setting.items()]


def read_grid(texts: Sequence[str], random: bool, faults: list[str]) -> list[ListAxis | RangeAxis]:
    """Return the keys of ``key=value,value`` and ``key=low:high`` texts with what they take.

    Args:
        texts: as given to ``--grid``.
        random: settings are drawn, so that ranges have a meaning.
        faults: receives one sentence a fault; the keys at fault are left out.
    """
    axes: list[ListAxis | RangeAxis] = []
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip().replace("[", ".").replace("]", "")
        if not equals or not key:
            faults.append(f"--grid '{text}' names no values: write key=value,value, e.g. phases.0.lr=1e-3,1e-2")
        elif key == "run_dir":
            faults.append("--grid run_dir: each setting has its own folder in --out; leave it out")
        elif ":" in values and number_type(key):
            axes += _read_range(key, values, random, faults)
        else:
            axes += _read_list(key, values, faults)
    for key, count in Counter(axis.key for axis in axes).items():
        if count > 1:
            faults.append(f"--grid {key} is given {count} times: write all its values in one")
    return axes


def every_setting(axes: Sequence[ListAxis | RangeAxis]) -> list[Setting]:
    """Return the product of all lists; the last key changes fastest."""
    lists = [axis for axis in axes if isinstance(axis, ListAxis)]
    return [
        {axis.key: text for axis, text in zip(lists, texts, strict=True)}
        for texts in product(*(axis.texts for axis in lists))
    ]


def draw_settings(axes: Sequence[ListAxis | RangeAxis], count: int, seed: int, faults: list[str]) -> list[Setting]:
    """Return ``count`` different settings drawn at random.

    Combinations of listed values come in a random order, each as often as the others; beside them, ranges are drawn.

    Args:
        axes: from :func:`read_grid`.
        count: how many.
        seed: the same one draws the same settings.
        faults: receives a sentence where there are not so many; then there are fewer.
    """
    random = np.random.default_rng(seed)
    combinations = every_setting(axes)
    order = random.permutation(len(combinations))
    ranges = [axis for axis in axes if isinstance(axis, RangeAxis)]
    if not ranges and count > len(combinations):
        faults.append(f"--random is {count}, but the lists have {len(combinations)} settings only")
        return combinations
    settings: list[Setting] = []
    for number in range(count):
        listed = combinations[order[number % len(order)]]
        for _ in range(_TRIES):
            values = {**listed, **{axis.key: axis.draw(random) for axis in ranges}}
            if values not in settings:
                settings.append({axis.key: values[axis.key] for axis in axes})
                break
        else:
            faults.append(f"--random is {count}, but the ranges hardly have more than {len(settings)} settings")
            break
    return settings


def _read_range(key: str, text: str, random: bool, faults: list[str]) -> list[RangeAxis]:
    matched = _RANGE.fullmatch(text.strip())
    if not matched:
        faults.append(f"--grid {key}={text}: a range is written {key}=low:high, or {key}=low:high:log")
        return []
    low, high, log = float(matched[1]), float(matched[2]), bool(matched[3])
    outside = [fault for end in (low, high) if (fault := value_fault(key, end))]
    if not random:
        faults.append(f"--grid {key}={text} is a range: say by --random N how many settings to draw from it")
    elif not low < high:
        faults.append(f"--grid {key}={text}: {low:g} is not below {high:g}")
    elif log and low <= 0:
        faults.append(f"--grid {key}={text}: a logarithmic range begins above 0")
    elif outside:
        faults.append(f"--grid {key}={text}: {outside[0]}")
    else:
        return [RangeAxis(key, low, high, log, whole=number_type(key) == "integer")]
    return []


def _read_list(key: str, text: str, faults: list[str]) -> list[ListAxis]:
    texts = _split(text)
    if not all(texts):
        faults.append(f"--grid {key}={text}: a value is missing; write {key}=value,value")
    elif twice := [value for value, count in Counter(texts).items() if count > 1]:
        faults.append(f"--grid {key}={text}: {twice[0]} is there twice")
    else:
        return [ListAxis(key, tuple(texts))]
    return []


def _split(text: str) -> list[str]:
    """Divide ``text`` at its commas, but for those within brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]

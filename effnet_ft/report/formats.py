"""Numbers, percentages, durations and counts as a page or a terminal shows them."""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"


def number(value: float, spec: str = ",.0f") -> str:
    """Return a number in a format, a dash where it is not finite."""
    return format(value, spec) if math.isfinite(value) else DASH


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return number(value, f".{digits}%")


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds; a dash where they are not known."""
    if not seconds >= 60:
        return number(seconds, ".1f") + (" s" if math.isfinite(seconds) else "")
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def counted(count: int, noun: str) -> str:
    """Return "1 image" or "2 images"."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def or_dash(text: str) -> str:
    """Return ``text``, a dash where it is empty."""
    return text or DASH

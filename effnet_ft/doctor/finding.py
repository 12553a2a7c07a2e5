"""One thing that will not work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What will not work, and the cure.

    Attributes:
        text: a sentence.
        broken: no training at all can work so; else only what the text names.
    """

    text: str
    broken: bool = False

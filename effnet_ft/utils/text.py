"""Formatting of values and lists for messages."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """Return "1 image" or "2 images"."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def quoted(value: object) -> str:
    """Return ``repr(value)``; of a long one, its beginning and its end."""
    try:
        return shorten(repr(value))
    except ValueError:  # Python refuses to print numbers of thousands of digits
        return f"a {type(value).__name__} too large to print"


def shorten(text: str, most: int = 200) -> str:
    """Return ``text``; of a long one, its beginning and its end."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``word``, ignoring case; empty if none is near."""
    lowered = {choice.lower(): choice for choice in reversed(choices)}
    close = difflib.get_close_matches(word[:200].lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def escape_control_characters(text: str) -> str:
    """Return ``text`` with control characters other than line feeds escaped.

    File names may contain any character; printing one must neither control the terminal nor fail to encode.
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def listing(items: list[str], most: int = 10) -> str:
    """Return ``items`` as an indented list of at most ``most`` lines and the number of those left out."""
    lines = ["  " + escape_control_characters(item).replace("\n", "\\n") for item in items[:most]]
    if len(items) > most:
        lines.append(f"  ... and {len(items) - most} more")
    return "\n".join(lines)

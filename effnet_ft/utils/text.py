"""Formatting of values and lists for messages."""

import difflib
from collections.abc import Sequence


def counted(count: int, one: str, many: str = "") -> str:
    """Return "1 image", "2 images", "2 classes", or with ``many`` "1 key is" or "2 keys are"."""
    return f"{count:,} {one if count == 1 else many or one + ('es' if one.endswith(('s', 'tch', 'sh', 'x')) else 's')}"


def magnitude(count: int) -> str:
    """Return a large number in three digits: 850, "21.8 thousand" or "3.39 million"."""
    if count < 1000:
        return str(count)
    return f"{count / 1e6:.3g} million" if count >= 999_500 else f"{count / 1e3:.3g} thousand"


def quoted(value: object) -> str:
    """Return ``repr(value)``, shortened."""
    try:
        return shorten(repr(value))
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a {type(value).__name__} too large to print"


def shorten(text: str, limit: int = 200) -> str:
    """Return ``text``, or the beginning and end of one longer than ``limit``."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``word``, ignoring case; empty if none is near."""
    lowered = {choice.lower(): choice for choice in reversed(choices)}
    close = difflib.get_close_matches(word[:200].lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def escape_control_characters(text: str) -> str:
    """Return ``text`` with unprintable characters but line feeds escaped, as file names must not control a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def listing(items: Sequence[str], limit: int = 10) -> str:
    """Return the first ``limit`` items, each on an indented line, and how many more there are."""
    lines = ["  " + escape_control_characters(item).replace("\n", "\\n") for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)

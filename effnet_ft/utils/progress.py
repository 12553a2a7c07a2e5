"""Progress bars for work that may take long; training has Lightning's."""

from __future__ import annotations

from collections.abc import Iterable

from tqdm import tqdm


def progress_bar(
    title: str,
    items: Iterable[object] | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str = "",
    shown: bool = True,
) -> tqdm:
    """Return a bar that a terminal shows after two seconds and removes at the end.

    Args:
        title: what is being done.
        items: to iterate over; None where the caller updates the bar.
        total: how many items or bytes there are; None where unknown.
        initial: how many of them are done already.
        unit: ``B`` for bytes.
        shown: False hides it, as in all processes but the first.
    """
    return tqdm(
        items,
        desc=title,
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=unit == "B" or total is None,
        leave=False,
        delay=2,
        disable=None if shown else True,  # None: without a terminal
    )

"""Progress bars outside of training, which has Lightning's."""

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
        title: shown before the bar.
        items: to iterate over; None if the caller updates the bar.
        total: number of items or bytes, if known.
        initial: how many of them are already done.
        unit: ``B`` for bytes.
        shown: False hides the bar, e.g. on all ranks but the first.
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
        disable=None if shown else True,  # None: only without a terminal
    )

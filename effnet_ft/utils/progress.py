"""Progress bars outside of training, which has Lightning's."""

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
    """Return a bar over ``items``, or one to update, that a terminal shows after two seconds and removes at the end."""
    scale, disable = unit == "B" or total is None, None if shown else True  # None: only without a terminal
    return tqdm(
        items, title, total, initial=initial, unit=unit, unit_scale=scale, leave=False, delay=2, disable=disable
    )

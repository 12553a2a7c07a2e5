"""How far a share of images could be off. Free of torch."""

from __future__ import annotations

LEVEL = 0.95
"""Of all confidence intervals."""


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of the share of ``right`` images among ``total``, which is at least 1."""
    from scipy.stats import binomtest

    ends = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)

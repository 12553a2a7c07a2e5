"""The confidence interval of a proportion. Free of torch."""

LEVEL = 0.95  # confidence level of all intervals


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of ``right / total``; ``total`` is at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)

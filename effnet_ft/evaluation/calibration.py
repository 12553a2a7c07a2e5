"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

LOWEST, HIGHEST = 0.05, 20.0  # bounds of the temperature

_PRIOR_STD = 1.0
"""Standard deviation of the prior of the temperature's logarithm.

A few hundred images outweigh it; without any wrong prediction it keeps the temperature from going to 0.
"""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the most probable temperature given the labels, with a log-normal prior around 1; 1 without images.

    Args:
        logits: ``[N, K]``, of images not trained on.
        labels: class indices, ``[N]``; or labels of 0 and 1, ``[N, K]``.
    """
    from scipy.optimize import minimize_scalar

    # In float32 the loss is flat near its minimum: the last bits of a logit would move the result by 1e-4.
    z, y = torch.from_numpy(np.asarray(logits, np.float64)), torch.from_numpy(np.asarray(labels))

    def negative_log_posterior(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        if y.ndim == 2:
            losses = F.binary_cross_entropy_with_logits(scaled, y.double(), reduction="none")
        else:
            losses = F.cross_entropy(scaled, y.long(), reduction="none")
        return float(losses.sum()) + (log_temperature / _PRIOR_STD) ** 2 / 2

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    result = minimize_scalar(negative_log_posterior, bounds=bounds, method="bounded")
    return math.exp(float(result.x)) if len(z) else 1.0

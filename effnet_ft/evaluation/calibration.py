"""Probabilities that mean what they say: temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

LOWEST, HIGHEST = 0.05, 20.0
"""Between these the temperature is sought."""

_SPREAD = 1.0
"""Standard deviation, in the temperature's logarithm, of what is taken to be likely before the images are seen.

A few hundred images outweigh it; without a single wrong answer among them it alone keeps the temperature from 0.
"""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that makes the labels likeliest, with a log-normal prior around 1.

    Args:
        logits: ``[N, K]``, of images that were not trained on.
        labels: class indices, ``[N]``; or labels of 0 and 1, ``[N, K]``, whose logits are those of a sigmoid each.

    Returns:
        A number to divide logits by, between :data:`LOWEST` and :data:`HIGHEST`; 1 where there are no images.
    """
    from scipy.optimize import minimize_scalar

    # In float32 the cost is flat around its lowest place: the last bits of a logit would move it by a ten-thousandth.
    z, y = torch.from_numpy(np.asarray(logits, np.float64)), torch.from_numpy(np.asarray(labels))

    def cost(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        if y.ndim == 2:
            losses = F.binary_cross_entropy_with_logits(scaled, y.double(), reduction="none")
        else:
            losses = F.cross_entropy(scaled, y.long(), reduction="none")
        return float(losses.sum()) + (log_temperature / _SPREAD) ** 2 / 2

    found = minimize_scalar(cost, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return math.exp(float(found.x)) if len(z) else 1.0

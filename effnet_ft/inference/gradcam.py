"""Where in an image a network finds the evidence for a class: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from effnet_ft.models.classifier import Classifier


@dataclass(frozen=True)
class Explanation:
    """An answer of a network and what speaks for it.

    Attributes:
        name: the class that is explained.
        probability: the network's, of that class.
        view: what the network saw of the image, uint8 ``[S, S, 3]``, RGB.
        heat: where the evidence lies, float32 ``[S, S]``, 0 to 1; all 0 where nothing speaks for the class.
    """

    name: str
    probability: float
    view: np.ndarray
    heat: np.ndarray

    def overlay(self) -> np.ndarray:
        """Return the view with the heat laid over it, uint8 ``[S, S, 3]``, RGB."""
        return overlay(self.view, self.heat)


def gradcam(
    model: Classifier, maps: Tensor, classes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where maps hold evidence for a class, the class, and its probability.

    The head sees nothing but the mean of each channel. So the gradient that Grad-CAM averages over a channel's places
    is the same at each of them, and that of the head alone tells the channels' weights.

    Args:
        model: the network, evaluating.
        maps: of the images, from :meth:`Classifier.maps`, ``[N, C, h, w]``.
        classes: the number of each image's class; None takes the likeliest.

    Returns:
        Evidence, float32 ``[N, h, w]``, 0 to 1; classes ``[N]``; probabilities ``[N]``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor that was made in inference mode has no gradient, its copy has.
        features = maps.detach().mean((2, 3)).clone().requires_grad_()
        logits = model.head(features).float()
        chosen = logits.detach().argmax(1) if classes is None else torch.tensor(classes, device=logits.device).long()
        (weights,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
    heat = torch.einsum("nchw,nc->nhw", maps.float(), weights.float()).relu()
    probabilities = model.probabilities(logits.detach()).gather(1, chosen[:, None]).squeeze(1)
    return _scaled(heat.cpu().numpy()), chosen.cpu().numpy(), probabilities.cpu().numpy()


def upsample(heat: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Return maps ``[N, h, w]`` interpolated to ``[N, *side]``, each with its highest value again at 1."""
    return _scaled(F.interpolate(torch.from_numpy(heat)[:, None], size=side, mode="bilinear")[:, 0].numpy())


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Return maps of at least 0 divided by their highest value, where it is more than 0."""
    highest = maps.max((1, 2), keepdims=True)
    scaled: np.ndarray = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
    return scaled


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image with heat over it, in a colour map of even steps; the image's own colours fade to stand back.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.
        heat: ``[h, w]``, 0 to 1, stretched over the whole image.

    Returns:
        uint8 ``[H, W, 3]``, RGB.
    """
    import cv2

    height, width = image.shape[:2]
    stretched = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((stretched * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    faded = _FADING * image.mean(2, keepdims=True) + (1 - _FADING) * image
    share = _OPACITY * np.sqrt(stretched)[..., None]  # the root, or faint heat would be seen nowhere
    return (faded * (1 - share) + colours * share).round().astype(np.uint8)


_FADING, _OPACITY = 0.75, 0.7
"""Shares of grey in the image, and of the colour map where the heat is highest."""

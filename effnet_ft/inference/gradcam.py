"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in an image the evidence for a class lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from effnet_ft.models.classifier import Classifier

_FADING, _OPACITY = 0.75, 0.7  # of an overlay: share of grey in the image, and of the colour map at its maximum


@dataclass(frozen=True)
class Explanation:
    """The evidence for a class in an image."""

    name: str  # the class that is explained
    probability: float  # of that class
    view: np.ndarray  # the image as the network saw it, uint8 `[S, S, 3]`, RGB
    heat: np.ndarray  # the heat map, float32 `[S, S]`, 0 to 1; all 0 without evidence for the class

    def overlay(self) -> np.ndarray:
        """Return the view, its colours faded, with its heat map over it, uint8 ``[S, S, 3]``, RGB."""
        import cv2

        colours = cv2.applyColorMap((self.heat * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        faded = _FADING * self.view.mean(2, keepdims=True) + (1 - _FADING) * self.view
        share = _OPACITY * np.sqrt(self.heat)[..., None]  # the root, or faint heat would be invisible
        laid: np.ndarray = (faded * (1 - share) + colours * share).round().astype(np.uint8)
        return laid


def gradcam(
    model: Classifier, maps: Tensor, size: Sequence[int], classes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return heat maps, explained classes and their probabilities.

    The head only sees the mean of each channel, so the gradient is the same at every position, and the head's alone
    gives the weights of the channels.

    Args:
        model: the network, in evaluation mode.
        maps: from :meth:`Classifier.maps`, ``[N, C, h, w]``.
        size: height and width of the images, pixels.
        classes: the class index of each image; None means the most likely one.

    Returns:
        Heat maps, float32 ``[N, *size]``, 0 to 1; classes ``[N]``; probabilities ``[N]``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor made in inference mode cannot require a gradient, but its copy can.
        features = maps.detach().mean((2, 3)).clone().requires_grad_()
        logits = model.head(features).float()
        chosen = logits.detach().argmax(1) if classes is None else torch.tensor(classes, device=logits.device).long()
        (weights,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
    heat = torch.einsum("nchw,nc->nhw", maps.float(), weights.float()).relu()
    scaled = torch.from_numpy(_scaled(heat.cpu().numpy()))
    upsampled = F.interpolate(scaled[:, None], size=tuple(size), mode="bilinear")[:, 0]
    probabilities = model.probabilities(logits.detach()).gather(1, chosen[:, None]).squeeze(1)
    return _scaled(upsampled.numpy()), chosen.cpu().numpy(), probabilities.cpu().numpy()


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Return non-negative maps divided by their maximum, unless it is 0."""
    highest = maps.max((1, 2), keepdims=True)
    scaled: np.ndarray = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
    return scaled

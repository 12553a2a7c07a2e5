"""Folds batch norms into the convolutions before them, for inference."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from effnet_ft.models.classifier import Classifier


def fold_batchnorm(model: Classifier) -> Classifier:
    """Return a copy of ``model`` with folded batch norms, which can be neither trained nor saved.

    Its logits differ by rounding.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for layers in list(network.stages.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(layers.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(layers, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(layers, norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last)

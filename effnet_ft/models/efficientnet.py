"""Builds a variant's nine stages from torchvision's EfficientNet parts."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig

from effnet_ft.models.layers import SameConv2d
from effnet_ft.models.variants import Variant


def build_stages(
    variant: Variant, *, drop_path: float = 0.2, padding: str = "same", norm_eps: float = 1e-3
) -> nn.Sequential:
    """Return stages 0 to 8, randomly initialised, in channels-last memory format.

    They map normalised images ``[N, 3, H, W]`` to ``[N, variant.features, h, w]``. Block i of N is dropped at rate
    ``drop_path * i / N``. Padding is ``same`` as in TensorFlow, or ``symmetric`` as in torchvision's own weights.
    """
    # nn.Identity in place of squeeze-and-excitation, so that the other layers have the same names.
    block = partial(MBConv, se_layer=nn.Identity) if variant.lite else MBConv
    plans = [
        MBConvConfig(p.expand_ratio, p.kernel, p.stride, p.input_channels, p.output_channels, p.blocks, block=block)
        for p in variant.stages()
    ]
    stages: nn.Sequential = EfficientNet(
        plans,
        dropout=0.0,
        stochastic_depth_prob=drop_path,
        norm_layer=partial(nn.BatchNorm2d, eps=norm_eps, momentum=0.01),  # 0.99 in TensorFlow's convention
        last_channel=variant.features,
    ).features
    if variant.lite:
        _replace(stages, nn.SiLU, lambda _: nn.ReLU6(inplace=True))
    if padding == "same":
        _replace(stages, nn.Conv2d, lambda conv: SameConv2d.like(conv) if conv.stride == (2, 2) else conv)
    return stages.to(memory_format=torch.channels_last)


def _replace(parent: nn.Module, kind: type[nn.Module], make: Any) -> None:
    for module in list(parent.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, make(child))

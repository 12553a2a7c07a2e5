"""The architectures, in one table: EfficientNet B0-B8 and Lite0-4. Free of torch.

Scaling factors, sizes and dropout: Tan and Le 2019 (arXiv:1905.11946) and its official implementation, tensorflow/tpu
``models/official/efficientnet``; Lite3 and Lite4 at the sizes at which timm distributes them (300 and 380 px, where the
official ones are 280 and 300). Parameters and multiply-adds: counted on the models built here, 1,000 classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

STAGES = 9  # stages of every variant: 0 the stem, 1-7 the inverted-residual stages, 8 the head convolution

# The baseline's stages 1-7: expand ratio, kernel, stride, output channels, blocks (Tan and Le 2019, table 1).
_BASELINE = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280


@dataclass(frozen=True)
class StagePlan:
    """One inverted-residual stage after scaling."""

    expand_ratio: int  # channels inside a block over channels at its input
    kernel: int  # side of the depthwise kernel, pixels
    stride: int  # of the first block; the others have 1
    input_channels: int  # of the first block
    output_channels: int  # of every block
    blocks: int  # number of them


@dataclass(frozen=True)
class Variant:
    """An architecture."""

    name: str  # `b0`-`b8` or `lite0`-`lite4`
    width: float  # channel multiplier
    depth: float  # multiplier of the number of blocks
    size: int  # side of the native input, pixels
    dropout: float  # rate before the classifier
    parameters: int  # count with a linear head of 1,000 classes
    gmacs: float  # multiply-adds of one image at the native size, 1e9
    # No squeeze-and-excitation; ReLU6; fixed width of stem and head, fixed depth of the first and the last stage.
    lite: bool = False

    @property
    def stem_channels(self) -> int:
        """Output channels of stage 0."""
        return _STEM_CHANNELS if self.lite else scaled_channels(_STEM_CHANNELS, self.width)

    @property
    def features(self) -> int:
        """Output channels of stage 8, the classifier's input."""
        return _HEAD_CHANNELS if self.lite else scaled_channels(_HEAD_CHANNELS, self.width)

    def stages(self) -> Iterator[StagePlan]:
        """Yield stages 1 to 7, scaled."""
        channels = self.stem_channels
        for position, (expand_ratio, kernel, stride, output, blocks) in enumerate(_BASELINE):
            fixed_depth = self.lite and position in (0, len(_BASELINE) - 1)
            scaled = blocks if fixed_depth else math.ceil(blocks * self.depth)
            output = scaled_channels(output, self.width)
            yield StagePlan(expand_ratio, kernel, stride, channels, output, scaled)
            channels = output

    def activation_shape(self, cut: int, image_size: int) -> tuple[int, ...]:
        """Return the shape of the activations that enter stage ``cut``, 1 to 9: ``(h, w, C)``, or ``(F,)`` for 9."""
        if cut == STAGES:
            return (self.features,)
        side, channels = -(-image_size // 2), self.stem_channels
        for stage in list(self.stages())[: cut - 1]:
            side, channels = -(-side // stage.stride), stage.output_channels
        return side, side, channels


def cut_of(train: str) -> int:
    """Return the first trained stage of ``head``, ``stageK`` or ``all``: 9, K or 0."""
    named = {"head": STAGES, "all": 0}
    return named[train] if train in named else int(train.removeprefix("stage"))


def train_of(cut: int) -> str:
    """Return what a cut trains, in the recipe's words; the inverse of :func:`cut_of`."""
    return {0: "all", STAGES: "head"}.get(cut, f"stage{cut}")


def scaled_channels(channels: int, width: float) -> int:
    """Return ``channels * width`` rounded to a multiple of 8, never below 90% of the exact value."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("b0", 1.0, 1.0, 224, 0.2, 5_288_548, 0.39),
        Variant("b1", 1.0, 1.1, 240, 0.2, 7_794_184, 0.69),
        Variant("b2", 1.1, 1.2, 260, 0.3, 9_109_994, 0.99),
        Variant("b3", 1.2, 1.4, 300, 0.3, 12_233_232, 1.83),
        Variant("b4", 1.4, 1.8, 380, 0.4, 19_341_616, 4.39),
        Variant("b5", 1.6, 2.2, 456, 0.4, 30_389_784, 10.27),
        Variant("b6", 1.8, 2.6, 528, 0.5, 43_040_704, 19.07),
        Variant("b7", 2.0, 3.1, 600, 0.5, 66_347_960, 37.75),
        Variant("b8", 2.2, 3.6, 672, 0.5, 87_413_142, 62.60),
        Variant("lite0", 1.0, 1.0, 224, 0.2, 4_652_008, 0.39, lite=True),
        Variant("lite1", 1.0, 1.1, 240, 0.2, 5_416_680, 0.60, lite=True),
        Variant("lite2", 1.1, 1.2, 260, 0.3, 6_092_072, 0.86, lite=True),
        Variant("lite3", 1.2, 1.4, 300, 0.3, 8_197_096, 1.61, lite=True),
        Variant("lite4", 1.4, 1.8, 380, 0.3, 13_006_568, 3.94, lite=True),
    )
}

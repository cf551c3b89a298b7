"""MobileNetV1.

A. G. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam:
"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv:1704.04861, 2017, table 1. ReLU6 in place of the paper's ReLU, as in the authors' code
(tensorflow/models, mobilenet_v1.py), whose weights are quantized best: its range is known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import (
    at_resolution,
    check_flag,
    check_sizes,
    check_width,
    picture_spec,
)
from compress.spec import ModelSpec

# Table 1: channels and stride of each depthwise separable convolution. The stride of the last is
# 1: the table's 2 contradicts its own sizes, 7 x 7 before and behind.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
_FIRST_CHANNELS = 32
_LEAST_CHANNELS = 8  # of the authors' code
_MAX_WIDTH = 4.0


class MobileNetV1(nn.Module):
    """MobileNetV1: 4,231,976 parameters at width 1 and 1,000 classes; input (N, 3, 224, 224).

    `features.0` is the first convolution, `features.1` to `features.13` are depthwise separable
    ones (section 3.1): depthwise 3 x 3, then 1 x 1, batch norm and ReLU6 after both. The small
    form, for 28 to 32 pixels, keeps the stride of the first convolution and takes the second
    (first of the 128-channel blocks) out: 16 x 16 down to 2 x 2. Output (N, classes) logits.
    """

    def __init__(self, classes: int, width: float, small: bool, in_channels: int) -> None:
        super().__init__()
        channels = _scaled(_FIRST_CHANNELS, width)
        layers: list[nn.Module] = [nn.Sequential(*_conv_norm_relu(in_channels, channels, 3, 2))]
        for base, first_stride in _BLOCKS:
            outside = _scaled(base, width)
            stride = 1 if small and base == 128 else first_stride
            layers.append(
                nn.Sequential(
                    *_conv_norm_relu(channels, channels, 3, stride, groups=channels),
                    *_conv_norm_relu(channels, outside, 1),
                )
            )
            channels = outside
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        # The authors drop one value in 1,000 here; that is as good as none.
        self.classifier = nn.Linear(channels, classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))

    def _initialise(self) -> None:
        """Kaiming normal over the fan out; the classifier normal(0, 0.01), as for MobileNetV2."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)


def mobilenet_v1(
    classes: int = 1000, width: float = 1.0, small: bool = False, in_channels: int = 3
) -> nn.Module:
    """MobileNetV1, newly initialised; `width`: the paper's alpha, in (0, 4].

    `small`: the form for 28 to 32 pixels, 44 M MACs at width 1, 25 M at 0.75.
    """
    check_sizes(classes, in_channels)
    check_flag("small", small)
    check_width(width, _MAX_WIDTH)
    return MobileNetV1(classes, float(width), small, in_channels)


def mobilenet_v1_spec(
    classes: tuple[str, ...] | None = None,
    width: float = 1.0,
    small: bool = False,
    resolution: int | None = None,
) -> ModelSpec:
    """MobileNetV1 for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32.

    `resolution`: another side of the input in pixels; the paper has 224, 192, 160 and 128, that
    is its resolution multiplier rho times 224 (section 3.4).
    """
    builder = "compress.models.mobilenet_v1:mobilenet_v1"
    spec = picture_spec(builder, classes, small, width=width, small=small)
    return spec if resolution is None else at_resolution(spec, resolution)


def _scaled(channels: int, width: float) -> int:
    """The width multiplier's channels (section 3.3), rounded as the authors' code does: down."""
    return max(_LEAST_CHANNELS, int(channels * width))


def _conv_norm_relu(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    padding = kernel // 2
    return (
        nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU6(),
    )

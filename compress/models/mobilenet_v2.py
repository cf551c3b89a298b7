"""MobileNetV2.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: "MobileNetV2: Inverted Residuals and
Linear Bottlenecks", CVPR 2018 (arXiv:1801.04381), table 2. Names and shapes in the state_dict
are those of torchvision's `mobilenet_v2`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import check_flag, check_sizes, check_width, picture_spec
from compress.spec import ModelSpec

# Table 2: expansion t, channels c, repeats n, stride s of the first repeat.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST_CHANNELS = 1280
_MAX_WIDTH = 4.0


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, filter by depthwise 3 x 3, project by 1 x 1 without activation (sec. 3.3).

    With a shortcut around it where input and output have the same shape.
    """

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inside * expansion
        self.shortcut = stride == 1 and inside == outside
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_norm_relu(inside, hidden, kernel=1))
        layers += [
            _conv_norm_relu(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2: 3,504,872 parameters at width 1 and 1,000 classes; input (N, 3, 224, 224).

    The small form, for 28 to 32 pixels, keeps the stride of the first convolution and takes the
    second (first of the 24-channel blocks) out: 16 x 16 down to 2 x 2. Output (N, classes) logits.
    """

    def __init__(self, classes: int, width: float, small: bool, in_channels: int) -> None:
        super().__init__()
        channels = divisible(32 * width)
        layers: list[nn.Module] = [_conv_norm_relu(in_channels, channels, kernel=3, stride=2)]
        for expansion, base, repeats, first_stride in _STAGES:
            outside = divisible(base * width)
            for repeat in range(repeats):
                strided = repeat == 0 and not (small and base == 24)
                stride = first_stride if strided else 1
                layers.append(InvertedResidual(channels, outside, stride, expansion))
                channels = outside
        last = divisible(_LAST_CHANNELS * max(1.0, width))
        layers.append(_conv_norm_relu(channels, last, kernel=1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.pool(self.features(x)), 1)
        return self.classifier(x)

    def _initialise(self) -> None:
        """Kaiming normal over the fan out; the classifier normal(0, 0.01), as torchvision does."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)
                nn.init.zeros_(layer.bias)


def mobilenet_v2(
    classes: int = 1000, width: float = 1.0, small: bool = False, in_channels: int = 3
) -> nn.Module:
    """MobileNetV2, newly initialised; `small`: the form for 28 to 32 pixels, 22 M MACs."""
    check_sizes(classes, in_channels)
    check_flag("small", small)
    check_width(width, _MAX_WIDTH)
    return MobileNetV2(classes, float(width), small, in_channels)


def mobilenet_v2_spec(
    classes: tuple[str, ...] | None = None, width: float = 1.0, small: bool = False
) -> ModelSpec:
    """MobileNetV2 for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.mobilenet_v2:mobilenet_v2"
    return picture_spec(builder, classes, small, width=width, small=small)


def _conv_norm_relu(
    inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU6(),
    )


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `channels`, but never below 90 % of it.

    The rule of the authors' code (tensorflow/models, mobilenet: make_divisible).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded

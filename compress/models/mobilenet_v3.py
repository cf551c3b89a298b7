"""MobileNetV3, small and large.

A. Howard, M. Sandler, G. Chu, L.-C. Chen, B. Chen, M. Tan, W. Wang, Y. Zhu, R. Pang, V. Vasudevan,
Q. V. Le, H. Adam: "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244), tables 1 and 2.
Names and shapes in the state_dict are those of torchvision's `mobilenet_v3_small` and
`mobilenet_v3_large`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from compress.models.mobilenet_v2 import divisible
from compress.models.presets import check_flag, check_sizes, check_width, picture_spec
from compress.spec import ModelSpec


class Row(NamedTuple):
    """One row of the tables: a bottleneck. `small_stride`: its stride in the form for 32 pixels."""

    inside: int
    kernel: int
    expanded: int
    outside: int
    squeeze: bool
    hard: bool  # h-swish, else ReLU
    stride: int
    small_stride: int

    def scaled(self, width: float) -> Row:
        """The row with its channels times `width`, in multiples of 8."""
        return self._replace(
            inside=divisible(self.inside * width),
            expanded=divisible(self.expanded * width),
            outside=divisible(self.outside * width),
        )


_LARGE = (
    Row(16, 3, 16, 16, False, False, 1, 1),
    Row(16, 3, 64, 24, False, False, 2, 1),
    Row(24, 3, 72, 24, False, False, 1, 1),
    Row(24, 5, 72, 40, True, False, 2, 2),
    Row(40, 5, 120, 40, True, False, 1, 1),
    Row(40, 5, 120, 40, True, False, 1, 1),
    Row(40, 3, 240, 80, False, True, 2, 2),
    Row(80, 3, 200, 80, False, True, 1, 1),
    Row(80, 3, 184, 80, False, True, 1, 1),
    Row(80, 3, 184, 80, False, True, 1, 1),
    Row(80, 3, 480, 112, True, True, 1, 1),
    Row(112, 3, 672, 112, True, True, 1, 1),
    Row(112, 5, 672, 160, True, True, 2, 1),
    Row(160, 5, 960, 160, True, True, 1, 1),
    Row(160, 5, 960, 160, True, True, 1, 1),
)
_SMALL = (
    Row(16, 3, 16, 16, True, False, 2, 1),
    Row(16, 3, 72, 24, False, False, 2, 1),
    Row(24, 3, 88, 24, False, False, 1, 1),
    Row(24, 5, 96, 40, True, True, 2, 2),
    Row(40, 5, 240, 40, True, True, 1, 1),
    Row(40, 5, 240, 40, True, True, 1, 1),
    Row(40, 5, 120, 48, True, True, 1, 1),
    Row(48, 5, 144, 48, True, True, 1, 1),
    Row(48, 5, 288, 96, True, True, 2, 2),
    Row(96, 5, 576, 96, True, True, 1, 1),
    Row(96, 5, 576, 96, True, True, 1, 1),
)
_FIRST_CHANNELS = 16
_MAX_WIDTH = 4.0


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in [0, 1] that all channels' means decide (section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale_activation(scale) * x


class Bottleneck(nn.Module):
    """Expand by 1 x 1, filter depthwise, squeeze and excite, project by 1 x 1 (figure 4).

    With a shortcut around it where input and output have the same shape.
    """

    def __init__(self, row: Row, small: bool) -> None:
        super().__init__()
        stride = row.small_stride if small else row.stride
        inside, hidden = row.inside, row.expanded
        self.shortcut = stride == 1 and inside == row.outside
        layers: list[nn.Module] = []
        if hidden != inside:
            layers.append(_conv_norm_act(inside, hidden, row.hard))
        layers.append(_conv_norm_act(hidden, hidden, row.hard, row.kernel, stride, hidden))
        if row.squeeze:
            layers.append(SqueezeExcitation(hidden))
        project = nn.Conv2d(hidden, row.outside, 1, bias=False)
        layers.append(nn.Sequential(project, _norm(row.outside)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.shortcut else self.block(x)


class MobileNetV3(nn.Module):
    """MobileNetV3; 2,542,856 (small) or 5,483,032 (large) parameters at 1,000 classes, width 1.

    `rows`: the table; `last`: channels before the classifier. Input (N, 3, 224, 224); output
    (N, classes) logits. The small form, for 28 to 32 pixels, keeps the stride of the first
    convolution and leaves two others out, those with stride 2 and `small_stride` 1.
    """

    def __init__(
        self, rows: tuple[Row, ...], last: int, classes: int, small: bool, in_channels: int
    ) -> None:
        super().__init__()
        channels = rows[0].inside
        layers: list[nn.Module] = [_conv_norm_act(in_channels, channels, True, 3, 2)]
        for row in rows:
            layers.append(Bottleneck(row, small))
            channels = row.outside
        layers.append(_conv_norm_act(channels, 6 * channels, True))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, classes)
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    def _initialise(self) -> None:
        """Kaiming normal over the fan out; linear layers normal(0, 0.01), as torchvision does."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)


def mobilenet_v3_small(
    classes: int = 1000, width: float = 1.0, small: bool = False, in_channels: int = 3
) -> nn.Module:
    """MobileNetV3-Small, newly initialised; `small`: the form for 28 to 32 pixels, 16 M MACs."""
    return _build(_SMALL, 1024, (classes, width, small, in_channels))


def mobilenet_v3_large(
    classes: int = 1000, width: float = 1.0, small: bool = False, in_channels: int = 3
) -> nn.Module:
    """MobileNetV3-Large, newly initialised; `small`: the form for 28 to 32 pixels, 30 M MACs."""
    return _build(_LARGE, 1280, (classes, width, small, in_channels))


def mobilenet_v3_small_spec(
    classes: tuple[str, ...] | None = None, width: float = 1.0, small: bool = False
) -> ModelSpec:
    """MobileNetV3-Small for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.mobilenet_v3:mobilenet_v3_small"
    return picture_spec(builder, classes, small, width=width, small=small)


def mobilenet_v3_large_spec(
    classes: tuple[str, ...] | None = None, width: float = 1.0, small: bool = False
) -> ModelSpec:
    """MobileNetV3-Large for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.mobilenet_v3:mobilenet_v3_large"
    return picture_spec(builder, classes, small, width=width, small=small)


def _build(table: tuple[Row, ...], last: int, sizes: tuple[int, float, bool, int]) -> nn.Module:
    classes, width, small, in_channels = sizes
    check_sizes(classes, in_channels)
    check_flag("small", small)
    check_width(width, _MAX_WIDTH)
    rows = tuple(row.scaled(float(width)) for row in table)
    return MobileNetV3(rows, divisible(last * width), classes, small, in_channels)


def _conv_norm_act(
    inside: int, outside: int, hard: bool, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False),
        _norm(outside),
        nn.Hardswish() if hard else nn.ReLU(),
    )


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.01)

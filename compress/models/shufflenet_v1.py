"""ShuffleNet, here V1 to tell it from its successor.

X. Zhang, X. Zhou, M. Lin, J. Sun: "ShuffleNet: An Extremely Efficient Convolutional Neural Network
for Mobile Devices", CVPR 2018 (arXiv:1707.01083), table 1 and figure 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.errors import SpecError
from compress.models.presets import check_flag, check_sizes, picture_spec
from compress.spec import ModelSpec

# Table 1: channels of stage 2 by number of groups; each later stage has twice as many.
_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
_REPEATS = (4, 8, 4)
_STRIDES = (2, 2, 2)
_SMALL_STRIDES = (2, 2, 1)
# Channels of the first convolution by width: the paper's are 24, and the other four follow from
# the operations of its table 2 (13, 38, 292, 524 M); so has the authors' code them.
_FIRST_CHANNELS = {0.25: 12, 0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
# Section 3.2: the layers inside a unit have a quarter of its channels.
_BOTTLENECK = 4


class Unit(nn.Module):
    """Grouped 1 x 1, shuffle, depthwise 3 x 3, grouped 1 x 1, added to the input (figure 2b).

    Input and output (N, channels, H, W).
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.branch = Branch((channels, channels // _BOTTLENECK, channels), groups)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.branch(x))


class WideningUnit(nn.Module):
    """The branch gives only the channels that are new, behind those of the input (figure 2c).

    Input (N, inside, H, W), not negative; output (N, outside, H / stride, W / stride). The input
    is averaged down to the branch's resolution where that has a stride. `first_groups`: groups of
    the first 1 x 1 alone. The paper's ReLU behind the concatenation stands before it, where it
    fuses with the convolution: means of what a ReLU gave are not negative.
    """

    def __init__(
        self, inside: int, outside: int, groups: int, first_groups: int, stride: int
    ) -> None:
        super().__init__()
        widths = (inside, outside // _BOTTLENECK, outside - inside)
        self.branch = Branch(widths, groups, first_groups, stride)
        self.relu = nn.ReLU()
        self.shortcut = nn.Identity() if stride == 1 else nn.AvgPool2d(3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.shortcut(x), self.relu(self.branch(x))), dim=1)


class Branch(nn.Module):
    """What both units compute beside their shortcut. `widths`: channels in, between and out."""

    def __init__(
        self,
        widths: tuple[int, int, int],
        groups: int,
        first_groups: int | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        inside, middle, outside = widths
        self.groups = groups
        first = groups if first_groups is None else first_groups
        self.reduce = nn.Sequential(
            nn.Conv2d(inside, middle, 1, groups=first, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
        )
        self.filter = nn.Sequential(
            nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
        )
        self.expand = nn.Sequential(
            nn.Conv2d(middle, outside, 1, groups=groups, bias=False), nn.BatchNorm2d(outside)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.filter(_shuffle(self.reduce(x), self.groups)))


class ShuffleNetV1(nn.Module):
    """ShuffleNet with grouped 1 x 1 convolutions; input (N, 3, 224, 224).

    The small form, for 28 to 32 pixels, keeps the stride of the first convolution, leaves the max
    pool out and lets stage 4 keep its resolution: 16 x 16, 8 x 8, 4 x 4, 4 x 4. Output
    (N, classes) logits.
    """

    def __init__(
        self, classes: int, groups: int, width: float, small: bool, in_channels: int
    ) -> None:
        super().__init__()
        channels = _multiple(_FIRST_CHANNELS[width], groups)
        outside = _multiple(_CHANNELS[groups] * width, groups * _BOTTLENECK)
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        # Section 3.2: no groups in the first 1 x 1 of stage 2, which has so few channels.
        first_groups = 1
        stages: list[nn.Module] = []
        for repeats, stride in zip(_REPEATS, _SMALL_STRIDES if small else _STRIDES, strict=True):
            stages.append(
                nn.Sequential(
                    WideningUnit(channels, outside, groups, first_groups, stride),
                    *(Unit(outside, groups) for _ in range(repeats - 1)),
                )
            )
            channels, outside, first_groups = outside, 2 * outside, groups
        self.stage2, self.stage3, self.stage4 = stages
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(x.mean([2, 3]))


def shufflenet_v1(
    classes: int = 1000,
    groups: int = 3,
    width: float = 1.0,
    small: bool = False,
    in_channels: int = 3,
) -> nn.Module:
    """ShuffleNetV1, newly initialised; `groups` 1, 2, 3, 4 or 8; `width` 0.25, 0.5, 1, 1.5 or 2.

    `small`: the form for 28 to 32 pixels, 16.7 M MACs at width 1.
    """
    check_sizes(classes, in_channels)
    check_flag("small", small)
    if width not in _FIRST_CHANNELS:
        allowed = ", ".join(map(str, _FIRST_CHANNELS))
        raise SpecError(f"width={width!r}: the paper has ShuffleNet in the widths {allowed}")
    if type(groups) is not int or groups not in _CHANNELS:
        allowed = ", ".join(map(str, _CHANNELS))
        raise SpecError(f"groups={groups!r}: the paper has ShuffleNet with {allowed} groups")
    return ShuffleNetV1(classes, groups, float(width), small, in_channels)


def shufflenet_v1_spec(
    classes: tuple[str, ...] | None = None,
    groups: int = 3,
    width: float = 1.0,
    small: bool = False,
) -> ModelSpec:
    """ShuffleNetV1 for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.shufflenet_v1:shufflenet_v1"
    return picture_spec(builder, classes, small, groups=groups, width=width, small=small)


def _multiple(channels: float, divisor: int) -> int:
    """The multiple of `divisor` next to `channels`, halves up, at least one: groups are equal."""
    return max(1, int(channels / divisor + 0.5)) * divisor


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """The first channel of each group, then the second of each, ... (figure 1c)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    x = x.transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)

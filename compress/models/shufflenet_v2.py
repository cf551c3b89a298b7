"""ShuffleNetV2.

N. Ma, X. Zhang, H.-T. Zheng, J. Sun: "ShuffleNet V2: Practical Guidelines for Efficient CNN
Architecture Design", ECCV 2018 (arXiv:1807.11164), table 5. Names and shapes in the state_dict
are those of torchvision's `shufflenet_v2_x0_5` and `shufflenet_v2_x1_0`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.errors import SpecError
from compress.models.presets import check_flag, check_sizes, picture_spec
from compress.spec import ModelSpec

# Table 5: channels after stages 2, 3, 4 and after conv5.
_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
_REPEATS = (4, 8, 4)
_FIRST_CHANNELS = 24
_STRIDES = (2, 2, 2)
_SMALL_STRIDES = (2, 2, 1)


class Unit(nn.Module):
    """Half of the channels pass, half are filtered; concatenated and shuffled (figure 3c).

    Input and output (N, channels, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # torchvision has an empty branch1 here too; it holds no tensors.
        self.branch2 = _branch2(channels // 2, channels // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        kept, filtered = x.chunk(2, dim=1)
        return _shuffle(torch.cat((kept, self.branch2(filtered)), dim=1))


class WideningUnit(nn.Module):
    """Both branches see all channels, so that the channels change (figure 3d).

    Input (N, inside, H, W); output (N, outside, H / stride, W / stride).
    """

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        half = outside // 2
        self.branch1 = nn.Sequential(
            _depthwise(inside, stride),
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )
        self.branch2 = _branch2(inside, half, stride)

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat((self.branch1(x), self.branch2(x)), dim=1))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2: 2,278,604 parameters at width 1 and 1,000 classes; input (N, 3, 224, 224).

    The small form, for 28 to 32 pixels, keeps the stride of the first convolution, leaves the max
    pool out and lets stage 4 keep its resolution: 16 x 16, 8 x 8, 4 x 4, 4 x 4. Output
    (N, classes) logits.
    """

    def __init__(self, classes: int, width: float, small: bool, in_channels: int) -> None:
        super().__init__()
        *stages, last = _WIDTHS[width]
        strides = _SMALL_STRIDES if small else _STRIDES
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, _FIRST_CHANNELS, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(_FIRST_CHANNELS),
            nn.ReLU(),
        )
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = _stage(_FIRST_CHANNELS, stages[0], _REPEATS[0], strides[0])
        self.stage3 = _stage(stages[0], stages[1], _REPEATS[1], strides[1])
        self.stage4 = _stage(stages[1], stages[2], _REPEATS[2], strides[2])
        self.conv5 = nn.Sequential(
            nn.Conv2d(stages[2], last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU()
        )
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(self.conv5(x).mean([2, 3]))


def shufflenet_v2(
    classes: int = 1000, width: float = 1.0, small: bool = False, in_channels: int = 3
) -> nn.Module:
    """ShuffleNetV2, newly initialised; `width` 0.5, 1, 1.5 or 2; `small`: 22.3 M MACs."""
    check_sizes(classes, in_channels)
    check_flag("small", small)
    if width not in _WIDTHS:
        allowed = ", ".join(str(known) for known in _WIDTHS)
        raise SpecError(f"width={width!r}: the paper has ShuffleNetV2 in the widths {allowed}")
    return ShuffleNetV2(classes, float(width), small, in_channels)


def shufflenet_v2_spec(
    classes: tuple[str, ...] | None = None, width: float = 1.0, small: bool = False
) -> ModelSpec:
    """ShuffleNetV2 for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.shufflenet_v2:shufflenet_v2"
    return picture_spec(builder, classes, small, width=width, small=small)


def _stage(inside: int, outside: int, repeats: int, stride: int) -> nn.Sequential:
    units = [Unit(outside) for _ in range(repeats - 1)]
    return nn.Sequential(WideningUnit(inside, outside, stride), *units)


def _branch2(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        _depthwise(outside, stride),
        nn.BatchNorm2d(outside),
        nn.Conv2d(outside, outside, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def _shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: (a, b, c, d) -> (a, c, b, d)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, 2, channels // 2, height, width)
    x = x.transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)

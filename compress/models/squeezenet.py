"""SqueezeNet 1.0 and 1.1.

F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer: "SqueezeNet:
AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", arXiv:1602.07360, 2016.
Version 1.0 is the paper's (table 1, without bypass); 1.1 is the authors' later release
(github.com/forresti/SqueezeNet, SqueezeNet_v1.1): 2.4 times fewer operations at the same accuracy.
Names and shapes in the state_dict are those of torchvision's `squeezenet1_0` and `squeezenet1_1`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.mobilenet_v2 import divisible
from compress.models.presets import check_flag, check_sizes, check_width, picture_spec
from compress.spec import ModelSpec

# Version 1.1: channels squeezed to, and out of each expansion; None is a pool.
_FIRES_1_1 = (
    (16, 64),
    (16, 64),
    None,
    (32, 128),
    (32, 128),
    None,
    (48, 192),
    (48, 192),
    (64, 256),
    (64, 256),
)
_MAX_WIDTH = 4.0
# The squeezed channels come in sixteens, of which 0.75 are 12.
_DIVISOR = 4


class Fire(nn.Module):
    """Squeeze to few channels by 1 x 1, then expand by 1 x 1 and 3 x 3, concatenated (sec. 3.2).

    `widths`: channels in, squeezed, and out of each of the two expansions.
    """

    def __init__(self, widths: tuple[int, int, int], batch_norm: bool) -> None:
        super().__init__()
        inside, squeezed, expanded = widths
        self.squeeze = nn.Conv2d(inside, squeezed, 1)
        self.squeeze_activation = _activation(squeezed, batch_norm)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = _activation(expanded, batch_norm)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = _activation(expanded, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [
                self.expand1x1_activation(self.expand1x1(x)),
                self.expand3x3_activation(self.expand3x3(x)),
            ],
            1,
        )


class SqueezeNet(nn.Module):
    """`features`, then a convolution to one channel a class, ReLU and the mean over the picture.

    Input (N, 3, 224, 224); output (N, classes): logits, after the paper's ReLU and so never
    negative. 1,248,424 parameters in version 1.0, 1,235,496 in 1.1, at 1,000 classes.
    """

    def __init__(self, features: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)

    def _initialise(self) -> None:
        """Kaiming uniform, the last convolution normal(0, 0.01), biases 0; as torchvision does.

        PyTorch's default initialisation shrinks the signal from layer to layer until the plain
        net does not begin to learn.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        last = self.classifier[1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, mean=0.0, std=0.01)


def squeezenet1_0(classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """SqueezeNet 1.0, newly initialised."""
    check_sizes(classes, in_channels)
    return SqueezeNet(_features_1_0(in_channels), 512, classes)


def squeezenet1_1(
    classes: int = 1000, small: bool = False, in_channels: int = 3, width: float = 1.0
) -> nn.Module:
    """SqueezeNet 1.1, newly initialised; `small`: the form for 28 to 32 pixels, 23.5 M MACs.

    `width`: multiplies the channels of all layers, as MobileNet's; the paper has none. Channels
    are then the nearest multiple of 4.

    The small form's first convolution has stride 1 and is padded, so that it sees all pixels; the
    pools stay: 32 x 32, 16 x 16, 8 x 8, 4 x 4. It has batch norm before each ReLU, in
    `features.1.0`, `features.3.squeeze_activation.0`, ...; convolutions keep their names.
    """
    check_sizes(classes, in_channels)
    check_flag("small", small)
    check_width(width, _MAX_WIDTH)
    features, channels = _features_1_1(small, in_channels, float(width))
    return SqueezeNet(features, channels, classes)


def squeezenet1_0_spec(classes: tuple[str, ...] | None = None) -> ModelSpec:
    """SqueezeNet 1.0 for ImageNet at 224 pixels."""
    return picture_spec("compress.models.squeezenet:squeezenet1_0", classes, False)


def squeezenet1_1_spec(
    classes: tuple[str, ...] | None = None, small: bool = False, width: float = 1.0
) -> ModelSpec:
    """SqueezeNet 1.1 for ImageNet at 224 pixels, or the small form for CIFAR-10 at 32."""
    builder = "compress.models.squeezenet:squeezenet1_1"
    # Of width 1 the specification is what it was before there were widths, and so is its digest.
    other = {} if width == 1 else {"width": width}
    return picture_spec(builder, classes, small, small=small, **other)


def _features_1_0(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 96, 7, stride=2),
        nn.ReLU(),
        _pool(),
        Fire((96, 16, 64), False),
        Fire((128, 16, 64), False),
        Fire((128, 32, 128), False),
        _pool(),
        Fire((256, 32, 128), False),
        Fire((256, 48, 192), False),
        Fire((384, 48, 192), False),
        Fire((384, 64, 256), False),
        _pool(),
        Fire((512, 64, 256), False),
    )


def _features_1_1(small: bool, in_channels: int, width: float) -> tuple[nn.Sequential, int]:
    """The layers before the classifier, and the channels that they put out."""
    channels = _scaled(64, width)
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels, 3, stride=1 if small else 2, padding=1 if small else 0),
        _activation(channels, small),
        _pool(),
    ]
    for widths in _FIRES_1_1:
        if widths is None:
            layers.append(_pool())
            continue
        squeezed, expanded = (_scaled(base, width) for base in widths)
        layers.append(Fire((channels, squeezed, expanded), small))
        channels = 2 * expanded
    return nn.Sequential(*layers), channels


def _scaled(channels: int, width: float) -> int:
    return divisible(channels * width, _DIVISOR)


def _activation(channels: int, batch_norm: bool) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) if batch_norm else nn.ReLU()


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)

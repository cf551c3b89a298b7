"""VGG-16.

K. Simonyan, A. Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015 (arXiv:1409.1556), table 1, column D. Names and shapes in the state_dict are those of
torchvision's `vgg16`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import check_sizes, picture_spec
from compress.spec import ModelSpec

# Column D: channels of the 3 x 3 convolutions between one max pool and the next.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Thirteen convolutions, three linear layers: 138,357,544 parameters at 1,000 classes.

    Input (N, 3, 224, 224) and no other size: torchvision's adaptive pool to 7 x 7, which does
    nothing there, is left out. Output (N, classes) logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for group in _GROUPS:
            for outside in group:
                layers += [nn.Conv2d(channels, outside, 3, padding=1), nn.ReLU()]
                channels = outside
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))

    def _initialise(self) -> None:
        """Kaiming normal over the fan out; linear layers normal(0, 0.01), as torchvision does."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


def vgg16(classes: int = 1000) -> nn.Module:
    """VGG-16, newly initialised."""
    check_sizes(classes)
    return VGG(classes)


def vgg16_spec(classes: tuple[str, ...] | None = None) -> ModelSpec:
    """VGG-16 for ImageNet at 224 pixels."""
    return picture_spec("compress.models.vgg:vgg16", classes, False)

"""AlexNet, in one column.

A. Krizhevsky, I. Sutskever, G. E. Hinton: "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, as A. Krizhevsky: "One weird trick for parallelizing convolutional neural
networks", arXiv:1404.5997, 2014, redrew it. Names and shapes in the state_dict are those of
torchvision's `alexnet`; the Caffe net that the papers on compression took has other widths,
grouped convolutions and local response normalisation, but all but the same 61 M parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import check_sizes, picture_spec
from compress.spec import ModelSpec


class AlexNet(nn.Module):
    """Five convolutions, three linear layers: 61,100,840 parameters at 1,000 classes.

    Input (N, 3, 224, 224) and no other size: torchvision's adaptive pool to 6 x 6, which does
    nothing there, is left out. Output (N, classes) logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def alexnet(classes: int = 1000) -> nn.Module:
    """AlexNet, newly initialised."""
    check_sizes(classes)
    return AlexNet(classes)


def alexnet_spec(classes: tuple[str, ...] | None = None) -> ModelSpec:
    """AlexNet for ImageNet at 224 pixels."""
    return picture_spec("compress.models.alexnet:alexnet", classes, False)

"""ResNet-20 and ResNet-56 for CIFAR-10, with parameter-free shortcuts.

K. He, X. Zhang, S. Ren, J. Sun: "Deep Residual Learning for Image Recognition", CVPR 2016
(arXiv:1512.03385), section 4.2: 6n + 2 layers, shortcuts of option A (section 4.1: every second
pixel, the added channels zero). Names in the state_dict are those of Y. Idelbayev's
pytorch_resnet_cifar10, whose trained weights load as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.presets import CIFAR10_CLASSES, check_sizes, picture_spec
from compress.spec import ModelSpec


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a shortcut of option A around them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.padding = (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Every second pixel; half of the added zero channels before, half behind."""
        if self.stride == 1:
            return x
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


class ResNetCifar(nn.Module):
    """Three groups of `blocks` residual blocks of 16, 32 and 64 channels.

    Input (N, 3, 32, 32); output (N, classes) logits. 269,722 parameters for 3 blocks a group
    (ResNet-20), 853,018 for 9 (ResNet-56), at 10 classes.
    """

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.layer1 = _group(16, 16, blocks)
        self.layer2 = _group(16, 32, blocks)
        self.layer3 = _group(32, 64, blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))


def resnet20(classes: int = 10) -> nn.Module:
    """ResNet-20 for 32 x 32 pixels, newly initialised."""
    check_sizes(classes)
    return ResNetCifar(3, classes)


def resnet56(classes: int = 10) -> nn.Module:
    """ResNet-56 for 32 x 32 pixels, newly initialised."""
    check_sizes(classes)
    return ResNetCifar(9, classes)


def resnet20_spec(classes: tuple[str, ...] = CIFAR10_CLASSES) -> ModelSpec:
    """ResNet-20 for CIFAR-10, with the preprocessing of the published weights."""
    return picture_spec("compress.models.resnet_cifar:resnet20", classes, True)


def resnet56_spec(classes: tuple[str, ...] = CIFAR10_CLASSES) -> ModelSpec:
    """ResNet-56 for CIFAR-10, with the preprocessing of the published weights."""
    return picture_spec("compress.models.resnet_cifar:resnet56", classes, True)


def _group(inside: int, outside: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(inside, outside, 1 if inside == outside else 2)
    return nn.Sequential(first, *(BasicBlock(outside, outside, 1) for _ in range(blocks - 1)))

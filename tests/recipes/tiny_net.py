"""A net for pictures of 32 pixels that is exported in a second, with a shortcut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.presets import CIFAR10_CLASSES, CIFAR_PREPROCESS
from compress.spec import ModelSpec, TensorSpec


class Tiny(nn.Module):
    """Convolutions with batch norm, one around which the channels pass, and a classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(3, channels, stride=4)
        self.inner = _conv(channels, channels)
        self.last = _conv(channels, 2 * channels, stride=2)
        self.classifier = nn.Linear(2 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.last(x + self.inner(x))
        return self.classifier(torch.flatten(x.mean((2, 3)), 1))


def tiny() -> nn.Module:
    return Tiny(16)


def tinier() -> nn.Module:
    return Tiny(8)


def tiny_spec(builder: str = "tiny") -> ModelSpec:
    return ModelSpec(
        builder=f"tests.recipes.tiny_net:{builder}",
        inputs=(TensorSpec(name="input", shape=(1, 3, 32, 32), dtype="float32"),),
        classes=CIFAR10_CLASSES,
        preprocess=CIFAR_PREPROCESS,
    )


def _conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )

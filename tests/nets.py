"""Small nets for tests, built by name as any user's own net: 8 x 8 grey pictures, 10 classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from compress.spec import ModelSpec, Preprocess, TensorSpec


def conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """Convolutions with batch norm, a residual add, max-pooling, mean, classifier: 9 k."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(1, 16, 3), nn.ReLU())
        self.conv1, self.bn1 = conv_bn(16, 16, 3)
        self.conv2, self.bn2 = conv_bn(16, 16, 3)
        self.widen = nn.Sequential(*conv_bn(16, 24, 3), nn.ReLU())
        self.fc = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(y)))
        x = F.max_pool2d(x, 2)
        x = self.widen(x)
        return self.fc(x.mean((2, 3)))


class ShuffleUnit(nn.Module):
    """Channel split, one branch pointwise-depthwise-pointwise, concatenation, channel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            *conv_bn(half, half, 1),
            nn.ReLU(),
            *conv_bn(half, half, 3, groups=half),
            *conv_bn(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        _, channels, height, width = x.shape
        x = x.view(-1, 2, channels // 2, height, width).transpose(1, 2)
        return x.reshape(-1, channels, height, width)


class Branch(nn.Module):
    """ShuffleNet's parts: concat, channel chunk, shuffle, depthwise and 1 x 1, ReLU6: 9 k."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(1, 48, 3), nn.ReLU6())
        self.units = nn.Sequential(ShuffleUnit(48), nn.MaxPool2d(2), ShuffleUnit(48))
        self.last = nn.Sequential(*conv_bn(48, 96, 1), nn.ReLU())
        self.fc = nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.units(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Plain(nn.Module):
    """Linear layers only, biases and no batch norm: 64 -> 40 -> 10, 3 k."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 40)
        self.fc2 = nn.Linear(40, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class ChannelsLast(nn.Module):
    """Linear layers over (N, H, W, C), of as many channels as rows; the first biases are high."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(1, 8)
        self.two = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 10)
        nn.init.uniform_(self.one.bias, 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.one(x.permute(0, 2, 3, 1)))
        return self.fc(F.relu(self.two(x)).mean((1, 2)))


def digits_residual() -> nn.Module:
    return Residual()


def digits_branch() -> nn.Module:
    return Branch()


def digits_plain() -> nn.Module:
    return Plain()


def digits_channels_last() -> nn.Module:
    return ChannelsLast()


def _spec(function: str) -> ModelSpec:
    return ModelSpec(
        builder=f"tests.nets:{function}",
        inputs=(TensorSpec("input", (1, 1, 8, 8)),),
        classes=tuple(str(digit) for digit in range(10)),
        preprocess=Preprocess(channel_order="GREY", scale=1 / 16),
    )


def digits_residual_spec() -> ModelSpec:
    return _spec("digits_residual")


def digits_branch_spec() -> ModelSpec:
    return _spec("digits_branch")


def digits_plain_spec() -> ModelSpec:
    return _spec("digits_plain")


def digits_channels_last_spec() -> ModelSpec:
    return _spec("digits_channels_last")

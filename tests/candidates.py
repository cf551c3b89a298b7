"""Untrained candidates for tests of the core: random weights from a seed, no data needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import Candidate
from compress.encoding import Encoded, Masked, int8_codebook
from compress.models.lenet import lenet300_spec
from compress.spec import ModelSpec, TensorSpec
from tests.nets import digits_plain_spec


def fresh(spec: Callable[[], ModelSpec] = digits_plain_spec, seed: int = 0) -> Candidate:
    """A dense candidate with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Candidate.load(spec(), spec().build())


def lenet(seed: int = 0) -> Candidate:
    """A net of compress.models, which a file may name."""
    return fresh(lenet300_spec, seed)


def half_mask(shape: tuple[int, ...], seed: int = 0) -> Masked:
    return Masked(np.random.default_rng(seed).random(shape) < 0.5)


def shared(shape: tuple[int, ...], codes: int = 8, seed: int = 0) -> Encoded:
    """A float codebook of `codes` entries, code 0 = 0."""
    rng = np.random.default_rng(seed)
    codebook = np.concatenate([[0], rng.normal(size=codes - 1)]).astype(np.float32)
    indices = rng.integers(0, codes, shape).astype(np.uint8)
    return Encoded(indices, codebook, np.ones(1, np.float32))


def int8(shape: tuple[int, ...], seed: int = 0) -> Encoded:
    """The full int8 grid with a scale for each output channel."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, shape).astype(np.int8)
    scale = (rng.random(shape[0]) * 0.01 + 0.001).astype(np.float32)
    return Encoded(codes.view(np.uint8), int8_codebook(), scale, 0)


def mixed(candidate: Candidate) -> Candidate:
    """The plain net with a mask on fc1 and shared values on fc2 (lenet: int8 on fc3)."""
    shapes = {n: p.shape for n, p in candidate.network.parameters().items()}
    encodings = {
        "fc1.weight": half_mask(shapes["fc1.weight"]),
        "fc2.weight": shared(shapes["fc2.weight"]),
    }
    if "fc3.weight" in shapes:
        encodings["fc3.weight"] = int8(shapes["fc3.weight"])
    return candidate.with_values({}, encodings)


class Strided(nn.Module):
    """A grouped, strided, padded convolution, ReLU, pooling and a linear layer, all with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))


def strided() -> nn.Module:
    return Strided()


def strided_spec() -> ModelSpec:
    """Input (1, 4, 8, 8)."""
    return ModelSpec("tests.candidates:strided", inputs=(TensorSpec("input", (1, 4, 8, 8)),))

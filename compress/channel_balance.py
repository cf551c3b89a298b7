"""Scales of channels by which 8 bits serve a net best: pure arithmetic.

A channel's values may be divided by s where the layers that write it have their rows divided and
those that read it their columns multiplied: the net computes the same. What changes is the noise of
the grids. A tensor's one step follows its widest channel, and noise in a divided channel comes back
multiplied; a weight's step, one for each row, follows the row's largest column. M. Nagel et al.
(arXiv:1906.04721, section 4.1) make weight ranges equal, with one step for a whole weight in mind;
G. Xiao et al. (SmoothQuant, arXiv:2211.10438, section 4, eq. 4) share the burden of a tensor and
its readers by an exponent. Here the expected loss itself is made least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

_TENSOR_STEPS = 255.0
_STEPS = 300
_RATE = 0.05


@dataclass(frozen=True, eq=False)
class GridTensors:
    """Channels that share one grid: arrays (channels,), all tensors of the grid one after another.

    numbers: of their groups (see ChannelGroups); low, high: their ranges; curvature: see
    channel_moments, 0 where nothing is rounded.
    """

    numbers: Numbers
    low: Floats
    high: Floats
    curvature: Floats


@dataclass(frozen=True, eq=False)
class Columns:
    """One group of a layer: numbers (n,) of its columns, largest: (m, n) the largest |weight|.

    curvature: (m, n), see channel_moments, added up over each kernel. levels: of the weight's grid
    above zero, 127 for 8 bits.
    """

    numbers: Numbers
    largest: Floats
    curvature: Floats
    levels: float = 127.0


@dataclass(frozen=True, eq=False)
class Balance:
    """scales: (numbers,), 1.0 where fixed. before, after: of the loss what they change, in nats."""

    scales: Floats
    before: float
    after: float


def balance(
    tensors: Sequence[GridTensors],
    layers: Sequence[Columns],
    fixed: NDArray[np.bool_],
    floors: Floats | None = None,
) -> Balance:
    """The scales of least expected loss, by Adam on their logarithms; none that is worse.

    floors: (numbers,), the least scale of each, at most 1; none without.
    Noise of step^2 / 12 in each value: the sum over grids of range^2 / 255^2 / 24 * the sum of
    curvature * s^2, and over rows of max(largest * s)^2 / levels^2 / 24 * the sum of
    curvature / s^2.
    """
    loss = _Loss(
        [t for t in tensors if not fixed[t.numbers].all()],
        [c for c in layers if not fixed[c.numbers].all()],
    )
    if not (loss.tensors or loss.layers):
        return Balance(np.ones(len(fixed)), 0.0, 0.0)
    free = torch.from_numpy(~fixed)
    least = np.full(len(fixed), -np.inf) if floors is None else np.log(floors)
    logs = torch.zeros(len(fixed), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logs], lr=_RATE)
    before = best = float("inf")
    kept = np.zeros(len(fixed))
    for step in range(_STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / (_STEPS + 1))
        optimizer.zero_grad()
        with torch.enable_grad():
            held = torch.maximum(logs, torch.from_numpy(least))
            value: torch.Tensor = loss(torch.where(free, held, 0.0).exp())
            torch.autograd.backward(value)
        found = float(value.detach())
        before = found if step == 0 else before
        if found < best:
            best, kept = found, logs.detach().numpy().copy()
        optimizer.step()
    return Balance(np.where(fixed, 1.0, np.exp(np.maximum(kept, least))), before, best)


class _Loss:
    """The expected loss as a function of the scales, in torch."""

    def __init__(self, tensors: Sequence[GridTensors], layers: Sequence[Columns]) -> None:
        self.tensors = [
            tuple(map(torch.from_numpy, (t.numbers, t.low, t.high, t.curvature))) for t in tensors
        ]
        self.layers = [
            (*map(torch.from_numpy, (c.numbers, c.largest, c.curvature)), c.levels) for c in layers
        ]

    def __call__(self, scales: torch.Tensor) -> torch.Tensor:
        total: Any = torch.zeros((), dtype=torch.float64)
        for numbers, low, high, curvature in self.tensors:
            own = scales[numbers]
            width = (high / own).amax().clamp(min=0) - (low / own).amin().clamp(max=0)
            total = total + (width / _TENSOR_STEPS) ** 2 * (curvature * own**2).sum()
        for numbers, largest, curvature, levels in self.layers:
            own = scales[numbers]
            step = (largest * own).amax(1) / levels
            total = total + (step**2 * (curvature / own**2).sum(1)).sum()
        return total / 24

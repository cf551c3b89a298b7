"""AbsorbHighBias: what a channel hardly ever falls below moves into the next layers' biases.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1.3: where x > c, ReLU(x - c) = ReLU(x) - c. A layer's bias gives c
up, W c goes to the bias of the layer that reads it, and the values between have a narrower range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.bias_pairs import pairs
from compress.candidate import Candidate, Skipped
from compress.channel_stats import ChannelStats, channel_stats
from compress.errors import RangeError
from compress.network import LayerInfo
from compress.stage import StageResult
from compress.stages.fold_batchnorm import need_folded
from compress.task import Task

Floats = NDArray[np.float64]
_LATE = "its activations have grids already; put AbsorbHighBias before QuantizeInt8"


@dataclass(frozen=True)
class AbsorbHighBias:
    """Move c = max(0, mean - deviations * standard deviation) of a channel on, in a folded net.

    Mean and deviation are those of the values before the ReLU, over all of task.calibration.
    deviations: above 0; 3 leaves 0.1 % of a bell curve's values below c, and outputs differ by
    those alone. Worth something after EqualizeRanges, which makes high biases.
    Only where all layers that read the channels take no zeros from padding (they would count as
    0 - c) and have a bias. Of channels before a ReLU6 only those that stay below its clip for all
    calibration pictures are moved. Layers left alone have the reason.
    """

    deviations: float = 3.0
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __post_init__(self) -> None:
        number = self.deviations
        if type(number) not in (int, float) or not 0 < number < math.inf:
            raise RangeError(
                f"AbsorbHighBias(deviations={number!r}): allowed is a number above 0, as 3.0"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        network = candidate.network
        layers = {layer.name: layer for layer in network.layers()}
        if candidate.activations:
            return StageResult(candidate, (), tuple(Skipped(n, _LATE) for n in layers))
        need_folded(candidate, "AbsorbHighBias")
        calibration = task.need_calibration("AbsorbHighBias")
        found = pairs(candidate)
        reasons = {n: pair for n, pair in found.items() if isinstance(pair, str)}
        able = {n: pair for n, pair in found.items() if not isinstance(pair, str)}
        wanted = {pair.tensor for pair in able.values()}
        seen = channel_stats(
            network.graph, wanted, calibration, network.input_shape, "AbsorbHighBias"
        )
        own = network.parameters()
        changes: dict[str, Floats] = {}
        for name, pair in able.items():
            amount = self._amount(seen[pair.tensor], pair.ceiling)
            if not amount.any():
                reasons[name] = f"no channel's mean lies {self.deviations:g} deviations above 0"
                continue
            changes[name] = changes.get(name, 0.0) - amount
            for reader in (layers[n] for n in pair.readers):
                gain = _through(own[reader.weight], reader, amount)
                changes[reader.name] = changes.get(reader.name, 0.0) + gain
        biases = {layers[n].bias or "": change for n, change in changes.items()}
        values = {n: (own[n] + change).astype(np.float32) for n, change in biases.items()}
        skipped = tuple(Skipped(n, reasons[n]) for n in layers if n not in changes)
        touched = tuple(name for name in layers if name in changes)
        return StageResult(candidate.with_values(values, {}), touched, skipped)

    def _amount(self, stats: ChannelStats, ceiling: float) -> Floats:
        amount = np.maximum(stats.mean - self.deviations * stats.deviation, 0.0)
        return np.where(stats.high < ceiling, amount, 0.0)


def _through(weight: NDArray[np.float32], layer: LayerInfo, amount: Floats) -> Floats:
    """What the layer's outputs gain from inputs that are `amount` larger by channel."""
    taps = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64)
    inputs = taps.shape[1] * layer.groups
    wide = np.repeat(amount, inputs // len(amount)).reshape(layer.groups, 1, -1)
    return (taps.reshape(layer.groups, -1, taps.shape[1]) * wide).sum(axis=2).reshape(-1)

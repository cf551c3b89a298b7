"""Mean, deviation and extremes of each channel over calibration batches; memory does not grow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compress.calibrate import checked_batches
from compress.errors import TaskError
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.network import blocks
from compress.task import Calibration

Floats = NDArray[np.float64]
# Few pictures at a time: every tensor of a block may be alive at once.
BLOCK = 16


@dataclass(frozen=True, eq=False)
class ChannelStats:
    """Of a tensor (N, C, ...): (C,) each, over `count` values of a channel.

    squares: the sum of squared distances from the mean.
    """

    count: int
    mean: Floats
    squares: Floats
    low: Floats
    high: Floats

    @property
    def deviation(self) -> Floats:
        return np.sqrt(self.squares / self.count)

    @property
    def largest(self) -> Floats:
        """The greatest absolute value."""
        return np.maximum(-self.low, self.high)

    def joined(self, other: ChannelStats) -> ChannelStats:
        """Of the values of both (T. F. Chan, G. H. Golub, R. J. LeVeque 1983: no cancellation)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart**2 * (self.count * other.count / count)
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return ChannelStats(count, mean, squares, low, high)


class _SeenError(Exception):
    """All wanted tensors are seen: the rest of the net need not run."""


def channel_stats(
    graph: Graph,
    wanted: Collection[TensorId],
    calibration: Calibration,
    shape: tuple[int, ...],
    asker: str,
) -> dict[TensorId, ChannelStats]:
    """The statistics of each wanted tensor of two axes or more; those that are none are absent.

    `shape`: the net's input shape. `asker`: the stage that wants to know, for errors. TaskError
    for a batch that cannot be used, as Calibrator raises it.
    """
    found: dict[TensorId, ChannelStats] = {}
    last = [node.id for node in graph.nodes if node.id in set(wanted)][-1:]
    for number, batch in checked_batches(calibration, shape, asker):

        def see(tensor: TensorId, value: torch.Tensor, n: int = number) -> torch.Tensor:
            if tensor in wanted and value.dim() >= 2:
                new = _of(value)
                if not np.isfinite(new.mean).all():
                    raise TaskError(
                        f"{asker}: calibration batch {n} gives NaN or infinity in tensor "
                        f"'{tensor}'; check the batch's values and the net's weights"
                    )
                found[tensor] = found[tensor].joined(new) if tensor in found else new
            if tensor in last:
                raise _SeenError
            return value

        for block in blocks(batch, BLOCK if graph.dynamic_batch else 1) if last else ():
            try:
                with torch.inference_mode():
                    GraphRunner(graph, see).run(block)
            except _SeenError:
                continue
    return found


def _of(value: torch.Tensor) -> ChannelStats:
    flat = value.transpose(0, 1).flatten(1)
    variance, mean = torch.var_mean(flat, dim=1, correction=0)
    low, high = torch.aminmax(flat, dim=1)
    count = flat.shape[1]
    parts = (mean, variance * count, low, high)
    return ChannelStats(count, *(part.double().numpy() for part in parts))

"""By how much the mean of each output channel has moved, layer by layer: what a bias can mend.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.2 and appendix D. Rounding moves the mean of an output channel, most
of all in depthwise layers, whose few weights do not average their errors away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.network import TorchNetwork, blocks
from compress.simulate import Simulation
from compress.task import Batch

Floats = NDArray[np.float64]
# Few pictures at a time: two nets' tensors are alive at once.
BLOCK = 16


def expected_shifts(
    reference: TorchNetwork,
    changed: TorchNetwork,
    weights: Collection[str],
    batches: Iterable[Batch],
) -> dict[str, Floats]:
    """What is missing in each layer's mean output for its own weights' errors: (channels,) each.

    (W - W') E[x], x the layer's inputs in `reference` (section 4.2.1): the inputs' own errors do
    not count. By the name of the weight; those that the net never uses are absent. Exact at the
    borders: means are taken over pictures first, and that of each position passes the layer.
    """
    ours, theirs = reference.parameters(), changed.parameters()
    lost = {name: torch.from_numpy(ours[name] - theirs[name]) for name in weights}
    graph = reference.graph
    found = _Means()

    def compute(tensor: TensorId, node: fx.Node, args: tuple[Any, ...]) -> None:
        name = _weight_of(graph, tensor)
        if name in lost:
            value, _, *rest = args
            mean = value.mean(dim=0, keepdim=True)
            error: torch.Tensor = node.target(mean, lost[name], None, *rest[1:])  # type: ignore[operator]
            found.add(name, channel_means(error, _axis(tensor)), len(value))

    for block in _blocks(graph, batches):
        with torch.inference_mode():
            GraphRunner(graph, lambda _, value: value, compute).run(block)
    return found.means()


def seen_shifts(
    reference: TorchNetwork,
    changed: Simulation,
    weights: Collection[str],
    batches: Iterable[Batch],
) -> dict[str, Floats]:
    """What is missing in each layer's mean output in the integers' arithmetic: (channels,) each.

    For errors of its weights, inputs and grids alike (appendix D), and with the layers before it
    mended: each layer's output goes on with what was missing until then, so that all pictures are
    seen once. By the name of the weight; those that the net never uses are absent.
    """
    graph = reference.graph
    wanted: dict[TensorId, Floats] = {}
    found = _Means()

    def note(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        if _weight_of(graph, tensor) in weights:
            wanted[tensor] = channel_means(value, _axis(tensor))
        return value

    def mend(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        name = _weight_of(graph, tensor)
        if name not in weights:
            return value
        axis = _axis(tensor)
        found.add(name, wanted[tensor] - channel_means(value, axis), len(value))
        shift = torch.from_numpy(found.mean(name).astype(np.float32))
        return value + (shift.reshape(-1, 1, 1) if axis == 1 else shift)

    for block in _blocks(graph, batches):
        with torch.inference_mode():
            GraphRunner(graph, note).run(block)
        changed.run(block, mend)
    return found.means()


def channel_means(value: torch.Tensor, axis: int) -> Floats:
    """(channels,), in float64; `axis` holds the channels."""
    flat = value.movedim(axis, -1)
    return flat.reshape(-1, flat.shape[-1]).double().mean(dim=0).numpy()


def _axis(tensor: TensorId) -> int:
    """Where a layer's output has its channels: (N, C, H, W) or a linear layer's (N, ..., C)."""
    return 1 if tensor.operator == "conv2d" else -1


class _Means:
    """Running means by name, each addition weighed by its pictures."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}
        self._pictures: dict[str, int] = {}

    def add(self, name: str, values: Floats, pictures: int) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + values * pictures
        self._pictures[name] = self._pictures.get(name, 0) + pictures

    def mean(self, name: str) -> Floats:
        return self._sums[name] / self._pictures[name]

    def means(self) -> dict[str, Floats]:
        return {name: self.mean(name) for name in self._sums}


def _weight_of(graph: Graph, tensor: TensorId) -> str:
    """The weight that made the tensor, or ''; a batch norm's is no layer's."""
    node = graph.by_id.get(tensor)
    if node is None or node.id.operator not in ("conv2d", "linear"):
        return ""
    return node.parameters.get("weight", "")


def _blocks(graph: Graph, batches: Iterable[Batch]) -> Iterable[torch.Tensor]:
    size = BLOCK if graph.dynamic_batch else 1
    for batch in batches:
        yield from blocks(batch, size)

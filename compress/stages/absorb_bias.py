"""AbsorbHighBias: what a channel hardly ever falls below moves into the next layers' biases.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1.3: where x > c, ReLU(x - c) = ReLU(x) - c. A layer's bias gives c
up, W c goes to the bias of the layer that reads it, and the values between have a narrower range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.channel_stats import ChannelStats, channel_stats
from compress.errors import RangeError, StageOrderError
from compress.graph import Graph, TensorId, TensorNode
from compress.network import LayerInfo
from compress.parameter_uses import serving_elsewhere
from compress.stage import StageResult
from compress.stages.fold_batchnorm import unfolded
from compress.task import Task

Floats = NDArray[np.float64]
_LATE = "its activations have grids already; put AbsorbHighBias before QuantizeInt8"
# Operators after which a channel from which c is taken is what it was, less c.
_SHIFTS = frozenset({"max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten"})


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
        left = unfolded(candidate)
        if left:
            raise StageOrderError(
                f"AbsorbHighBias needs folded batch norms, and {left[0]!r} acts still; put "
                f"FoldBatchNorm before AbsorbHighBias"
            )
        calibration = task.need_calibration("AbsorbHighBias")
        found = _Pairs(candidate).found()
        pairs = {n: pair for n, pair in found.items() if not isinstance(pair, str)}
        reasons = {n: pair for n, pair in found.items() if isinstance(pair, str)}
        wanted = {pair.tensor for pair in pairs.values()}
        seen = channel_stats(
            network.graph, wanted, calibration, network.input_shape, "AbsorbHighBias"
        )
        biases: dict[str, Floats] = {}
        own = network.parameters()
        touched: set[str] = set()
        for name, pair in pairs.items():
            amount = self._amount(seen[pair.tensor], pair.ceiling)
            if not amount.any():
                reasons[name] = f"no channel's mean lies {self.deviations:g} deviations above 0"
                continue
            for layer, change in (
                (layers[name], -amount),
                *(
                    (layers[r], _through(own[layers[r].weight], layers[r], amount))
                    for r in pair.readers
                ),
            ):
                assert layer.bias is not None
                old = biases.get(layer.bias, own[layer.bias].astype(np.float64))
                biases[layer.bias] = old + change
                touched.add(layer.name)
        values = {name: bias.astype(np.float32) for name, bias in biases.items()}
        skipped = tuple(Skipped(n, reasons[n]) for n in layers if n not in touched)
        order = tuple(name for name in layers if name in touched)
        return StageResult(candidate.with_values(values, {}), order, skipped)

    def _amount(self, stats: ChannelStats, ceiling: float) -> Floats:
        amount = np.maximum(stats.mean - self.deviations * stats.deviation, 0.0)
        return np.where(stats.high < ceiling, amount, 0.0)


@dataclass(frozen=True)
class _Pair:
    """tensor: what comes before the ReLU; ceiling: its clip; readers: names of layers after it."""

    tensor: TensorId
    ceiling: float
    readers: tuple[str, ...]


class _Pairs:
    """Finds for each layer the layers that can take on what it gives up, or why there are none."""

    def __init__(self, candidate: Candidate) -> None:
        network = candidate.network
        self._graph: Graph = network.graph
        self._elsewhere = serving_elsewhere(network)
        self._encoded = candidate.encodings.keys()
        self._layers: Mapping[str, LayerInfo] = {la.weight: la for la in network.layers()}
        self._arguments: dict[TensorId, tuple[Any, ...]] = {}
        for node, tensor in self._graph.ids.items():
            self._arguments.setdefault(tensor, tuple(node.args))

    def found(self) -> dict[str, _Pair | str]:
        """By the layer's name, in order."""
        made = {n.parameters.get("weight", ""): n for n in self._graph.nodes}
        return {la.name: self._of(la, made.get(w)) for w, la in self._layers.items()}

    def _of(self, layer: LayerInfo, node: TensorNode | None) -> _Pair | str:
        if node is None:
            return "the net never uses it"
        lacking = self._bias_fault(layer)
        if lacking:
            return f"it {lacking}"
        relu = self._graph.feeds_only(node.id)
        ceiling = np.inf if relu is None else _ceiling(relu, self._arguments[relu.id])
        if relu is None or ceiling is None:
            return "no ReLU follows, or not that alone"
        readers = self._readers(relu.id)
        return readers if isinstance(readers, str) else _Pair(node.id, ceiling, readers)

    def _bias_fault(self, layer: LayerInfo) -> str:
        if layer.bias is None:
            return "has no bias"
        if layer.bias in self._encoded:
            return "has an encoded bias"
        return "shares weight or bias with others" if layer.name in self._elsewhere else ""

    def _readers(self, tensor: TensorId) -> tuple[str, ...] | str:
        """The layers that read a tensor, through pools, or why they cannot take anything on."""
        if tensor in self._graph.outputs:
            return "its values are an output of the net"
        found: list[str] = []
        for node in self._graph.consumers[tensor]:
            layer = self._layers.get(node.parameters.get("weight", ""))
            if layer is not None and node.id.operator in ("conv2d", "linear"):
                lacking = self._bias_fault(layer)
                if lacking:
                    return f"{layer.name!r}, which reads it, {lacking}"
                if node.id.operator == "conv2d" and _pads(self._arguments[node.id], 4):
                    return f"{layer.name!r}, which reads it, pads with zeros"
                found.append(layer.name)
                continue
            if not _shifts(node, self._arguments[node.id]):
                return f"{node.id.operator} reads it, which is no layer"
            further = self._readers(node.id)
            if isinstance(further, str):
                return further
            found += further
        return tuple(found) or "nothing reads it"


def _ceiling(node: TensorNode, args: tuple[Any, ...]) -> float | None:
    """Where the activation clips from above: infinite for ReLU, None for no activation at 0."""
    if node.id.operator == "relu":
        return math.inf
    if node.id.operator == "relu6":
        return 6.0
    if node.id.operator != "hardtanh":
        return None
    *_, low, high = (-1.0, 1.0, *args[1:])  # without arguments those of torch
    return float(high) if low == 0 else None


def _shifts(node: TensorNode, args: tuple[Any, ...]) -> bool:
    if node.id.operator == "avg_pool2d":
        return not _pads(args, 3)
    if node.id.operator == "mean":
        return len(args) > 1 and {axis % 4 for axis in args[1]} == {2, 3}
    return node.id.operator in _SHIFTS


def _pads(args: tuple[Any, ...], place: int) -> bool:
    """True where the padding, the argument at `place`, is not zero on all sides."""
    padding = args[place] if len(args) > place else 0
    if isinstance(padding, str):
        return padding != "valid"
    return np.any(padding).item()


def _through(weight: NDArray[np.float32], layer: LayerInfo, amount: Floats) -> Floats:
    """What the layer's outputs gain from inputs that are `amount` larger by channel."""
    taps = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64)
    inputs = taps.shape[1] * layer.groups
    wide = np.repeat(amount, inputs // len(amount)).reshape(layer.groups, 1, -1)
    return (taps.reshape(layer.groups, -1, taps.shape[1]) * wide).sum(axis=2).reshape(-1)

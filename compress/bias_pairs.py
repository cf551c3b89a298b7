"""Layers that can take on what the layer before them gives up of its bias: pairs in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.candidate import Candidate
from compress.graph import Graph, TensorId, TensorNode
from compress.network import LayerInfo
from compress.parameter_uses import serving_elsewhere
from compress.placement import ACTIVATIONS, clip_ends

# Operators after which a channel from which c is taken is what it was, less c.
_SHIFTS = frozenset({"max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"})


@dataclass(frozen=True)
class Pair:
    """tensor: what comes before the ReLU; ceiling: its clip; readers: names of layers after it."""

    tensor: TensorId
    ceiling: float
    readers: tuple[str, ...]


def pairs(candidate: Candidate) -> dict[str, Pair | str]:
    """For each layer by name, in order, its pair, or why it has none."""
    return _Finder(candidate).found()


class _Finder:
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

    def found(self) -> dict[str, Pair | str]:
        """By the layer's name, in order."""
        made = {n.parameters.get("weight", ""): n for n in self._graph.nodes}
        return {la.name: self._of(la, made.get(w)) for w, la in self._layers.items()}

    def _of(self, layer: LayerInfo, node: TensorNode | None) -> Pair | str:
        if node is None:
            return "the net never uses it"
        lacking = self._bias_fault(layer)
        if lacking:
            return f"it {lacking}"
        if not _on_channels(node):
            return "its channels are not the second axis"
        relu = self._graph.feeds_only(node.id)
        ceiling = np.inf if relu is None else _ceiling(relu, self._arguments[relu.id])
        if relu is None or ceiling is None:
            return "no ReLU follows, or not that alone"
        readers = self._readers(relu.id)
        return readers if isinstance(readers, str) else Pair(node.id, ceiling, readers)

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
                if not _on_channels(node):
                    return f"{layer.name!r}, which reads it, reads no channels"
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


def _on_channels(node: TensorNode) -> bool:
    """True where a layer's channels are the second axis, as statistics and biases take them."""
    return node.id.operator == "conv2d" or len(node.shape) == 2


def _ceiling(node: TensorNode, args: tuple[Any, ...]) -> float | None:
    """Where the activation clips from above: infinite for ReLU, None for no activation at 0."""
    if node.id.operator not in ACTIVATIONS:
        return None
    low, high = clip_ends(node.id.operator, args)
    return high if low == 0 else None


def _shifts(node: TensorNode, args: tuple[Any, ...]) -> bool:
    if node.id.operator == "avg_pool2d":
        return not _pads(args, 3)
    if node.id.operator == "mean":
        return len(args) > 1 and {axis % 4 for axis in args[1]} == {2, 3}
    if node.id.operator == "flatten":
        return len(node.shape) == 2
    return node.id.operator in _SHIFTS


def _pads(args: tuple[Any, ...], place: int) -> bool:
    """True where the padding, the argument at `place`, is not zero on all sides."""
    padding = args[place] if len(args) > place else 0
    if isinstance(padding, str):
        return padding != "valid"
    return np.any(padding).item()

"""Which activation tensors carry an integer grid, and which must share one.

Pure data from the graph. The rules are those that both stock runtimes can keep: an activation
function that is the only reader of a convolution fuses into it, so the tensor between has no grid
of its own; operators that only move values (concatenate, split, shuffle, max-pool, pad, reshape)
cannot rescale, so what goes in and what comes out share one grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.graph import Graph, TensorId, TensorNode

ACTIVATIONS = frozenset({"relu", "relu6", "hardtanh"})
FUSES_ACTIVATION = frozenset({"conv2d", "linear", "add", "batch_norm"})
# avg_pool2d is here because TFLite's integer kernel requires it; MEAN (adaptive pooling) rescales.
SAME_GRID = frozenset(
    {
        "avg_pool2d",
        "cat",
        "chunk",
        "flatten",
        "max_pool2d",
        "pad",
        "permute",
        "reshape",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "transpose",
        "unsqueeze",
        "view",
    }
)


@dataclass(frozen=True)
class Placement:
    """`points`: tensors that carry a grid, in execution order. `ties`: those that share one."""

    points: tuple[TensorId, ...]
    ties: tuple[frozenset[TensorId], ...]


def place(graph: Graph) -> Placement:
    """Grid points and ties of a net whose batch norms are folded."""
    points = tuple(node.id for node in graph.nodes if not _fuses_into_reader(graph, node))
    return Placement(points, _ties(graph))


def grid_groups(graph: Graph) -> list[frozenset[TensorId]]:
    """Each tensor that may carry a grid, once: with those tied to it, or alone."""
    placement = place(graph)
    tied = {tensor for tie in placement.ties for tensor in tie}
    alone = [frozenset({point}) for point in placement.points if point not in tied]
    return [*placement.ties, *alone]


def clip_ends(operator: str, arguments: Sequence[Any]) -> tuple[float, float]:
    """Between which numbers one of ACTIVATIONS holds its input; `arguments`: its node's."""
    assert operator in ACTIVATIONS, operator
    if operator == "relu":
        return 0.0, math.inf
    if operator == "relu6":
        return 0.0, 6.0
    ends = arguments[1:3]
    low, high = (*ends, *(-1.0, 1.0)[len(ends) :])  # without arguments those of torch
    return float(low), float(high)


def _fuses_into_reader(graph: Graph, node: TensorNode) -> bool:
    reader = graph.feeds_only(node.id)
    fuses = node.id.operator in FUSES_ACTIVATION
    return fuses and reader is not None and reader.id.operator in ACTIVATIONS


def _ties(graph: Graph) -> tuple[frozenset[TensorId], ...]:
    """Connected groups of tensors under 'moved by an operator that cannot rescale'."""
    group: dict[TensorId, set[TensorId]] = {node.id: {node.id} for node in graph.nodes}
    for node in graph.nodes:
        if node.id.operator not in SAME_GRID:
            continue
        for source in node.inputs:
            if group[source] is not group[node.id]:
                merged = group[source] | group[node.id]
                for member in merged:
                    group[member] = merged
    unique = {frozenset(members) for members in group.values() if len(members) > 1}
    return tuple(sorted(unique, key=min))

"""How many bytes of tensors a net holds at each operator, and so how many pictures fit at once."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from compress.graph import Graph, TensorId


def pictures_that_fit(graph: Graph, budget_bytes: int) -> dict[TensorId, int]:
    """By tensor: how many pictures can be taken from there to the end within `budget_bytes`.

    At least 1, and never falling along the net: what counts is the widest place still to come.
    """
    nodes = list(graph.program.graph.nodes)
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            last[source] = node
    held: dict[fx.Node, int] = {}
    live: list[int] = []
    for node in nodes:
        if node in graph.ids:
            held[node] = _bytes(node)
        live.append(sum(held.values()))
        for gone in [n for n in held if last.get(n, node) is node]:
            del held[gone]
    widest = list(accumulate(reversed(live), max))[::-1]
    return {
        graph.ids[node]: max(1, budget_bytes // max(1, most))
        for node, most in zip(nodes, widest, strict=True)
        if node in graph.ids
    }


def _bytes(node: fx.Node) -> int:
    """Of a node's tensor for one picture, float32: a free batch counts as 1."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return 0
    sizes: tuple[Any, ...] = tuple(value.shape)
    return 4 * math.prod(size if isinstance(size, int) else 1 for size in sizes)

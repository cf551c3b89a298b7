"""Channel shuffles as a .tflite model computes them best: on the last axis, in four dimensions.

A net says a shuffle as (N, g, C / g, H, W), two axes exchanged. Converted as it stands, pictures
are turned from NHWC to NCHW and back around tensors of five dimensions, which no GPU delegate
takes. Said on the last axis, one exchange of three is left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from compress.graph import Graph
from compress.trace import trace

_ATEN = torch.ops.aten
_RESHAPES = (
    *(_ATEN.view.default, _ATEN.reshape.default, _ATEN._unsafe_view.default),
    *(_ATEN.unflatten.int, _ATEN.flatten.using_ints),
)
_COPIES = (_ATEN.contiguous.default, _ATEN.clone.default)


def may_shuffle(graph: Graph) -> bool:
    """Whether the net has what a shuffle is said with; most have not."""
    return any(n.id.operator == "channel_shuffle" or len(n.shape) == 5 for n in graph.nodes)


def shuffled_last(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The module with its shuffles said on the last axis; itself where it has none.

    `shape`: an input's, (1, C, H, W). ExportError where the module cannot be traced.
    """
    traced = trace(module, shape, free=False).program
    found = False
    for node in list(traced.graph.nodes):
        shuffle = _shuffle(node)
        if shuffle is not None:  # replaced at once: the next one may begin where this one ends
            _replace(traced.graph, node, *shuffle)
            found = True
    if not found:
        return module
    traced.graph.eliminate_dead_code()
    return fx.GraphModule(traced, traced.graph)  # what torch.export gives takes no eval()


def _shuffle(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Of a node that gives shuffled pictures, those before and the groups; None for any other."""
    named = _source(node, (_ATEN.channel_shuffle.default,))
    if named is not None:
        groups = node.args[1]
        return (named, groups) if isinstance(groups, int) and len(_shape(node)) == 4 else None
    exchanged = _source(node, _RESHAPES)
    while exchanged is not None and exchanged.target in _COPIES:
        exchanged = _source(exchanged, _COPIES)
    if exchanged is None or not _exchanges(exchanged):
        return None
    parted = _source(exchanged, (exchanged.target,))
    before = None if parted is None else _source(parted, _RESHAPES)
    if parted is None or before is None or _shape(before) != _shape(node):
        return None
    batch, groups, each, *picture = _shape(parted)
    whole = [batch, groups * each, *picture]
    return (before, groups) if len(picture) == 2 and whole == _shape(node) else None


def _exchanges(node: fx.Node) -> bool:
    """Whether it exchanges the second and the third of five axes."""
    if node.target == _ATEN.transpose.int:
        return len(_shape(node)) == 5 and sorted(node.args[1:]) == [1, 2]  # type: ignore[type-var]
    return node.target == _ATEN.permute.default and node.args[1] == [0, 2, 1, 3, 4]


def _source(node: fx.Node, targets: tuple[Any, ...]) -> fx.Node | None:
    """The node's first input where the node is one of `targets`."""
    first = node.args[0] if node.target in targets and node.args else None
    return first if isinstance(first, fx.Node) else None


def _shape(node: fx.Node) -> list[int]:
    value = node.meta.get("val")
    return list(value.shape) if isinstance(value, torch.Tensor) else []


def _replace(graph: fx.Graph, node: fx.Node, source: fx.Node, groups: int) -> None:
    batch, channels, height, width = _shape(node)
    with graph.inserting_before(node):
        last = graph.call_function(_ATEN.permute.default, (source, [0, 2, 3, 1]))
        parted = [batch, height * width, groups, channels // groups]
        split = graph.call_function(_ATEN.reshape.default, (last, parted))
        exchanged = graph.call_function(_ATEN.transpose.int, (split, 2, 3))
        joined = [batch, height, width, channels]
        whole = graph.call_function(_ATEN.reshape.default, (exchanged, joined))
        first = graph.call_function(_ATEN.permute.default, (whole, [0, 3, 1, 2]))
    first.meta = dict(node.meta)
    node.replace_all_uses_with(first)
    graph.erase_node(node)

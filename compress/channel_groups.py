"""Which channels of a net must be scaled together for its outputs to stay the same.

A channel that one layer writes may be divided by s > 0 where each layer that reads it multiplies
by s, if all between is positively homogeneous: f(s x) = s f(x) (M. Nagel et al., arXiv:1906.04721,
section 4.1). Channels are followed through adds, concatenations and shuffles, too: the program
runs on numbers that name them, so that whatever moves channels moves these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.channel_labels import (
    Forest,
    LabelRunner,
    Numbers,
    by_channel,
    spread,
    tensors_in,
)
from compress.graph import Graph, TensorId, TensorNode
from compress.placement import clip_ends

_CHANNELWISE = frozenset(
    {"relu", "leaky_relu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
)
_MOVES = frozenset(
    {"cat", "chunk", "split", "split_with_sizes", "slice", "select", "flatten", "reshape", "view"}
    | {"transpose", "permute", "squeeze", "unsqueeze", "getitem"}
)
CLIPS = frozenset({"relu6", "hardtanh"})
_AGAIN = "a layer beside it is used more than once"


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The group of each channel, numbered from 0, and what stands against scaling it.

    writes, reads: by weight name the group of each output and of each input channel (features of
    a linear layer). tensors: of each (N, C, ...) tensor whose channels are whole groups.
    fixed: the reason, where a group cannot be scaled. ceilings: a group's least clip from above
    (ReLU6: 6); infinite where none.
    """

    writes: Mapping[str, Numbers]
    reads: Mapping[str, Numbers]
    tensors: Mapping[TensorId, Numbers]
    fixed: Mapping[int, str]
    ceilings: NDArray[np.float64]


def channel_groups(graph: Graph) -> ChannelGroups:
    """The groups of a net; where an operator cannot be followed, all are fixed for that reason."""
    follower = _Follower(graph)
    follower.follow()
    return follower.groups()


class _Follower:
    """Runs the program on labels: float64 tensors whose values number channels.

    `fixed` and `ceilings` are by any of a group's labels until the end.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._forest = Forest()
        self._fixed: list[tuple[int, str]] = []
        self._ceilings: list[tuple[int, float]] = []
        self._writes: dict[str, Numbers] = {}
        self._reads: dict[str, Numbers] = {}
        self._tensors: dict[TensorId, Numbers] = {}

    def follow(self) -> None:
        LabelRunner(self._graph, self._visit, self._compute).run_labels(self._graph)
        for output in self._graph.outputs:
            for label in self._tensors.get(output, ()):
                self._fixed.append((int(label), "its outputs are the net's"))

    def _visit(self, tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        if tensor.operator == "input":
            value = self._new(tuple(value.shape), "it reads the net's input")
        labels = by_channel(value)
        if labels is not None:
            self._tensors[tensor] = labels
        elif tensor in self._graph.outputs:
            self._fix(value, "its outputs are the net's")
        return value

    def _compute(
        self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]
    ) -> torch.Tensor | None:
        del node
        known = self._graph.by_id.get(tensor)
        operator = tensor.operator
        given = tensors_in(args)
        if known is None or operator in _MOVES:
            return None
        if "weight" in known.parameters and operator in ("conv2d", "linear"):
            return self._layer(known, args[0])
        labels = by_channel(given[0]) if given else None
        follows = operator in _CHANNELWISE or _only_spatial(operator, args)
        if operator in CLIPS and labels is not None:
            follows = self._clip(labels, clip_ends(operator, args))
        if operator == "add" and _alike(given, known.shape, args):
            self._forest.join(given[0], given[1])
            return given[0]
        if follows and labels is not None:
            return spread(labels, known.shape)
        reason = f"{operator} lies between, which does not scale with its input"
        for one in given:
            self._fix(one, reason)
        return self._new(known.shape, reason)

    def _layer(self, node: TensorNode, value: torch.Tensor) -> torch.Tensor:
        weight, shape = node.parameters["weight"], node.shape
        # A linear layer's channels are the last axis: the second one of two alone.
        whole = node.id.operator == "conv2d" or len(shape) == 2
        labels = by_channel(value) if whole else None
        fresh = self._forest.grow(shape[1])
        if labels is None or weight in self._writes:
            reason = _AGAIN if labels is not None else "a layer beside it reads no channels"
            self._fix(value, reason)
            self._fixed += [(int(n), reason) for n in (*fresh, *self._writes.get(weight, ()))]
        if labels is not None:
            if weight in self._reads:
                self._fixed += [(int(n), _AGAIN) for n in self._reads[weight]]
            self._reads[weight] = labels
        self._writes[weight] = fresh
        return spread(fresh, shape)

    def _clip(self, labels: Numbers, bounds: tuple[float, float]) -> bool:
        low, high = bounds
        if low == 0 and high > 0:
            self._ceilings += [(int(n), high) for n in labels]
        return low == 0 and high > 0

    def _new(self, shape: tuple[int, ...], reason: str) -> torch.Tensor:
        """One label for a whole tensor, which is fixed."""
        label = int(self._forest.grow(1)[0])
        self._fixed.append((label, reason))
        return torch.full(shape, float(label), dtype=torch.float64)

    def _fix(self, value: torch.Tensor, reason: str) -> None:
        self._fixed += [(int(n), reason) for n in value.unique()]

    def groups(self) -> ChannelGroups:
        _, numbers = np.unique(self._forest.roots(), return_inverse=True)
        ceilings = np.full(int(numbers.max(initial=-1)) + 1, np.inf)
        for label, high in self._ceilings:
            ceilings[numbers[label]] = min(ceilings[numbers[label]], high)
        fixed: dict[int, str] = {}
        for label, reason in self._fixed:
            fixed.setdefault(int(numbers[label]), reason)
        writes = {name: numbers[labels] for name, labels in self._writes.items()}
        reads = {name: numbers[labels] for name, labels in self._reads.items()}
        tensors = {tensor: numbers[labels] for tensor, labels in self._tensors.items()}
        return ChannelGroups(writes, reads, tensors, fixed, ceilings)


def _only_spatial(operator: str, args: tuple[Any, ...]) -> bool:
    """True for a mean over height and width, and for zeros (or copies) padded around them."""
    if operator == "mean":
        value, *rest = args
        axes = rest[0] if rest else None
        return value.dim() == 4 and axes is not None and {a % 4 for a in axes} == {2, 3}
    if operator == "pad":
        value, sides, *rest = args
        filled = rest[1] if len(rest) > 1 else 0
        return value.dim() == 4 and len(sides) <= 4 and not filled
    return False


def _alike(given: list[torch.Tensor], shape: tuple[int, ...], args: tuple[Any, ...]) -> bool:
    """True for a sum of two tensors of one shape."""
    return len(given) == 2 and all(one.shape[1:] == shape[1:] for one in given) and len(args) == 2

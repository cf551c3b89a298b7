"""What each channel of each tensor holds over calibration pictures, and what noise costs there.

For small noise of variance v in a channel's elements, or in weights, the divergence of the net's
answers grows by about v * curvature / 2: the mean over pictures of the sum of g^2 over these
elements, g the gradients whose covariance is that of the divergence (see moments.pull; Martens and
Grosse 2015, arXiv:1503.05671, section 2). No label is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.moments import BLOCK, pull
from compress.network import blocks
from compress.task import Batch

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelMoments:
    """Arrays (channels,) of one tensor: least and greatest value, and curvature."""

    low: Floats
    high: Floats
    curvature: Floats


@dataclass(frozen=True, eq=False)
class NetMoments:
    """`tensors`: of every floating tensor with channels (axis 1).

    `weights`: by name the curvature of each weight of a convolution or linear layer, in its shape.
    """

    tensors: Mapping[TensorId, ChannelMoments]
    weights: Mapping[str, Floats]


def net_moments(graph: Graph, batches: Iterable[Batch], seed: int) -> NetMoments:
    """The moments over all pictures of `batches`. The same seed gives the same."""
    watch = _Watch(graph)
    generator = torch.Generator().manual_seed(seed)
    size = BLOCK if graph.dynamic_batch else 1
    pictures = 0
    for batch in batches:
        for block in blocks(batch, size):
            with torch.enable_grad():
                pull(GraphRunner(graph, watch.see, watch.compute).run(block), generator)
            watch.add()
            pictures += len(block)
    tensors = {tensor: one.moments(pictures) for tensor, one in watch.sums.items()}
    return NetMoments(tensors, {name: s / pictures for name, s in watch.squares.items()})


@dataclass
class _Watch:
    """Adds up the gradients of one backward pass after another."""

    graph: Graph
    shown: dict[TensorId, torch.Tensor] = field(default_factory=dict[TensorId, torch.Tensor])
    leaves: list[tuple[str, torch.Tensor]] = field(default_factory=list[tuple[str, torch.Tensor]])
    sums: dict[TensorId, _Sums] = field(default_factory=dict)
    squares: dict[str, Floats] = field(default_factory=dict[str, Floats])

    def see(self, tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point() or value.dim() < 2:
            return value
        self.shown[tensor] = value if value.requires_grad else value.requires_grad_(True)
        self.shown[tensor].retain_grad()
        return value.clone()  # a later operator may work in place

    def compute(self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """A layer with a weight of its own, so that the weight gets a gradient."""
        known = self.graph.by_id.get(tensor)
        if known is None or known.id.operator not in ("conv2d", "linear"):
            return None
        name = known.parameters.get("weight")
        if name is None:
            return None
        value, weight, *rest = args
        leaf = weight.detach().clone().requires_grad_(True)
        self.leaves.append((name, leaf))
        return node.target(value, leaf, *rest)  # type: ignore[operator]

    def add(self) -> None:
        for tensor, value in self.shown.items():
            self.sums.setdefault(tensor, _Sums()).add(value)
        for name, leaf in self.leaves:
            if leaf.grad is not None:  # of independent pulls: squares of sums are sums of squares
                square = leaf.grad.square().double().numpy()
                self.squares[name] = self.squares.get(name, 0.0) + square
        self.shown.clear()
        self.leaves.clear()


@dataclass
class _Sums:
    low: Any = np.inf
    high: Any = -np.inf
    gradients: Any = 0.0

    def add(self, value: torch.Tensor) -> None:
        flat = value.detach().transpose(0, 1).flatten(1)
        self.low = np.minimum(self.low, flat.amin(1).double().numpy())
        self.high = np.maximum(self.high, flat.amax(1).double().numpy())
        if value.grad is not None:
            back = value.grad.transpose(0, 1).flatten(1)
            self.gradients = self.gradients + back.square().sum(1).double().numpy()

    def moments(self, pictures: int) -> ChannelMoments:
        low, high = cast("Floats", self.low), cast("Floats", self.high)
        curvature = np.broadcast_to(self.gradients / pictures, low.shape).astype(np.float64)
        return ChannelMoments(low, high, curvature)

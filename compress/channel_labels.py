"""Labels that follow channels through a net: tensors whose values are numbers of channels.

Whatever moves channels (concatenations, splits, shuffles) moves the numbers, too.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.graph import Graph
from compress.graph_runner import GraphRunner
from compress.trace import is_alias

Numbers = NDArray[np.int64]


class Forest:
    """Numbers from 0 that can be joined, by union-find."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def grow(self, count: int) -> Numbers:
        """(count,) new numbers, each alone."""
        fresh = np.arange(len(self._parents), len(self._parents) + count)
        self._parents += fresh.tolist()
        return fresh

    def join(self, one: torch.Tensor, other: torch.Tensor) -> None:
        """Join the numbers that stand at the same place of two tensors of one shape."""
        for pair in torch.stack((one.flatten(), other.flatten())).unique(dim=1).T.tolist():
            low, high = sorted(self.root(int(n)) for n in pair)
            self._parents[high] = low

    def root(self, number: int) -> int:
        """The least number of those joined with it."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def roots(self) -> Numbers:
        """The root of every number."""
        return np.array([self.root(n) for n in range(len(self._parents))], np.int64)


def by_channel(value: torch.Tensor) -> Numbers | None:
    """(C,) labels of a (1, C) or (1, C, H, W) tensor; None where a channel holds several."""
    if value.dim() not in (2, 4) or not value.numel():
        return None
    flat = value[0].reshape(value.shape[1], -1)
    whole = bool((flat == flat[:, :1]).all())
    return flat[:, 0].to(torch.int64).numpy() if whole else None


def spread(labels: Numbers, shape: tuple[int, ...], axis: int = 1) -> torch.Tensor:
    """A tensor of `shape`, for a batch of one, whose channels hold these labels."""
    column = torch.from_numpy(labels.astype(np.float64))
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return column.reshape(sizes).expand(1, *shape[1:]).contiguous()


def tensors_in(args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The label tensors among an operator's arguments; its parameters are float32."""
    found: list[torch.Tensor] = []
    for one in args:
        if isinstance(one, torch.Tensor) and one.dtype == torch.float64:
            found.append(one)
        elif isinstance(one, (list, tuple)):
            found += tensors_in(tuple(cast("tuple[Any, ...]", one)))
    return found


class LabelRunner(GraphRunner):
    """Runs a program on labels: they stay float64 where the net casts, and nothing else is."""

    def run_labels(self, graph: Graph) -> None:
        """On one picture of zeros."""
        with torch.inference_mode():
            self.run(torch.zeros(1, *graph.nodes[0].shape[1:], dtype=torch.float64))

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function" and "_assert" in str(n.target):  # of dtypes
            return None
        if n.op == "call_function" and is_alias(n):
            return self.fetch_args_kwargs_from_env(n)[0][0].contiguous()  # as `view` wants them
        value = super().run_node(n)
        double = n.op == "get_attr" and value.dtype == torch.float64
        return value.float() if double else value

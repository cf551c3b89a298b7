"""What a net answers when a few of its weights or grids are others, many such changes at once.

A change acts from one operator on. So the net runs once, and for each change only what comes after
that operator runs again: half the net in the mean, and nothing is kept but the live tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.candidate import ActivationQuant
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.simulate import on_grid
from compress.trace import is_alias

FloatArray = NDArray[np.float32]
Grids = Mapping[TensorId, ActivationQuant]
See = Callable[[TensorId, torch.Tensor], None]


@dataclass(frozen=True, eq=False)
class Change:
    """Parameters by name and grids by tensor that differ from the net's own; None: no grid."""

    values: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    grids: Mapping[TensorId, ActivationQuant | None] = field(
        default_factory=dict[TensorId, ActivationQuant | None]
    )


def answers(
    graph: Graph,
    grids: Grids,
    changes: Sequence[Change],
    block: torch.Tensor,
    see: See | None = None,
) -> tuple[FloatArray, list[FloatArray]]:
    """(outputs for `block`, outputs with each change made alone), float32 (N, ...).

    Tensors with a grid are rounded to it, everything else is float32: simulate's arithmetic but for
    the order of sums and the rounding of biases. `see` is shown each tensor of the unchanged net,
    before it is rounded. A change that meets no operator changes nothing.
    """
    with torch.inference_mode():
        root = _Root(graph, grids, changes, see)
        own = root.outputs(block)
    return own, [own if found is None else found for found in root.found]


class _Run(GraphRunner):
    """One run with some grids; the net's first output is kept."""

    def __init__(
        self, graph: Graph, grids: Mapping[TensorId, ActivationQuant | None], see: See | None = None
    ) -> None:
        super().__init__(graph, self._place)
        self._grids, self._see = grids, see
        self._wanted = graph.outputs[0]
        self._output: FloatArray | None = None

    def outputs(self, block: torch.Tensor, env: dict[fx.Node, Any] | None = None) -> FloatArray:
        """The net's first output for `block`; `env`: what is computed already."""
        self.run(block, initial_env=env)
        assert self._output is not None
        return self._output

    def _place(self, tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        if self._see is not None:
            self._see(tensor, value)
        grid = self._grids.get(tensor)
        placed = value if grid is None else on_grid(value, grid)
        if tensor == self._wanted:
            self._output = placed.float().numpy().copy()
        return placed


class _Root(_Run):
    """The run of the unchanged net, which starts each change's own run where it begins to act."""

    def __init__(
        self, graph: Graph, grids: Grids, changes: Sequence[Change], see: See | None
    ) -> None:
        super().__init__(graph, grids, see)
        self._graph, self._changes = graph, changes
        self._begin = _beginnings(graph, changes)
        self._block = torch.empty(0)
        self.found: list[FloatArray | None] = [None] * len(changes)

    def outputs(self, block: torch.Tensor, env: dict[fx.Node, Any] | None = None) -> FloatArray:
        self._block = block
        return super().outputs(block, env)

    def run_node(self, n: fx.Node) -> Any:
        for number in self._begin.get(n, ()):
            self.found[number] = self._forked(n, self._changes[number])
        return super().run_node(n)

    def _forked(self, start: fx.Node, change: Change) -> FloatArray:
        env: dict[fx.Node, Any] = {}
        for node in self._graph.program.graph.nodes:
            if node is start:
                break
            env[node] = None  # what no later operator reads
        # Copied: programs hold operators that work in place, and each fork must find the original.
        env |= {node: _copied(node, value) for node, value in self.env.items()}
        for node in self._graph.program.graph.nodes:
            if node.op == "get_attr" and node.target in change.values:
                env[node] = torch.from_numpy(np.array(change.values[node.target]))
        return _Run(self._graph, {**self._grids, **change.grids}).outputs(self._block.clone(), env)


def _copied(node: fx.Node, value: Any) -> Any:
    """A tensor that operators may write to; weights, which none writes to, as they are."""
    if node.op == "get_attr":
        return value
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):  # of a split
        return [_copied(node, part) for part in cast("Sequence[Any]", value)]
    return value


def _beginnings(graph: Graph, changes: Sequence[Change]) -> dict[fx.Node, list[int]]:
    """The changes that begin to act at each operator."""
    found: dict[fx.Node, list[int]] = {}
    waiting = dict(enumerate(changes))
    for node in graph.program.graph.nodes:
        if node.op not in ("call_function", "placeholder") or not waiting:
            continue
        reads = {str(s.target) for s in node.all_input_nodes if s.op == "get_attr"}
        alias = node.op == "call_function" and is_alias(node)
        tensor = None if alias else graph.ids.get(node)
        acting = [i for i, c in waiting.items() if reads & c.values.keys() or tensor in c.grids]
        if acting:
            found[node] = acting
            for number in acting:
                del waiting[number]
    return found

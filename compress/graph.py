"""Names for the activation tensors of a net, and how they hang together (trace.py makes both).

`+`, `cat`, `chunk` and `F.relu` are not modules, so a module path cannot name what they give.
A `TensorId` (tensor_id.py) does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import torch
from torch import fx

from compress.tensor_id import TensorId


@dataclass(frozen=True)
class TensorNode:
    """One tensor: its operator, its tensor inputs in order, the parameters that it reads.

    `parameters` maps 'weight', 'bias', 'running_mean', 'running_var' to parameter or buffer
    names. `shape` is that for a batch of one.
    """

    id: TensorId
    inputs: tuple[TensorId, ...]
    parameters: Mapping[str, str]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """The tensors of a net in execution order, and the program that computes them."""

    nodes: tuple[TensorNode, ...]
    outputs: tuple[TensorId, ...]
    program: fx.GraphModule
    ids: Mapping[fx.Node, TensorId]
    dynamic_batch: bool

    @cached_property
    def by_id(self) -> Mapping[TensorId, TensorNode]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[TensorId, tuple[TensorNode, ...]]:
        """Who reads each tensor; the net's outputs are not among the readers."""
        found: dict[TensorId, list[TensorNode]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                found[source].append(node)
        return {key: tuple(readers) for key, readers in found.items()}

    def feeds_only(self, tensor: TensorId) -> TensorNode | None:
        """The one reader of `tensor`, or None where there are several or it is an output."""
        readers = self.consumers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def with_state(self, state: Mapping[str, torch.Tensor]) -> Graph:
        """The same graph over other values: tracing a net anew takes seconds, this does not."""
        graph = self.program.graph
        targets = {str(n.target) for n in graph.nodes if n.op in ("get_attr", "call_module")}
        values = {t: state[t] if t in state else attrgetter(t)(self.program) for t in targets}
        return replace(self, program=fx.GraphModule(values, graph))

"""Names for the activation tensors of a net, and how they hang together (trace.py makes both).

`+`, `cat`, `chunk` and `F.relu` are not modules, so a module path cannot name what they give.
A `TensorId` does: (module path, operator, occurrence of that operator in that module, output).
It is the same for every candidate of one structure and independent of any file format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import torch
from torch import fx

from compress.errors import ExportError

_TEXT = re.compile(
    r"(?P<module>[^/]*)/(?P<operator>\w+)#(?P<occurrence>[0-9]{1,9})(:(?P<output>[0-9]{1,9}))?"
)


@dataclass(frozen=True, order=True)
class TensorId:
    """One activation tensor: 'features.3/relu#0', or 'stage2/chunk#1:0' for output 0 of several.

    `output` is None for operators with one output. The net's input is '/input#0'.
    """

    module: str
    operator: str
    occurrence: int = 0
    output: int | None = None

    def __str__(self) -> str:
        text = f"{self.module}/{self.operator}#{self.occurrence}"
        return text if self.output is None else f"{text}:{self.output}"

    @staticmethod
    def parse(text: str) -> TensorId:
        """The inverse of str()."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ExportError(f"{text!r} is no tensor name; the form is 'module/operator#0[:0]'")
        output = match["output"]
        number = None if output is None else int(output)
        return TensorId(match["module"], match["operator"], int(match["occurrence"]), number)


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

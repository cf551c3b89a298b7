"""Names for the activation tensors of a net, from one canonical torch.export.

`+`, `cat`, `chunk` and `F.relu` are not modules, so a module path cannot name what they give.
A `TensorId` does: (module path, operator, occurrence of that operator in that module, output).
It is the same for every candidate of one structure and independent of any file format.
"""

from __future__ import annotations

import copy
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import fx, nn

from compress.errors import ExportError

# Operators that hand their input through unchanged in eval mode: their output is their input.
_ALIASES = frozenset(
    {"alias", "clone", "contiguous", "detach", "to", "lift_fresh_copy"}
    | {"dropout", "feature_dropout", "alpha_dropout"}
)
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
        program = copy.deepcopy(self.program)
        program.load_state_dict({name: state[name] for name in program.state_dict()})
        pairs = zip(self.program.graph.nodes, program.graph.nodes, strict=True)
        ids = {new: self.ids[old] for old, new in pairs if old in self.ids}
        return replace(self, program=program, ids=ids)


def trace(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Export `module` (eval mode) for inputs of `shape` (batch first) and name its tensors.

    The batch is left free where the net allows it. Raises ExportError, with torch's reason, for
    nets that torch.export cannot trace (data-dependent control flow).
    """
    try:
        exported = _export(module, max(2, shape[0]), shape)
        dynamic = not isinstance(_input_shape(exported.graph)[0], int)
    except Exception:  # a net that takes one picture at a time fails for two
        exported, dynamic = None, False
    if exported is None or not dynamic:
        try:
            exported = _export(module, 1, shape)
        except Exception as error:  # torch.export raises many types, none documented
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise ExportError(
                f"torch.export cannot trace {type(module).__name__}: {reason}"
            ) from error
    return _name_tensors(exported.module(check_guards=False), dynamic)


def _export(module: nn.Module, batch: int, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The program for `batch` pictures; above one, the batch is left free where that works."""
    free = None if batch == 1 else ({0: torch.export.Dim.AUTO},)
    with torch.no_grad():
        example = torch.zeros(batch, *shape[1:])
        return torch.export.export(module, (example,), dynamic_shapes=free, strict=False)


def _input_shape(graph: fx.Graph) -> tuple[Any, ...]:
    values = [n.meta["val"] for n in graph.nodes if n.op == "placeholder"]
    return tuple(values[-1].shape)


def _operator_name(node: fx.Node) -> str:
    """'aten.conv2d.default' -> 'conv2d'; in-place forms lose their underscore."""
    name = str(node.target).split(".")
    return (name[1] if len(name) > 1 else name[0]).rstrip("_")


def _module_path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return paths[-1] if paths else ""


def _name_tensors(program: fx.GraphModule, dynamic: bool) -> Graph:
    """Walk the program once, giving each tensor its TensorId and its node."""
    ids: dict[fx.Node, TensorId] = {}
    nodes: list[TensorNode] = []
    outputs: tuple[TensorId, ...] = ()
    seen: Counter[tuple[str, str]] = Counter()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            ids[node] = TensorId("", "input", sum(i.operator == "input" for i in ids.values()))
            nodes.append(TensorNode(ids[node], (), {}, _shape_of(node)))
        elif node.op == "output":
            outputs = tuple(ids[n] for n in node.all_input_nodes)
        elif node.op == "call_function" and _gives_tensors(node):
            sources = [n for n in node.all_input_nodes if n in ids]
            if _operator_name(node) in _ALIASES and sources:
                ids[node] = ids[sources[0]]
                continue
            if node.target is operator.getitem:
                parent = ids[sources[0]]
                index = cast(int, node.args[1])
                ids[node] = TensorId(parent.module, parent.operator, parent.occurrence, index)
                inputs = tuple(ids[n] for n in sources[0].all_input_nodes if n in ids)
            else:
                key = (_module_path(node), _operator_name(node))
                ids[node] = TensorId(*key, seen[key])
                seen[key] += 1
                inputs = _tensor_inputs(node, ids)
            if isinstance(node.meta.get("val"), torch.Tensor):
                nodes.append(TensorNode(ids[node], inputs, _parameters(node), _shape_of(node)))
    return Graph(tuple(nodes), outputs, program, ids, dynamic)


def _tensor_inputs(node: fx.Node, ids: Mapping[fx.Node, TensorId]) -> tuple[TensorId, ...]:
    """The activation inputs in order, one that is read twice (x + x) named twice."""
    found: list[TensorId] = []

    def visit(argument: fx.Node) -> fx.Node:
        if argument in ids:
            found.append(ids[argument])
        return argument

    fx.map_arg(node.args, visit)
    fx.map_arg(node.kwargs, visit)
    return tuple(found)


def _gives_tensors(node: fx.Node) -> bool:
    value = node.meta.get("val")
    several = isinstance(value, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in value)
    return isinstance(value, torch.Tensor) or several or _operator_name(node) in ("chunk", "split")


def _shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape for a batch of one: a free batch, or one that torch made symbolic, counts as 1."""
    dims = tuple(node.meta["val"].shape)
    return tuple(d if isinstance(d, int) else 1 for d in dims)


_ROLES = {
    "conv2d": (None, "weight", "bias"),
    "linear": (None, "weight", "bias"),
    "batch_norm": (None, "weight", "bias", "running_mean", "running_var"),
}


def _parameters(node: fx.Node) -> dict[str, str]:
    """Names of the parameters and buffers read, by their role in the operator."""
    roles = _ROLES.get(_operator_name(node), ())
    found: dict[str, str] = {}
    for role, argument in zip(roles, node.args, strict=False):
        if role is not None and isinstance(argument, fx.Node) and argument.op == "get_attr":
            found[role] = str(argument.target)
    return found


class GraphRunner(fx.Interpreter):
    """Runs a graph's program, showing each named tensor to `visit`, which may replace it.

    `visit(id, value) -> value` sees every tensor of `graph.nodes` in order. `compute`, if given,
    may do an operator itself: `compute(id, node, args) -> tensor or None` (None: do it as usual).
    """

    def __init__(
        self,
        graph: Graph,
        visit: Callable[[TensorId, torch.Tensor], torch.Tensor],
        compute: Callable[[TensorId, fx.Node, tuple[Any, ...]], torch.Tensor | None] | None = None,
    ) -> None:
        super().__init__(graph.program)
        self.extra_traceback = False  # it would add lines to a visitor's one-line error
        self._ids = graph.ids
        self._known = frozenset(node.id for node in graph.nodes)
        self._visit = visit
        self._compute = compute

    def run_node(self, n: fx.Node) -> Any:
        tensor = self._ids.get(n)
        if tensor is None or (n.op == "call_function" and _operator_name(n) in _ALIASES):
            return super().run_node(n)
        value: Any = None
        if self._compute is not None and n.op == "call_function":
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            assert not kwargs or "weight" not in _parameters(n), "exported layers have no keywords"
            value = self._compute(tensor, n, args)
        if value is None:
            value = super().run_node(n)
        seen = tensor in self._known and isinstance(value, torch.Tensor)
        return self._visit(tensor, value) if seen else value

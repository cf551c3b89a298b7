"""trace(module): the canonical graph of a net by torch.export, every tensor named."""

from __future__ import annotations

import operator
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from compress.errors import ExportError, first_line
from compress.graph import Graph, TensorId, TensorNode

# Operators that hand their input through unchanged in eval mode: their output is their input.
_DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout"})
_ALIASES = _DROPOUTS | {"alias", "clone", "contiguous", "detach", "to", "lift_fresh_copy"}


def trace(module: nn.Module, shape: tuple[int, ...], free: bool = True) -> Graph:
    """Export `module` (eval mode) for inputs of `shape` (batch first) and name its tensors.

    The batch is left free where the net allows it; without `free` it is one picture, which takes
    less than half the time. Raises ExportError, with torch's reason, for nets that torch.export
    cannot trace (data-dependent control flow).
    """
    try:
        exported = _export(module, max(2, shape[0]) if free else 1, shape)
        dynamic = not is_concrete_int(_input_shape(exported.graph)[0])
    except Exception:  # a net that takes one picture at a time fails for two
        exported, dynamic = None, False
    if exported is None or (free and not dynamic):
        try:
            exported = _export(module, 1, shape)
        except Exception as error:  # torch.export raises many types, none documented
            raise ExportError(
                f"torch.export cannot trace {type(module).__name__}: {first_line(error)}"
            ) from error
    return _name_tensors(exported.module(check_guards=False), dynamic)


def _export(module: nn.Module, batch: int, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The program for `batch` pictures; above one, the batch is left free where that works."""
    free = None if batch == 1 else ({0: torch.export.Dim.AUTO},)
    with torch.no_grad(), warnings.catch_warnings():
        # torch warns of what torch.export itself still uses: nothing that a user could mend.
        warnings.simplefilter("ignore", FutureWarning)
        example = torch.zeros(batch, *shape[1:])
        return torch.export.export(module, (example,), dynamic_shapes=free, strict=False)


def _input_shape(graph: fx.Graph) -> tuple[Any, ...]:
    values = [n.meta["val"] for n in graph.nodes if n.op == "placeholder"]
    return tuple(values[-1].shape)


def _operator_name(node: fx.Node) -> str:
    """'aten.conv2d.default' -> 'conv2d'; in-place forms lose their underscore."""
    name = str(node.target).split(".")
    return (name[1] if len(name) > 1 else name[0]).rstrip("_")


def is_alias(node: fx.Node) -> bool:
    """True for an operator that hands its input through."""
    return _operator_name(node) in _ALIASES


def is_dropout(node: fx.Node) -> bool:
    """True for an operator that hands its input through in eval mode alone."""
    return _operator_name(node) in _DROPOUTS


def module_path(node: fx.Node) -> str:
    """The module in whose forward the operator stands."""
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
            if is_alias(node) and sources:
                ids[node] = ids[sources[0]]
                continue
            if node.target is operator.getitem:
                parent = ids[sources[0]]
                index = cast(int, node.args[1])
                ids[node] = TensorId(parent.module, parent.operator, parent.occurrence, index)
                inputs = tuple(ids[n] for n in sources[0].all_input_nodes if n in ids)
            else:
                key = (module_path(node), _operator_name(node))
                ids[node] = TensorId(*key, seen[key])
                seen[key] += 1
                inputs = _tensor_inputs(node, ids)
            if isinstance(node.meta.get("val"), torch.Tensor):
                nodes.append(TensorNode(ids[node], inputs, parameters_of(node), _shape_of(node)))
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


def parameters_of(node: fx.Node) -> dict[str, str]:
    """Names of the parameters and buffers read, by their role in the operator."""
    roles = _ROLES.get(_operator_name(node), ())
    found: dict[str, str] = {}
    for role, argument in zip(roles, node.args, strict=False):
        if role is not None and isinstance(argument, fx.Node) and argument.op == "get_attr":
            found[role] = str(argument.target)
    return found

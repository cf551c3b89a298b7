"""A .pt2 program as a torch module: its weighted ATen operators become torch's own layers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn.utils import skip_init

from compress.errors import ModelError
from compress.importing.building import Constant, NetBuilder, Shape, Value, fill, reason
from compress.importing.names import layer_name
from compress.importing.onnx_moves import reshaped
from compress.importing.program_file import load_program
from compress.spec import TensorSpec

_RESHAPES = frozenset({"view", "reshape", "_unsafe_view"})
# Operators that hand their input on where nothing is trained.
_HANDED_ON = frozenset({"dropout", "feature_dropout", "alpha_dropout", "clone", "contiguous"})
_ARITHMETIC = frozenset({operator.add, operator.sub, operator.mul, operator.floordiv})


def read_program(path: Path) -> tuple[nn.Module, TensorSpec, str]:
    """(the net, its input, the file's SHA-256). Raises ModelError."""
    program, sha256 = load_program(path)
    net, entry = _Import(program, path).run()
    return net, entry, sha256


def program_outputs(path: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the program itself answers, one picture at a time where it takes no more."""
    program, _ = load_program(path)
    module = program.module(check_guards=False)
    shape = next(n.meta["val"].shape for n in _pictures(program))
    size = shape[0] if isinstance(shape[0], int) else len(batch)
    parts: list[NDArray[np.float32]] = []
    with torch.no_grad():
        for start in range(0, len(batch), size):
            block = batch[start : start + size]
            whole = np.concatenate([block, np.repeat(block[-1:], size - len(block), 0)])
            parts.append(module(torch.from_numpy(whole)).numpy()[: len(block)])
    return np.concatenate(parts)


def _pictures(program: torch.export.ExportedProgram) -> list[fx.Node]:
    names = set(program.graph_signature.user_inputs)
    return [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]


class _Import:
    """One pass over the program's nodes."""

    def __init__(self, program: torch.export.ExportedProgram, path: Path) -> None:
        self.program = program
        self.path = path
        self.net = NetBuilder()
        self.known: dict[fx.Node, Any] = {}

    def run(self) -> tuple[nn.Module, TensorSpec]:
        shape, name = self._input()
        for node in self.program.graph.nodes:
            try:
                if node.op == "call_function":
                    self.known[node] = self._taken(node)
            except ModelError as error:
                raise ModelError(
                    f"{self.path}: node {node.name!r} ({node.target}): {error}"
                ) from error
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise ModelError(
                    f"{self.path}: node {node.name!r} ({node.target}): {reason(error)}"
                ) from error
        (result,) = (n for n in self.program.graph.nodes if n.op == "output")
        outputs = [self.known.get(n) for n in result.all_input_nodes]
        if len(outputs) != 1 or not isinstance(outputs[0], Value) or outputs[0].batch_axis != 0:
            raise ModelError(
                f"{self.path} has {len(outputs)} outputs; one answer for each picture is needed"
            )
        return self.net.finish(outputs[0], self.path.stem), TensorSpec(name, (1, *shape[1:]))

    def _input(self) -> tuple[Shape, str]:
        """Make the input and note the weights."""
        pictures = _pictures(self.program)
        shapes = [tuple(n.meta["val"].shape) for n in pictures]
        fits = len(shapes) == 1 and len(shapes[0]) == 4
        if not fits or not all(isinstance(n, int) for n in shapes[0][1:]):
            raise ModelError(
                f"{self.path} has inputs of shape {', '.join(map(str, shapes)) or 'none'}; one "
                f"picture batch (N, C, H, W) of fixed height and width is needed"
            )
        batch = shapes[0][0] if isinstance(shapes[0][0], int) else 1
        shape = (batch, *map(int, shapes[0][1:]))
        signature = self.program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        held = {**self.program.state_dict, **self.program.constants}
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in names:
                tensor = cast(torch.Tensor, held[names[node.name]]).detach()
                self.known[node] = Constant(tensor.numpy(), names[node.name])
        self.known[pictures[0]] = self.net.input(pictures[0].name, shape)
        return shape, pictures[0].name

    def _taken(self, node: fx.Node) -> Any:
        target = cast("Callable[..., Any]", node.target)
        args = fx.map_arg(node.args, lambda n: self.known[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: self.known[n])
        if target is operator.getitem or target in _ARITHMETIC:
            return target(*args)
        packet = target.overloadpacket  # type: ignore[attr-defined]
        name = str(packet.__name__)
        if name.startswith("sym_size"):
            return args[0].shape[args[1]]
        if name in _HANDED_ON:
            if "dropout" in name and args[2]:
                raise ModelError("the program was exported in training mode; export model.eval()")
            return args[0]
        if name in LAYERS:
            schema = [argument.name for argument in target._schema.arguments]  # type: ignore[attr-defined]
            defaults = {a.name: a.default_value for a in target._schema.arguments}  # type: ignore[attr-defined]
            named = {**defaults, **dict(zip(schema, args, strict=False)), **kwargs}
            return LAYERS[name](self.net, named)
        return self._function(node, name, (target, args, kwargs))

    def _function(self, node: fx.Node, name: str, call: tuple[Any, Any, Any]) -> Any:
        """An operator without weights: as it is, or as what changes nothing in place."""
        target, args, kwargs = call
        if name in _RESHAPES:
            count, shape = int(np.prod(args[0].shape)), [int(n) for n in args[1]]
            rest = int(np.prod([n for n in shape if n != -1]))
            return reshaped(
                self.net, args[0], tuple(count // rest if n == -1 else n for n in shape)
            )
        changes_input = name.endswith("_")
        if changes_input:
            plain = getattr(torch.ops.aten, name.rstrip("_"))
            target = getattr(plain, str(target).rpartition(".")[2])
        args = tuple(self.net.tensor(a) if isinstance(a, Constant) else a for a in args)
        if isinstance(node.meta.get("val"), list | tuple):
            return self.net.call_many(target, *args)
        made = self.net.call(target, *args, **kwargs)
        if changes_input:  # whoever reads the input later reads what became of it
            self.known[cast(fx.Node, node.args[0])] = made
        return made


def _conv(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    weight, bias = _held(given["weight"]), given["bias"]
    padding = given["padding"]
    layer = skip_init(
        nn.Conv2d,
        weight.array.shape[1] * given["groups"],
        weight.array.shape[0],
        tuple(weight.array.shape[2:]),
        stride=tuple(given["stride"]) * (2 // len(given["stride"])),
        padding=padding if isinstance(padding, str) else tuple(padding) * (2 // len(padding)),
        dilation=tuple(given["dilation"]) * (2 // len(given["dilation"])),
        groups=given["groups"],
        bias=bias is not None,
    )
    return _placed(net, layer, given, "conv")


def _linear(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    weight = _held(given["weight"])
    outputs, inputs = weight.array.shape
    layer = skip_init(nn.Linear, inputs, outputs, bias=given["bias"] is not None)
    return _placed(net, layer, given, "linear")


def _batch_norm(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    if given["training"]:
        raise ModelError("the program was exported in training mode; export model.eval()")
    kind = nn.BatchNorm2d if len(given["input"].shape) == 4 else nn.BatchNorm1d
    width = _held(given["running_mean"]).array.shape[0]
    layer = kind(width, eps=given["eps"], affine=given["weight"] is not None).eval()
    return _placed(net, layer, given, "norm")


def _prelu(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    return _placed(net, nn.PReLU(_held(given["weight"]).array.size), given, "prelu")


def _placed(net: NetBuilder, layer: nn.Module, given: Mapping[str, Any], kind: str) -> Value:
    """The layer under the name that its weights have, once however often it is called."""
    roles = ("weight", "bias", "running_mean", "running_var")
    held = {role: _held(given[role]) for role in roles if given.get(role) is not None}
    fill(layer, {role: constant.array for role, constant in held.items()})
    first = next(iter(held.values())).name
    path = first.rpartition(".")[0]
    known = net.layers.get(path)
    if known is not None and repr(known) == repr(layer):
        return net.layer(path, known, given["input"])
    name = layer_name(f"{path}.weight", path, kind, net.layers)
    return net.layer(name, layer, given["input"])


def _held(given: Any) -> Constant:
    if not isinstance(given, Constant):
        raise ModelError("its weights are computed from the picture")
    return given


LAYERS: Mapping[str, Callable[[NetBuilder, Mapping[str, Any]], Value]] = {
    "batch_norm": _batch_norm,
    "conv2d": _conv,
    "linear": _linear,
    "prelu": _prelu,
}

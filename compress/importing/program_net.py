"""A .pt2 program as a torch module: its weighted ATen operators become torch's own layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from compress.errors import ModelError
from compress.importing.building import Constant, NetBuilder, Shape, Value, reason
from compress.importing.onnx_moves import reshaped
from compress.importing.program_file import load_program
from compress.importing.program_layers import LAYERS
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
        output = outputs[0] if len(outputs) == 1 else None
        if not isinstance(output, Value) or not output.answers(shape[0]):
            raise ModelError(
                f"{self.path} has {len(outputs)} outputs; one answer for each picture is needed"
            )
        return self.net.finish(output, self.path.stem), TensorSpec(name, (1, *shape[1:]))

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
        args = cast("tuple[Any, ...]", fx.map_arg(node.args, lambda n: self.known[n]))
        kwargs = cast("dict[str, Any]", fx.map_arg(node.kwargs, lambda n: self.known[n]))
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
            schema = cast("list[Any]", target._schema.arguments)  # type: ignore[attr-defined]
            defaults = {argument.name: argument.default_value for argument in schema}
            return LAYERS[name](
                self.net, {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs}
            )
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

"""NetBuilder: a torch module made operator by operator, the shape of every tensor known.

Shapes are computed on torch's meta device, which holds no values, for two batch sizes at once: so
it is known at each tensor which axis the pictures of a batch are on, even in a file that was
written for one picture, and the net that results takes any number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from compress.errors import ModelError, first_line
from compress.importing.names import legal
from compress.spec import MAX_ELEMENTS

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """Values that the file holds or that follow from it, and the name it gives them."""

    array: Array
    name: str = ""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the picture. `shape`: as in the file; `doubled`: for twice as many
    pictures."""

    node: fx.Node
    shape: Shape
    doubled: Shape

    @property
    def batch_axis(self) -> int | None:
        """The axis that grows with the number of pictures, None for what is alike for all."""
        return next((i for i, n in enumerate(self.shape) if n != self.doubled[i]), None)

    def answers(self, pictures: int) -> bool:
        """Whether the first axis is that of the pictures, and of nothing else."""
        return self.batch_axis == 0 and self.shape[0] == pictures


class NetBuilder:
    """Collects operators into a torch.fx graph and layers into submodules."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.layers: dict[str, nn.Module] = {}
        self._buffers: set[str] = set()

    def input(self, name: str, shape: Shape) -> Value:
        """The net's input, batch first."""
        node = self.graph.placeholder(legal(name) or "input")
        return self._checked(node, shape, (2 * shape[0], *shape[1:]))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """One torch function; Values among the arguments, also in lists, are its inputs."""
        node = self.graph.call_function(function, _nodes(args), _nodes(kwargs))
        first, second = (function(*_meta(args, n), **_meta(kwargs, n)) for n in (0, 1))
        return self._checked(node, tuple(first.shape), tuple(second.shape), args)

    def call_many(self, function: Callable[..., Any], *args: Any) -> tuple[Value, ...]:
        """One torch function that gives several tensors."""
        node = self.graph.call_function(function, _nodes(args))
        pairs = zip(*(function(*_meta(args, n)) for n in (0, 1)), strict=True)
        return tuple(
            self._checked(
                self.graph.call_function(operator.getitem, (node, i)),
                tuple(first.shape),
                tuple(second.shape),
                args,
            )
            for i, (first, second) in enumerate(pairs)
        )

    def layer(self, name: str, layer: nn.Module, source: Value) -> Value:
        """`layer` as the submodule `name` (which may be there already), called on `source`."""
        if name not in self.layers:
            self.layers[name] = layer
        node = self.graph.call_module(name, (source.node,))
        empty = {n: t.to("meta") for n, t in layer.state_dict(keep_vars=True).items()}
        shapes = [
            tuple(torch.func.functional_call(layer, empty, (meta,)).shape)
            for meta in (_meta(source, 0), _meta(source, 1))
        ]
        return self._checked(node, shapes[0], shapes[1], (source,))

    def tensor(self, constant: Constant) -> Value | float:
        """A constant as an operand: a number, or a buffer of the net."""
        if constant.array.size == 1 and constant.array.ndim == 0:
            return float(constant.array)
        base = legal(constant.name.replace(".", "_")) or "constant"
        name, number = base, 1
        while name in self._buffers or name in self.layers:
            name, number = f"{base}_{number + 1}", number + 1
        self._buffers.add(name)
        self.root.register_buffer(name, tensor_of(constant.array))
        shape = tuple(constant.array.shape)
        return Value(self.graph.get_attr(name), shape, shape)

    def finish(self, output: Value, name: str) -> fx.GraphModule:
        """The net, in eval mode; what no output needs is left out."""
        self.graph.output(output.node)
        for path, layer in self.layers.items():
            parent = self.root
            *above, last = path.split(".")
            for part in above:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, layer)
        whole = fx.GraphModule(self.root, self.graph)
        whole.graph.eliminate_dead_code()
        # Made anew: what the graph no longer reads is not taken along.
        net = fx.GraphModule(whole, whole.graph, class_name=legal(name) or "Net")
        return net.eval().requires_grad_(False)

    def _checked(self, node: fx.Node, shape: Shape, doubled: Shape, args: Any = ()) -> Value:
        """The new tensor, if its size is sound and the pictures of a batch stay apart."""
        value = Value(node, shape, doubled)
        if math.prod(doubled) > 2 * MAX_ELEMENTS:
            raise ModelError(f"it makes a tensor of shape {shape}; {MAX_ELEMENTS:,} elements fit")
        grown = [i for i, n in enumerate(shape) if n != doubled[i]]
        fed = [v for v in _values(args) if v.batch_axis is not None]
        if len(grown) > 1 or (fed and not grown):
            raise ModelError(
                f"it mixes the pictures of a batch (input of shape {fed[0].shape if fed else ()}, "
                f"output of shape {shape}), which each must be computed alone"
            )
        return value


def tensor_of(array: Array) -> torch.Tensor:
    """A copy of the array as a tensor, real numbers as float32."""
    kind = np.float32 if array.dtype.kind == "f" else array.dtype
    return torch.from_numpy(np.array(array, kind, order="C"))


def fill(layer: nn.Module, values: Mapping[str, Array]) -> nn.Module:
    """`layer` with its parameters and buffers replaced by `values`; names and shapes must fit."""
    state = layer.state_dict()
    for name, array in values.items():
        wanted = tuple(state[name].shape)
        if array.shape != wanted:
            raise ModelError(f"its {name} has shape {array.shape}, needed is {wanted}")
    tensors = {**state, **{name: tensor_of(array) for name, array in values.items()}}
    layer.load_state_dict(tensors, assign=True)
    return layer


def reason(error: Exception) -> str:
    """What torch says of an operator that does not fit its input."""
    return f"it does not fit its input: {first_line(error)}"


def _nodes(args: Any) -> Any:
    return _mapped(args, lambda value: value.node)


def _meta(args: Any, which: int) -> Any:
    def empty(value: Value) -> torch.Tensor:
        return torch.empty(value.doubled if which else value.shape, device="meta")

    return _mapped(args, empty)


def _values(args: Any) -> list[Value]:
    found: list[Value] = []
    _mapped(args, found.append)
    return found


def _mapped(args: Any, change: Callable[[Value], Any]) -> Any:
    if isinstance(args, Value):
        return change(args)
    if isinstance(args, list | tuple):
        items = [_mapped(item, change) for item in cast("list[Any]", args)]
        return tuple(items) if isinstance(args, tuple) else items
    if isinstance(args, dict):
        named = cast("dict[str, Any]", args)
        return {key: _mapped(item, change) for key, item in named.items()}
    return args

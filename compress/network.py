"""Network: what stages see of a net. Plain arrays in, plain arrays out, never changed in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.blockwise import all_finite
from compress.errors import CheckpointError
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.trace import trace

FloatArray = NDArray[np.float32]
Role = Literal["conv", "depthwise", "pointwise", "linear", "classifier"]
# One forward pass never holds more than this many images, so memory does not grow with N.
BATCH = 256


@dataclass(frozen=True)
class LayerInfo:
    """One weighted layer. `axis` is the output-channel axis of `weight`; role as in `select`."""

    name: str
    role: Role
    weight: str
    bias: str | None
    axis: int
    groups: int
    shape: tuple[int, ...]


class Network(Protocol):
    """What value stages need; torch nets here, ONNX files later."""

    def parameters(self) -> dict[str, FloatArray]: ...
    def with_parameters(self, changed: Mapping[str, FloatArray]) -> Network: ...
    def layers(self) -> tuple[LayerInfo, ...]: ...
    def predict(self, batch: FloatArray) -> FloatArray: ...
    def activations(self, batch: FloatArray) -> Mapping[TensorId, FloatArray]: ...


class TorchNetwork:
    """A torch module on the CPU: float32, eval mode, plain parameters. Immutable by contract.

    The module is never handed out; `module()` gives a deep copy, which is the caller's. Networks
    share the tensors that are the same in them. With `own` the module itself is taken over: the
    caller made it for this network alone.
    """

    def __init__(
        self, module: nn.Module, input_shape: tuple[int, ...], *, own: bool = False
    ) -> None:
        taken = module if own else copy.deepcopy(module)
        self._module = taken.cpu().float().eval().requires_grad_(False)
        self.input_shape = input_shape

    def module(self) -> nn.Module:
        """A deep copy of the net, eval mode, parameters without gradient."""
        return copy.deepcopy(self._module)

    def parameters(self) -> dict[str, FloatArray]:
        """Read-only views of all parameters, sorted by name."""
        return {name: _view(p) for name, p in sorted(self._module.named_parameters())}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Read-only views of all parameters and buffers, sorted by name."""
        return {name: _view(t) for name, t in sorted(self._module.state_dict().items())}

    def with_parameters(
        self, changed: Mapping[str, FloatArray], *, own: bool = False
    ) -> TorchNetwork:
        """A new network with some tensors replaced; names and shapes must fit.

        With `own` the arrays themselves are taken over where they can be: the caller made them for
        this and keeps none.
        """
        # What deepcopy finds here it takes instead of copying: the new tensor or the old one.
        memo: dict[int, Any] = {}
        tensors = self._tensors()
        assert changed.keys() <= tensors.keys(), changed.keys() - tensors.keys()
        for name, tensor in tensors.items():
            memo[id(tensor)] = tensor
            if name in changed:
                value = changed[name]
                assert tensor.shape == value.shape, (name, tensor.shape, value.shape)
                # In the tensor's own type: a float64 parameter would make the next pass fail.
                array = value if own and value.flags.writeable else np.array(value)
                new = torch.from_numpy(array).to(tensor.dtype)
                parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(new, requires_grad=False) if parameter else new
        module = copy.deepcopy(self._module, memo)
        fresh = TorchNetwork(module, self.input_shape, own=True)
        if "graph" in self.__dict__:  # the structure is the same: spare it another trace
            fresh.__dict__["graph"] = self.graph.with_state(fresh._tensors())
        return fresh

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers themselves."""
        return {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}

    def foreign_parts(self) -> tuple[str, ...]:
        """Names of the modules that have hooks or parametrizations, which no net here may have."""
        return tuple(
            name
            for name, part in self._module.named_modules()
            if hasattr(part, "parametrizations")
            or any(held for key, held in vars(part).items() if key.endswith("_hooks"))
        )

    def layers(self) -> tuple[LayerInfo, ...]:
        """Convolutions and linear layers in the module's order; the last one is the classifier."""
        found = [
            (name, m)
            for name, m in self._module.named_modules()
            if isinstance(m, (nn.Conv2d, nn.Linear))
        ]
        return tuple(_layer_info(n, m, last=m is found[-1][1]) for n, m in found)

    @cached_property
    def graph(self) -> Graph:
        """The canonical graph; traced once, on first use."""
        return trace(self._module, self.input_shape)

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> float32 outputs, in blocks of at most 256 images."""
        with torch.inference_mode():
            parts = [_array(self._module(block)) for block in blocks(batch, BATCH)]
        return np.concatenate(parts)

    def activations(self, batch: FloatArray) -> dict[TensorId, FloatArray]:
        """Every named tensor for `batch`; the caller keeps the batch small."""
        found: dict[TensorId, list[FloatArray]] = {node.id: [] for node in self.graph.nodes}

        def keep(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
            found[tensor].append(_array(value))
            return value

        size = BATCH if self.graph.dynamic_batch else 1
        with torch.inference_mode():
            for block in blocks(batch, size):
                GraphRunner(self.graph, keep).run(block)
        return {tensor: np.concatenate(parts) for tensor, parts in found.items()}


def load_state(
    module: nn.Module,
    state: Mapping[str, NDArray[np.generic]],
    source: str,
    *,
    own: bool = False,
) -> None:
    """Load `state` into `module` strictly; the first difference is one CheckpointError line.

    So is a tensor with NaN or infinity in it: a diverged training must not travel on as a net.
    With `own` the arrays themselves are taken over where they can be: nobody else keeps them.
    """
    check_state(module, state, source)
    # Scalars (num_batches_tracked) keep their shape here; torch copies what it is given.
    tensors = {n: torch.from_numpy(np.require(v, None, ("C", "W"))) for n, v in state.items()}
    if not own:
        module.load_state_dict(tensors, strict=True)
        return
    # Not by load_state_dict's `assign`, which unties parameters that are one and the same.
    for name, tensor in module.state_dict(keep_vars=True).items():
        tensor.data = tensors[name].to(tensor.dtype)


def check_state(module: nn.Module, state: Mapping[str, NDArray[np.generic]], source: str) -> None:
    """What load_state raises, without loading: names, shapes, and values that are no numbers."""
    own = module.state_dict()
    for name in sorted(set(own) | set(state)):
        if name not in state:
            raise CheckpointError(
                f"{source} lacks tensor {name!r}, shape {tuple(own[name].shape)}; give the weights "
                f"of this very net"
            )
        if name not in own:
            raise CheckpointError(
                f"{source} has tensor {name!r}, which the net does not have; give the weights of "
                f"this very net"
            )
        if tuple(own[name].shape) != state[name].shape:
            raise CheckpointError(
                f"{source}: tensor {name!r} has shape {state[name].shape}; "
                f"the net needs {tuple(own[name].shape)}: give the weights of this very net"
            )
        if state[name].dtype.kind not in "biuf" or not all_finite(state[name]):
            raise CheckpointError(
                f"{source}: tensor {name!r} ({state[name].dtype}) holds values that are not finite "
                f"numbers; use weights from before the training diverged"
            )


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), copy=True)


def _view(tensor: torch.Tensor) -> NDArray[np.float32]:
    view: NDArray[np.float32] = tensor.detach().numpy()
    view.flags.writeable = False
    return view


def blocks(batch: FloatArray, size: int) -> Iterator[torch.Tensor]:
    """Copies of at most `size` images each (at least one block): a net may work in place."""
    for start in range(0, max(1, len(batch)), size):
        yield torch.from_numpy(np.array(batch[start : start + size], np.float32, order="C"))


def _layer_info(name: str, layer: nn.Conv2d | nn.Linear, *, last: bool) -> LayerInfo:
    role: Role = "linear"
    groups = 1
    if isinstance(layer, nn.Conv2d):
        groups = layer.groups
        pointwise = layer.kernel_size == (1, 1) and groups == 1
        depthwise = groups > 1 and groups == layer.in_channels
        role = "depthwise" if depthwise else "pointwise" if pointwise else "conv"
    return LayerInfo(
        name=name,
        role="classifier" if last else role,
        weight=f"{name}.weight",
        bias=None if layer.bias is None else f"{name}.bias",
        axis=0,
        groups=groups,
        shape=tuple(layer.weight.shape),
    )

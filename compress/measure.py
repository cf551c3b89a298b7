"""Parameters, non-zeros and multiply-accumulates (MACs) of a net, and what was not counted.

One forward pass with the specification's input shapes. Conv2d and Linear modules are counted by
hooks; every other operator that runs is listed as uncounted, so that no operation is lost
silently. One multiply-accumulate is one MAC, as in the papers' tables (MobileNetV2: 300 M);
bias additions are not counted. Structure only: a zero weight still costs its MAC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compress.spec import ModelSpec

# Operators that only rename or reorder memory, compute nothing and need no mention.
_MOVES_ONLY = frozenset(
    {
        *("alias", "clone", "detach", "empty", "expand"),
        *("cat", "chunk", "constant_pad_nd", "select", "slice", "split", "split_with_sizes"),
        *("permute", "t", "transpose"),
        *("reshape", "_reshape_alias", "squeeze", "unsqueeze", "view", "_unsafe_view"),
    }
)
_REASONS = {
    "native_batch_norm": "folds into the convolution before it",
    "_native_batch_norm_legit_no_training": "folds into the convolution before it",
    "cudnn_batch_norm": "folds into the convolution before it",
    "max_pool2d_with_indices": "comparisons only",
    "max_pool2d": "comparisons only",
    "relu": "comparisons only",
    "hardtanh": "comparisons only",
    "clamp": "comparisons only",
    "add": "additions only",
    "mean": "additions only",
    "_adaptive_avg_pool2d": "additions only",
    "avg_pool2d": "additions only",
}
_HEAVY = frozenset({"convolution", "addmm", "mm", "bmm", "baddbmm", "matmul"})


@dataclass(frozen=True)
class LayerCount:
    """One module that owns parameters; `macs` is 0 for those that are not Conv2d or Linear.

    `output_shape` is that of its last call, () if the net did not call it.
    """

    name: str
    kind: str
    macs: int
    parameters: int
    nonzeros: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Counted:
    """Sums over a net and their parts; `uncounted` has a line for each operator left out."""

    macs: int
    parameters: int
    nonzeros: int
    layers: tuple[LayerCount, ...]
    uncounted: tuple[str, ...]

    @property
    def sparsity(self) -> float:
        """Fraction of the parameters that are zero, in [0, 1]; 0 for a net without parameters."""
        return 1.0 - self.nonzeros / self.parameters if self.parameters else 0.0


def count(spec: ModelSpec, module: nn.Module) -> Counted:
    """Count `module`, run once in eval mode on zeros of the shapes of `spec.inputs`.

    The MACs are of that input, whose batch size is usually 1. The module comes back in the mode
    it had. Shared parameters are counted once, where the first module in order has them.
    """
    calls, operators = _observe(spec, module)
    seen: set[int] = set()
    layers: list[LayerCount] = []
    for name, layer in _named_modules(module):
        own = [p for p in layer.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in own)
        macs, shape = calls.get(name, (0, ()))
        if own or macs:
            parameters = sum(p.numel() for p in own)
            nonzeros = sum(int(torch.count_nonzero(p)) for p in own)
            kind = type(layer).__name__
            layers.append(LayerCount(name, kind, macs, parameters, nonzeros, shape))
    return Counted(
        macs=sum(layer.macs for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
        nonzeros=sum(layer.nonzeros for layer in layers),
        layers=tuple(layers),
        uncounted=tuple(_describe(name, times) for name, times in sorted(operators.items())),
    )


_Calls = dict[str, tuple[int, tuple[int, ...]]]


class _Operators(TorchDispatchMode):
    """Counts the operators that run while no hooked layer is inside its own forward."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.found: Counter[str] = Counter()
        self.inside_layer = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = str(func.overloadpacket.__name__).removesuffix("_")
        if not self.inside_layer and name not in _MOVES_ONLY:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def _observe(spec: ModelSpec, module: nn.Module) -> tuple[_Calls, Counter[str]]:
    """Run the net once; MACs and output shape by module name, other operators by name."""
    calls: _Calls = {}
    operators = _Operators()

    def before(_layer: nn.Module, _inputs: Any) -> None:
        operators.inside_layer += 1

    def after(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            operators.inside_layer -= 1
            macs, _ = calls.get(name, (0, ()))
            calls[name] = (macs + _layer_macs(layer, output), tuple(output.shape))

        return hook

    with ExitStack() as hooks, _eval_mode(module), torch.no_grad():
        for name, layer in _named_modules(module):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                hooks.callback(layer.register_forward_pre_hook(before).remove)
                hooks.callback(layer.register_forward_hook(after(name)).remove)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        zeros = [
            torch.zeros(t.shape, dtype=getattr(torch, t.dtype), device=device) for t in spec.inputs
        ]
        with operators:
            module(*zeros)
    return calls, operators.found


def _named_modules(module: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """`module.named_modules()`, whose own annotation leaves the types open."""
    return cast("Iterable[tuple[str, nn.Module]]", module.named_modules())


def _layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Output elements x weights that each of them sums over."""
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        return output.numel() * (layer.in_channels // layer.groups) * height * width
    assert isinstance(layer, nn.Linear)
    return output.numel() * layer.in_features


def _describe(operator: str, times: int) -> str:
    if operator in _HEAVY:
        reason = "multiplies outside Conv2d and Linear modules: the sum of MACs is too low"
    else:
        reason = _REASONS.get(operator, "not a convolution or fully connected layer")
    return f"{operator} x {times}: {reason}"


@contextmanager
def _eval_mode(module: nn.Module) -> Generator[None]:
    """Eval mode within, each submodule's own mode afterwards."""
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode

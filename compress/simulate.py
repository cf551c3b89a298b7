"""simulate(candidate): the quantized candidate's own arithmetic, defined here for both formats.

Each tensor with a grid is rounded to it, half to even. A convolution or linear layer whose input
and weight lie on integer grids is computed on the integers: exact int32 accumulation (in float64,
which holds it exactly) of (q_x - zero_point) * q_w plus an int32 bias of scale s_x * s_w, then one
multiplication by s_x * s_w (Jacob et al. 2018, arXiv:1712.05877, section 2.2). Everything else is
float32 on grid values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from compress.candidate import ActivationQuant, Candidate
from compress.encoding import Encoded
from compress.graph import TensorId, TensorNode
from compress.graph_runner import GraphRunner
from compress.network import BATCH, blocks

FloatArray = NDArray[np.float32]
Visit = Callable[[TensorId, torch.Tensor], torch.Tensor]


def int32_bias(bias: FloatArray, input_scale: float, weight_scale: FloatArray) -> NDArray[np.int32]:
    """round(bias / (s_x * s_w)) per channel, half to even, held inside int32."""
    scale = np.float64(input_scale) * weight_scale.astype(np.float64)
    limits = np.iinfo(np.int32)
    safe = np.where(scale == 0, 1.0, scale)
    return np.clip(np.rint(bias / safe), limits.min, limits.max).astype(np.int32)


def on_grid(value: torch.Tensor, grid: ActivationQuant) -> torch.Tensor:
    """The nearest grid value of each element, half to even, clipped to the grid's range."""
    scale = float(np.float32(grid.scale))
    top = (1 << grid.bits) - 1
    # Divided in float32, as the runtimes' QuantizeLinear does: the same ties.
    codes = torch.round(value.float() / scale) + grid.zero_point
    return (codes.clamp(0, top) - grid.zero_point) * scale


@dataclass(frozen=True, eq=False)
class Simulation:
    """A quantized candidate as a function of pictures."""

    candidate: Candidate

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> float32 outputs."""
        output = self.candidate.network.graph.outputs[0]
        return np.concatenate([block[output] for block in self._blocks(batch, {output})])

    def activations(self, batch: FloatArray) -> dict[TensorId, FloatArray]:
        """Every named tensor; those with a grid lie on it."""
        parts = list(self._blocks(batch, None))
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _blocks(
        self, batch: FloatArray, wanted: set[TensorId] | None
    ) -> Iterator[dict[TensorId, FloatArray]]:
        graph = self.candidate.network.graph
        for block in blocks(batch, BATCH if graph.dynamic_batch else 1):
            kept: dict[TensorId, FloatArray] = {}

            def visit(
                tensor: TensorId, value: torch.Tensor, kept: dict[TensorId, FloatArray] = kept
            ) -> torch.Tensor:
                if wanted is None or tensor in wanted:
                    kept[tensor] = value.float().numpy().copy()
                return value

            self._run(block, visit)
            yield kept

    def walk(
        self, batch: FloatArray, visit: Callable[[TensorId, FloatArray], FloatArray | None]
    ) -> None:
        """Show `visit` every tensor in order, as `activations` gives it.

        What it returns (None: the tensor itself) is what later operators read: so an operator can
        be judged on inputs that come from elsewhere. A net of fixed batch takes one picture.
        """

        def show(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
            other = visit(tensor, value.float().numpy().copy())
            return value if other is None else torch.from_numpy(other)

        (whole,) = blocks(batch, max(1, len(batch)))
        self._run(whole, show)

    def run(self, block: torch.Tensor, change: Visit) -> None:
        """The program on one block; what `change` makes of each tensor is put on its grid.

        It sees them in order, before they are rounded.
        """
        self._run(block, lambda _, value: value, change)

    def _run(self, block: torch.Tensor, visit: Visit, change: Visit | None = None) -> None:
        """`change` sees each tensor before, `visit` after it is put on its grid."""

        def place(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
            value = value if change is None else change(tensor, value)
            grid = self.candidate.activations.get(tensor)
            return visit(tensor, value if grid is None else on_grid(value, grid))

        with torch.inference_mode():
            GraphRunner(self.candidate.network.graph, place, self._compute).run(block)

    def _compute(self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """The integer form of a convolution or linear layer; None where it runs in float."""
        known = self.candidate.network.graph.by_id.get(tensor)
        if known is None or "weight" not in known.parameters:
            return None
        weight = integer_weight(self.candidate, known)
        grid = self.candidate.activations.get(known.inputs[0])
        if weight is None or grid is None:
            return None
        return _integer_layer(node, args, weight, grid)


def integer_weight(candidate: Candidate, node: TensorNode) -> Encoded | None:
    """The node's weight where it is on an integer grid with output-channel (or one) scale."""
    encoding = candidate.encodings.get(node.parameters.get("weight", ""))
    if isinstance(encoding, Encoded) and encoding.on_integers and encoding.axis in (None, 0):
        return encoding
    return None


def _integer_layer(
    node: fx.Node, args: tuple[Any, ...], weight: Encoded, grid: ActivationQuant
) -> torch.Tensor:
    value, _, *rest = args
    scale_x = float(np.float32(grid.scale))
    codes = torch.round(value / scale_x).double()
    integers = torch.from_numpy(weight.integers().astype(np.float64))
    scale_w = np.broadcast_to(weight.scale, (weight.shape[0],))
    bias = rest[0] if rest else None
    if bias is not None:
        steps = int32_bias(bias.numpy(), scale_x, scale_w)
        rest = [torch.from_numpy(steps.astype(np.float64)), *rest[1:]]
    total: torch.Tensor = node.target(codes, integers, *rest)  # type: ignore[operator]
    channels = torch.from_numpy(scale_x * scale_w.astype(np.float64))
    # Of a linear layer channels come last, however many axes there are.
    shape = (1, -1, 1, 1) if integers.dim() == 4 else (-1,)
    return (total * channels.reshape(shape)).float()


def simulate(candidate: Candidate) -> Simulation:
    """The candidate's integer arithmetic; exporters' files are compared with it."""
    return Simulation(candidate)

"""Second moments of each layer over calibration pictures: what an error of its weights costs.

For a small error E of a layer's weight (outputs x inputs) the divergence of the net's answers from
what they were is about half of tr(G E A E^T): A sums x x^T over the layer's inputs x, G is the mean
of g g^T over the gradients g at its outputs (Martens and Grosse 2015, arXiv:1503.05671, section 3;
for convolutions Grosse and Martens 2016, arXiv:1602.01407). The answers are taken as logits; no
label is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from compress.columns import columns
from compress.network import LayerInfo, TorchNetwork, blocks
from compress.task import Batch

Floats = NDArray[np.float64]
# Few pictures at a time: every layer's inputs and gradients are alive at once.
BLOCK = 8


@dataclass(frozen=True, eq=False)
class Moments:
    """One layer's second moments; g groups of m outputs and n inputs (a window's, in a conv).

    positions: outputs of a channel in a picture. means: (g, n), the mean input.
    inputs: (g, n, n), the sum of x x^T over a picture's positions, in the mean over pictures.
    outputs: (g, m, m), scaled so that in each group tr(inputs) * tr(outputs) is the mean
    square of the weight's gradient: positions pull together, which a product would not see.
    """

    positions: float
    means: Floats
    inputs: Floats
    outputs: Floats


def layer_moments(
    network: TorchNetwork, layers: Sequence[LayerInfo], batches: Iterable[Batch], seed: int
) -> dict[str, Moments]:
    """The moments of each of `layers` by name; those that the net never uses are absent.

    batches: float32 (N, C, H, W), as Calibrator takes them. The same seed gives the same.
    """
    model = network.module()
    sums = {la.name: _Sums(model.get_submodule(la.name), la.groups) for la in layers}
    generator = torch.Generator().manual_seed(seed)
    pictures = 0
    # A net traced for one picture may take no more.
    size = BLOCK if network.graph.dynamic_batch else 1
    with _watched(sums.values()), torch.enable_grad():
        for batch in batches:
            for block in blocks(batch, size):
                pull(model(block), generator)
                pictures += len(block)
                for one in sums.values():
                    one.take()
    return {name: one.moments(pictures) for name, one in sums.items() if one.positions}


def pull(answers: torch.Tensor, generator: torch.Generator) -> None:
    """One backward pass from random gradients of the answers, of the divergence's own covariance.

    That is diag(p) - p p^T for probabilities p; labels drawn from p have it, too, but a net that
    is sure of itself would almost never draw another.
    """
    answers = answers.flatten(1)
    roots = F.softmax(answers.detach(), dim=1).sqrt()
    noise = torch.randn(roots.shape, generator=generator)
    noise -= roots * (roots * noise).sum(dim=1, keepdim=True)
    torch.autograd.backward(answers, roots * noise)


@contextmanager
def _watched(sums: Collection[_Sums]) -> Generator[None]:
    handles = [one.layer.register_forward_hook(one.see) for one in sums]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Sums:
    """Adds up one layer's moments; `calls` are the inputs and outputs of the pass under way."""

    layer: nn.Module
    groups: int
    calls: list[tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=list[tuple[torch.Tensor, torch.Tensor]]
    )
    inputs: Any = 0.0
    means: Any = 0.0
    outputs: Any = 0.0
    squares: Any = 0.0
    positions: int = 0

    def see(
        self, layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        """A forward hook: the output goes on as a copy, which later layers may overwrite."""
        del layer
        output = output if output.requires_grad else output.detach().requires_grad_(True)
        output.retain_grad()
        self.calls.append((given[0].detach(), output))
        return output.clone()

    def take(self) -> None:
        """Add what the last pass showed."""
        for given, output in self.calls:
            if output.grad is not None:
                self._add(columns(self.layer, given), output.grad)
        self.calls.clear()

    def _add(self, seen: torch.Tensor, gradient: torch.Tensor) -> None:
        """seen: (pictures, g, n, positions)."""
        pull = gradient.reshape(len(seen), self.groups, -1, gradient[0, 0].numel())
        if isinstance(self.layer, nn.Linear):  # features come last there
            pull = gradient.reshape(len(seen), 1, -1, gradient.shape[-1]).transpose(2, 3)
        flat, back = (v.permute(1, 2, 0, 3).flatten(2) for v in (seen, pull))
        self.inputs = self.inputs + (flat @ flat.transpose(1, 2)).double().numpy()
        self.outputs = self.outputs + (back @ back.transpose(1, 2)).double().numpy()
        self.means = self.means + flat.sum(2).double().numpy()
        self.squares = (
            self.squares + (pull @ seen.transpose(2, 3)).square().sum((0, 2, 3)).double().numpy()
        )
        self.positions += flat.shape[2]

    def moments(self, pictures: int) -> Moments:
        inputs = cast("Floats", self.inputs / pictures)
        outputs = cast("Floats", self.outputs / self.positions)
        traces = np.trace(inputs, axis1=1, axis2=2) * np.trace(outputs, axis1=1, axis2=2)
        scale = self.squares / pictures / np.where(traces > 0, traces, 1.0)
        means = cast("Floats", self.means / self.positions)
        return Moments(self.positions / pictures, means, inputs, outputs * scale[:, None, None])

"""FactorizeSVD: a linear layer or 1 x 1 convolution becomes two thinner ones.

Denton et al. 2014 (arXiv:1404.0736), section 3: the layer's (outputs, inputs) matrix by its
truncated singular value decomposition. The bias goes with the second layer, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate, Skipped
from compress.edit import Factorized
from compress.errors import RangeError
from compress.lowrank import rank_for_energy, truncate, worthwhile_rank
from compress.network import LayerInfo
from compress.stage import StageResult, refuse_encoded
from compress.stages.layers import check_patterns, choose, rebuilt
from compress.task import Task


@dataclass(frozen=True)
class FactorizeSVD:
    """Factorize layers at a fixed `rank`, or at the least rank that keeps `energy`.

    rank: 1 and more; energy: the fraction of the sum of squared singular values, in (0, 1];
    exactly one of them. Layers where two would not have fewer parameters than one are skipped,
    unless `even_if_larger`, which also caps the rank at the layer's full one.
    """

    rank: int | None = None
    energy: float | None = None
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    even_if_larger: bool = False
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.energy is None):
            raise RangeError(
                f"FactorizeSVD(rank={self.rank}, energy={self.energy}): give exactly one of them"
            )
        if self.rank is not None and (type(self.rank) is not int or self.rank < 1):
            raise RangeError(f"FactorizeSVD(rank={self.rank!r}): allowed are whole numbers from 1")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise RangeError(f"FactorizeSVD(energy={self.energy!r}): allowed is above 0, up to 1")
        check_patterns("FactorizeSVD", include=self.include, exclude=self.exclude)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        refuse_encoded(self, candidate)
        layers, skipped = choose(candidate, self.include, self.exclude)
        module = candidate.network.module()
        state: dict[str, NDArray[np.generic]] = dict(candidate.network.state())
        edits: list[Factorized] = []
        for layer in layers:
            rank = self._rank(layer, module.get_submodule(layer.name), state[layer.weight])
            if isinstance(rank, str):
                skipped.append(Skipped(layer.name, rank))
            else:
                edits.append(Factorized(layer.name, rank))
                _split(state, layer, rank)
        if edits:
            candidate = rebuilt(candidate, edits, state, {})
        return StageResult(candidate, tuple(e.layer for e in edits), tuple(skipped))

    def _rank(self, layer: LayerInfo, module: nn.Module, weight: NDArray[Any]) -> int | str:
        """The rank to use, or why the layer is left alone."""
        if isinstance(module, nn.Conv2d):
            if module.kernel_size != (1, 1) or module.groups != 1:
                return "neither linear nor an ungrouped 1 x 1 convolution"
            if module.padding not in ((0, 0), "valid"):
                return "a 1 x 1 convolution with padding"
        outputs, inputs = layer.shape[:2]
        matrix = weight.reshape(outputs, inputs)
        rank = self.rank
        if rank is None:
            assert self.energy is not None
            rank = rank_for_energy(matrix, self.energy)
        if self.even_if_larger:
            return min(rank, outputs, inputs)
        limit = worthwhile_rank(outputs, inputs)
        if rank > limit:
            return f"rank {rank} saves nothing at {outputs} x {inputs}: at most {limit} does"
        return rank


def _split(state: dict[str, NDArray[np.generic]], layer: LayerInfo, rank: int) -> None:
    """Replace the layer's tensors in `state` by those of the two layers."""
    weight = state.pop(layer.weight).astype(np.float32)
    outputs, inputs = weight.shape[:2]
    factors = truncate(weight.reshape(outputs, inputs), rank)
    kernel = weight.shape[2:]
    state[f"{layer.name}.0.weight"] = factors.right.reshape(rank, inputs, *kernel)
    state[f"{layer.name}.1.weight"] = factors.left.reshape(outputs, rank, *kernel)
    if layer.bias is not None:
        state[f"{layer.name}.1.bias"] = state.pop(layer.bias)

"""PruneMagnitude: the smallest weights become exact zeros.

Han et al. 2015 (arXiv:1506.02626), section 3: unstructured magnitude pruning. Weights of
convolutions and linear layers only; biases and norms stay. Zeros never come back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.encoding import Encoded, Encoding, Masked
from compress.errors import RangeError
from compress.stage import StageResult
from compress.stages.layers import check_pairs, check_patterns, choose, numbers, settings_by_layer
from compress.task import Task

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PruneMagnitude:
    """Zero the floor(sparsity * n) smallest of n weights, in each layer or over all of them.

    sparsity: fraction of zeros in [0, 1), or (pattern, sparsity) pairs by layer name or role, of
    which the first that fits counts. scope "global" ranks the weights of all chosen layers
    together, for one sparsity. Weights that are zero already count; equal ones go by position.
    """

    sparsity: float | tuple[tuple[str, float], ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    scope: Literal["layer", "global"] = "layer"
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("PruneMagnitude", include=self.include, exclude=self.exclude)
        if not isinstance(self.sparsity, (int, float)):
            check_pairs("PruneMagnitude", "sparsity", self.sparsity)
        for value in numbers(self.sparsity):
            if not (isinstance(value, (int, float)) and 0 <= value < 1):  # NaN fails here too
                raise RangeError(
                    f"PruneMagnitude(sparsity={value!r}): allowed is the fraction of zeros, "
                    "from 0 up to but not 1"
                )
        if self.scope not in ("layer", "global"):
            raise RangeError(f"PruneMagnitude(scope={self.scope!r}): allowed are 'layer', 'global'")
        if self.scope == "global" and isinstance(self.sparsity, tuple):
            raise RangeError(
                "PruneMagnitude(scope='global') with a sparsity by layer: give one number, "
                "or scope='layer'"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        layers, skipped = choose(candidate, self.include, self.exclude)
        wanted = settings_by_layer(layers, self.sparsity)
        own = candidate.network.parameters()
        weights = {la.name: own[la.weight] for la in layers if wanted.get(la.name, 0) > 0}
        for layer in layers:
            if layer.name not in weights:
                given = "sparsity 0" if layer.name in wanted else "no sparsity is given for it"
                skipped.append(Skipped(layer.name, given))
        if self.scope == "global":
            pruned = _globally(weights, next(iter(wanted.values()), 0))
        else:
            pruned = {name: smallest(w, wanted[name]) for name, w in weights.items()}
        encodings = {
            layer.weight: _pruned(candidate.encodings.get(layer.weight), pruned[layer.name])
            for layer in layers
            if layer.name in pruned
        }
        return StageResult(candidate.with_values({}, encodings), tuple(pruned), tuple(skipped))


def smallest(weight: NDArray[np.float32], sparsity: float) -> Bools:
    """True for the floor(sparsity * n) smallest magnitudes and for every zero.

    Of equal magnitudes at the border those that come first in memory are taken.
    """
    # By the decimal that the user wrote: 0.29 of 100 weights is 29, which the product is not.
    count = int(Fraction(str(sparsity)) * weight.size)
    magnitude = np.abs(weight).reshape(-1)
    taken = magnitude == 0
    if count > np.count_nonzero(taken):
        border = np.partition(magnitude, count - 1)[count - 1]
        taken = magnitude < border
        level = np.flatnonzero(magnitude == border)
        taken[level[: count - np.count_nonzero(taken)]] = True
    return taken.reshape(weight.shape)


def _globally(weights: dict[str, NDArray[np.float32]], sparsity: float) -> dict[str, Bools]:
    if not weights:
        return {}
    taken = smallest(np.concatenate([w.reshape(-1) for w in weights.values()]), sparsity)
    borders = np.cumsum([w.size for w in weights.values()])[:-1]
    parts = zip(weights.items(), np.split(taken, borders), strict=True)
    return {name: part.reshape(weight.shape) for (name, weight), part in parts}


def _pruned(encoding: Encoding | None, pruned: Bools) -> Encoding:
    """The encoding after pruning: a mask, or code 0 in the codebook that there is."""
    if isinstance(encoding, Encoded):
        return replace(encoding, indices=np.where(pruned, 0, encoding.indices))
    return Masked(~pruned)

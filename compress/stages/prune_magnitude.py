"""PruneMagnitude: the smallest weights become exact zeros.

Han et al. 2015 (arXiv:1506.02626), section 3: unstructured magnitude pruning. Weights of
convolutions and linear layers only; biases and norms stay. Zeros never come back. In rounds, with
training between them: see schedules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.encoding import Encoded, Encoding, Masked
from compress.errors import RangeError
from compress.network import LayerInfo
from compress.ranking import smallest_magnitude
from compress.stage import StageResult
from compress.stages.layers import check_pairs, check_patterns, choose, numbers, settings_by_layer
from compress.task import Task

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PruneMagnitude:
    """Zero the floor(sparsity * n) smallest of n weights, in each layer or over all of them.

    sparsity: fraction of zeros in [0, 1), or (pattern, sparsity) pairs by layer name or role, of
    which the first that fits counts. scope "global" ranks the weights of all chosen layers
    together, for one sparsity, by magnitude; "lamp" too, by the square of a weight over the sum of
    those squares in its layer that are not smaller (Lee et al. 2021, arXiv:2010.07611), so that
    each layer gets its own sparsity and none loses its largest weight. Weights that are zero
    already count; equal ones go by position.
    """

    sparsity: float | tuple[tuple[str, float], ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    scope: Literal["layer", "global", "lamp"] = "layer"
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
        if self.scope not in ("layer", "global", "lamp"):
            raise RangeError(
                f"PruneMagnitude(scope={self.scope!r}): allowed are 'layer', 'global', 'lamp'"
            )
        if self.scope != "layer" and isinstance(self.sparsity, tuple):
            raise RangeError(
                f"PruneMagnitude(scope={self.scope!r}) with a sparsity by layer: give one number, "
                "or scope='layer'"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        layers, wanted, skipped = self.layers_of(candidate)
        own = candidate.network.parameters()
        weights = {la.name: own[la.weight] for la in layers if wanted.get(la.name, 0) > 0}
        pruned = self.choice(weights, wanted)
        encodings = {
            layer.weight: _pruned(candidate.encodings.get(layer.weight), pruned[layer.name])
            for layer in layers
            if layer.name in pruned
        }
        return StageResult(candidate.with_values({}, encodings), tuple(pruned), tuple(skipped))

    def layers_of(
        self, candidate: Candidate
    ) -> tuple[tuple[LayerInfo, ...], dict[str, float], list[Skipped]]:
        """The chosen layers, the sparsity of each by name, and the layers left alone."""
        layers, skipped = choose(candidate, self.include, self.exclude)
        wanted = settings_by_layer(layers, self.sparsity)
        for layer in layers:
            if not wanted.get(layer.name, 0) > 0:
                given = "sparsity 0" if layer.name in wanted else "no sparsity is given for it"
                skipped.append(Skipped(layer.name, given))
        return layers, wanted, skipped

    def choice(
        self, weights: Mapping[str, NDArray[np.float32]], wanted: Mapping[str, float]
    ) -> dict[str, Bools]:
        """True where a weight goes, for each layer of `weights`, at its `wanted` sparsity."""
        if self.scope == "layer":
            return {name: smallest(w, wanted[name]) for name, w in weights.items()}
        ranks = {n: lamp_scores(w) if self.scope == "lamp" else w for n, w in weights.items()}
        return _together(ranks, next(iter(wanted.values()), 0))


def smallest(weight: NDArray[np.floating], sparsity: float) -> Bools:
    """True for the floor(sparsity * n) smallest magnitudes and for every zero.

    Of equal magnitudes at the border those that come first in memory are taken.
    """
    # By the decimal that the user wrote: 0.29 of 100 weights is 29, which the product is not.
    count = int(Fraction(str(sparsity)) * weight.size)
    flat = weight.reshape(-1)
    taken = flat == 0
    if count > np.count_nonzero(taken):
        border = smallest_magnitude(flat, count - 1)
        # Not by np.abs, which takes the memory of all weights once more.
        taken = flat < border
        taken &= flat > -border
        level = np.flatnonzero((flat == border) | (flat == -border))
        taken[level[: count - np.count_nonzero(taken)]] = True
    return taken.reshape(weight.shape)


def lamp_scores(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """w**2 over the sum of the squares that are not smaller, in [0, 1]; equal ones by position.

    Lee et al. 2021, eq. 6. Zero exactly where the weight is.
    """
    square = np.square(weight.reshape(-1), dtype=np.float64)
    order = np.argsort(square, kind="stable")
    ranked = square[order]
    above = np.cumsum(ranked[::-1])[::-1]
    scores = np.empty_like(square)
    scores[order] = np.divide(ranked, above, out=np.zeros_like(ranked), where=ranked > 0)
    return scores.reshape(weight.shape)


def _together(ranks: Mapping[str, NDArray[np.floating]], sparsity: float) -> dict[str, Bools]:
    """The smallest of all layers' numbers together."""
    if not ranks:
        return {}
    taken = smallest(np.concatenate([r.reshape(-1) for r in ranks.values()]), sparsity)
    borders = np.cumsum([r.size for r in ranks.values()])[:-1]
    parts = zip(ranks.items(), np.split(taken, borders), strict=True)
    return {name: part.reshape(rank.shape) for (name, rank), part in parts}


def _pruned(encoding: Encoding | None, pruned: Bools) -> Encoding:
    """The encoding after pruning: a mask, or code 0 in the codebook that there is."""
    if isinstance(encoding, Encoded):
        return replace(encoding, indices=np.where(pruned, 0, encoding.indices))
    return Masked(~pruned)

"""The forms a layer can take by its splits, each with its error; and the weights of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.factoring.channel import ChannelFactors, plain
from compress.factoring.measure import Factors, Floats, Measure, balanced
from compress.factoring.spatial import SpatialFactors
from compress.factoring.tucker import TuckerFactors


@dataclass(frozen=True)
class Form:
    """One way to split a layer; rank_in is 0 but for "tucker"."""

    split: str
    rank: int
    rank_in: int = 0


@dataclass(frozen=True, eq=False)
class Forms:
    """Forms of one layer, k of them. ranks: (k, 2); errors: (k,), as the measure has them."""

    splits: tuple[str, ...]
    ranks: NDArray[np.int64]
    errors: Floats

    def at(self, number: int) -> Form:
        rank, rank_in = self.ranks[number].tolist()
        return Form(self.splits[number], rank, rank_in)

    def only(self, kept: NDArray[np.bool_]) -> Forms:
        splits = tuple(s for s, keep in zip(self.splits, kept.tolist(), strict=True) if keep)
        return Forms(splits, self.ranks[kept], self.errors[kept])

    def whole(self) -> NDArray[np.bool_]:
        """The forms of full rank."""
        names = np.array(self.splits)
        found = np.zeros(len(names), np.bool_)
        for split in sorted(set(self.splits)):
            which = names == split
            found |= which & (self.ranks == self.ranks[which].max(axis=0)).all(axis=1)
        return found


def forms_of(
    weight: Floats, measure: Measure, splits: Sequence[str], inner: NDArray[np.int64] | None = None
) -> Forms:
    """All forms of a weight (m, c, ...) by `splits`.

    inner: the rank_in that a Tucker-2 may have; by default sixteen from few to all.
    """
    every = [(split, _factors(split, weight, measure, inner)) for split in splits]
    names = tuple(split for split, found in every for _ in found.errors)
    ranks = np.concatenate([found.ranks for _, found in every])
    return Forms(names, ranks, np.concatenate([found.errors for _, found in every]))


def weights_of(weight: Floats, measure: Measure, form: Form) -> list[NDArray[np.float32]]:
    """The thin layers' weights in the order in which they act."""
    if form.split == "channel" and measure.inputs is None and measure.outputs is None:
        return balanced(plain(weight, form.rank))
    inner = np.array([max(1, form.rank_in)], np.int64)
    found = _factors(form.split, weight, measure, inner)
    return balanced(found.at(form.rank, form.rank_in))


def product(form: Form, factors: Sequence[NDArray[np.float32]]) -> Floats:
    """The weight that the thin layers stand for, (m, c, ...)."""
    wide = [factor.astype(np.float64) for factor in factors]
    if form.split == "spatial":
        return np.einsum("rci,orj->ocij", wide[0][..., 0], wide[1][:, :, 0]).astype(np.float64)
    if form.split == "tucker":
        inner = np.einsum("opij,pc->ocij", wide[1], wide[0][:, :, 0, 0])
        return np.tensordot(wide[2][:, :, 0, 0], inner, (1, 0)).astype(np.float64)
    last = wide[1].reshape(wide[1].shape[:2])
    return np.tensordot(last, wide[0], (1, 0)).astype(np.float64)


def _factors(
    split: str, weight: Floats, measure: Measure, inner: NDArray[np.int64] | None
) -> Factors:
    if split == "channel":
        return ChannelFactors(weight, measure)
    if split == "spatial":
        return SpatialFactors(weight, measure)
    assert split == "tucker", split
    return TuckerFactors(weight, measure, inner)

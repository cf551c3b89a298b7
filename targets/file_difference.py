"""What two files of one net differ by: in their answers, tensor by tensor, and in their grids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from compress.answer_loss import AnswerLoss, Noise
from compress.errors import EquivalenceError
from targets.file_grids import FileGrid, FileGrids
from targets.pairing import pair_tensors

FloatArray = NDArray[np.float32]
NamedScales = tuple[str, FloatArray]
# Rounding to a grid errs by 0.29 steps in the root mean square; of float files the order of sums
# differs.
_STEPS = 0.5
_FLOAT = 1e-4
# What counts as the SQNR of equal tensors: float32's last digit.
_EQUAL_DB = 150.0


@dataclass(frozen=True)
class AnswerDifference:
    """Of two files' first outputs on `samples` pictures.

    sqnr_db: None where nothing differs. max_difference: in the outputs' own unit. top1_agreement:
    fraction of pictures with the same first class. kl: nats a picture, from the first file's
    softmax.
    """

    samples: int
    sqnr_db: float | None
    max_difference: float
    top1_agreement: float
    kl: float

    @property
    def same(self) -> bool:
        """True where not a bit differs."""
        return self.max_difference == 0


@dataclass(frozen=True)
class TensorDifference:
    """One tensor that both files have.

    sqnr_db: None where nothing differs. unit: the step of the coarser of the grids that lie on it;
    None where neither file has one. rms and largest difference are in such steps, else fractions
    of the tensor's largest magnitude. same_grid: None where fewer than two have one.
    """

    name: str
    other: str
    shape: tuple[int, ...]
    sqnr_db: float | None
    unit: float | None
    rms: float
    largest: float
    same_grid: bool | None

    @property
    def parts(self) -> bool:
        """True where more differs than one rounding to a grid, or another order of sums, makes."""
        return self.rms > (_FLOAT if self.unit is None else _STEPS)


@dataclass(frozen=True)
class GridDifference:
    """A tensor or weight whose grids differ, in words."""

    name: str
    other: str
    what: str


@dataclass(frozen=True)
class GridComparison:
    """Grids of tensors and weights that both files have: how many, and those that differ.

    weights: None where the files' layers with integer weights cannot be told apart.
    """

    tensors: int
    weights: int | None
    differences: tuple[GridDifference, ...]


def answer_difference(ours: FloatArray, theirs: FloatArray) -> AnswerDifference:
    """(N, ...) outputs of both files. EquivalenceError where their numbers differ."""
    ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    if ours.shape != theirs.shape:
        raise EquivalenceError(
            f"the files put out {ours.shape[1]} and {theirs.shape[1]} numbers a picture; compare "
            f"two files of one net"
        )
    loss = AnswerLoss()
    loss.add(ours, theirs)
    return AnswerDifference(
        samples=len(ours),
        sqnr_db=loss.sqnr_db,
        max_difference=float(np.abs(ours - theirs).max()),
        top1_agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        kl=loss.divergence,
    )


def tensor_differences(
    ours: tuple[Mapping[str, FloatArray], FileGrids],
    theirs: tuple[Mapping[str, FloatArray], FileGrids],
) -> tuple[TensorDifference, ...]:
    """Every tensor that both have, in order, from both files' tensors for the same pictures."""
    (mine, own), (others, other_grids) = ours, theirs
    found: list[TensorDifference] = []
    for name, other, values in pair_tensors(mine, others):
        grids = [
            grid
            for grid in (own.activations.get(name), other_grids.activations.get(other))
            if grid is not None
        ]
        noise = Noise()
        noise.add(mine[name], values)
        difference = np.abs(mine[name] - values)
        step = max((grid.scale for grid in grids), default=None)
        unit = step or float(np.abs(mine[name]).max()) or 1.0
        found.append(
            TensorDifference(
                name=name,
                other=other,
                shape=mine[name].shape[1:],
                sqnr_db=noise.sqnr_db,
                unit=step,
                rms=float(np.sqrt(noise.noise / difference.size)) / unit,
                largest=float(difference.max()) / unit,
                same_grid=_same(*grids) if len(grids) == 2 else None,
            )
        )
    return tuple(found)


def first_parting(found: Sequence[TensorDifference]) -> TensorDifference | None:
    """The first tensor that parts; None where none does."""
    return next((one for one in found if one.parts), None)


def largest_fall(
    found: Sequence[TensorDifference],
) -> tuple[TensorDifference, TensorDifference] | None:
    """Two tensors, one behind the other, between which the SQNR falls most; None without any.

    The second is one that parts: that a first rounding follows no rounding means nothing.
    """
    pairs = [(a, b) for a, b in pairwise(found) if b.parts and _level(a) > _level(b)]
    return max(pairs, key=lambda pair: _level(pair[0]) - _level(pair[1]), default=None)


def _level(one: TensorDifference) -> float:
    return _EQUAL_DB if one.sqnr_db is None else one.sqnr_db


def grid_comparison(
    found: Sequence[TensorDifference], ours: FileGrids, theirs: FileGrids
) -> GridComparison:
    """Where two integer files carry other scales or zero points for the same tensor or weight."""
    differences = [
        GridDifference(
            one.name,
            one.other,
            _said_grids(ours.activations[one.name], theirs.activations[one.other]),
        )
        for one in found
        if one.same_grid is False
    ]
    counted = None
    if len(ours.weights) == len(theirs.weights):
        counted = len(ours.weights)
        for (name, mine), (other, scales) in _unequal(ours, theirs):
            differences.append(GridDifference(name, other, _said_scales(mine, scales)))
    both = sum(one.same_grid is not None for one in found)
    return GridComparison(both, counted, tuple(differences))


def _same(one: FileGrid, other: FileGrid) -> bool:
    scales = (np.float32(one.scale), np.float32(other.scale))
    return one.zero_point == other.zero_point and bool(scales[0] == scales[1])


def _unequal(ours: FileGrids, theirs: FileGrids) -> Iterator[tuple[NamedScales, NamedScales]]:
    """The weights of both files, in order, that have no twin with the same scales in the other.

    Files may compute branches in another order.
    """
    left: list[NamedScales] = []
    rest = list(theirs.weights)
    for weight in ours.weights:
        twin = next((i for i, one in enumerate(rest) if _same_scales(weight[1], one[1])), None)
        if twin is None:
            left.append(weight)
        else:
            del rest[twin]
    yield from zip(left, rest, strict=True)


def _same_scales(mine: FloatArray, theirs: FloatArray) -> bool:
    """The same for each channel, or one scale for all in either file; signs may be turned."""
    if 1 not in (mine.size, theirs.size) and mine.size != theirs.size:
        return False
    return bool((np.abs(mine) == np.abs(theirs)).all())


def _said_grids(*grids: FileGrid) -> str:
    """With as many digits as tell them apart: 9 do for any two float32 numbers."""
    texts = [
        [f"scale {grid.scale:.{digits}g}, zero point {grid.zero_point}" for grid in grids]
        for digits in (6, 9)
    ]
    return " and ".join(next((t for t in texts if len({*t}) > 1), texts[-1]))


def _said_scales(mine: FloatArray, theirs: FloatArray) -> str:
    if mine.size != theirs.size:
        return f"{mine.size} and {theirs.size} scales"
    off = int((np.abs(mine) != np.abs(theirs)).sum())
    return f"{off} of {mine.size} scales differ"

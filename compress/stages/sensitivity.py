"""Sensitivity: how much each layer bears, measured by pruning it alone; and sparsities by that.

Han et al. 2015 (arXiv:1506.02626), section 4.4: layers differ widely in how sparse they may be
before the net loses accuracy; what one bears alone, without retraining, tells how to divide a
sparsity among all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compress.candidate import Candidate
from compress.errors import RangeError
from compress.stages.layers import choose
from compress.stages.prune_magnitude import PruneMagnitude
from compress.task import Task

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_DECIMALS = 4
_HALVINGS = 50

Pairs = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Curve:
    """One layer pruned alone: `values[i]` of the metric at `sparsities[i]`, which ascend."""

    layer: str
    weights: int
    sparsities: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What `scan` found. metric: of task.evaluate, more is better; whole: of the unpruned net."""

    metric: str
    whole: float
    curves: tuple[Curve, ...]

    def for_drop(self, drop: float) -> Pairs:
        """(layer, sparsity) pairs for PruneMagnitude: each layer alone loses at most `drop`.

        Between two measured sparsities a straight line is taken, and no more than the largest
        measured one is given. All layers together lose more than one: retrain afterwards.
        """
        if not (math.isfinite(drop) and drop >= 0):
            raise RangeError(f"for_drop({drop!r}): allowed is a loss of {self.metric} from 0")
        return tuple((c.layer, _round(self._bearable(c, drop))) for c in self.curves)

    def for_total(self, sparsity: float) -> Pairs:
        """(layer, sparsity) pairs so that the layers together have `sparsity`, at equal losses.

        Where even no loss would allow more, all layers' sparsities are lowered alike. Raises
        RangeError where the largest measured sparsities do not make up `sparsity`.
        """
        most = self._total({c.layer: c.sparsities[-1] for c in self.curves})
        if not 0 <= sparsity <= most:
            raise RangeError(
                f"for_total({sparsity!r}): the sparsities that were measured allow 0 to "
                f"{most:.4g}; scan with larger ones"
            )
        low, high = 0.0, max((self.whole - min(c.values) for c in self.curves), default=0.0)
        free = self._at(0.0)
        if self._total(free) >= sparsity:
            factor = sparsity / (self._total(free) or 1.0)
            return tuple((layer, _round(factor * s)) for layer, s in free.items())
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            enough = self._total(self._at(middle)) >= sparsity
            low, high = (low, middle) if enough else (middle, high)
        return tuple((layer, _round(s)) for layer, s in self._at(high).items())

    def _at(self, drop: float) -> dict[str, float]:
        return {c.layer: self._bearable(c, drop) for c in self.curves}

    def _total(self, sparsities: Mapping[str, float]) -> float:
        weights = sum(c.weights for c in self.curves)
        return sum(sparsities[c.layer] * c.weights for c in self.curves) / max(1, weights)

    def _bearable(self, curve: Curve, drop: float) -> float:
        """The largest sparsity up to which no measured loss is above `drop`."""
        least = self.whole - drop
        s0, v0 = 0.0, self.whole
        for s1, v1 in zip(curve.sparsities, curve.values, strict=True):
            if v1 < least:
                return s0 + (s1 - s0) * max(0.0, v0 - least) / (v0 - v1)
            s0, v0 = s1, v1
        return s0


def scan(
    candidate: Candidate,
    task: Task,
    sparsities: Sequence[float] = SPARSITIES,
    *,
    metric: str = "top1",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Sensitivity:
    """Prune each chosen layer alone to each of `sparsities`, by magnitude; score by task.evaluate.

    sparsities: in (0, 1), taken in ascending order. metric: one of those that task.evaluate gives
    where more is better. It takes layers x sparsities evaluations; nothing is trained. Raises
    TaskError where the metric is not given.
    """
    points = sorted({_checked(s) for s in sparsities})
    if not points:
        raise RangeError("scan(sparsities=()): give one or more, as in (0.5, 0.9, 0.99)")
    layers, _ = choose(candidate, include, exclude)
    own = candidate.network.parameters()

    def score(candidate: Candidate) -> float:
        return task.score(candidate.predict, metric, "scan")

    curves = [
        Curve(
            layer.name,
            own[layer.weight].size,
            tuple(points),
            tuple(score(pruned) for pruned in _pruned(candidate, task, layer.name, points)),
        )
        for layer in layers
    ]
    return Sensitivity(metric, score(candidate), tuple(curves))


def _pruned(
    candidate: Candidate, task: Task, layer: str, points: Sequence[float]
) -> Iterator[Candidate]:
    for sparsity in points:
        yield PruneMagnitude(sparsity, include=(layer,))(candidate, task).candidate


def _checked(sparsity: float) -> float:
    if not 0 < sparsity < 1:  # NaN fails here too
        raise RangeError(
            f"scan(sparsities=({sparsity!r},)): allowed are fractions of zeros between 0 and 1"
        )
    return float(sparsity)


def _round(sparsity: float) -> float:
    """Downwards, to what a report shows: never more than was measured to be bearable."""
    return math.floor(sparsity * 10**_DECIMALS + 1e-6) / 10**_DECIMALS

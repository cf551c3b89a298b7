"""PruneChannels: whole channels go, and the net that is left is a smaller dense one.

H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf: "Pruning Filters for Efficient ConvNets",
ICLR 2017 (arXiv:1608.08710), for every layer that writes the same channels at once (coupled sets:
compress/pruning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.errors import RangeError
from compress.pruning.coupled import CoupledSet
from compress.pruning.criteria import CRITERIA, WITH_GRADIENTS, Criterion, comparable, score
from compress.pruning.planning import best_kept, coupled_sets, least, planned
from compress.pruning.removal import remove
from compress.select import select
from compress.stage import StageResult, refuse_encoded
from compress.stages.layers import check_patterns
from compress.task import Task

Scope = Literal["uniform", "global"]
Floats = NDArray[np.float64]
# With one threshold for all sets none may lose nearly everything.
_FLOOR = 0.1
_STATIC = tuple(c for c in CRITERIA if c not in WITH_GRADIENTS and c != "divergence")


@dataclass(frozen=True)
class PruneChannels:
    """Keep the fraction `keep` of the channels that matter most, by `criterion`.

    keep: above 0, up to 1. scope: "uniform", that fraction of each coupled set of channels, or
    "global", of all together by one threshold, at least a tenth of each. round_to: the numbers kept
    are multiples of it where a set has as many. A set is cut where `include` names one of the
    layers that write it and `exclude` none of them, by name or role; the net's outputs always stay.
    Where the net's own splits and shuffles do not take a number, the nearest that they take is
    kept.
    """

    keep: float
    criterion: Criterion = "l1"
    scope: Scope = "uniform"
    round_to: int = 1
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __post_init__(self) -> None:
        if type(self.keep) not in (int, float) or not 0 < self.keep <= 1:
            raise RangeError(f"PruneChannels(keep={self.keep!r}): allowed is above 0, up to 1")
        if self.criterion not in _STATIC:
            raise RangeError(
                f"PruneChannels(criterion={self.criterion!r}): allowed are {', '.join(_STATIC)}"
            )
        if self.scope not in get_args(Scope):
            raise RangeError(
                f"PruneChannels(scope={self.scope!r}): allowed are {', '.join(get_args(Scope))}"
            )
        if type(self.round_to) is not int or self.round_to < 1:
            raise RangeError(
                f"PruneChannels(round_to={self.round_to!r}): allowed are whole numbers from 1"
            )
        check_patterns("PruneChannels", include=self.include, exclude=self.exclude)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        refuse_encoded(self, candidate)
        sets, staying = coupled_sets(candidate)
        chosen = self._chosen(candidate, sets)
        scores = {one.name: score(self.criterion, one, candidate) for one in sets}
        plan = planned(candidate, self._numbers(chosen, scores))
        done = remove(candidate, best_kept(plan, sets, scores))
        cut = {one.name for one in sets if plan.numbers[one.name] < one.channels}
        touched = {layer for one in sets if one.name in cut for layer in one.layers}
        return StageResult(
            done,
            tuple(one.name for one in candidate.network.layers() if one.name in touched),
            self._skipped(candidate, touched, staying, chosen),
        )

    def _chosen(self, candidate: Candidate, sets: Sequence[CoupledSet]) -> tuple[CoupledSet, ...]:
        layers = candidate.network.layers()
        wanted = {layer.name for layer in select(layers, self.include)}
        unwanted = wanted - {layer.name for layer in select(layers, self.include, self.exclude)}
        unwanted |= {layer.name for layer in layers} - {
            layer.name for layer in select(layers, ("*",), self.exclude)
        }
        left = {s.bundle for s in sets if unwanted & set(s.layers) or not wanted & set(s.layers)}
        return tuple(one for one in sets if one.bundle not in left)

    def _numbers(self, sets: Sequence[CoupledSet], scores: Mapping[str, Floats]) -> dict[str, int]:
        """How many channels of each set to keep."""
        if self.scope == "uniform":
            return {one.name: self._rounded(one, self.keep * one.channels) for one in sets}
        pooled = {one.name: comparable(self.criterion, scores[one.name]) for one in sets}
        everything = np.sort(np.concatenate([np.zeros(0), *pooled.values()]))[::-1]
        count = max(1, round(self.keep * len(everything)))
        if not len(everything):
            return {}
        above = {name: int((s >= everything[count - 1]).sum()) for name, s in pooled.items()}
        return {
            one.name: self._rounded(one, max(above[one.name], _FLOOR * one.channels))
            for one in sets
        }

    def _rounded(self, one: CoupledSet, number: float) -> int:
        """The nearest multiple of `round_to`, at least one of them, at most all channels."""
        nearest = round(number / self.round_to) * self.round_to
        return min(max(nearest, self.round_to, least(one)), one.channels)

    def _skipped(
        self,
        candidate: Candidate,
        touched: set[str],
        staying: Sequence[Skipped],
        chosen: Sequence[CoupledSet],
    ) -> tuple[Skipped, ...]:
        """Each layer that was left alone, with the first reason there is."""
        reasons: dict[str, str] = {}
        for skip in staying:
            reasons.setdefault(skip.layer, skip.reason)
        inside = {layer for one in chosen for layer in one.layers}
        found: list[Skipped] = []
        for layer in candidate.network.layers():
            if layer.name in touched:
                continue
            other = "it keeps all its channels" if layer.name in inside else ""
            reason = other or reasons.get(layer.name, "left out by include and exclude")
            found.append(Skipped(layer.name, reason))
        return tuple(found)

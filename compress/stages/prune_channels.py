"""PruneChannels: whole channels go, and the net that is left is a smaller dense one.

H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf: "Pruning Filters for Efficient ConvNets",
ICLR 2017 (arXiv:1608.08710), for every layer that writes the same channels at once (coupled sets:
compress/pruning). The default criterion is ours: see compress/pruning/elimination.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compress.calibrate import first_pictures
from compress.candidate import Candidate, Skipped
from compress.errors import RangeError
from compress.pruning.budgets import Budget, Chooser, LatencyBudget, budget_of
from compress.pruning.choosing import Rules
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.criteria import CRITERIA, IN_NATS, Criterion, comparable
from compress.pruning.evidence import losses_of
from compress.pruning.losses import DivergenceLosses, FixedLosses, Losses
from compress.pruning.planning import best_kept, planned
from compress.pruning.removal import remove
from compress.pruning.repair import input_masks, repaired
from compress.pruning.structure import coupled_sets, least
from compress.reconstruction import Sampling
from compress.select import select
from compress.stage import StageResult, refuse_encoded
from compress.stages.layers import check_patterns
from compress.task import Batch, Task

Scope = Literal["uniform", "global"]
Floats = NDArray[np.float64]
# Output positions of each layer that its repair is fitted on.
_POSITIONS = 4096


@dataclass(frozen=True)
class PruneChannels:
    """Remove the channels that matter least, by `criterion`, down to a budget.

    Exactly one of four: macs, parameters: at most this fraction of the net's own, in (0, 1), met
    within one step of channels; latency: see LatencyBudget; keep: this fraction of the channels,
    above 0, up to 1. A budget that cannot be met is a RangeError with the nearest that can.

    criterion: "divergence", nats by which the answers would move, the rest repaired, for each MAC
    or parameter saved; or one of those in criteria.py. scope: "global", one price or threshold for
    all sets, or "uniform", the same fraction of each. floor: at least this fraction of each set
    stays. round_to: the numbers kept are multiples of it where a set has as many. A set is cut
    where `include` names one of the layers that write it and `exclude` none of them, by name or
    role; the net's outputs always stay. Where the net's own splits and shuffles do not take a
    number, the nearest that they take is kept.

    repair: where the task has calibration, the layers that are left are fitted to what they gave
    before, by least squares. pictures: of task.calibration, the first so many, for both; the
    criteria "divergence", "taylor" and "hessian" need them. Without anything removed the candidate
    comes back as it is.
    """

    keep: float | None = None
    macs: float | None = None
    parameters: float | None = None
    latency: LatencyBudget | None = None
    criterion: Criterion = "divergence"
    scope: Scope = "global"
    floor: float = 0.1
    round_to: int = 1
    repair: bool = True
    pictures: int = 256
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __post_init__(self) -> None:
        budget = self._budget()
        if (budget is None) == (self.keep is None):
            raise RangeError(
                f"PruneChannels(keep={self.keep!r}, budget={budget}): give exactly one of keep, "
                f"macs, parameters and latency"
            )
        if budget is None and (type(self.keep) not in (int, float) or not 0 < self.keep <= 1):  # type: ignore[operator]
            raise RangeError(f"PruneChannels(keep={self.keep!r}): allowed is above 0, up to 1")
        for name, value, allowed in (
            ("criterion", self.criterion, CRITERIA),
            ("scope", self.scope, get_args(Scope)),
            ("repair", self.repair, (True, False)),
        ):
            if value not in allowed or (name == "repair" and type(value) is not bool):
                listed = ", ".join(map(str, allowed))
                raise RangeError(f"PruneChannels({name}={value!r}): allowed are {listed}")
        if type(self.floor) not in (int, float) or not 0 <= self.floor < 1:
            raise RangeError(f"PruneChannels(floor={self.floor!r}): allowed is 0 and more, below 1")
        for name, value in (("round_to", self.round_to), ("pictures", self.pictures)):
            if type(value) is not int or value < 1:
                raise RangeError(
                    f"PruneChannels({name}={value!r}): allowed are whole numbers from 1"
                )
        check_patterns("PruneChannels", include=self.include, exclude=self.exclude)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        refuse_encoded(self, candidate)
        chosen = self._chosen(candidate)
        losses = self._losses(candidate, chosen, task)
        budget = self._budget()
        if budget is None:
            kept = self._share(candidate, chosen, losses)
        else:
            kept = self._chooser().kept(candidate, chosen, losses, budget)
        kept = {
            s.name: kept[s.name]
            for s in chosen
            if len(kept.get(s.name, ())) < s.channels and s.name in kept
        }
        done = remove(self._repaired(candidate, chosen, kept, losses, task), kept)
        touched = {layer for one in chosen if one.name in kept for layer in one.layers}
        return StageResult(done, *self.report(candidate, touched))

    def check_reach(self, candidate: Candidate) -> None:
        """RangeError where the MACs or parameters asked for cannot be reached, which `__call__`
        says only after minutes of looking at pictures, and training may come before it."""
        budget, chosen = self._budget(), self._chosen(candidate)
        if budget is not None and budget.measure is None:
            free = FixedLosses({one.name: np.zeros(one.channels) for one in chosen})
            self._chooser().kept(candidate, chosen, free, budget)

    def _chooser(self) -> Chooser:
        rules = Rules(self.scope, self.criterion in IN_NATS)
        return Chooser(rules, self.round_to, self.floor, "PruneChannels")

    def _budget(self) -> Budget | None:
        return budget_of("PruneChannels", self.macs, self.parameters, self.latency)

    def _losses(self, candidate: Candidate, sets: Sequence[CoupledSet], task: Task) -> Losses:
        return losses_of(
            self.criterion, candidate, sets, self._pictures(candidate, task), task.seed
        )

    def _pictures(self, candidate: Candidate, task: Task) -> Callable[[], Iterator[Batch]]:
        """The pictures, anew at each call, which is what needs them."""

        def pictures() -> Iterator[Batch]:
            calibration = task.need_calibration("PruneChannels")
            shape = candidate.network.input_shape
            return first_pictures(calibration, shape, "PruneChannels", self.pictures)

        return pictures

    def _repaired(
        self,
        candidate: Candidate,
        sets: Sequence[CoupledSet],
        kept: Mapping[str, Numbers],
        losses: Losses,
        task: Task,
    ) -> Candidate:
        if not self.repair or task.calibration is None:
            return candidate
        masks = input_masks(candidate, sets, kept)
        sampling = Sampling(_POSITIONS, task.seed)
        moments = losses.moments if isinstance(losses, DivergenceLosses) else None
        pictures = list(self._pictures(candidate, task)()) if masks else []
        return repaired(candidate, masks, pictures, sampling, moments)

    def _share(
        self, candidate: Candidate, sets: Sequence[CoupledSet], losses: Losses
    ) -> dict[str, Numbers]:
        """The fraction `keep`: of each set, or of all together."""
        every = coupled_sets(candidate)[0]
        scores = {one.name: np.zeros(one.channels) for one in every}
        scores |= {one.name: losses.each(one.name) for one in sets}
        plan = planned(candidate, self._numbers(sets, scores))
        return best_kept(plan, every, scores)

    def _chosen(self, candidate: Candidate) -> tuple[CoupledSet, ...]:
        sets, _ = coupled_sets(candidate)
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
        assert self.keep is not None
        if self.scope == "uniform":
            return {one.name: self._rounded(one, self.keep * one.channels) for one in sets}
        pooled = {one.name: comparable(self.criterion, scores[one.name]) for one in sets}
        everything = np.sort(np.concatenate([np.zeros(0), *pooled.values()]))[::-1]
        count = max(1, round(self.keep * len(everything)))
        if not len(everything):
            return {}
        above = {name: int((s >= everything[count - 1]).sum()) for name, s in pooled.items()}
        return {
            one.name: self._rounded(one, max(above[one.name], self.floor * one.channels))
            for one in sets
        }

    def _rounded(self, one: CoupledSet, number: float) -> int:
        """The nearest multiple of `round_to`, at least one of them, at most all channels."""
        nearest = round(number / self.round_to) * self.round_to
        return min(max(nearest, self.round_to, least(one)), one.channels)

    def report(
        self, candidate: Candidate, touched: set[str]
    ) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
        """The layers touched in the net's order, and each other one with the reason."""
        reasons: dict[str, str] = {}
        for skip in coupled_sets(candidate)[1]:
            reasons.setdefault(skip.layer, skip.reason)
        inside = {layer for one in self._chosen(candidate) for layer in one.layers}
        skipped: list[Skipped] = []
        names = [layer.name for layer in candidate.network.layers()]
        for name in names:
            if name not in touched:
                other = "it keeps all its channels" if name in inside else ""
                reason = other or reasons.get(name, "left out by include and exclude")
                skipped.append(Skipped(name, reason))
        return tuple(name for name in names if name in touched), tuple(skipped)

"""QuantizeWithin: int8 with as little in float as a budget of accuracy needs.

One layer quantized alone tells what it loses (int8_losses.py); such losses nearly add up. So the
layers that lose most for what they cost in float are kept first, as many as are needed, and then
each that turns out not to be needed is quantized after all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from compress.candidate import Candidate, Skipped
from compress.divergence import Divergence
from compress.encoding import Encoded
from compress.errors import RangeError, StageOrderError
from compress.stage import Stage, StageResult
from compress.stages.inner import check_inner, run_inner
from compress.stages.inner_int8 import int8_in, with_float
from compress.stages.int8_losses import LayerLoss
from compress.stages.int8_sensitivity import sampled, scan_int8
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from compress.untrained import untrained_all

_ASKER = "QuantizeWithin"


@dataclass(frozen=True)
class QuantizeWithin:
    """Run `quantize`, keeping in float the layers without which a limit does not hold.

    drop: the greatest fall of task.evaluate's `metric`, of which more is better, from the candidate
    that comes in. divergence: instead, the greatest mean divergence of the answers from its own, in
    nats a picture, on `pictures` of task.calibration. Exactly one of the two is given.
    quantize: QuantizeInt8, or stages that hold one; what it keeps in float already stays so.
    cost: what a layer in float costs, its "macs" (time) or its "weights" (bytes).
    pictures: how many the scan judges on, which orders the layers (scan_int8).
    The net is quantized and judged about log2(layers) times, and up to twice for each layer that is
    kept. RangeError where the limit does not hold even with every layer in float.
    """

    drop: float | None = None
    divergence: float | None = None
    metric: str = "top1"
    quantize: Stage | tuple[Stage, ...] = field(default_factory=QuantizeInt8)
    cost: Literal["macs", "weights"] = "macs"
    pictures: int = 32
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        limits = {"drop": self.drop, "divergence": self.divergence}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if len(given) != 1:
            raise RangeError(
                f"QuantizeWithin({', '.join(given) or 'no limit'}): exactly one of drop and "
                f"divergence is needed"
            )
        for name, limit in given.items():
            if type(limit) not in (int, float) or not 0 <= limit < math.inf:
                raise RangeError(f"QuantizeWithin({name}={limit!r}): allowed are numbers from 0 up")
        if not int8_in(check_inner(_ASKER, "quantize", self.quantize)):
            raise RangeError(
                f"QuantizeWithin(quantize={self.quantize!r}): a QuantizeInt8, or a stage with one "
                f"in its field quantize, is needed"
            )
        if self.cost not in ("macs", "weights"):
            raise RangeError(f"QuantizeWithin(cost={self.cost!r}): allowed are 'macs', 'weights'")
        if type(self.pictures) is not int or self.pictures < 1:
            raise RangeError(
                f"QuantizeWithin(pictures={self.pictures!r}): allowed are whole numbers from 1"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        stages = check_inner(_ASKER, "quantize", self.quantize)
        holds = self._limit(candidate, task)

        def result(kept: Sequence[str]) -> StageResult:
            return run_inner(_ASKER, with_float(stages, tuple(kept)), candidate, task)

        plain = result(())
        if holds(plain.candidate):
            return plain
        if candidate.activations:
            raise StageOrderError(
                f"QuantizeWithin({self._asked()}) does not hold, and a quantized net has no float "
                f"layers to keep; put QuantizeWithin in the place of QuantizeInt8"
            )
        rows = self._order(candidate, task, stages, plain)
        names = [row.layer for row in rows]
        if not holds(result(names).candidate):
            raise RangeError(
                f"QuantizeWithin({self._asked()}) does not hold even with every layer in float, by "
                f"the grids of the tensors between them; allow more"
            )
        needed = _fewest(names, lambda kept: holds(result(kept).candidate))
        weight = {row.layer: self._cost(row) for row in rows}
        needed = _pruned(
            sorted(needed, key=lambda name: -weight[name]),
            lambda kept: holds(result(kept).candidate),
        )
        return _explained(result(needed), [row for row in rows if row.layer in needed])

    def untrained(self) -> tuple[Stage, ...]:
        """Every layer quantized: which must stay in float, the trained values decide."""
        return untrained_all(self.quantize)

    def _asked(self) -> str:
        return f"divergence={self.divergence}" if self.drop is None else f"drop={self.drop}"

    def _limit(self, candidate: Candidate, task: Task) -> Callable[[Candidate], bool]:
        """Says of a quantized net whether the limit holds."""
        if (drop := self.drop) is not None:
            least = task.score(candidate.predict, self.metric, _ASKER) - drop
            return lambda int8: task.score(int8.predict, self.metric, _ASKER) >= least
        most = self.divergence
        assert most is not None
        judging = sampled(candidate, task, self.pictures).judging
        judge = Divergence.of(candidate.predict, lambda: (judging,))
        return lambda int8: judge(int8.predict) <= most

    def _order(
        self, candidate: Candidate, task: Task, stages: tuple[Stage, ...], plain: StageResult
    ) -> list[LayerLoss]:
        """The layers that can be kept, those first that lose most for what they cost."""
        found = scan_int8(candidate, task, stages, pictures=self.pictures, mend=0)
        whole = {la.name: candidate.encodings.get(la.weight) for la in candidate.network.layers()}
        fixed = {n for n, e in whole.items() if isinstance(e, Encoded) and e.on_integers}
        fixed.update(plain.candidate.float_nodes)
        rows = [row for row in found.layers if row.weights and row.layer not in fixed]
        return sorted(rows, key=lambda row: -row.alone_kl / max(1, self._cost(row)))

    def _cost(self, row: LayerLoss) -> int:
        return row.macs if self.cost == "macs" else row.weights


def _fewest(names: list[str], holds: Callable[[list[str]], bool]) -> list[str]:
    """The shortest beginning of `names` for which `holds`, taken to go on holding behind it."""
    low, high = 0, len(names)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(names[:middle]) else (middle, high)
    return names[:high]


def _pruned(names: list[str], holds: Callable[[list[str]], bool]) -> list[str]:
    """What is left when all that can go is left out, the first ones, by halves, before others."""
    kept = list(names)

    def drop(part: list[str]) -> None:
        nonlocal kept
        without = [name for name in kept if name not in part]
        if without and holds(without):
            kept = without
        elif len(part) > 1:
            drop(part[: len(part) // 2])
            drop(part[len(part) // 2 :])

    drop(names)
    return kept


def _explained(result: StageResult, kept: Sequence[LayerLoss]) -> StageResult:
    """The result, in which each kept layer says why, whatever else was done to it."""
    why = {
        row.layer: f"kept in float: quantized alone it loses {row.alone_kl:.2g} nats a picture "
        f"(its weights {row.weights_kl:.2g}, its output {row.output_kl:.2g})"
        for row in kept
    }
    touched = tuple(name for name in result.touched if name not in why)
    others = tuple(skip for skip in result.skipped if skip.layer not in why)
    skipped = (*others, *(Skipped(name, reason) for name, reason in why.items()))
    return StageResult(result.candidate, touched, skipped)

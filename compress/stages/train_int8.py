"""TrainInt8: quantization-aware training, of weights and of the steps of all grids.

Learned step size quantization (LSQ, Esser et al., arXiv:1902.08153): see compress/fake_quant.py.
Batch norms act on quantized weights, as Jacob et al. 2018 (arXiv:1712.05877, section 3.2) simulate
their folding, and are frozen late, as Krishnamoorthi (arXiv:1806.08342, section 3.2.2) advises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from compress.candidate import Candidate, Skipped
from compress.constrained import Constrained
from compress.encoding import Encoded
from compress.errors import RangeError, StageOrderError, TaskError
from compress.simulated import SimulatedForward
from compress.stage import Stage, StageResult, stage_name
from compress.stages.acting_norms import (
    with_acting_norms,
    with_folded_norms,
    with_room_for_biases,
)
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm, unfolded
from compress.stages.inner import check_inner, run_inner
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from compress.untrained import untrained_all


@dataclass(frozen=True)
class TrainInt8:
    """Train for `epochs` at `learning_rate` with task.finetune on the grids that `quantize` sets.

    epochs: 0 and more (0 quantizes alone); learning_rate: above 0. quantize: a stage, or a tuple of
    them, that puts a folded net on grids; left out where the net is on grids already. Takes a net
    whose batch norms act still: they are folded for `quantize` (which must change nothing but by
    encodings and biases then), act in training, use their running statistics after the part
    `freeze` (0 to 1) of the epochs, and are folded for good at the end.

    learn_steps: the steps of activations and of dense weights are learnt, within a factor of 4 of
    the calibrated ones; zero points and the input's grid stay. Pruned weights stay zero and shared
    ones in their clusters. Layers kept in float train, too.
    """

    epochs: int
    learning_rate: float
    quantize: Stage | tuple[Stage, ...] = field(default_factory=QuantizeInt8)
    learn_steps: bool = True
    freeze: float = 0.75
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 0:
            raise RangeError(f"TrainInt8(epochs={self.epochs!r}): allowed are whole numbers from 0")
        if type(self.learn_steps) is not bool:
            raise RangeError(
                f"TrainInt8(learn_steps={self.learn_steps!r}): allowed are True and False"
            )
        if type(self.freeze) not in (int, float) or not 0 <= self.freeze <= 1:
            raise RangeError(f"TrainInt8(freeze={self.freeze!r}): allowed is 0 to 1")
        rate = self.learning_rate
        if type(rate) not in (int, float) or not (math.isfinite(rate) and rate > 0):
            raise RangeError(
                f"TrainInt8(learning_rate={rate!r}): allowed are finite numbers over 0"
            )
        check_inner("TrainInt8", "quantize", self.quantize)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        task.need_finetune("TrainInt8")
        if candidate.activations:
            quantized = StageResult(candidate)
        else:
            folded = FoldBatchNorm()(candidate, task).candidate
            stages = check_inner("TrainInt8", "quantize", self.quantize)
            quantized = run_inner("TrainInt8", stages, folded, task)
        if not self.epochs:
            return quantized_result(quantized.candidate, quantized.skipped)
        if candidate.activations or not unfolded(candidate):
            done = with_room_for_biases(self._trained(quantized.candidate, candidate, task))
        else:
            self._check_acting(candidate, quantized.candidate)
            acting = with_acting_norms(candidate, quantized.candidate)
            trained = with_folded_norms(self._trained(acting, candidate, task), task)
            done = with_room_for_biases(trained)
        return quantized_result(done, quantized.skipped)

    def untrained(self) -> TrainInt8:
        """The grids that `quantize` sets, batch norms folded."""
        return replace(self, epochs=0, quantize=untrained_all(self.quantize))

    def _check_acting(self, candidate: Candidate, quantized: Candidate) -> None:
        """StageOrderError where batch norms cannot act in training."""
        if not candidate.network.graph.dynamic_batch:
            raise StageOrderError(
                "TrainInt8: the net takes one picture at a time, of which batch norm learns "
                "nothing; put FoldBatchNorm before TrainInt8"
            )
        lost = next(_not_encoding(check_inner("TrainInt8", "quantize", self.quantize)), None)
        if lost is not None:
            raise StageOrderError(
                f"TrainInt8: {lost} changes the folded net, which is lost where batch norms act "
                f"in training; put FoldBatchNorm and {lost} before TrainInt8"
            )
        if not quantized.activations:
            raise StageOrderError(
                "TrainInt8: quantize gives no tensor a grid, so batch norms could not be frozen; "
                "put FoldBatchNorm before TrainInt8, or QuantizeInt8 into quantize"
            )

    def _trained(self, start: Candidate, reference: Candidate, task: Task) -> Candidate:
        """`start` on its grids, its weights beginning as those of `reference`."""
        last = math.ceil(self.freeze * self.epochs)
        simulations: list[SimulatedForward] = []

        def between(held: Constrained, done: int) -> None:
            if done == 0:
                held.begin_from(reference)
            if held.simulation is not None:
                simulations[:] = [held.simulation]
                if done >= last:
                    held.simulation.freeze_norms()

        train = FineTune(self.epochs, self.learning_rate)
        tuned = train.tuned(start, task, between=between, learn_steps=self.learn_steps)
        if unfolded(start) and last < self.epochs and not simulations[0].frozen:
            raise TaskError(
                f"TrainInt8(freeze={self.freeze:g}): batch norm was never frozen; the training "
                f"loop must call tuning.after_epoch(epoch) after each epoch, before it keeps its "
                f"state"
            )
        return tuned


def _not_encoding(stages: Iterable[Stage]) -> Iterator[str]:
    """Names of the stages, inside others too, that change more than a norm's factor undoes."""
    for stage in stages:
        if not getattr(stage, "encodes", False):
            yield stage_name(stage)
        inner: Any = getattr(stage, "quantize", ())
        yield from _not_encoding(inner if isinstance(inner, tuple) else (inner,))


def quantized_result(done: Candidate, skipped: tuple[Skipped, ...]) -> StageResult:
    """The layers on integer weights are touched, the others skipped with their reason."""
    reasons = {skip.layer: skip.reason for skip in skipped}
    touched: list[str] = []
    left: list[Skipped] = []
    for layer in done.network.layers():
        encoding = done.encodings.get(layer.weight)
        if isinstance(encoding, Encoded) and encoding.on_integers:
            touched.append(layer.name)
        else:
            left.append(Skipped(layer.name, reasons.get(layer.name, "kept in float")))
    return StageResult(done, tuple(touched), tuple(left))

"""CorrectBias: the means that quantization moved are put back by the biases, without labels.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.2: biases cost nothing at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.bias_correction import expected_shifts, seen_shifts
from compress.calibrate import checked_batches
from compress.candidate import Candidate, Skipped
from compress.errors import RangeError, TaskError
from compress.network import LayerInfo
from compress.simulate import simulate
from compress.stage import Stage, StageResult
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.inner import check_inner, joined, run_inner
from compress.stages.layers import choose
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from compress.untrained import untrained_all

_METHODS = ("analytic", "empirical")


@dataclass(frozen=True)
class CorrectBias:
    """Run `quantize`, then give each output channel of each layer its old mean by its bias.

    quantize: the stage that moves the means, or a tuple of stages; whatever it leaves (int8, int4,
    shared or pruned weights, with grids or without). The net that comes in is the reference.
    method: "analytic" takes each layer's own rounded weights and the reference's mean inputs.
    "empirical" compares the means of the layers' outputs in both nets, layer by layer, the layers
    before mended already; so grids count, too, and what they clip shifts all layers behind. On
    MobileNetV2 for photographs the former is faster and the answers nearer.
    Sees the pictures of task.calibration once, a few at a time. The bias stays float32 in the
    candidate; where weights and inputs are integers it is then rounded to int32 as ever, by at most
    half of s_x * s_w.
    """

    quantize: Stage | tuple[Stage, ...] = field(default_factory=QuantizeInt8)
    method: Literal["analytic", "empirical"] = "analytic"
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_inner("CorrectBias", "quantize", self.quantize)
        if self.method not in _METHODS:
            allowed = " or ".join(map(repr, _METHODS))
            raise RangeError(f"CorrectBias(method={self.method!r}): allowed is {allowed}")

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        task.need_calibration("CorrectBias")
        stages = check_inner("CorrectBias", "quantize", self.quantize)
        inner = run_inner("CorrectBias", stages, candidate, task)
        changed = inner.candidate
        layers, skipped = _with_bias(changed)
        shifts = self._shifts(candidate, changed, layers, task)
        own = changed.network.parameters()
        values: dict[str, NDArray[np.float32]] = {}
        for layer in layers:
            assert layer.bias is not None
            shift = shifts.get(layer.weight)
            if shift is None:
                skipped.append(Skipped(layer.name, "the net never uses it"))
                continue
            if not np.isfinite(shift).all():
                raise TaskError(
                    f"CorrectBias: calibration gives NaN or infinity in layer {layer.name!r}; "
                    f"check the batches' values and the net's weights"
                )
            values[layer.bias] = (own[layer.bias] + shift).astype(np.float32)
        touched = tuple(la.name for la in layers if la.bias in values)
        done = changed.with_values(values, {})
        return joined(done, [inner, StageResult(done, touched, tuple(skipped))])

    def untrained(self) -> tuple[Stage, ...]:
        """What `quantize` gives: biases move, and nothing else."""
        return untrained_all(self.quantize)

    def _shifts(
        self, candidate: Candidate, changed: Candidate, layers: Sequence[LayerInfo], task: Task
    ) -> dict[str, NDArray[np.float64]]:
        """What each layer's bias lacks, by the name of its weight."""
        before = candidate.network
        if changed.edits != candidate.edits:  # TrainInt8 folds what acted still
            before = FoldBatchNorm()(candidate, task).candidate.network
        calibration = task.need_calibration("CorrectBias")
        numbered = checked_batches(calibration, before.input_shape, "CorrectBias")
        batches = (batch for _, batch in numbered)
        weights = {layer.weight for layer in layers}
        if self.method == "analytic":
            return expected_shifts(before, changed.network, weights, batches)
        return seen_shifts(before, simulate(changed), weights, batches)


def _with_bias(candidate: Candidate) -> tuple[list[LayerInfo], list[Skipped]]:
    """The layers whose bias can be changed, and why the others' cannot."""
    layers, skipped = choose(candidate, ("*",), ())
    own = candidate.network.parameters()
    found: list[LayerInfo] = []
    for layer in layers:
        if layer.bias is None:
            reason = "it has no bias; FoldBatchNorm makes one where a batch norm follows"
            skipped.append(Skipped(layer.name, reason))
        elif layer.bias not in own:
            skipped.append(Skipped(layer.name, "its bias is another layer's, too"))
        elif layer.bias in candidate.encodings:
            skipped.append(Skipped(layer.name, "its bias is encoded"))
        else:
            found.append(layer)
    return found, skipped

"""AdaRound: weights on integer grids, each rounded up or down as the layer's outputs ask.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(arXiv:2004.10568): rounding each weight to the nearest level is not what serves the outputs best.
Layer by layer, without labels; the arithmetic is that of adaptive_rounding.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch

from compress.adaptive_rounding import Fitting, adaptive, fitted_shift
from compress.calibrate import first_pictures
from compress.candidate import Candidate, Skipped
from compress.encoding import Encoded
from compress.errors import RangeError, TaskError
from compress.int8_weights import bias_floor, grid_encoding, grid_scale
from compress.network import LayerInfo
from compress.reconstruction import Floats, Sample, Sampling, reconstruct
from compress.stage import StageResult
from compress.stages.fold_batchnorm import need_folded
from compress.stages.layers import check_grid_bits, check_patterns, choose, settings_by_layer
from compress.task import Batch, Task

# The grid of a layer's input is not known yet: it may end at this share of what was seen.
_CLIPPED = 1 / 8


@dataclass(frozen=True)
class AdaRound:
    """Put dense weights on integer grids, rounded for the outputs; goes before QuantizeInt8.

    bits: 8 or 4, or (pattern, bits) pairs by layer name or role, of which the first that fits
    counts; a layer that none fits is left alone. The scales are those of QuantizeInt8, which keeps
    the integers that it finds and only adds the grids of activations.
    steps: of Adam for each layer. pictures: of task.calibration, the first so many.
    fit_bias: each layer's float bias moves, too, to where its outputs behind the activation
    function err least (no part of the paper); a layer without one gets none. CorrectBias behind
    AdaRound would undo its work: it looks at the outputs before the function.

    Pruned weights and weights on the grid stay; shared and integer weights are left alone. No
    layer's error at the sampled positions is greater than that of rounding to nearest. Memory is
    bounded: 512 MiB of activations, 2,048 positions of each layer and the pictures. MobileNetV2 at
    224 pixels takes 75 seconds on one core: no progress is kept.
    """

    bits: int | tuple[tuple[str, int], ...] = 8
    steps: int = 300
    pictures: int = 256
    fit_bias: bool = False
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("AdaRound", include=self.include, exclude=self.exclude)
        check_grid_bits("AdaRound", "bits", self.bits)
        if type(self.fit_bias) is not bool:
            raise RangeError(f"AdaRound(fit_bias={self.fit_bias!r}): allowed are True and False")
        for name, value in (("steps", self.steps), ("pictures", self.pictures)):
            if type(value) is not int or value < 1:
                raise RangeError(f"AdaRound({name}={value!r}): allowed are whole numbers from 1")

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        need_folded(candidate, "AdaRound")
        task.need_calibration("AdaRound")
        layers, skipped = choose(candidate, self.include, self.exclude)
        bits = settings_by_layer(layers, self.bits)
        reasons = {layer.name: _reason(candidate, layer, bits) for layer in layers}
        wanted = [layer for layer in layers if not reasons[layer.name]]
        encodings: dict[str, Encoded] = {}
        biases: dict[str, Floats] = {}

        def solve(layer: LayerInfo, sample: Sample) -> tuple[Floats, Floats | None]:
            encoding = self._rounded(candidate, layer, sample, bits[layer.name], task.seed)
            encodings[layer.weight], weight = encoding, encoding.decode()
            bias = self._fitted(candidate, layer, weight, sample)
            if bias is not None and layer.bias is not None:
                biases[layer.bias] = bias
            return weight, bias

        if wanted:
            sampling = Sampling(seed=task.seed)
            pictures = self._pictures(candidate, task)
            reconstruct(candidate.network, wanted, pictures, sampling, solve)
        unused = {layer.name for layer in wanted if layer.weight not in encodings}
        reasons |= dict.fromkeys(unused, "the net never uses it")
        skipped += [Skipped(name, reason) for name, reason in reasons.items() if reason]
        touched = tuple(layer.name for layer in wanted if layer.name not in unused)
        return StageResult(candidate.with_values(biases, encodings), touched, tuple(skipped))

    def untrained(self) -> AdaRound:
        """One step and a few pictures: the same grids, rounded near enough to the nearest."""
        return replace(self, steps=1, pictures=min(self.pictures, 8))

    def _fitted(
        self, candidate: Candidate, layer: LayerInfo, weight: Floats, sample: Sample
    ) -> Floats | None:
        """The layer's new bias; None where it stays."""
        own = candidate.network.parameters()
        if not self.fit_bias or layer.bias not in own or layer.bias in candidate.encodings:
            return None
        groups = (layer.groups, layer.shape[0] // layer.groups, -1)
        shift = fitted_shift(torch.from_numpy(weight).reshape(groups), sample)
        return own[layer.bias] + shift.reshape(-1).numpy()

    def _rounded(
        self, candidate: Candidate, layer: LayerInfo, sample: Sample, bits: int, seed: int
    ) -> Encoded:
        own = candidate.network.parameters()
        weight = own[layer.weight]
        bias = None if layer.bias is None else own[layer.bias]
        low, high = sample.reach
        if not (math.isfinite(low) and math.isfinite(high)):
            raise TaskError(
                f"AdaRound: calibration gives NaN or infinity in what layer {layer.name!r} reads; "
                f"check the batches' values and the net's weights"
            )
        step = max((max(high, 0.0) - min(low, 0.0)) / 255 * _CLIPPED, float(np.finfo("f4").tiny))
        floor = bias_floor(bias, step, layer.shape[0])
        scale = np.maximum(grid_scale(weight, layer.axis, bits), floor)
        groups = (layer.groups, layer.shape[0] // layer.groups, -1)
        own_scale = torch.from_numpy(scale).reshape(groups)
        ratio = torch.from_numpy(np.array(weight)).reshape(groups) / own_scale
        how = Fitting(steps=self.steps, seed=seed)
        integers = adaptive(ratio, own_scale, (1 << (bits - 1)) - 1, sample, how)
        codes = integers.reshape(layer.shape).numpy().astype(np.int8)
        return grid_encoding(codes, scale, layer.axis, bits)

    def _pictures(self, candidate: Candidate, task: Task) -> Iterator[Batch]:
        calibration, shape = task.need_calibration("AdaRound"), candidate.network.input_shape
        return first_pictures(calibration, shape, "AdaRound", self.pictures)


def _reason(candidate: Candidate, layer: LayerInfo, bits: dict[str, int]) -> str:
    """Why a layer is left alone; "" where it is not."""
    known = candidate.encodings.get(layer.weight)
    if isinstance(known, Encoded):
        return f"its weights are {'integers' if known.on_integers else 'shared'} already"
    if layer.name in candidate.float_nodes:
        return "kept in float"
    return "" if layer.name in bits else "no bits are given for it"

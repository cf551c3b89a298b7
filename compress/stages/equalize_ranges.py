"""EqualizeRanges: channels of wide and of narrow range are brought together; outputs stay.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), section 4.1: a channel divided by s where it is written, and multiplied by s
where it is read, changes nothing if all between is positively homogeneous, as ReLU and pools are.
One grid then serves all channels better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.channel_groups import CLIPS, ChannelGroups, channel_groups
from compress.channel_loss import least_loss_scales
from compress.channel_scaling import scaled_channels
from compress.channel_stats import channel_stats
from compress.encoding import Encoded
from compress.equalization import Sides, equalizing
from compress.errors import RangeError
from compress.network import LayerInfo
from compress.parameter_uses import serving_elsewhere
from compress.placement import place
from compress.spread import spread
from compress.stage import StageResult
from compress.stages.fold_batchnorm import need_folded
from compress.stages.layers import check_grid_bits, settings_by_layer
from compress.task import Task

Floats = NDArray[np.float64]
_BY = ("weights", "activations", "loss")
# Enough for ranges and for what noise costs; a backward pass each.
_PICTURES = 64
_CLIPPED = ("skip", "bounded")
_ASKER = "EqualizeRanges"


@dataclass(frozen=True)
class EqualizeRanges:
    """Scale channels between layers of a folded net; float outputs stay but for rounding.

    by: "weights" equalizes the ranges of the weights on both sides (equation 11), for one scale for
    all channels of a weight. "activations" takes the largest calibration values instead of the
    weights that make them, for weights with a scale for each output channel. "loss" takes the
    scales for which rounding of tensors and of such weights is expected to move the net's answers
    least (see channel_balance), judged on 64 calibration pictures.
    clipped: a ReLU6 does not scale: "skip" leaves channels before one alone. "bounded" scales those
    that stay below the clip for all calibration pictures, and only so far that they still do; for
    other pictures outputs may differ then.
    weight_bits: for "loss", the bits that the weights will have, as in QuantizeInt8.
    Follows channels through adds, concatenations, splits and shuffles. Skipped layers have the
    reason. Zeros of pruned weights stay; shared or integer weights take factors into their scale
    where they can. "weights" with "skip" needs no calibration pictures.
    """

    by: Literal["weights", "activations", "loss"] = "weights"
    clipped: Literal["skip", "bounded"] = "skip"
    weight_bits: int | tuple[tuple[str, int], ...] = 8
    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __post_init__(self) -> None:
        for name, value, allowed in (("by", self.by, _BY), ("clipped", self.clipped, _CLIPPED)):
            if value not in allowed:
                options = " or ".join(map(repr, allowed))
                raise RangeError(f"EqualizeRanges({name}={value!r}): allowed is {options}")
        check_grid_bits(_ASKER, "weight_bits", self.weight_bits)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        layers = candidate.network.layers()
        if candidate.activations:
            late = "its activations have grids already; put EqualizeRanges before QuantizeInt8"
            return StageResult(candidate, (), tuple(Skipped(la.name, late) for la in layers))
        need_folded(candidate, "EqualizeRanges")
        groups = channel_groups(candidate.network.graph)
        fixed = {**_refused(candidate, groups), **groups.fixed}
        floors, ranges = self._bounds(candidate, groups, fixed, task)
        free = np.array([n not in fixed for n in range(len(groups.ceilings))], np.bool_)
        if self.by == "loss":
            calibration, shape = task.need_calibration(_ASKER), candidate.network.input_shape
            few = spread(calibration, shape, _ASKER, _PICTURES)
            bits = settings_by_layer(layers, self.weight_bits)
            scale = least_loss_scales(candidate, groups, (free, floors), bits, few, task.seed)
        else:
            own = candidate.network.parameters()
            known = [la for la in layers if la.weight in groups.reads and la.weight in own]
            sides = [_sides(own[layer.weight], layer, groups) for layer in known]
            scale = equalizing(sides, free, floors, ranges)
        return _scaled(candidate, groups, scale, fixed)

    def _bounds(
        self, candidate: Candidate, groups: ChannelGroups, fixed: dict[int, str], task: Task
    ) -> tuple[Floats, Floats | None]:
        """(least s, ranges of values if wanted) by group; adds to `fixed` what clips."""
        clips = np.isfinite(groups.ceilings)
        floors = np.full(len(clips), np.finfo(np.float32).tiny, np.float64)
        if self.clipped == "skip":
            fixed.update(
                {int(n): f"{_CLIP}; clipped='bounded' may scale it" for n in np.flatnonzero(clips)}
            )
        if self.by != "activations" and (self.clipped == "skip" or not clips.any()):
            return floors, None
        peaks, ranges = _peaks(candidate, groups, task)
        reached = clips & (peaks >= groups.ceilings)
        for n in np.flatnonzero(reached):
            fixed.setdefault(int(n), f"{_CLIP}, and calibration reaches it")
        least = np.divide(peaks, groups.ceilings, out=floors.copy(), where=clips & ~reached)
        return np.maximum(floors, least * _MARGIN), ranges if self.by == "activations" else None


# So that rounding takes nothing over the clip.
_MARGIN = 1 + 1e-5
_CLIP = "a clip as ReLU6's follows, which does not scale with its input"


def _peaks(candidate: Candidate, groups: ChannelGroups, task: Task) -> tuple[Floats, Floats]:
    """(greatest value, greatest |value|) of each channel group over the calibration pictures.

    Of what is clipped, and of what has a grid: a convolution's own output before a ReLU has none.
    """
    network = candidate.network
    clipped = {n.inputs[0] for n in network.graph.nodes if n.id.operator in CLIPS}
    wanted = {*place(network.graph).points, *clipped} & groups.tensors.keys()
    calibration = task.need_calibration(_ASKER)
    seen = channel_stats(network.graph, wanted, calibration, network.input_shape, _ASKER)
    highs, sizes = np.zeros(len(groups.ceilings)), np.zeros(len(groups.ceilings))
    for tensor, stats in seen.items():
        np.maximum.at(highs, groups.tensors[tensor], stats.high)
        np.maximum.at(sizes, groups.tensors[tensor], stats.largest)
    return highs, sizes


def _refused(candidate: Candidate, groups: ChannelGroups) -> dict[int, str]:
    """Groups that a layer's own parameters do not allow to scale, and why."""
    found: dict[int, str] = {}
    elsewhere = serving_elsewhere(candidate.network)
    layers = candidate.network.layers()
    for name in groups.writes.keys() - {layer.weight for layer in layers}:
        reason = f"{name!r} makes or reads it, which is no layer's weight"
        found.update({int(n): reason for n in (*groups.writes[name], *groups.reads.get(name, ()))})
    for layer in layers:
        inside, outside = groups.reads.get(layer.weight, ()), groups.writes.get(layer.weight, ())
        if layer.name in elsewhere:
            reason = f"weight or bias of {layer.name!r} serve elsewhere, too"
            found.update({int(n): reason for n in (*inside, *outside)})
        codes = candidate.encodings.get(layer.weight)
        if isinstance(codes, Encoded):
            reason = f"the encoded weights of {layer.name!r} have no scale for it"
            if layer.shape[1] > 1 or codes.axis not in (None, 0):
                found.update({int(n): reason for n in inside})
            if codes.axis not in (None, 0):
                found.update({int(n): reason for n in outside})
    return found


def _sides(weight: NDArray[np.float32], layer: LayerInfo, groups: ChannelGroups) -> Sides:
    largest = np.abs(weight.reshape(*weight.shape[:2], -1)).max(axis=2).astype(np.float64)
    grouped = largest.reshape(layer.groups, -1, weight.shape[1])
    return Sides(grouped, groups.writes[layer.weight], groups.reads[layer.weight])


def _scaled(
    candidate: Candidate, groups: ChannelGroups, scale: Floats, fixed: Mapping[int, str]
) -> StageResult:
    """The candidate with every channel scaled; layers that no factor reaches are skipped."""
    touched: list[str] = []
    skipped: list[Skipped] = []
    for layer in candidate.network.layers():
        if layer.weight not in groups.reads:
            skipped.append(Skipped(layer.name, "the net never uses it, or not on channels"))
            continue
        both = (*groups.writes[layer.weight], *groups.reads[layer.weight])
        if all(scale[n] == 1 for n in both):
            skipped.append(Skipped(layer.name, _reason(fixed, both)))
        else:
            touched.append(layer.name)
    return StageResult(scaled_channels(candidate, groups, scale), tuple(touched), tuple(skipped))


def _reason(fixed: Mapping[int, str], groups: Sequence[np.int64]) -> str:
    reasons = dict.fromkeys(fixed[int(n)] for n in groups if int(n) in fixed)
    return "; ".join(reasons) or "its ranges are equal, or all zero"

"""Layers whose inputs are to go do the same with the rest, as well as they can.

Each layer is fitted, in the order of the net, to what it gave before anything was removed, on what
the changed layers before it give now. That works on the whole net, whose removed inputs have weight
zero afterwards: taking the channels away changes nothing more. Between a convolution that loses
outputs and the layer that reads them may lie batch norms, activations, poolings and depthwise
convolutions: they see each channel alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.compensation import as_groups
from compress.graph import Graph
from compress.moments import Moments, layer_moments
from compress.network import LayerInfo
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.elimination import about_mean, shrunk
from compress.pruning.least_squares import best_rest, damped_change
from compress.reconstruction import Sample, Sampling, reconstruct
from compress.task import Batch

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
# A layer of more inputs is left alone: the decomposition would take minutes and gigabytes.
MOST_INPUTS = 2304
# The second fit wants so many samples for each input: with fewer it would learn them by heart.
_SAMPLES = 2
# Of the mean square of a layer's inputs, for the first fit.
_DAMPING = 1e-3


def repaired(
    candidate: Candidate,
    kept: Mapping[str, Mask],
    batches: Sequence[Batch],
    sampling: Sampling,
    moments: Mapping[str, Moments] | None = None,
) -> Candidate:
    """The candidate with weight zero at each removed input, and the other weights refitted.

    kept: by name of a layer's weight, (groups, inputs of a group): False where an input goes.
    A first fit is to all positions of the net as it was (`moments`, by layer; found here where
    they are not given), the second to sampled ones of the net as it becomes, as far as pictures
    held out gain by it; layers that keep all inputs have the second, too, those of few positions
    for their inputs have not. A layer without a bias gives its shift to the batch norm that alone
    reads it, if there is one. Nothing to remove: nothing changes.
    """
    zeroed = _zeroed(candidate, kept)
    if not zeroed:
        return candidate
    layers = [la for la in candidate.network.layers() if _fits(candidate, la)]
    if moments is None:
        readers = [layer for layer in layers if layer.weight in zeroed]
        moments = layer_moments(candidate.network, readers, batches, sampling.seed)
    values = _Values(candidate, _norms_behind(candidate.network.graph), zeroed)
    pictures = sum(map(len, batches))
    first = {la.weight: moments[la.name] for la in layers if la.name in moments}
    for layer in layers:
        if layer.weight in zeroed and layer.weight in first:
            values.put(layer, *_first_fit(values, layer, kept[layer.weight], first, pictures))

    def solve(layer: LayerInfo, sample: Sample) -> tuple[Floats, Floats | None]:
        if sample.inputs.shape[1] < _SAMPLES * sample.inputs.shape[2]:
            return values.weight(layer), values.bias(layer, sample)
        stays = kept.get(layer.weight, np.ones((layer.groups, layer.shape[1]), np.bool_))
        shift = values.shifts.get(layer.weight, np.zeros(layer.shape[0], np.float32))
        given = sample.outputs - torch.from_numpy(shift).reshape(layer.groups, 1, -1)
        started = replace(sample, outputs=given)
        takes = values.takes_shift(layer)
        weight, more = refitted(layer, values.weight(layer), stays, started, takes)
        values.put(layer, weight, shift + more)
        return weight, values.bias(layer, sample)

    reconstruct(candidate.network, layers, batches, sampling, solve)
    return candidate.with_values(values.all(), {})


@dataclass
class _Values:
    """The weights as they change, and what each layer's bias gets more."""

    candidate: Candidate
    norms: Mapping[str, str]
    weights: dict[str, Floats]
    shifts: dict[str, Floats] = field(default_factory=dict[str, Floats])

    def takes_shift(self, layer: LayerInfo) -> bool:
        return layer.bias is not None or layer.weight in self.norms

    def weight(self, layer: LayerInfo) -> Floats:
        known = self.weights.get(layer.weight)
        return self.candidate.network.parameters()[layer.weight] if known is None else known

    def bias(self, layer: LayerInfo, sample: Sample) -> Floats | None:
        """What the layer adds now; None for what it added."""
        shift = self.shifts.get(layer.weight)
        return None if shift is None else sample.bias.reshape(-1).numpy() + shift

    def put(self, layer: LayerInfo, weight: Floats, shift: Floats) -> None:
        self.weights[layer.weight] = weight
        if self.takes_shift(layer):
            self.shifts[layer.weight] = shift

    def all(self) -> dict[str, Floats]:
        """New weights, biases and running means by name."""
        found, state = dict(self.weights), self.candidate.network.state()
        for layer in self.candidate.network.layers():
            shift = self.shifts.get(layer.weight)
            if shift is not None and layer.bias is not None:
                found[layer.bias] = state[layer.bias].astype(np.float32) + shift
            elif shift is not None:
                norm = self.norms[layer.weight]
                found[norm] = state[norm].astype(np.float32) - shift
        return found


def _first_fit(
    values: _Values,
    layer: LayerInfo,
    stays: Mask,
    moments: Mapping[str, Moments],
    pictures: int,
) -> tuple[Floats, Floats]:
    """The layer's weight without its removed inputs, and its bias's shift."""
    seen = moments[layer.weight]
    own = as_groups(values.candidate.network.parameters()[layer.weight], layer.groups)
    inputs = shrunk(about_mean(seen.inputs, seen.means, seen.positions), seen.positions * pictures)
    columns = np.repeat(stays, own.shape[2] // layer.shape[1], axis=1)
    found = best_rest(own, inputs, columns, _DAMPING)
    shift = np.einsum("gmn,gn->gm", own - found, seen.means).reshape(-1)
    return found.astype(np.float32).reshape(layer.shape), shift.astype(np.float32)


def _fits(candidate: Candidate, layer: LayerInfo) -> bool:
    """True for layers that are fitted: not depthwise ones, which see one channel each."""
    inputs = int(np.prod(layer.shape[1:]))
    own = candidate.network.parameters()
    return layer.weight in own and layer.role != "depthwise" and inputs <= MOST_INPUTS


def input_masks(
    candidate: Candidate, sets: Iterable[CoupledSet], kept: Mapping[str, Numbers]
) -> dict[str, Mask]:
    """By name of a weight, (groups, inputs of a group): False for inputs of channels not kept.

    kept: channels by the name of their set. Layers that lose no input are absent.
    """
    layers = {layer.weight: layer for layer in candidate.network.layers()}
    masks: dict[str, Mask] = {}
    for one in sets:
        gone = np.setdiff1d(np.arange(one.channels), kept.get(one.name, np.arange(one.channels)))
        for tensor, axis in one.slots if len(gone) else ():
            layer = layers.get(tensor)
            if axis == 1 and layer is not None:
                whole = np.ones((layer.groups, layer.shape[1]), np.bool_)
                masks.setdefault(tensor, whole).reshape(-1)[one.indices((tensor, axis), gone)] = (
                    False
                )
    return masks


def refitted(
    layer: LayerInfo, weight: Floats, stays: Mask, sample: Sample, shifts: bool
) -> tuple[Floats, Floats]:
    """The layer's weight with 0 where an input does not stay, and what its bias gets more.

    The sum of squared errors at the samples is never above that of leaving the other weights.
    """
    groups, rows = layer.groups, layer.shape[0] // layer.groups
    shape = (groups, rows, layer.shape[1], -1)
    columns = np.broadcast_to(stays[:, :, None], (groups, *weight.reshape(shape).shape[2:]))
    columns = columns.reshape(groups, 1, -1)
    own = weight.reshape(groups, rows, -1).astype(np.float64) * columns
    inputs = sample.inputs.double().numpy() * columns
    errors = sample.outputs.double().numpy() - inputs @ np.swapaxes(own, 1, 2)
    used = columns[:, 0].any(axis=0)  # where a group keeps an input that another does not, its 0
    change = damped_change(inputs[:, :, used], errors, shifts)
    own[:, :, used] += change.weight
    own *= columns
    return own.astype(np.float32).reshape(weight.shape), change.bias.astype(np.float32).reshape(-1)


def _zeroed(candidate: Candidate, kept: Mapping[str, Mask]) -> dict[str, Floats]:
    """The weights that lose inputs, 0 there."""
    own = candidate.network.parameters()
    groups = {layer.weight: layer.groups for layer in candidate.network.layers()}
    changed: dict[str, Floats] = {}
    for name, stays in kept.items():
        if not stays.all():
            weight = own[name]
            rows = np.repeat(stays, weight.shape[0] // groups[name], axis=0)
            changed[name] = weight * rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return changed


def _norms_behind(graph: Graph) -> dict[str, str]:
    """By name of a layer's weight: the running mean of the batch norm that alone reads it."""
    found: dict[str, str] = {}
    uses = Counter(node.parameters.get("weight", "") for node in graph.nodes)
    for node in graph.nodes:
        reader = graph.feeds_only(node.id)
        if reader is None or reader.id.operator != "batch_norm":
            continue
        weight, mean = node.parameters.get("weight", ""), reader.parameters.get("running_mean", "")
        scale = reader.parameters.get("weight", mean)
        if weight and mean and uses[weight] == 1 and uses[scale] == 1:
            found[weight] = mean
    return found

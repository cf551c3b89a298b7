"""Layers whose inputs are to go do the same with the rest, as well as they can.

Each layer is fitted, in the order of the net, to what it gave before anything was removed, on what
the changed layers before it give now. That works on the whole net, whose removed inputs have weight
zero afterwards: taking the channels away changes nothing more. Between a convolution that loses
outputs and the layer that reads them may lie batch norms, activations, poolings and depthwise
convolutions: they see each channel alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.graph import Graph
from compress.network import LayerInfo
from compress.pruning.coupled import CoupledSet, Numbers
from compress.pruning.least_squares import damped_change
from compress.reconstruction import Sample, Sampling, reconstruct
from compress.task import Batch

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
# A layer of more inputs is left alone: the decomposition would take minutes and gigabytes.
MOST_INPUTS = 2304


def repaired(
    candidate: Candidate, kept: Mapping[str, Mask], batches: Iterable[Batch], sampling: Sampling
) -> Candidate:
    """The candidate with weight zero at each removed input, and the other weights refitted.

    kept: by name of a layer's weight, (groups, inputs of a group): False where an input goes.
    Layers after these that keep all inputs are fitted, too. A layer without a bias gives its shift
    to the batch norm that alone reads it, if there is one. Nothing to remove: nothing changes.
    """
    changed = _zeroed(candidate, kept)
    if not changed:
        return candidate
    layers = [la for la in candidate.network.layers() if _fits(candidate, la)]
    norms = _norms_behind(candidate.network.graph)
    own = candidate.network.state()
    means: dict[str, Floats] = {}

    def solve(layer: LayerInfo, sample: Sample) -> tuple[Floats, Floats | None]:
        everything = np.ones((layer.groups, layer.shape[1]), np.bool_)
        stays = kept.get(layer.weight, everything)
        weight = changed.get(layer.weight, own[layer.weight]).astype(np.float32)
        norm = norms.get(layer.weight)
        shifts = layer.bias is not None or norm is not None
        weight, shift = refitted(layer, weight, stays, sample, shifts)
        bias = sample.bias.reshape(-1).numpy() + shift
        if layer.bias is not None:
            changed[layer.bias] = bias
        elif norm is not None:
            means[norm] = own[norm].astype(np.float32) - shift
        changed[layer.weight] = weight
        return weight, bias if shifts else None

    reconstruct(candidate.network, layers, batches, sampling, solve)
    return candidate.with_values({**changed, **means}, {})


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

"""A quantized net whose batch norms act still, as training wants it, and the way back.

The scale of a weight is per output channel, so rounding a weight before its batch norm is rounding
the folded one: the norm's factor multiplies the weight and its scale alike. What the folded layer
puts out is what the norm puts out, so their grids are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.edit import FoldedBatchNorm
from compress.encoding import Encoded, Encoding, full_grid_bits
from compress.graph import TensorId
from compress.int8_weights import bias_floor
from compress.stages.fold_batchnorm import FoldBatchNorm, norm_factors
from compress.task import Task

_TINY = float(np.finfo(np.float32).tiny)


def with_acting_norms(candidate: Candidate, quantized: Candidate) -> Candidate:
    """`candidate` with the grids of `quantized`, which it became when its norms were folded.

    Of `quantized` the scales, integers and grids are taken; its biases are not.
    """
    folds = {
        f"{edit.layer}.weight": edit.norm
        for edit in quantized.edits[len(candidate.edits) :]
        if isinstance(edit, FoldedBatchNorm)
    }
    factors = norm_factors(candidate, tuple(folds.values()))
    encodings = {
        name: _divided(found, factors[folds[name]]) if name in folds else found
        for name, found in quantized.encodings.items()
    }
    acting = candidate.with_values({}, encodings)
    names = _names(acting)
    return replace(
        acting,
        activations={names.get(t, t): grid for t, grid in quantized.activations.items()},
        ties=tuple(frozenset(names.get(t, t) for t in tie) for tie in quantized.ties),
        float_nodes=quantized.float_nodes,
    )


def with_folded_norms(acting: Candidate, task: Task) -> Candidate:
    """The inverse, once `acting` is trained: norms folded for good, the same grids."""
    names = {norm: layer for layer, norm in _names(acting).items()}
    bare = replace(acting, activations={}, ties=())
    return replace(
        FoldBatchNorm()(bare, task).candidate,
        activations={names.get(t, t): grid for t, grid in acting.activations.items()},
        ties=tuple(frozenset(names.get(t, t) for t in tie) for tie in acting.ties),
    )


def with_room_for_biases(candidate: Candidate) -> Candidate:
    """Raises the scales under which a bias would not fit its int32, as training left them.

    Only nearly dead channels have them: their weights are at most 2**-23 of their bias.
    """
    own, graph = candidate.network.parameters(), candidate.network.graph
    wider: dict[str, Encoding] = {}
    for node in graph.nodes:
        name, bias = node.parameters.get("weight", ""), own.get(node.parameters.get("bias", ""))
        encoding, grid = candidate.encodings.get(name), None
        if node.inputs:
            grid = candidate.activations.get(node.inputs[0])
        if bias is None or grid is None or not isinstance(encoding, Encoded):
            continue
        if not encoding.on_integers or encoding.axis not in (None, 0):
            continue
        encoding = wider.get(name, encoding)
        assert isinstance(encoding, Encoded)
        floor = bias_floor(bias, grid.scale, len(bias))
        if (np.abs(encoding.scale) < floor).any():
            wider[name] = _raised(encoding, floor)
    return candidate.with_values({}, wider) if wider else candidate


def _raised(encoding: Encoded, floor: NDArray[np.float32]) -> Encoded:
    """The integers rounded anew under scales of at least `floor`; zeros stay zeros."""
    old = np.broadcast_to(encoding.scale, floor.shape)
    scale = np.where(np.abs(old) < floor, np.copysign(floor, old), old).astype(np.float32)
    if full_grid_bits(encoding.codebook) is None:  # shared: the channel's weights become zero
        return replace(encoding, scale=scale, axis=0).without(np.abs(old) < floor)
    shape = (-1,) + (1,) * (encoding.indices.ndim - 1)
    integers = np.rint(encoding.integers() * (old / scale).reshape(shape)).astype(np.int8)
    codes = integers.view(np.uint8) & np.uint8(encoding.codebook.size - 1)
    return replace(encoding, indices=codes, scale=scale, axis=0)


def _divided(encoding: Encoding, factor: NDArray[np.float64]) -> Encoding:
    """The encoding before the norm's factor; a channel that the norm silences stays silent."""
    if not isinstance(encoding, Encoded):
        return encoding
    silent = np.abs(factor) < _TINY
    whole = np.where(silent, 1.0, factor)
    inverse = (1 / whole).astype(np.float32)
    return encoding.scaled(0, inverse)


def _names(acting: Candidate) -> Mapping[TensorId, TensorId]:
    """What each folded layer's tensor is called while its norm acts."""
    nodes = acting.network.graph.nodes
    return {node.inputs[0]: node.id for node in nodes if node.id.operator == "batch_norm"}

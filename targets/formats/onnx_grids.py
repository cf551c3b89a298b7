"""Which float tensors of an ONNX model carry which of the candidate's grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.candidate import ActivationQuant, Candidate
from compress.errors import ExportError
from compress.graph import TensorId
from compress.placement import SAME_GRID
from targets.matching import match_tensors
from targets.runtimes.onnxruntime import all_tensors

if TYPE_CHECKING:
    import onnx

FloatArray = NDArray[np.float32]
# Operators that only move values; the pooling among the tied ones computes.
_MOVES = SAME_GRID - {"avg_pool2d"}


def find_grids(candidate: Candidate, model: onnx.ModelProto) -> dict[str, ActivationQuant]:
    """{float tensor of `model`: its grid}, by the values that both compute on the same pictures.

    Every tensor of candidate.activations is found, or only moves values between tensors that are,
    else ExportError names the first that is not.
    """
    pictures = probes(candidate)
    everything = candidate.network.activations(pictures)
    references = {t: v for t, v in everything.items() if t in candidate.activations}
    tensors = all_tensors(model, pictures)
    found = match_tensors(references, tensors)
    found.update(_constant_by_name(candidate, references, tensors, found))
    for tensor, grid in candidate.activations.items():
        if grid.bits != 8:
            raise ExportError(f"{tensor} has a grid of {grid.bits} bits; an ONNX file holds 8")
    missing = _missing(candidate, references, found)
    if missing is not None:
        raise ExportError(
            f"tensor {missing} has a grid, but nothing in the exported graph computes it; "
            f"leave that layer in float (float_nodes) or take another opset"
        )
    return {name: candidate.activations[tensor] for name, tensor in found.items()}


def probes(candidate: Candidate) -> FloatArray:
    """Four pictures as the net may see them: noise, blurred noise, ramps, more noise; seeded."""
    shape = candidate.spec.input_shape[1:]
    random = np.random.default_rng(0)
    noise = random.random((4, *shape))
    for axis in range(2, noise.ndim):
        noise[1] = (noise[1] + np.roll(noise[1], 1, axis - 1) + np.roll(noise[1], 2, axis - 1)) / 3
    noise[2] = np.sort(noise[2], axis=-1)
    preprocess = candidate.spec.preprocess
    width = (-1, *(1,) * (len(shape) - 1))
    mean = np.asarray(preprocess.mean).reshape(width)
    std = np.asarray(preprocess.std).reshape(width)
    return ((noise * 255 * preprocess.scale - mean) / std).astype(np.float32)


def _constant_by_name(
    candidate: Candidate,
    references: Mapping[TensorId, FloatArray],
    tensors: Mapping[str, FloatArray],
    found: Mapping[str, TensorId],
) -> dict[str, TensorId]:
    """Tensors that are constant on the probes (a dead ReLU), by the name that torch gave both."""
    names = {node.name: tensor for node, tensor in candidate.network.graph.ids.items()}
    more: dict[str, TensorId] = {}
    for name, values in tensors.items():
        tensor = names.get(name)
        reference = None if tensor is None else references.get(tensor)
        if name in found or tensor is None or reference is None or reference.size != values.size:
            continue
        if float(np.ptp(reference)) == 0 and np.array_equal(reference.ravel(), values.ravel()):
            more[name] = tensor
    return more


def _missing(
    candidate: Candidate, references: Mapping[TensorId, FloatArray], found: Mapping[str, TensorId]
) -> TensorId | None:
    """The first tensor with a grid that the file needs and does not have."""
    seen = {*found.values()}
    for node in candidate.network.graph.nodes:
        grid = candidate.activations.get(node.id)
        if grid is None or node.id in seen or node.id.operator in _MOVES:
            continue
        values = np.sort(references[node.id], axis=None)
        twins = (
            other
            for other in seen
            if candidate.activations[other] == grid
            and references[other].size == values.size
            and np.array_equal(np.sort(references[other], axis=None), values)
        )
        if next(twins, None) is None:
            return node.id
    return None

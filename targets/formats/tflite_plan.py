"""Which integer grid each tensor of a float .tflite model gets: the candidate's, told by values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import ActivationQuant, Candidate
from compress.encoding import Encoded
from compress.errors import ExportError
from compress.graph import TensorId
from targets.formats.tflite_packing import Form
from targets.formats.tflite_schema import WEIGHTED, Source
from targets.matching import match_tensors
from targets.runtimes.litert import LiteRtSession

# Operators that hand values on unchanged (padding adds zeros, which every grid holds).
MOVES_VALUES = frozenset(
    {
        "CONCATENATION",
        "EXPAND_DIMS",
        "MAX_POOL_2D",
        "PAD",
        "PADV2",
        "RESHAPE",
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)
# The net's operators that TFLite lacks: several of its own take their place, in float.
_IN_STEPS = frozenset({"hardsigmoid"})
_PICTURES = 2


@dataclass(frozen=True)
class Plan:
    """By tensor number of the source: names, grids of activations, integers of weights.

    A tensor without a grid, a weight without an encoding, stays float. `forms`: how a constant
    that stays float is stored, where not as it is. `sparse`: integer weights may be.
    """

    names: Mapping[int, str] = field(default_factory=dict[int, str])
    grids: Mapping[int, ActivationQuant] = field(default_factory=dict[int, ActivationQuant])
    weights: Mapping[int, Encoded] = field(default_factory=dict[int, Encoded])
    forms: Mapping[int, Form] = field(default_factory=dict[int, Form])
    sparse: bool = False


def check_integers(candidate: Candidate) -> None:
    """ExportError for grids and integer weights that TFLite's int8 cannot hold."""
    for tensor, grid in candidate.activations.items():
        fits = grid.bits == 8 and 0 <= grid.zero_point <= 255
        if not fits or not 0 < np.float32(grid.scale) < np.inf:
            raise ExportError(
                f"{tensor} has {grid}; a TFLite grid has 8 bits, a scale above 0, zero point 0..255"
            )
    for name, encoding in candidate.encodings.items():
        if not (isinstance(encoding, Encoded) and encoding.on_integers):
            continue
        if encoding.axis not in (None, 0):
            raise ExportError(f"{name} has its scales on axis {encoding.axis}; TFLite takes axis 0")
        if not np.all(np.isfinite(encoding.scale) & (encoding.scale != 0)):
            raise ExportError(f"{name} has a scale that is 0 or not finite; quantize it anew")
        if encoding.integers().min(initial=0) < -127:
            raise ExportError(f"{name} has the integer -128; TFLite weights lie in -127..127")


def plan_integers(candidate: Candidate, content: bytes, source: Source) -> Plan:
    """Match the model's tensors with the candidate's, by running both on the same pictures.

    Raises ExportError naming the first tensor that is neither a tensor of the candidate nor one
    of them with its values moved.
    """
    matched = _matched(candidate, content)
    grids: dict[int, ActivationQuant] = {}
    known = _between(source, matched)
    for index, tensor in matched.items():
        known.add(index)
        if tensor in candidate.activations:
            grids[index] = candidate.activations[tensor]
    for operator in source.operators:
        kind = source.kind(operator)
        inputs = [int(i) for i in operator.inputs if int(i) in known]
        for output in (int(i) for i in operator.outputs):
            if output in known:
                continue
            if kind not in MOVES_VALUES or not inputs:
                raise ExportError(
                    f"TFLite tensor {output} of {candidate.spec.name}, made by {kind}, is no "
                    f"tensor of the net; without its grid the file cannot be int8"
                )
            known.add(output)
            if inputs[0] in grids:
                grids[output] = grids[inputs[0]]
    names = {index: str(tensor) for index, tensor in matched.items()}
    weights: dict[int, Encoded] = {}
    for index, (name, encoding) in _integer_weights(candidate, source).items():
        names[index], weights[index] = name, encoding
    return Plan(names, grids, weights)


def _between(source: Source, matched: Mapping[int, TensorId]) -> set[int]:
    """The tensors inside an operator that became several: no tensors of the net, so without grid.

    From the operator's output back to tensors of the net, or to a layer, which is none of it.
    """
    makers = {int(i): o for o in source.operators for i in o.outputs}
    found: set[int] = set()
    todo = [i for i, tensor in matched.items() if tensor.operator in _IN_STEPS and i in makers]
    while todo:
        for index in map(int, makers[todo.pop()].inputs):
            new = index in makers and index not in matched and index not in found
            if new and source.kind(makers[index]) not in WEIGHTED:
                found.add(index)
                todo.append(index)
    return found


def _matched(candidate: Candidate, content: bytes) -> dict[int, TensorId]:
    """{the model's tensor: the candidate's}; tensors with a grid are looked at first.

    A convolution whose activation function cuts nothing off has that function's values; the grid
    is the function's.
    """
    pictures = _pictures(candidate)
    references = candidate.network.activations(pictures)
    session = LiteRtSession(content, candidate.spec.name, delegate=False)
    values = {str(i): v for i, v in session.tensors_by_index(pictures).items()}
    gridded = {t: v for t, v in references.items() if t in candidate.activations}
    found = match_tensors(gridded, values)
    rest = {name: v for name, v in values.items() if name not in found}
    found |= match_tensors({t: v for t, v in references.items() if t not in gridded}, rest)
    return {int(name): tensor for name, tensor in found.items()}


def _pictures(candidate: Candidate) -> NDArray[np.float32]:
    """Noise over the range of the input's grid: no two tensors get the same values by chance."""
    shape = (_PICTURES, *candidate.spec.input_shape[1:])
    noise = np.random.default_rng(0).random(shape, dtype=np.float32)
    grid = candidate.activations.get(TensorId("", "input"))
    low, span = (-1.0, 2.0) if grid is None else (-grid.zero_point * grid.scale, 255 * grid.scale)
    return (low + span * noise).astype(np.float32)


def _integer_weights(candidate: Candidate, source: Source) -> dict[int, tuple[str, Encoded]]:
    """Name and encoding of each weight constant that holds an integer parameter's values."""
    parameters = candidate.network.parameters()
    weighted = [
        (source.kind(o), int(o.inputs[1])) for o in source.operators if _weighted(source, o)
    ]
    found: dict[int, tuple[str, Encoded]] = {}
    for name, encoding in candidate.encodings.items():
        if not (isinstance(encoding, Encoded) and encoding.on_integers):
            continue
        fitting = [
            index
            for kind, index in weighted
            if np.array_equal(file_layout(parameters[name], kind), _constant(source, index))
        ]
        if not fitting:
            raise ExportError(
                f"no TFLite operator reads the values of {name!r}; "
                f"the file cannot hold its integers"
            )
        for index in fitting:
            found.setdefault(index, (name, encoding))
    return found


def _weighted(source: Source, operator: Any) -> bool:
    return (
        source.kind(operator) in WEIGHTED and source.constant(int(operator.inputs[1])) is not None
    )


def _constant(source: Source, index: int) -> NDArray[Any]:
    value = source.constant(index)
    assert value is not None
    return value


def file_layout(weight: NDArray[np.generic], kind: str) -> NDArray[np.generic]:
    """A torch weight in the layout of TFLite's `kind`: OHWI, or 1HWO for depthwise."""
    if weight.ndim != 4:
        return weight
    return weight.transpose(0, 2, 3, 1) if kind == "CONV_2D" else weight.transpose(1, 2, 3, 0)

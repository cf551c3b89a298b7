"""The integer grids that a file carries: of its activations by the names that its session shows,
and of its weights in the order of its layers. One convention for all: codes of 0..255.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.errors import DataError, one_line
from targets.files import read_bytes
from targets.formats.tflite_schema import WEIGHTED, Source, names_of

_ONNX_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_FIXED = frozenset({"Pad", "Cast"})


@dataclass(frozen=True)
class FileGrid:
    """real = scale * (code - zero_point), codes from 0 up whatever type the file has."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class FileGrids:
    """activations: by the session's names. weights: (name, scales) of each layer with integers."""

    activations: dict[str, FileGrid]
    weights: tuple[tuple[str, NDArray[np.float32]], ...]


def file_grids(path: Path) -> FileGrids:
    """The grids of an .onnx or a .tflite file; none in a float file. DataError for damaged ones."""
    try:
        if path.suffix == ".onnx":
            return _onnx_grids(onnx.load_from_string(read_bytes(path, "an .onnx file")).graph)
        return _tflite_grids(Source(read_bytes(path, "a .tflite file")))
    except DataError:
        raise
    # Offsets of a damaged file lead anywhere, and protobuf's errors have no common public type.
    except Exception as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); export it anew") from error


def _onnx_grids(graph: onnx.GraphProto) -> FileGrids:
    constants = {str(i.name): i for i in graph.initializer}
    activations: dict[str, FileGrid] = {}
    made: dict[str, tuple[str, NDArray[np.float32]]] = {}
    # A weight may get channels of zeros by a Pad, or come from int4 by a Cast, both done once.
    fixed = {o: str(n.input[0]) for n in graph.node if n.op_type in _FIXED for o in n.output}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float32)
        stored = str(node.input[0])
        while stored in fixed:
            stored = fixed[stored]
        if stored in constants:
            made[node.output[0]] = (stored, scale.reshape(-1))
        elif scale.size == 1:
            given = len(node.input) > 2 and node.input[2] in constants
            zero = np.asarray(numpy_helper.to_array(constants[node.input[2]]) if given else 0)
            offset = 128 if zero.dtype == np.int8 else 0
            activations[node.output[0]] = FileGrid(scale.item(), int(zero.item()) + offset)
    for name in (str(value.name) for value in graph.input):
        found = _input_grid(graph, name, activations)
        if found is not None:
            activations[name] = found
    read = [n.input[1] for n in graph.node if n.op_type in _ONNX_WEIGHTED and len(n.input) > 1]
    return FileGrids(activations, tuple(made[name] for name in read if name in made))


def _input_grid(
    graph: onnx.GraphProto, name: str, known: Mapping[str, FileGrid]
) -> FileGrid | None:
    """The grid that a float input is put on at once, be it after a pad with zeros."""
    for _ in range(3):
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type not in (
            "Pad",
            "QuantizeLinear",
            "DequantizeLinear",
        ):
            return None
        name = readers[0].output[0]
        if name in known:
            return known[name]
    return None


def _tflite_grids(source: Source) -> FileGrids:
    names = _session_names(source)
    activations: dict[str, FileGrid] = {}
    for index, name in names.items():
        tensor = source.tensors[index]
        kind = names_of("TensorType")[tensor.type]
        scales, zeros = _quantization(tensor)
        if source.constant(index) is None and len(scales) == 1 and kind in ("INT8", "UINT8"):
            offset = 128 if kind == "INT8" else 0
            activations[name] = FileGrid(float(scales[0]), int(zeros[0]) + offset)
    return FileGrids(activations, tuple(_tflite_weights(source)))


def _tflite_weights(source: Source) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for operator in source.operators:
        if source.kind(operator) in WEIGHTED:
            tensor = source.tensors[int(operator.inputs[1])]
            scales, _ = _quantization(tensor)
            if len(scales):
                yield str(tensor.name.decode()), scales


def _quantization(tensor: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found = tensor.quantization
    if found is None or found.scale is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    scales = np.asarray(found.scale, np.float32)
    zeros = np.zeros(len(scales), np.int64) if found.zeroPoint is None else found.zeroPoint
    return scales, np.asarray(zeros, np.int64)


def _session_names(source: Source) -> dict[int, str]:
    """Each tensor's name as LiteRtSession.tensors calls it: with its number where it repeats."""
    plain = [str(tensor.name.decode()) for tensor in source.tensors]
    made = {*source.inputs, *(int(i) for o in source.operators for i in o.outputs)}
    repeats = {plain[i] for i in made if sum(plain[j] == plain[i] for j in made) > 1}
    return {i: f"{plain[i]};{i}" if plain[i] in repeats else plain[i] for i in sorted(made)}

"""What a .tflite file holds: operators, constants, and what it says of its net."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import DataError, one_line
from targets.files import read_bytes
from targets.formats.tflite_schema import WEIGHTED, Source, names_of, tflite_metadata
from targets.inspection import Inspection, TensorSummary, plain_summary, says
from targets.runtimes.litert import IDENTIFIER, litert_module
from targets.runtimes.tflite_bounds import is_whole
from targets.sizing.account import account_sizes
from targets.sizing.tflite import metadata_bytes, position_bytes, stored_in_tflite


def inspect_tflite(path: Path) -> Inspection:
    """Needs ai_edge_litert's schema (MissingExtraError); DataError for what is no such file."""
    content = read_bytes(path, "a .tflite file")
    if content[4:8] != IDENTIFIER or not is_whole(content):
        raise DataError(f"{path} is no whole .tflite file; export it anew")
    litert_module("schema_py_generated", f"inspecting {path}")  # says what to install
    found = tflite_metadata(path)
    try:
        source = Source(content)
        tensors = _constants(source)
        sha256 = hashlib.sha256(content).hexdigest()
        stored = stored_in_tflite(source)
        described = metadata_bytes(source)
        causes = account_sizes(path.name, sha256, len(content), stored, described)
        operators = Counter(source.kind(operator) for operator in source.operators)
        inputs = tuple(_described(source, index) for index in source.inputs)
        outputs = tuple(_described(source, index) for index in source.outputs)
    except DataError:
        raise
    # Offsets of a damaged file lead anywhere; the reader answers with whatever it stumbles over.
    except Exception as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); export it anew") from error
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.file_bytes
    sparse = any(tensor.form == "sparse" for tensor in tensors)
    return Inspection(
        path=str(path),
        format="tflite-packed" if sparse else "tflite",
        file_bytes=len(content),
        precision=_precision(source, tensors),
        tensors=tensors,
        parts={**sizes, "graph": len(content) - sum(sizes.values())},
        operators=dict(operators.most_common()),
        inputs=inputs,
        outputs=outputs,
        says=says(found),
        sizes=causes,
    )


def _precision(source: Source, tensors: Sequence[TensorSummary]) -> str:
    """What the layers compute in; of float layers, what their weights are stored as."""
    ends = [*source.inputs, *(int(o.inputs[1]) for o in source.operators if _weighted(source, o))]
    if any(names_of("TensorType")[source.tensors[index].type] == "INT8" for index in ends):
        return "int8"
    if any(tensor.dtype == "int8" for tensor in tensors):
        return "shared"
    return "pruned" if any(tensor.form == "sparse" for tensor in tensors) else "fp32"


def _weighted(source: Source, operator: Any) -> bool:
    return source.kind(operator) in WEIGHTED


def _constants(source: Source) -> tuple[TensorSummary, ...]:
    """Constants in the file's order; a buffer that several tensors share counts once."""
    found: list[TensorSummary] = []
    seen: set[int] = set()
    for index, tensor in enumerate(source.tensors):
        name = tensor.name.decode()
        summary = None
        if tensor.sparsity is not None:
            summary = _sparse(source, index, name)
        elif (values := source.constant(index)) is not None:
            summary = plain_summary(name, values, values.nbytes)
        if summary is not None:
            repeated = tensor.buffer in seen
            found.append(replace(summary, file_bytes=0) if repeated else summary)
            seen.add(tensor.buffer)
    return tuple(found)


def _sparse(source: Source, index: int, name: str) -> TensorSummary:
    """A tensor of which only what is not zero stands in the file, and its positions."""
    tensor = source.tensors[index]
    kind = names_of("TensorType")[tensor.type].lower()
    data = source.model.buffers[tensor.buffer].data
    values = data.view(np.dtype(kind))
    shape = source.shape(index)
    size = data.nbytes + position_bytes(tensor)
    nonzeros = int(np.count_nonzero(values))
    return TensorSummary(name, shape, kind, "sparse", math.prod(shape), nonzeros, size)


def _described(source: Source, index: int) -> str:
    tensor = source.tensors[index]
    kind = names_of("TensorType")[tensor.type].lower()
    return f"{tensor.name.decode()} {kind} {list(source.shape(index))}"
